//! From two readings to what is used now, as the metrics API writes it. Pure.

use jiff::Timestamp;
use tiphys_api::quantity::{Format, Quantity};
use tiphys_api::{Meta, Value, json};

use super::scrape::{Reading, Scrape};

/// A window shorter than this tells too little.
const SHORTEST_MILLIS: i64 = 500;

/// What one owner uses.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Usage {
    nanocores: i64,
    memory: i64,
    at: i64,
    window: i64,
}

impl Usage {
    /// From an earlier reading, or since its start where that was later.
    fn between(then: Option<&Reading>, now: &Reading) -> Option<Self> {
        let (cpu, memory) = (now.cpu?, now.memory?);
        let begun = now.start.map(|start| (start, 0.0));
        let earlier = then.and_then(|then| Some((then.at, then.cpu?))).filter(|(_, before)| *before <= cpu);
        let (since, before) = earlier.or(begun)?;
        let window = now.at.checked_sub(since).filter(|window| *window >= SHORTEST_MILLIS)?;
        let nanocores = ((cpu - before) / (window as f64 / 1e3) * 1e9) as i64;
        Some(Self { nanocores, memory: memory as i64, at: now.at, window })
    }

    fn amounts(&self) -> Value {
        let cpu: Quantity = format!("{}n", self.nanocores).parse().unwrap_or_default();
        let memory = Quantity::from_units(self.memory, Format::BinarySi);
        json!({"cpu": cpu.to_string(), "memory": memory.to_string()})
    }
}

/// A duration as Go writes it: `15.012s`, `1m0s`.
fn go_duration(millis: i64) -> String {
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let seconds = format!("{}.{:03}", rest / 1000, rest % 1000);
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
    match (minutes, rest) {
        (0, ..1000) => format!("{rest}ms"),
        (0, _) => format!("{seconds}s"),
        _ => format!("{minutes}m{seconds}s"),
    }
}

/// Metadata, time and window of an answer.
fn frame(kind: &str, meta: &Meta, usage: &Usage) -> Value {
    let mut labels = tiphys_api::Map::new();
    for (key, value) in meta.labels.iter() {
        labels.insert(key.into(), value.into());
    }
    let mut metadata = json!({"name": meta.name.as_ref() as &str, "creationTimestamp": second(usage.at)});
    if !meta.namespace.is_empty() {
        metadata["namespace"] = (meta.namespace.as_ref() as &str).into();
    }
    if !labels.is_empty() {
        metadata["labels"] = Value::Object(labels);
    }
    json!({
        "kind": kind, "apiVersion": "metrics.k8s.io/v1beta1", "metadata": metadata,
        "timestamp": second(usage.at), "window": go_duration(usage.window),
    })
}

fn second(millis: i64) -> String {
    Timestamp::from_second(millis / 1000).unwrap_or_default().to_string()
}

/// A `NodeMetrics`; `None` while nothing is known.
pub fn of_node(meta: &Meta, then: &Scrape, now: &Scrape) -> Option<Value> {
    let usage = Usage::between(Some(&then.node), &now.node)?;
    let mut object = frame("NodeMetrics", meta, &usage);
    object["usage"] = usage.amounts();
    Some(object)
}

/// A `PodMetrics`; `None` while not all of its containers are known.
pub fn of_pod(meta: &Meta, then: &Scrape, now: &Scrape) -> Option<Value> {
    let key = (meta.namespace.to_string(), meta.name.to_string());
    let (then, now) = (then.pods.get(&key), now.pods.get(&key)?);
    let mut all = Vec::new();
    for (name, reading) in now {
        let earlier = then.and_then(|then| then.get(name));
        // A container that was started again counts from zero.
        let earlier = earlier.filter(|then| reading.start.is_none_or(|start| start <= then.at));
        all.push((name, Usage::between(earlier, reading)?));
    }
    let newest = all.iter().map(|(_, usage)| *usage).max_by_key(|usage| usage.at)?;
    let mut object = frame("PodMetrics", meta, &newest);
    object["containers"] =
        all.iter().map(|(name, usage)| json!({"name": name.as_str(), "usage": usage.amounts()})).collect();
    Some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at: i64, cpu: f64, start: Option<i64>) -> Reading {
        Reading { cpu: Some(cpu), memory: Some(2_097_152.0), at, start }
    }

    fn scrape(containers: &[(&str, Reading)]) -> Scrape {
        let pod = containers.iter().map(|(name, reading)| ((*name).to_owned(), *reading)).collect();
        Scrape { node: containers[0].1, pods: [(("n".to_owned(), "p".to_owned()), pod)].into() }
    }

    fn meta() -> Meta {
        Meta::parse(br#"{"metadata":{"name":"p","namespace":"n","labels":{"app":"web"}}}"#).unwrap()
    }

    #[test]
    fn usage_is_the_difference_over_the_window() {
        let (then, now) =
            (scrape(&[("c", reading(1000, 1.0, None))]), scrape(&[("c", reading(16_012, 4.0, None))]));
        let told = of_pod(&meta(), &then, &now).unwrap();
        assert_eq!(told["window"], "15.012s");
        assert_eq!(told["containers"][0]["usage"]["cpu"], "199840127n");
        assert_eq!(told["containers"][0]["usage"]["memory"], "2Mi");
        assert_eq!(
            (&told["metadata"]["labels"]["app"], &told["timestamp"]),
            (&json!("web"), &json!("1970-01-01T00:00:16Z"))
        );
        assert_eq!(of_node(&meta(), &then, &now).unwrap()["usage"]["cpu"], "199840127n");
    }

    #[test]
    fn a_new_container_counts_from_its_start() {
        let then = scrape(&[("old", reading(1000, 1.0, Some(0)))]);
        let now = scrape(&[("old", reading(3000, 1.0, Some(0))), ("new", reading(3000, 1.0, Some(2000)))]);
        let told = of_pod(&meta(), &then, &now).unwrap();
        assert_eq!(told["containers"][0]["usage"]["cpu"], "1");
        assert_eq!(told["containers"][1]["usage"]["cpu"], "0");
        let again = scrape(&[("old", reading(3000, 0.5, Some(2000)))]);
        assert_eq!(of_pod(&meta(), &then, &again).unwrap()["containers"][0]["usage"]["cpu"], "500m");
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        let one = scrape(&[("c", reading(1000, 1.0, None))]);
        assert_eq!(of_pod(&meta(), &one, &one), None);
        assert_eq!(of_pod(&meta(), &Scrape::default(), &one), None);
        assert_eq!(of_node(&meta(), &one, &Scrape::default()), None);
    }

    #[test]
    fn windows_are_go_durations() {
        for (millis, text) in
            [(999, "999ms"), (1000, "1s"), (1020, "1.02s"), (60_000, "1m0s"), (90_500, "1m30.5s")]
        {
            assert_eq!(go_duration(millis), text);
        }
    }
}
