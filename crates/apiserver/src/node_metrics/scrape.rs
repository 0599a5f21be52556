//! What a kubelet's `/metrics/resource` says, read from Prometheus' text form. Pure.

use std::collections::{BTreeMap, HashMap};

/// One owner's figures at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Seconds of processor time since the beginning.
    pub cpu: Option<f64>,
    /// Bytes in the working set.
    pub memory: Option<f64>,
    /// Milliseconds since the epoch.
    pub at: i64,
    /// When it began, in milliseconds since the epoch; containers only.
    pub start: Option<i64>,
}

/// Everything that one kubelet said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape {
    /// The node.
    pub node: Reading,
    /// By namespace and name of the pod, then by container.
    pub pods: HashMap<(String, String), BTreeMap<String, Reading>>,
}

impl Scrape {
    /// Reads a text. Lines of other figures, and those that cannot be read, are passed over.
    pub fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            scrape.line(line);
        }
        scrape
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let (name, rest) = line.split_at(line.find(['{', ' '])?);
        let (owner, figure) = name.split_once('_')?;
        let (labels, numbers) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (HashMap::new(), rest),
        };
        let mut numbers = numbers.split_ascii_whitespace();
        let value: f64 = numbers.next()?.parse().ok()?;
        let at = numbers.next().and_then(|at| at.parse().ok());
        let reading = match owner {
            "node" => &mut self.node,
            "container" => {
                let label = |name: &str| labels.get(name).cloned();
                let pod = (label("namespace")?, label("pod")?);
                self.pods.entry(pod).or_default().entry(label("container")?).or_default()
            }
            _ => return None,
        };
        match figure {
            "cpu_usage_seconds_total" => reading.cpu = Some(value),
            "memory_working_set_bytes" => reading.memory = Some(value),
            "start_time_seconds" => reading.start = Some((value * 1000.0) as i64),
            _ => return None,
        }
        reading.at = at.unwrap_or(reading.at);
        Some(())
    }
}

/// Reads `name="value",…}` and returns what follows it.
fn labels(mut text: &str) -> Option<(HashMap<&str, String>, &str)> {
    let mut labels = HashMap::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let (value, rest) = quoted(rest)?;
        labels.insert(name, value);
        text = rest;
    }
}

/// A value up to its closing quote, and what follows that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelets_text_is_read() {
        let scrape = Scrape::parse(
            "# HELP x\n# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total 12.5 1000\n\
             node_memory_working_set_bytes 4096 1000\ncontainer_start_time_seconds{container=\"c\",namespace=\"n\",pod=\"p\"} 0.5\n\
             container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 1.5 2000\n\
             container_memory_working_set_bytes{container=\"c\\\"}\",namespace=\"n\",pod=\"p\"} 7 2000\n\
             pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 9 1\nresource_scrape_error 0\nbroken{x=\"\n",
        );
        assert_eq!(scrape.node, Reading { cpu: Some(12.5), memory: Some(4096.0), at: 1000, start: None });
        let pod = &scrape.pods[&("n".to_owned(), "p".to_owned())];
        assert_eq!(pod["c"], Reading { cpu: Some(1.5), memory: None, at: 2000, start: Some(500) });
        assert_eq!(pod["c\"}"].memory, Some(7.0));
    }
}
