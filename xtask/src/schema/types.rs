//! Types and their fields, read from the definitions of the OpenAPI document.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::protobuf::Messages;

/// Definitions that are values, not objects with fields, and the table's words for them.
const SCALARS: [(&str, &str); 11] = [
    ("io.k8s.apimachinery.pkg.api.resource.Quantity", "quantity"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "fieldsv1"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", "microtime"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", "time"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Patch", "any"),
    ("io.k8s.apimachinery.pkg.runtime.RawExtension", "any"),
    ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "intorstring"),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON", "any"),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray", "any"),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool", "any"),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray", "any"),
];

/// Definitions of one package by their short names.
pub type Members<'a> = BTreeMap<&'a str, &'a Value>;

/// All definitions that have fields, by package.
pub fn by_package(definitions: &Map<String, Value>) -> BTreeMap<String, Members<'_>> {
    let mut packages: BTreeMap<String, Members<'_>> = BTreeMap::new();
    for (full, definition) in definitions.iter().filter(|(name, _)| scalar(name).is_none()) {
        let (package, name) = full.rsplit_once('.').unwrap_or(("", full));
        packages.entry(package.to_owned()).or_default().insert(name, definition);
    }
    packages
}

/// The group-version whose objects a package holds. Packages of shared types have none.
pub fn group_version(package: &str, members: &Members<'_>) -> Option<(String, String)> {
    if package.contains("apimachinery") {
        return None;
    }
    let gvk = members.values().find_map(|d| d["x-kubernetes-group-version-kind"].get(0))?;
    Some((gvk["group"].as_str()?.to_owned(), gvk["version"].as_str()?.to_owned()))
}

/// `io.k8s.api.core.v1` is `core.v1` in the table.
pub fn short(package: &str) -> String {
    let words: Vec<&str> = package.rsplit('.').take(2).collect();
    match words.as_slice() {
        [last, _] if !last.starts_with('v') || *last == "version" => (*last).to_owned(),
        [version, group] => format!("{group}.{version}"),
        _ => package.to_owned(),
    }
}

/// The lines of one type.
pub fn render(
    package: &str,
    name: &str,
    definition: &Value,
    all: &Map<String, Value>,
    protobuf: &Messages,
) -> Result<String> {
    let full = format!("{package}.{name}");
    let mut text = format!("\ntype {name}");
    if !definition["x-kubernetes-group-version-kind"].is_null() {
        text.push_str(" kind");
    }
    if definition["x-kubernetes-map-type"] == "atomic" {
        text.push_str(" atomic");
    }
    text.push('\n');
    let required: Vec<&str> =
        definition["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (field, schema) in definition["properties"].as_object().into_iter().flatten() {
        let line = field_line(package, &full, field, schema, &required, all, protobuf)
            .with_context(|| format!("{full}.{field}"))?;
        text.push_str(&line);
    }
    Ok(text)
}

fn field_line(
    package: &str,
    full: &str,
    field: &str,
    schema: &Value,
    required: &[&str],
    all: &Map<String, Value>,
    protobuf: &Messages,
) -> Result<String> {
    let found = protobuf.find(full, field);
    let number = found.as_ref().map_or_else(|| "-".to_owned(), |f| dotted(&f.path));
    let mut line = format!("  {field} {} {number}", type_of(package, schema)?);
    if required.contains(&field) {
        line.push_str(" required");
    }
    line.push_str(&list_words(schema)?);
    line.push_str(&patch_words(schema));
    line.push_str(map_words(schema, all));
    if let Some(default) = found.and_then(|f| f.default) {
        line.push_str(&format!(" default={}", resolve(&default)?));
    }
    line.push('\n');
    Ok(line)
}

fn dotted(path: &[u64]) -> String {
    path.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

fn type_of(package: &str, schema: &Value) -> Result<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return Ok(reference_of(package, reference.trim_start_matches("#/definitions/")));
    }
    let text = |key: &str| schema[key].as_str().unwrap_or_default();
    Ok(match (text("type"), text("format")) {
        ("string", "byte") => "bytes".into(),
        ("string", _) => "string".into(),
        ("boolean", _) => "bool".into(),
        ("integer", "int32") => "int32".into(),
        ("integer", "int64") => "int64".into(),
        ("number", "double") => "double".into(),
        ("array", _) => format!("[]{}", type_of(package, &schema["items"])?),
        ("object", _) if schema["additionalProperties"].is_object() => {
            format!("map:{}", type_of(package, &schema["additionalProperties"])?)
        }
        ("object", _) => "any".into(),
        other => bail!("unknown type {other:?}"),
    })
}

fn reference_of(package: &str, full: &str) -> String {
    if let Some(word) = scalar(full) {
        return word.into();
    }
    match full.rsplit_once('.') {
        Some((home, name)) if home == package => name.to_owned(),
        Some((home, name)) => format!("{}.{name}", short(home)),
        None => full.to_owned(),
    }
}

fn scalar(full: &str) -> Option<&'static str> {
    SCALARS.iter().find(|(name, _)| *name == full).map(|(_, word)| *word)
}

fn list_words(schema: &Value) -> Result<String> {
    Ok(match schema["x-kubernetes-list-type"].as_str() {
        None | Some("atomic") => String::new(),
        Some("set") => " list=set".into(),
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().context("a map list has no keys")?;
            let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
            format!(" list=map:{}", keys.join(","))
        }
        Some(other) => bail!("unknown list type {other}"),
    })
}

fn patch_words(schema: &Value) -> String {
    let strategies = schema["x-kubernetes-patch-strategy"].as_str().unwrap_or_default();
    let mut words = String::new();
    for strategy in strategies.split(',').filter(|s| !s.is_empty()) {
        match strategy {
            "merge" => {
                let key = schema["x-kubernetes-patch-merge-key"].as_str().unwrap_or_default();
                words.push_str(&format!(" merge={key}"));
            }
            other => words.push_str(&format!(" {other}")),
        }
    }
    words
}

/// A field may own its value as a whole, or not, against what its type says.
fn map_words(schema: &Value, all: &Map<String, Value>) -> &'static str {
    let by_type = schema["$ref"]
        .as_str()
        .and_then(|r| all.get(r.trim_start_matches("#/definitions/")))
        .is_some_and(|d| d["x-kubernetes-map-type"] == "atomic");
    match schema["x-kubernetes-map-type"].as_str() {
        Some("atomic") if !by_type => " atomic",
        Some("granular") if by_type => " granular",
        _ => "",
    }
}

/// Defaults that name a Go constant, by its value.
fn resolve(default: &str) -> Result<&str> {
    Ok(match default {
        "ref(AzureDataDiskCachingReadWrite)" => "\"ReadWrite\"",
        "ref(AzureSharedBlobDisk)" => "\"Shared\"",
        other if other.starts_with("ref(") => bail!("unknown constant in default {other}"),
        other => other,
    })
}
