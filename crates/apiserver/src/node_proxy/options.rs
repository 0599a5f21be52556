//! What admission sees of a stream: an options object (`PodExecOptions`, `NodeProxyOptions` …) filled from the query.

use serde_json::{Map, Value};
use tiphys_api::Gvk;

use crate::http::query::Query;

/// Switches of the options, left out when off.
const SWITCHES: [&str; 4] = ["stdin", "stdout", "stderr", "tty"];

/// The options object of a kind. `rest` is the path behind `proxy`.
pub fn options(gvk: &Gvk, query: &Query, rest: Option<&str>) -> Value {
    let mut fields = Map::new();
    fields.insert("apiVersion".into(), gvk.api_version().into());
    fields.insert("kind".into(), gvk.kind.as_ref().into());
    match gvk.kind.as_ref() {
        "PodPortForwardOptions" => put_ports(&mut fields, query),
        "PodExecOptions" | "PodAttachOptions" => put_streams(&mut fields, query),
        _ => put_path(&mut fields, query, rest),
    }
    fields.into()
}

fn put_streams(fields: &mut Map<String, Value>, query: &Query) {
    for name in SWITCHES.into_iter().filter(|name| query.switch(name)) {
        fields.insert(name.into(), true.into());
    }
    let container = query.text("container");
    if !container.is_empty() {
        fields.insert("container".into(), container.into());
    }
    let command: Vec<Value> = query.all("command").map(Value::from).collect();
    if !command.is_empty() {
        fields.insert("command".into(), command.into());
    }
}

fn put_ports(fields: &mut Map<String, Value>, query: &Query) {
    let numbers =
        query.all("ports").flat_map(|ports| ports.split(',')).filter_map(|port| port.parse::<u16>().ok());
    let ports: Vec<Value> = numbers.map(Value::from).collect();
    if !ports.is_empty() {
        fields.insert("ports".into(), ports.into());
    }
}

fn put_path(fields: &mut Map<String, Value>, query: &Query, rest: Option<&str>) {
    let path = match query.text("path") {
        "" => rest.map(|rest| format!("/{rest}")).unwrap_or_default(),
        path => path.to_owned(),
    };
    if !path.is_empty() {
        fields.insert("path".into(), path.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_say_what_the_query_says() {
        let made = |kind, query, rest| {
            let mut options = options(&Gvk::new("", "v1", kind), &Query::parse(query), rest);
            options
                .as_object_mut()
                .unwrap()
                .retain(|name, _| !matches!(name.as_str(), "apiVersion" | "kind"));
            options
        };
        assert_eq!(
            made("PodExecOptions", "command=sh&command=-c&stdin=true&tty=false&container=c", None),
            json!({"command": ["sh", "-c"], "stdin": true, "container": "c"})
        );
        assert_eq!(
            made("PodPortForwardOptions", "ports=80&ports=81,82", None),
            json!({"ports": [80, 81, 82]})
        );
        assert_eq!(made("ServiceProxyOptions", "", Some("a/b")), json!({"path": "/a/b"}));
        assert_eq!(made("PodProxyOptions", "", None), json!({}));
    }
}
