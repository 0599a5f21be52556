//! What a pod asks for and may have as a whole: its containers side by side, its init containers one after the other.

use crate::Value;

use super::Amounts;
use super::tree::{at, items, text};
use crate::quantity::Quantity;

/// Which of the two lists of a container's resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `requests`
    Requests,
    /// `limits`
    Limits,
}

impl Part {
    fn key(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }

    /// One container's.
    pub fn of_container(self, container: &Value) -> Amounts {
        Amounts::read(at(container, &["resources", self.key()]))
    }

    /// The pod's, as the scheduler and quotas count it.
    pub fn of_pod(self, pod: &Value) -> Amounts {
        let mut sum = Amounts::default();
        for container in items(pod, &["spec", "containers"]) {
            sum.add_all(&self.of_container(container));
        }
        let (mut beside, mut most) = (Amounts::default(), Amounts::default());
        for container in items(pod, &["spec", "initContainers"]) {
            let mut own = self.of_container(container);
            if text(container, &["restartPolicy"]) == "Always" {
                // A sidecar goes on beside all that follow.
                sum.add_all(&own);
                beside.add_all(&own);
                own = Amounts::default();
            }
            own.add_all(&beside);
            most.raise(&own);
        }
        sum.raise(&most);
        for (name, amount) in self.of_container(at(pod, &["spec"])).0 {
            sum.0.insert(name, amount);
        }
        for (name, amount) in Amounts::read(at(pod, &["spec", "overhead"])).0 {
            if self == Self::Requests || sum.get(&name).is_some_and(|limit| !limit.is_zero()) {
                sum.add(&name, amount);
            }
        }
        sum
    }
}

/// The amounts under the names that quotas count them by.
pub(super) fn usage(pod: &Value) -> Amounts {
    let mut usage = Amounts::default();
    usage.add("pods", Quantity::from_units(1, crate::quantity::Format::DecimalSi));
    usage.add_all(&named(&Part::Requests.of_pod(pod), &Part::Limits.of_pod(pod)));
    usage
}

fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::default();
    for (name, amount) in &requests.0 {
        usage.add(&format!("requests.{name}"), *amount);
        if is_basic(name) || name.starts_with("hugepages-") {
            usage.add(name, *amount);
        }
    }
    for (name, amount) in limits.0.iter().filter(|(name, _)| is_basic(name)) {
        usage.add(&format!("limits.{name}"), *amount);
    }
    usage
}

fn is_basic(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage")
}

/// Names of a quota that every container must say something about.
const SAID: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// What a pod's containers fail to say though a quota limits it, as `must specify cpu for: a,b`.
pub(super) fn unsaid(pod: &Value, hard: &Amounts) -> Option<String> {
    let of = |container: &Value| {
        named(&Part::Requests.of_container(container), &Part::Limits.of_container(container))
    };
    let whole = of(at(pod, &["spec"]));
    let groups = [items(pod, &["spec", "containers"]), items(pod, &["spec", "initContainers"])];
    let mut parts = Vec::new();
    for name in hard.0.keys().filter(|name| SAID.contains(&name.as_str()) && whole.get(name).is_none()) {
        let silent = groups.iter().copied().flatten().filter(|container| of(container).get(name).is_none());
        let mut silent: Vec<&str> = silent.map(|container| text(container, &["name"])).collect();
        silent.sort_unstable();
        if !silent.is_empty() {
            parts.push(format!("{name} for: {}", silent.join(",")));
        }
    }
    (!parts.is_empty()).then(|| format!("must specify {}", parts.join("; ")))
}
