//! Whether an extension server can be asked: what its Service and endpoints tell, in Kubernetes' words. Pure.

use jiff::Timestamp;
use tiphys_api::{Value, json};

use super::service::{ApiService, Reference};
use crate::node_proxy::service::{Service, Slice};
use crate::registry::tree;

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Of the condition: `True` or `False`.
    pub status: &'static str,
    /// A word for the cause.
    pub reason: &'static str,
    /// What people read.
    pub message: String,
}

impl Finding {
    fn unavailable(reason: &'static str, message: String) -> Self {
        Self { status: "False", reason, message }
    }

    /// This server answers itself.
    pub fn local() -> Self {
        Self { status: "True", reason: "Local", message: "Local APIServices are always available".into() }
    }

    /// It answered.
    pub fn passed() -> Self {
        Self { status: "True", reason: "Passed", message: "all checks passed".into() }
    }

    /// It did not.
    pub fn failed(message: String) -> Self {
        Self::unavailable("FailedDiscoveryCheck", message)
    }

    /// Whether it can be asked.
    pub fn is_available(&self) -> bool {
        self.status == "True"
    }
}

/// What keeps a server from being asked at all; `None` when nothing does.
pub fn obstacle(reference: &Reference, service: Option<&Service>, slices: &[Slice]) -> Option<Finding> {
    let Reference { namespace, name, .. } = reference;
    let Some(service) = service else {
        let message = format!("service/{name} in {namespace:?} is not present");
        return Some(Finding::unavailable("ServiceNotFound", message));
    };
    if service.spec.kind != "ClusterIP" {
        return None;
    }
    let number = reference.port();
    let Some(port) = service.spec.ports.iter().find(|port| port.port == number) else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {number}");
        return Some(Finding::unavailable("ServicePortError", message));
    };
    if slices.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Some(Finding::unavailable("EndpointsNotFound", message));
    }
    let port = &port.name;
    slices.iter().all(|slice| slice.ready(port).is_empty()).then(|| {
        let message = format!(
            "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port:?}"
        );
        Finding::unavailable("MissingEndpoints", message)
    })
}

/// The patch of the status that says so; `None` when it says so already.
pub fn patch(service: &ApiService, finding: &Finding, now: Timestamp) -> Option<Value> {
    let old = service.availability();
    let since = match old {
        Some(old) if old.status == finding.status => {
            if old.reason == finding.reason && old.message == finding.message {
                return None;
            }
            old.last_transition_time.as_str().into()
        }
        _ => tree::time(now),
    };
    Some(json!({"status": {"conditions": [condition(finding, &since)]}}))
}

/// The condition that says so, since a time.
pub fn condition(finding: &Finding, since: &Value) -> Value {
    json!({
        "type": "Available", "status": finding.status, "reason": finding.reason, "message": &*finding.message,
        "lastTransitionTime": since,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T: serde::de::DeserializeOwned>(value: &Value) -> T {
        serde_json::from_str(&value.to_string()).unwrap()
    }

    fn reason(service: Option<&Value>, slices: &[Value]) -> String {
        let reference = Reference { namespace: "ns".into(), name: "s".into(), port: Some(7443) };
        let service: Option<Service> = service.map(parse);
        let slices: Vec<Slice> = slices.iter().map(parse).collect();
        obstacle(&reference, service.as_ref(), &slices)
            .map(|found| format!("{} {}: {}", found.status, found.reason, found.message))
            .unwrap_or_default()
    }

    #[test]
    fn obstacles_have_kubernetes_names() {
        let service =
            |port: u16| json!({"spec": {"type": "ClusterIP", "ports": [{"name": "https", "port": port}]}});
        let slice = |ready: bool, name: &str| {
            json!({"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}],
                "ports": [{"name": name, "port": 8443}]})
        };
        let missing = r#"False MissingEndpoints: endpointslices for service/s in "ns" have no addresses with port name "https""#;
        for (service, slices, expected) in [
            (None, vec![], r#"False ServiceNotFound: service/s in "ns" is not present"#),
            (
                Some(service(443)),
                vec![],
                r#"False ServicePortError: service/s in "ns" is not listening on port 7443"#,
            ),
            (
                Some(service(7443)),
                vec![],
                r#"False EndpointsNotFound: cannot find endpointslices for service/s in "ns""#,
            ),
            (Some(service(7443)), vec![slice(false, "https")], missing),
            (Some(service(7443)), vec![slice(true, "other")], missing),
            (Some(service(7443)), vec![slice(false, "https"), slice(true, "https")], ""),
            (Some(json!({"spec": {"type": "ExternalName", "externalName": "example.com"}})), vec![], ""),
        ] {
            assert_eq!(reason(service.as_ref(), &slices), expected);
        }
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let fresh = patch(&ApiService::default(), &Finding::passed(), now).unwrap();
        assert_eq!(fresh["status"]["conditions"][0]["lastTransitionTime"], "1970-01-12T13:46:40Z");
        let service: ApiService = parse(&fresh);
        let later = Timestamp::from_second(2_000_000).unwrap();
        assert_eq!(patch(&service, &Finding::passed(), later), None);
        let other = patch(&service, &Finding { message: "x".into(), ..Finding::passed() }, later).unwrap();
        assert_eq!(other["status"]["conditions"][0]["lastTransitionTime"], "1970-01-12T13:46:40Z");
        let worse = patch(&service, &Finding::failed("y".into()), later).unwrap();
        assert_eq!(worse["status"]["conditions"][0]["lastTransitionTime"], "1970-01-24T03:33:20Z");
    }
}
