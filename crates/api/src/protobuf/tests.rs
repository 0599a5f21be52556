use crate::json;
use proptest::prelude::*;

use super::sealed::{AFTER_VERSION, METADATA, VERSION, seal};
use super::*;
use crate::decode::structure;
use crate::gvr::Gvr;
use crate::schema::arbitrary;

fn there_and_back(tree: &Value) -> Value {
    open(&encode(tree).unwrap()).unwrap()
}

#[test]
fn bytes_are_those_of_kubernetes() {
    let tree =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let wanted: &[u8] = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x0d\x12\x06\x0a\x01k\x12\x01v\x0a\x03\x0a\x01a\x1a\x00\x22\x00";
    assert_eq!(encode(&tree).unwrap(), wanted);
    assert_eq!(there_and_back(&tree), tree);
}

#[test]
fn what_go_writes_for_want_of_a_pointer_is_no_value() {
    // A Pod's message with spec.nodeName "" (10), hostNetwork false (11), priority 0 (25) and an empty status.
    let spec = [&b"\x52\x00\x58\x00\xc8\x01\x00"[..]].concat();
    let message = [&[0x12, u8::try_from(spec.len()).unwrap()], &spec[..], b"\x1a\x00"].concat();
    let pod = open(seal(&Gvk::new("", "v1", "Pod"), &[&message]).body()).unwrap();
    assert_eq!(pod["spec"], json!({"priority": 0, "containers": []}));
    assert_eq!(pod["status"], json!({}));
}

#[test]
fn values_of_several_forms_survive() {
    let schema = json!({
        "type": "object", "additionalProperties": false, "default": {"a": 1}, "x-kubernetes-list-type": "map",
        "properties": {"l": {"items": {"type": "string"}}, "m": {"additionalProperties": {"type": "integer"}}},
        "enum": ["a", 1, null], "$ref": "#/x",
    });
    let version =
        json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "spec": {"group": "g", "names": {"kind": "K", "plural": "ks"}, "scope": "Namespaced", "versions": [version]},
    });
    assert_eq!(there_and_back(&crd), crd);
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"extra": {"scopes": ["a", "b"]}, "user": "u"},
    });
    assert_eq!(there_and_back(&review), review);
}

#[test]
fn lists_and_events_are_put_together_from_encoded_objects() {
    let item = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let sealed = Sealed::of(&item).unwrap();
    let (message, kinds) = (sealed.message(), Gvk::new("", "v1", "ConfigMapList"));
    for count in [0, 2, 100] {
        let (start, end) =
            list(&kinds, &json!({"resourceVersion": "5"}), vec![message.len(); count]).unwrap();
        let items = [item_head(message.len()), message.to_vec()].concat().repeat(count);
        let tree = open(&[start, items, end.to_vec()].concat()).unwrap();
        assert_eq!(tree["metadata"]["resourceVersion"], "5");
        assert_eq!(tree["items"].as_array().map_or(0, Vec::len), count);
        assert!(count == 0 || tree["items"][count - 1] == json!({"metadata": {"name": "a"}}));
    }
    let frame = event("ADDED", sealed.body());
    assert_eq!(usize::try_from(u32::from_be_bytes(frame[..4].try_into().unwrap())).unwrap(), frame.len() - 4);
    let watch = read(&Gvk::new("", "v1", "WatchEvent"), &frame[4..]).unwrap();
    assert_eq!((&watch["type"], &watch["object"]["kind"]), (&json!("ADDED"), &json!("ConfigMap")));
}

#[test]
fn metadata_stands_alone() {
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"k": "v"}}});
    let gvk = Gvk::new("meta.k8s.io", "v1", "PartialObjectMetadata");
    let partial = message(&gvk, &map).unwrap();
    // A ConfigMap without data has the same message.
    assert_eq!(partial, message(&Gvk::new("", "v1", "ConfigMap"), &map).unwrap());
    assert!(message(&gvk, &json!({})).is_err());
}

#[test]
fn envelopes_may_hold_json_and_options_of_any_group() {
    let mut out = Writer::default();
    out.bytes(2, br#"{"kind":"Pod"}"#);
    out.bytes(4, b"application/json");
    assert_eq!(open(&[&MAGIC[..], &out.finish()].concat()), Ok(json!({"kind": "Pod"})));
    let options = json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    assert_eq!(there_and_back(&options), options);
}

#[test]
fn strangers_are_refused() {
    assert_eq!(open(b"{}"), Err(Error::NoEnvelope));
    assert!(matches!(open(seal(&Gvk::new("x", "v1", "Y"), &[b""]).body()), Err(Error::UnknownKind(_))));
    let pod = Gvk::new("", "v1", "Pod");
    assert_eq!(open(seal(&pod, &[b"\x0a\xff"]).body()), Err(Error::Malformed));
    // A schema within a schema, and so on.
    let name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    let id = builtin().struct_id(name).unwrap();
    let not = builtin().schema().get(id).field("not").unwrap().proto.as_ref().unwrap().path[0];
    let mut deep = Vec::new();
    for _ in 0..200 {
        let mut out = Writer::default();
        out.bytes(not, &deep);
        deep = out.finish();
    }
    assert_eq!(decode::object(builtin().schema(), id, &deep), Err(Error::TooDeep));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_kind_comes_back_as_it_was(seed in any::<u64>(), pick in any::<prop::sample::Index>()) {
        let all: Vec<_> = builtin().iter().collect();
        let resource = pick.get(&all);
        let tree = arbitrary::object(resource, seed);
        prop_assert_eq!(there_and_back(&tree), tree.clone());
        let mut canonical = tree.clone();
        prop_assert_eq!(structure(resource, &mut canonical), Ok(Vec::new()));
        prop_assert_eq!(canonical, tree);
    }

    #[test]
    fn a_version_that_comes_later_is_where_it_belongs(seed in any::<u64>(), pick in any::<prop::sample::Index>(), version in any::<u64>()) {
        let all: Vec<_> = builtin().iter().collect();
        let resource = pick.get(&all);
        let mut tree = arbitrary::object(resource, seed);
        if let Some(Value::Object(metadata)) = tree.get_mut("metadata") {
            metadata.remove("resourceVersion");
            let early = Unversioned::of(&tree).unwrap();
            tree["metadata"]["resourceVersion"] = version.to_string().into();
            let [early, late] = [early.sealed(version), Sealed::of(&tree).unwrap()];
            prop_assert_eq!(early.body(), late.body());
        } else {
            prop_assert!(Unversioned::of(&tree).is_err());
        }
    }

    #[test]
    fn no_bytes_bring_it_down(bytes in prop::collection::vec(any::<u8>(), 0..200), pick in any::<prop::sample::Index>()) {
        let all: Vec<_> = builtin().iter().collect();
        let _ = open(seal(&pick.get(&all).gvk, &[&bytes]).body());
        let _ = open(&[&MAGIC[..], &bytes].concat());
    }

    #[test]
    fn what_is_read_from_a_message_needs_no_other_look(
        seed in any::<u64>(),
        pick in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let all: Vec<_> = builtin().iter().collect();
        let resource = pick.get(&all);
        let mut bytes = message(&resource.gvk, &arbitrary::object(resource, seed)).unwrap();
        for (at, byte) in changes.iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        let sealed = seal(&resource.gvk, &[&bytes]);
        prop_assert!(is_message(sealed.body()));
        if let Ok(tree) = open(sealed.body()) {
            let mut canonical = tree.clone();
            prop_assert_eq!(structure(resource, &mut canonical), Ok(Vec::new()));
            prop_assert_eq!(canonical, tree);
        }
    }
}

#[test]
fn every_list_has_its_items_in_one_place() {
    for resource in builtin().iter().filter(|r| !r.list_kind.is_empty()) {
        let gvk = Gvk { kind: resource.list_kind.to_string().into(), ..resource.gvk.clone() };
        let record = builtin().schema().get(type_of(&gvk).unwrap());
        let place = |name: &str| record.field(name).and_then(|f| f.proto.as_ref()).map(|p| p.path.to_vec());
        assert_eq!((place("metadata"), place("items")), (Some(vec![1]), Some(vec![2])), "{gvk}");
        assert_eq!(builtin().get(&Gvr { ..resource.gvr.clone() }).map(|r| &r.gvr), Some(&resource.gvr));
    }
}

#[test]
fn an_envelope_says_what_is_in_it_whatever_the_message_says() {
    // An OwnerReference tells a kind (1) of its own.
    let sealed = seal(&Gvk::new("", "v1", "OwnerReference"), &[b"\x0a\x09ConfigMap"]);
    let tree = open(sealed.body()).unwrap();
    assert_eq!((&tree["apiVersion"], &tree["kind"]), (&json!("v1"), &json!("OwnerReference")));
}

#[test]
fn every_version_has_its_place_in_metadata() {
    let id = builtin().struct_id("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").unwrap();
    let number = |field: &crate::schema::Field| field.proto.as_ref().map(|proto| proto.path.to_vec());
    let fields: Vec<_> = builtin().schema().get(id).fields.iter().collect();
    let at = fields.iter().position(|field| field.name == "resourceVersion").unwrap();
    assert_eq!(number(fields[at]), Some(vec![VERSION]));
    let after: Vec<_> = fields[at + 1..].iter().filter_map(|field| number(field)).collect();
    assert_eq!(after, AFTER_VERSION.map(|number| vec![number]));
    for resource in builtin().iter() {
        let metadata = resource.root().field("metadata").and_then(number);
        assert!(metadata.is_none_or(|path| path == [METADATA]), "{}", resource.gvk);
    }
}
