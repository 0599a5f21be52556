//! `pods/proxy` and `services/proxy`: from `scheme:name:port` to the address of one endpoint. Webhooks find theirs here, too.

use tiphys_api::{Gvr, Status, Value};

use super::locate::Pod;
use super::service::{Service, ServicePort, Slice};
use crate::auth::Lister;

const SERVICES: Gvr = Gvr::new("", "v1", "services");
const SLICES: Gvr = Gvr::new("discovery.k8s.io", "v1", "endpointslices");

/// A name as the proxy paths take it: `name`, `name:port`, `scheme:name:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// `http`, `https` or empty.
    pub scheme: &'a str,
    /// The object's name.
    pub name: &'a str,
    /// Name or number of a port; may be empty.
    pub port: &'a str,
}

impl<'a> Name<'a> {
    /// Splits a name; `None` when it has another form.
    pub fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme @ ("" | "http" | "https"), name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        (!name.is_empty()).then_some(Self { scheme, name, port })
    }
}

/// Address and port of a pod; its first declared port when none is named.
pub fn of_pod(wanted: &Name<'_>, pod: &Pod) -> Result<(String, u16), Status> {
    let mut declared = pod.spec.containers.iter().flat_map(|container| &container.ports);
    let port = match wanted.port {
        "" => declared
            .next()
            .map_or(if wanted.scheme == "https" { 443 } else { 80 }, |port| port.container_port),
        text => match text.parse() {
            Ok(number) => number,
            Err(_) => declared
                .find(|port| port.name == text)
                .map(|port| port.container_port)
                .ok_or_else(|| Status::bad_request(format!("invalid pod request {:?}", wanted.name)))?,
        },
    };
    match pod.status.pod_ip.as_str() {
        "" => Err(Status::unavailable(format!("pod {:?} has no address yet", wanted.name))),
        address => Ok((address.to_owned(), port)),
    }
}

/// Address and port of one ready endpoint of a Service as it is now: the way that needs no packet rules.
pub fn of_service_now(
    lister: &dyn Lister,
    namespace: &str,
    wanted: &Name<'_>,
) -> Result<(String, u16), Status> {
    behind(lister, namespace, wanted, &service(lister, namespace, wanted.name)?)
}

/// The same for a Service with a port of this number; one that only names another host leads to that.
pub fn of_service_or_name(
    lister: &dyn Lister,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<(String, u16), Status> {
    // As kube-apiserver says it here.
    let missing = |status: Status| match status.is("NotFound") {
        true => Status::not_found(&Gvr::new("", "v1", "service"), name),
        false => status,
    };
    let service = service(lister, namespace, name).map_err(missing)?;
    if !service.spec.external_name.is_empty() {
        return Ok((service.spec.external_name, port));
    }
    let number = port.to_string();
    behind(lister, namespace, &Name { scheme: "", name, port: &number }, &service)
}

fn service(lister: &dyn Lister, namespace: &str, name: &str) -> Result<Service, Status> {
    let found = lister.get(&SERVICES, namespace, name).ok_or_else(|| Status::not_found(&SERVICES, name))?;
    found.decode().map_err(Status::internal)
}

fn behind(
    lister: &dyn Lister,
    namespace: &str,
    wanted: &Name<'_>,
    service: &Service,
) -> Result<(String, u16), Status> {
    let slices = lister.list(&SLICES, namespace);
    let mine =
        slices.iter().filter(|s| s.meta().labels.get("kubernetes.io/service-name") == Some(wanted.name));
    let slices: Vec<Slice> = mine.filter_map(|slice| slice.decode().ok()).collect();
    // Any spread will do: the tail of a random id.
    let chance = usize::from(uuid::Uuid::new_v4().as_bytes()[0]);
    of_service(wanted, service, &slices, chance)
}

/// Address and port of one ready endpoint behind a service port; `chance` chooses among them.
fn of_service(
    wanted: &Name<'_>,
    service: &Service,
    slices: &[Slice],
    chance: usize,
) -> Result<(String, u16), Status> {
    let port = service_port(wanted, service)?;
    let ready: Vec<(&str, u16)> = slices.iter().flat_map(|slice| slice.ready(&port.name)).collect();
    match ready.len() {
        0 => Err(Status::unavailable(format!("no endpoints available for service {:?}", wanted.name))),
        count => {
            let (address, port) = ready.get(chance % count).copied().unwrap_or_default();
            Ok((address.to_owned(), port))
        }
    }
}

fn service_port<'a>(wanted: &Name<'_>, service: &'a Service) -> Result<&'a ServicePort, Status> {
    let ports = &service.spec.ports;
    let found = match wanted.port {
        "" if ports.len() == 1 => ports.first(),
        text => ports.iter().find(|port| {
            port.name == text
                || port.port.to_string() == text
                || (port.name.is_empty() && target_is(port, text))
        }),
    };
    found.ok_or_else(|| {
        Status::unavailable(format!("no service port {:?} found for service {:?}", wanted.port, wanted.name))
    })
}

fn target_is(port: &ServicePort, text: &str) -> bool {
    match &port.target_port {
        Value::String(name) => name == text,
        Value::Number(number) => number.to_string() == text,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T: serde::de::DeserializeOwned>(json: &str) -> T {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn names_have_three_forms() {
        let name = |scheme, name, port| Some(Name { scheme, name, port });
        assert_eq!(Name::parse("a"), name("", "a", ""));
        assert_eq!(Name::parse("a:80"), name("", "a", "80"));
        assert_eq!(Name::parse("https:a:web"), name("https", "a", "web"));
        assert_eq!(Name::parse("https:a:"), name("https", "a", ""));
        assert_eq!((Name::parse("ftp:a:1"), Name::parse(""), Name::parse("a:b:c:d")), (None, None, None));
    }

    #[test]
    fn a_service_leads_to_a_ready_endpoint() {
        let service: Service = parse(r#"{"spec":{"ports":[{"name":"web","port":80,"targetPort":8080}]}}"#);
        let slice: Slice = parse(
            r#"{"endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":false}},
                {"addresses":["10.0.0.2"],"conditions":{}}],"ports":[{"name":"web","port":8080}]}"#,
        );
        let name = |port| Name { scheme: "", name: "s", port };
        for port in ["", "web", "80"] {
            let found = of_service(&name(port), &service, std::slice::from_ref(&slice), 7).unwrap();
            assert_eq!(found, ("10.0.0.2".to_owned(), 8080), "{port}");
        }
        let missing = of_service(&name("nope"), &service, &[], 0).unwrap_err();
        assert_eq!(
            (missing.code, missing.message.as_str()),
            (503, r#"no service port "nope" found for service "s""#)
        );
        let empty = of_service(&name("web"), &service, &[], 0).unwrap_err();
        assert_eq!(empty.message, r#"no endpoints available for service "s""#);
    }

    #[test]
    fn a_pod_is_reached_at_its_address() {
        let pod: Pod = parse(
            r#"{"spec":{"containers":[{"name":"a","ports":[{"name":"web","containerPort":8080}]}]},
                "status":{"podIP":"10.0.0.9"}}"#,
        );
        for (port, number) in [("", 8080), ("web", 8080), ("81", 81)] {
            let name = Name { scheme: "", name: "p", port };
            assert_eq!(of_pod(&name, &pod).unwrap(), ("10.0.0.9".to_owned(), number));
        }
        let name = Name { scheme: "", name: "p", port: "" };
        assert_eq!(of_pod(&name, &Pod::default()).unwrap_err().code, 503);
    }
}
