//! Protobuf field numbers of a JSON field, looking through Go-embedded structs.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

/// All messages by name, lower-cased and with `-` as `_`.
pub struct Messages(BTreeMap<String, Vec<Field>>);

struct Field {
    name: String,
    number: u64,
    kind: String,
    default: Option<String>,
}

/// What protobuf says about one JSON field.
pub struct Found {
    /// Field numbers from the outer message down.
    pub path: Vec<u64>,
    /// Declared default, as the API's Go sources write it.
    pub default: Option<String>,
}

impl Messages {
    /// Reads the protobuf facts.
    pub fn new(source: &Value) -> Result<Self> {
        let mut messages = BTreeMap::new();
        for (name, fields) in source.as_object().context("protobuf facts are no object")? {
            let fields = fields.as_array().context("a message's fields are no list")?;
            messages.insert(normal(name), fields.iter().map(field).collect());
        }
        Ok(Self(messages))
    }

    /// Where the message of a definition keeps a JSON field.
    pub fn find(&self, definition: &str, json_name: &str) -> Option<Found> {
        let message = normal(&definition.replacen("io.k8s.", "k8s.io.", 1));
        self.find_in(&message, &proto_name(json_name))
    }

    fn find_in(&self, message: &str, name: &str) -> Option<Found> {
        let fields = self.0.get(message)?;
        if let Some(field) = fields.iter().find(|f| f.name == name) {
            return Some(Found { path: vec![field.number], default: field.default.clone() });
        }
        fields.iter().filter(|f| is_embedded(f)).find_map(|field| {
            let mut inner = self.find_in(&absolute(message, &field.kind), name)?;
            inner.path.insert(0, field.number);
            Some(inner)
        })
    }
}

/// Structs that Go embeds: flattened in JSON, nested in protobuf.
fn is_embedded(field: &Field) -> bool {
    const EMBEDDED: [&str; 10] = [
        "volumesource",
        "persistentvolumesource",
        "handler",
        "ephemeralcontainercommon",
        "ingressrulevalue",
        "localobjectreference",
        "rule",
        "rulewithoperations",
        "deviceconfiguration",
        "typedlocalobjectreference",
    ];
    EMBEDDED.contains(&field.name.as_str())
}

fn absolute(message: &str, kind: &str) -> String {
    match kind.strip_prefix('.') {
        Some(path) => normal(&format!("k8s.io.{path}")),
        None => {
            let package = message.rsplit_once('.').map_or("", |(package, _)| package);
            format!("{package}.{}", normal(kind))
        }
    }
}

fn normal(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

/// `x-kubernetes-list-type` is `xKubernetesListType`, `$ref` is `ref`; case differs in a few.
fn proto_name(json_name: &str) -> String {
    json_name.trim_start_matches('$').replace('-', "").to_lowercase()
}

fn field(source: &Value) -> Field {
    Field {
        name: source["name"].as_str().unwrap_or_default().to_lowercase(),
        number: source["number"].as_u64().unwrap_or_default(),
        kind: source["type"].as_str().unwrap_or_default().to_owned(),
        default: source["default"].as_str().map(str::to_owned),
    }
}
