//! The codec against itself and against bytes as Go writes them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema::{Resource, Schema, StructId, Type};

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "p", "namespace": "n", "labels": {"a": "b"}, "creationTimestamp": "2026-11-22T10:00:00Z",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": false}],
            "managedFields": [{"manager": "m", "operation": "Apply", "fieldsV1": {"f:spec": {}}}]
        },
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "c", "image": "i",
                "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 3},
                "ports": [{"containerPort": 80}]
            }],
            "terminationGracePeriodSeconds": 0,
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/x", "type": ""}}]
        },
        "status": {}
    })
}

#[test]
fn a_pod_comes_back_as_it_went() {
    let bytes = encode(&pod()).unwrap();
    assert!(bytes.starts_with(&MAGIC));
    assert_eq!(decode(&bytes).unwrap(), pod());
}

/// As Go's generated code writes `Namespace{ObjectMeta{Name: "shop"}}`: every plain scalar, zero or not.
#[test]
fn zeros_of_plain_scalars_are_absence() {
    let mut meta = Vec::new();
    wire::put_bytes(&mut meta, 1, b"shop");
    for number in [2, 3, 4, 5, 6] {
        wire::put_bytes(&mut meta, number, b"");
    }
    wire::put_number(&mut meta, 7, 0);
    wire::put_bytes(&mut meta, 8, b"");
    let mut raw = Vec::new();
    wire::put_bytes(&mut raw, 1, &meta);
    wire::put_bytes(&mut raw, 2, b"");
    let mut status = Vec::new();
    wire::put_bytes(&mut status, 1, b"");
    wire::put_bytes(&mut raw, 3, &status);
    let value = decode(&encode::envelope("v1", "Namespace", &raw)).unwrap();
    let expected = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}, "spec": {}, "status": {}});
    assert_eq!(value, expected);
}

#[test]
fn options_are_the_same_in_every_group() {
    let options = json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"}});
    assert_eq!(decode(&encode(&options).unwrap()).unwrap(), options);
}

#[test]
fn broken_bytes_are_errors() {
    let good = encode(&pod()).unwrap();
    for end in 0..good.len() {
        // A cut at the end of a field is a shorter message; no cut may panic.
        let _ = decode(&good[..end]);
    }
    assert_eq!(decode(b"{}"), Err(Error::NoMagic));
    let nested = (0..200).fold(Vec::new(), |inner, _| {
        let mut out = Vec::new();
        wire::put_bytes(&mut out, 3, &inner);
        out
    });
    let _ = decode(&encode::envelope("v1", "Pod", &nested));
    assert!(matches!(decode(&encode::envelope("v9", "Pod", b"")), Err(Error::NoKind { .. })));
}

/// A value of a type, deep enough to meet every kind of field, with nothing that is zero and optional.
fn sample(schema: &Schema, ty: &Type, depth: usize, seed: &mut u64) -> Value {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let number = (*seed >> 33) % 1000 + 1;
    match ty {
        Type::String => format!("s{number}").into(),
        Type::Bool => true.into(),
        Type::Int32 | Type::Int64 => number.into(),
        Type::Double => (number as f64 + 0.5).into(),
        Type::Bytes => "AAEC".into(),
        Type::IntOrString if number.is_multiple_of(2) => number.into(),
        Type::IntOrString => "half".into(),
        Type::Quantity => format!("{number}Mi").into(),
        Type::Time => "2026-11-22T10:00:00Z".into(),
        Type::MicroTime => "2026-11-22T10:00:00.000123Z".into(),
        Type::Duration => "5ns".into(),
        Type::Any | Type::FieldsV1 => json!({"f:x": {}}),
        Type::List(list) => json!([sample(schema, &list.item, depth, seed)]),
        Type::Map(item) => json!({"k": sample(schema, item, depth, seed)}),
        Type::Struct(id) => structure(schema, *id, depth + 1, seed),
    }
}

fn structure(schema: &Schema, id: StructId, depth: usize, seed: &mut u64) -> Value {
    let fields = schema.get(id).fields.iter().filter(|field| field.proto.is_some());
    let chosen = fields
        .filter(|field| depth < 4 || !matches!(field.ty, Type::Struct(_) | Type::List(_) | Type::Map(_)));
    chosen.map(|field| (field.name.to_string(), sample(schema, &field.ty, depth, seed))).collect()
}

fn round(resource: &Resource, seed: u64) {
    let mut seed = seed;
    let mut object = structure(&resource.schema, resource.object, 0, &mut seed);
    object["apiVersion"] = resource.gvk.api_version().into();
    object["kind"] = resource.gvk.kind.as_ref().into();
    let back = decode(&encode(&object).unwrap_or_else(|e| panic!("{}: {e}", resource.gvk)));
    assert_eq!(back.unwrap_or_else(|e| panic!("{}: {e}", resource.gvk)), object, "{}", resource.gvk);
}

#[test]
fn every_kind_comes_back_as_it_went() {
    for resource in schema::builtin().iter() {
        round(resource, 7);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in "Pod|Secret|Deployment|Event") {
        let version = if kind == "Deployment" { "apps/v1" } else { "v1" };
        let _ = decode(&encode::envelope(version, &kind, &bytes));
    }
}
