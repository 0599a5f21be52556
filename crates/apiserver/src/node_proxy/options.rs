//! What admission sees of a stream: an options object (`PodExecOptions`, `NodeProxyOptions` …) filled from the query.

use tiphys_api::{Gvk, Map, Status, Value};

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
        _ => put_path(&mut fields, rest),
    }
    fields.into()
}

/// Puts back what admission made of the options: into the query, or into the path behind `proxy`.
pub fn put_back(options: &Value, query: &mut Query, rest: &mut Option<String>) {
    let texts = |name: &str| match options.get(name) {
        Some(Value::Array(items)) => items.iter().map(text_of).collect(),
        Some(value) => vec![text_of(value)],
        None => Vec::new(),
    };
    let names: &[&str] = match options.get("kind").and_then(Value::as_str).unwrap_or_default() {
        "PodPortForwardOptions" => &["ports"],
        "PodExecOptions" | "PodAttachOptions" => {
            &["stdin", "stdout", "stderr", "tty", "container", "command"]
        }
        _ => {
            let path = texts("path").pop();
            *rest = path.map(|path| path.strip_prefix('/').unwrap_or(&path).to_owned());
            return;
        }
    };
    names.iter().for_each(|name| query.set(name, texts(name)));
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn put_streams(fields: &mut Map, query: &Query) {
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

fn put_ports(fields: &mut Map, query: &Query) {
    let ports: Vec<Value> =
        ports(query).filter_map(|port| port.parse::<u16>().ok()).map(Value::from).collect();
    if !ports.is_empty() {
        fields.insert("ports".into(), ports.into());
    }
}

/// Where the request goes, whatever a `path` in its query says: what is admitted is what is done.
fn put_path(fields: &mut Map, rest: Option<&str>) {
    if let Some(rest) = rest {
        fields.insert("path".into(), format!("/{rest}").into());
    }
}

/// The ports that a query names.
fn ports(query: &Query) -> impl Iterator<Item = &str> {
    query.all("ports").flat_map(|ports| ports.split(','))
}

/// Refuses what the query of a stream cannot say: a dry run, or ports that are none.
pub fn check(gvk: &Gvk, query: &Query) -> Result<(), Status> {
    if query.get("dryRun").is_some() {
        return Err(Status::bad_request("dryRun is not supported"));
    }
    let number = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    match ports(query).find(|port| gvk.kind == "PodPortForwardOptions" && !number(port)) {
        None => Ok(()),
        Some(port) => {
            let large = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            let why = if large { "value out of range" } else { "invalid syntax" };
            Err(Status::bad_request(format!(
                "cannot convert to []int32: strconv.ParseUint: parsing {port:?}: {why}"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use tiphys_api::json;

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
        assert_eq!(made("ServiceProxyOptions", "path=/x", Some("a/b")), json!({"path": "/a/b"}));
        assert_eq!(made("NodeProxyOptions", "path=/x", None), json!({}));
        assert_eq!(made("PodProxyOptions", "", None), json!({}));
    }

    #[test]
    fn what_admission_makes_of_the_options_is_done() {
        let gvk = |kind| Gvk::new("", "v1", kind);
        let mut query = Query::parse("command=sh&command=-c&stdin=true&tty=true&limit=1");
        let mut options = options(&gvk("PodExecOptions"), &query, None);
        options["command"] = json!(["ls"]);
        options["container"] = json!("c");
        options.as_object_mut().unwrap().remove("tty");
        put_back(&options, &mut query, &mut None);
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["ls"]);
        assert_eq!((query.text("container"), query.switch("stdin"), query.switch("tty")), ("c", true, false));
        assert_eq!(query.text("limit"), "1");
        let mut rest = Some("a".to_owned());
        put_back(&json!({"kind": "NodeProxyOptions", "path": "/b/"}), &mut query, &mut rest);
        assert_eq!(rest.as_deref(), Some("b/"));
    }

    #[test]
    fn streams_are_not_imagined_and_ports_are_numbers() {
        let refusal = |kind, query: &str| {
            let refused = check(&Gvk::new("", "v1", kind), &Query::parse(query)).err();
            refused.map(|status| (status.code, status.message))
        };
        assert_eq!(refusal("PodPortForwardOptions", "ports=80,81&ports=82"), None);
        assert_eq!(refusal("NodeProxyOptions", "ports=x"), None);
        let dry = Some((400, "dryRun is not supported".to_owned()));
        assert_eq!(refusal("PodExecOptions", "dryRun=All"), dry);
        for (ports, why) in
            [("x", "invalid syntax"), ("+8", "invalid syntax"), ("65536", "value out of range")]
        {
            let (code, told) =
                refusal("PodPortForwardOptions", &format!("ports=80,{ports}")).unwrap_or_default();
            assert!(code == 400 && told.ends_with(why), "{ports}: {told}");
        }
    }
}
