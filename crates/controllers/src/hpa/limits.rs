//! How far and how fast an autoscaler may go: stabilisation windows, policies of its `behavior`, and its bounds. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerSpec as Spec,
};

use super::metrics::milli;

/// How long a higher recommendation holds back a smaller size, unless `behavior` says otherwise. Seconds.
const DOWN_WINDOW: i32 = 300;
/// How far from its target a metric may be without a change.
const TOLERANCE: f64 = 0.1;

/// What an autoscaler recommended and did. Kept in memory only: a restart starts from the present size.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    recommendations: Vec<(Timestamp, i32)>,
    ups: Vec<(Timestamp, i32)>,
    downs: Vec<(Timestamp, i32)>,
}

impl History {
    /// Starts with the present size, so that a restart does not shrink what was just made large.
    pub(super) fn start(&mut self, replicas: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, replicas));
        }
    }

    /// Remembers a change of size, and forgets what no rule looks back to.
    pub(super) fn scaled(&mut self, from: i32, to: i32, rules: &Rules, now: Timestamp) {
        let longest = |direction: &Direction| direction.policies.iter().map(|p| p.period_seconds).max();
        let period = longest(&rules.up).max(longest(&rules.down)).unwrap_or(0);
        let recent = |event: &(Timestamp, i32)| event.0 >= ago(now, period);
        self.ups.retain(recent);
        self.downs.retain(recent);
        match to - from {
            more if more > 0 => self.ups.push((now, more)),
            less if less < 0 => self.downs.push((now, -less)),
            _ => {}
        }
    }

    fn recommended(&self, window: i32, now: Timestamp) -> impl Iterator<Item = i32> {
        let since = ago(now, window);
        self.recommendations.iter().filter(move |(at, _)| *at > since).map(|(_, replicas)| *replicas)
    }

    fn recommend(&mut self, replicas: i32, rules: &Rules, now: Timestamp) {
        let since = ago(now, rules.up.window.max(rules.down.window));
        self.recommendations.retain(|(at, _)| *at > since);
        self.recommendations.push((now, replicas));
    }

    /// The size at the start of a period.
    fn before(&self, current: i32, period: i32, now: Timestamp) -> i32 {
        let since = ago(now, period);
        let sum = |events: &[(Timestamp, i32)]| -> i32 {
            events.iter().filter(|(at, _)| *at > since).map(|(_, count)| *count).sum()
        };
        current - sum(&self.ups) + sum(&self.downs)
    }
}

fn ago(now: Timestamp, seconds: i32) -> Timestamp {
    now.checked_sub(SignedDuration::from_secs(seconds.into())).unwrap_or(Timestamp::MIN)
}

/// The rules of one direction.
#[derive(Clone, Debug)]
pub(super) struct Direction {
    window: i32,
    /// `Max`, `Min` or `Disabled`.
    select: String,
    policies: Vec<HPAScalingPolicy>,
    pub(super) tolerance: f64,
}

/// The rules of an autoscaler, with what absent ones mean.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) up: Direction,
    pub(super) down: Direction,
    given: bool,
}

impl Rules {
    pub(super) fn of(spec: &Spec) -> Self {
        let percent = HPAScalingPolicy { type_: "Percent".into(), value: 100, period_seconds: 15 };
        let pods = HPAScalingPolicy { type_: "Pods".into(), value: 4, period_seconds: 15 };
        let behavior = spec.behavior.as_ref();
        let (up, down) = (
            behavior.and_then(|behavior| behavior.scale_up.as_ref()),
            behavior.and_then(|behavior| behavior.scale_down.as_ref()),
        );
        Self {
            up: direction(up, 0, vec![pods, percent.clone()]),
            down: direction(down, DOWN_WINDOW, vec![percent]),
            given: behavior.is_some(),
        }
    }
}

fn direction(rules: Option<&HPAScalingRules>, window: i32, policies: Vec<HPAScalingPolicy>) -> Direction {
    let given = rules.and_then(|rules| rules.policies.clone()).filter(|policies| !policies.is_empty());
    let tolerance = rules.and_then(|rules| milli(rules.tolerance.as_ref()?));
    Direction {
        window: rules.and_then(|rules| rules.stabilization_window_seconds).unwrap_or(window),
        select: rules.and_then(|rules| rules.select_policy.clone()).unwrap_or_else(|| "Max".into()),
        policies: given.unwrap_or(policies),
        tolerance: tolerance.map_or(TOLERANCE, |milli| milli as f64 / 1000.0),
    }
}

/// A size within the rules, and what the conditions `AbleToScale` and `ScalingLimited` say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bounded {
    pub(super) desired: i32,
    pub(super) able: (&'static str, &'static str),
    pub(super) limited: bool,
    pub(super) why: (&'static str, &'static str),
}

const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const TOO_FAST_UP: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const TOO_FAST_DOWN: (&str, &str) =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const TOO_MANY: (&str, &str) =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");

/// What the metrics call for, and from where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) current: i32,
    pub(super) desired: i32,
    pub(super) min: i32,
    pub(super) max: i32,
}

/// Brings a wish within the rules, and remembers it.
pub(super) fn bound(wish: Wish, rules: &Rules, history: &mut History, now: Timestamp) -> Bounded {
    let stable = stabilize(wish, rules, history, now);
    history.recommend(wish.desired, rules, now);
    let able = match stable == wish.desired {
        true => READY,
        false if rules.given && wish.desired >= wish.current => UP_STABILIZED,
        false => DOWN_STABILIZED,
    };
    let wish = Wish { desired: stable, ..wish };
    let (desired, why) =
        if rules.given { limit(wish, rules, history, now) } else { limit_without_rules(wish) };
    Bounded { desired, able, limited: desired != stable, why }
}

fn stabilize(wish: Wish, rules: &Rules, history: &History, now: Timestamp) -> i32 {
    let highest = history.recommended(rules.down.window, now).chain([wish.desired]).max();
    let highest = highest.unwrap_or(wish.desired);
    if !rules.given {
        return highest;
    }
    let lowest = history.recommended(rules.up.window, now).chain([wish.desired]).min();
    wish.current.max(lowest.unwrap_or(wish.desired)).min(highest)
}

/// Without `behavior`: at most doubled in one step, but always to four.
fn limit_without_rules(wish: Wish) -> (i32, (&'static str, &'static str)) {
    let fast = wish.current.saturating_mul(2).max(4);
    let (most, why) = if wish.max > fast { (fast, TOO_FAST_UP) } else { (wish.max, TOO_MANY) };
    match wish.desired {
        few if few < wish.min => (wish.min, TOO_FEW),
        many if many > most => (most, why),
        desired => (desired, WITHIN),
    }
}

fn limit(
    wish: Wish,
    rules: &Rules,
    history: &History,
    now: Timestamp,
) -> (i32, (&'static str, &'static str)) {
    if wish.desired > wish.current {
        let fast = fastest_up(wish.current, &rules.up, history, now).max(wish.current);
        let (most, why) = if wish.max > fast { (fast, TOO_FAST_UP) } else { (wish.max, TOO_MANY) };
        if wish.desired > most {
            return (most, why);
        }
    } else if wish.desired < wish.current {
        let fast = fastest_down(wish.current, &rules.down, history, now).min(wish.current);
        let (least, why) = if wish.min < fast { (fast, TOO_FAST_DOWN) } else { (wish.min, TOO_FEW) };
        if wish.desired < least {
            return (least, why);
        }
    }
    (wish.desired, WITHIN)
}

fn fastest_up(current: i32, rules: &Direction, history: &History, now: Timestamp) -> i32 {
    let proposals = rules.policies.iter().map(|policy| {
        let before = history.before(current, policy.period_seconds, now);
        match policy.type_.as_str() {
            "Percent" => (f64::from(before) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
            _ => before.saturating_add(policy.value),
        }
    });
    match rules.select.as_str() {
        "Disabled" => current,
        "Min" => proposals.min().unwrap_or(current),
        _ => proposals.max().unwrap_or(current),
    }
}

fn fastest_down(current: i32, rules: &Direction, history: &History, now: Timestamp) -> i32 {
    let proposals = rules.policies.iter().map(|policy| {
        let before = history.before(current, policy.period_seconds, now);
        match policy.type_.as_str() {
            "Percent" => (f64::from(before) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
            _ => before.saturating_sub(policy.value),
        }
    });
    // The largest change is the smallest size.
    match rules.select.as_str() {
        "Disabled" => current,
        "Min" => proposals.max().unwrap_or(current),
        _ => proposals.min().unwrap_or(current),
    }
}
