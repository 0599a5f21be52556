//! The options of a write as an object of their kind: what webhooks and policies see of a request's query.

use tiphys_api::{Map, Value};

use crate::registry::{DeleteParams, FieldValidation, Propagation, WriteParams};

/// What came with a write, besides the object.
#[derive(Clone, Copy, Debug, Default)]
pub enum Options<'a> {
    /// A stream has none.
    #[default]
    None,
    /// `CreateOptions`
    Create(&'a WriteParams),
    /// `UpdateOptions`, of patches as well.
    Update(&'a WriteParams),
    /// `DeleteOptions`
    Delete(&'a DeleteParams),
}

impl Options<'_> {
    /// Whether nothing is to be committed.
    pub fn dry_run(&self) -> bool {
        match self {
            Self::None => false,
            Self::Create(params) | Self::Update(params) => params.dry_run,
            Self::Delete(params) => params.dry_run,
        }
    }

    /// The object; null without options.
    pub fn to_value(&self) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Create(params) => write("CreateOptions", params),
            Self::Update(params) => write("UpdateOptions", params),
            Self::Delete(params) => delete(params),
        }
    }
}

fn of_kind(kind: &str, dry_run: bool) -> Map {
    let mut options = Map::new();
    options.insert("apiVersion".into(), "meta.k8s.io/v1".into());
    options.insert("kind".into(), kind.into());
    if dry_run {
        options.insert("dryRun".into(), vec![Value::from("All")].into());
    }
    options
}

fn write(kind: &str, params: &WriteParams) -> Value {
    let mut options = of_kind(kind, params.dry_run);
    if !params.field_manager.is_empty() {
        options.insert("fieldManager".into(), params.field_manager.as_str().into());
    }
    let validation = match params.field_validation {
        FieldValidation::Ignore => "Ignore",
        FieldValidation::Warn => "Warn",
        FieldValidation::Strict => "Strict",
    };
    options.insert("fieldValidation".into(), validation.into());
    options.into()
}

fn delete(params: &DeleteParams) -> Value {
    let mut options = of_kind("DeleteOptions", params.dry_run);
    if let Some(seconds) = params.grace_period_seconds {
        options.insert("gracePeriodSeconds".into(), seconds.into());
    }
    let propagation = params.propagation.map(|propagation| match propagation {
        Propagation::Orphan => "Orphan",
        Propagation::Background => "Background",
        Propagation::Foreground => "Foreground",
    });
    if let Some(propagation) = propagation {
        options.insert("propagationPolicy".into(), propagation.into());
    }
    let mut preconditions = Map::new();
    for (name, value) in [("uid", &params.uid), ("resourceVersion", &params.resource_version)] {
        if let Some(value) = value {
            preconditions.insert(name.into(), value.as_str().into());
        }
    }
    if !preconditions.is_empty() {
        options.insert("preconditions".into(), preconditions.into());
    }
    options.into()
}

#[cfg(test)]
mod tests {
    use tiphys_api::json;

    use super::*;

    #[test]
    fn options_are_objects_of_their_kind() {
        let params = WriteParams { field_manager: "me".into(), dry_run: true, ..WriteParams::default() };
        let shown = json!({"apiVersion": "meta.k8s.io/v1", "kind": "UpdateOptions", "dryRun": ["All"],
                           "fieldManager": "me", "fieldValidation": "Warn"});
        assert_eq!(Options::Update(&params).to_value(), shown);
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            propagation: Some(Propagation::Background),
            uid: Some("u".into()),
            ..DeleteParams::default()
        };
        let shown = json!({"apiVersion": "meta.k8s.io/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
                           "propagationPolicy": "Background", "preconditions": {"uid": "u"}});
        assert_eq!(Options::Delete(&params).to_value(), shown);
        assert!(Options::None.to_value().is_null());
    }
}
