//! The downward API: fields of the pod and resources of its containers as text.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource;
use tiphys_api::quantity::Quantity;

use crate::pod;

/// What the pod's object may not tell yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) ips: Vec<String>,
    pub(crate) host_ip: String,
    pub(crate) node: String,
    /// What a container without limits may use: `cpu`, `memory`, `ephemeral-storage`.
    pub(crate) allocatable: BTreeMap<String, String>,
}

/// The value of a field; `Err` when there is no such field.
pub(crate) fn field(pod: &Pod, facts: &Facts, path: &str) -> Result<String, String> {
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &pod.metadata.labels,
            "metadata.annotations" => &pod.metadata.annotations,
            _ => return Err(unsupported(path)),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let spec = pod::spec(pod);
    Ok(match path {
        "metadata.name" => pod::name(pod).into(),
        "metadata.namespace" => pod::namespace(pod).into(),
        "metadata.uid" => pod::uid(pod).into(),
        "metadata.labels" => lines(pod.metadata.labels.as_ref()),
        "metadata.annotations" => lines(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => facts.node.clone(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.clone(),
        "status.podIP" => facts.ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.ips.join(","),
        _ => return Err(unsupported(path)),
    })
}

fn unsupported(path: &str) -> String {
    format!("unsupported fieldPath: {path}")
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// `key="value"` a line, in key order, quoted as Go quotes.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let line = |(key, value): (&String, &String)| format!("{key}={value:?}");
    map.into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
}

/// A container's limit or request, in units of the divisor, rounded up.
pub(crate) fn resource(
    pod: &Pod,
    own: &Container,
    facts: &Facts,
    of: &ResourceFieldSelector,
) -> Result<String, String> {
    let container = match of.container_name.as_deref().filter(|name| !name.is_empty()) {
        None => Cow::Borrowed(own),
        Some(name) => pod::container(pod, name).ok_or_else(|| format!("container {name} not found"))?,
    };
    let (list, key) =
        of.resource.split_once('.').ok_or_else(|| format!("unsupported resource: {}", of.resource))?;
    let empty = k8s_openapi::api::core::v1::ResourceRequirements::default();
    let resources = container.resources.as_ref().unwrap_or(&empty);
    let (value, fallback) = match list {
        "limits" => (&resources.limits, facts.allocatable.get(key).map_or("0", String::as_str)),
        "requests" => (&resources.requests, "0"),
        _ => return Err(format!("unsupported resource: {}", of.resource)),
    };
    let text = value.as_ref().and_then(|list| list.get(key)).map_or(fallback, |quantity| quantity.0.as_str());
    let divisor =
        of.divisor.as_ref().map(|d| d.0.as_str()).filter(|d| *d != "0" && !d.is_empty()).unwrap_or("1");
    divide(key, text, divisor)
}

fn divide(key: &str, value: &str, divisor: &str) -> Result<String, String> {
    let amount = |text: &str| -> Result<i64, String> {
        let quantity: Quantity = text.parse().map_err(|e| format!("invalid quantity {text:?}: {e}"))?;
        Ok(if key == "cpu" { quantity.milli_value() } else { quantity.value() })
    };
    let (value, divisor) = (amount(value)?, amount(divisor)?.max(1));
    Ok((value / divisor + i64::from(value % divisor > 0)).to_string())
}

/// The number behind a quantity of the API: milli-units for `cpu`, units for all else.
pub(crate) fn amount(list: Option<&BTreeMap<String, resource::Quantity>>, key: &str) -> i64 {
    let text = list.and_then(|list| list.get(key)).map(|quantity| quantity.0.as_str());
    let quantity = text.and_then(|text| text.parse::<Quantity>().ok());
    quantity.map_or(0, |q| if key == "cpu" { q.milli_value() } else { q.value() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_divided_and_rounded_up() {
        assert_eq!(divide("cpu", "250m", "1").unwrap(), "1");
        assert_eq!(divide("cpu", "1250m", "1m").unwrap(), "1250");
        assert_eq!(divide("memory", "64Mi", "1Mi").unwrap(), "64");
        assert_eq!(divide("memory", "65M", "1Mi").unwrap(), "62");
        assert!(divide("memory", "x", "1").is_err());
    }

    #[test]
    fn fields_and_subscripts() {
        let mut pod = Pod::default();
        pod.metadata.labels = Some([("a".to_owned(), "x \"y\"".to_owned())].into());
        let facts = Facts { ips: vec!["10.0.0.1".into(), "fd00::1".into()], ..Facts::default() };
        let get = |path: &str| field(&pod, &facts, path);
        assert_eq!(get("metadata.labels['a']").unwrap(), "x \"y\"");
        assert_eq!(get("metadata.labels").unwrap(), "a=\"x \\\"y\\\"\"");
        assert_eq!(get("status.podIPs").unwrap(), "10.0.0.1,fd00::1");
        assert!(get("spec.nope").is_err());
    }
}
