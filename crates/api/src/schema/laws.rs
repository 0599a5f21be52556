//! Laws that hold for every kind, tried on random objects.

use crate::{Map, Value, json};
use proptest::prelude::*;

use super::arbitrary;
use super::{Resource, builtin};
use crate::{convert, decode, defaults, protobuf, validate};

fn resource(pick: prop::sample::Index) -> &'static Resource {
    let all: Vec<&Resource> = builtin().iter().map(AsRef::as_ref).collect();
    let found: &&Resource = pick.get(&all);
    found
}

/// Puts wrong values into random places.
fn spoil(value: &mut Value, state: &mut u64) {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    if (*state >> 33).is_multiple_of(12) {
        let wrong = [
            json!(null),
            json!(-1),
            json!("é%"),
            json!([]),
            json!({}),
            json!([null, {"a": []}]),
            json!(1e300),
        ];
        let at = usize::try_from((*state >> 40) % wrong.len() as u64).unwrap();
        *value = wrong[at].clone();
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| spoil(item, state)),
        Value::Object(fields) => fields.values_mut().for_each(|field| spoil(field, state)),
        _ => {}
    }
}

fn without_names(value: &Value) -> Map {
    let mut fields = value.as_object().cloned().unwrap_or_default();
    fields.remove("apiVersion");
    fields.remove("kind");
    fields
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn defaults_fit_their_kind_and_are_stable(seed in any::<u64>(), pick in any::<prop::sample::Index>()) {
        let resource = resource(pick);
        let mut object = arbitrary::object(resource, seed);
        defaults::apply(resource, &mut object);
        let once = object.clone();
        defaults::apply(resource, &mut object);
        prop_assert_eq!(&object, &once);
        prop_assert_eq!(decode::structure(resource, &mut object), Ok(Vec::new()));
    }

    #[test]
    fn nothing_that_clients_send_brings_it_down(seed in any::<u64>(), pick in any::<prop::sample::Index>()) {
        let resource = resource(pick);
        let mut object = arbitrary::object(resource, seed);
        let before = object.clone();
        spoil(&mut object, &mut seed.clone());
        let _ = decode::structure(resource, &mut object);
        defaults::apply(resource, &mut object);
        let _ = validate::required(resource, &object);
        let _ = validate::object_meta(resource, &object);
        let _ = validate::object_meta_update(&before, &object);
        let _ = validate::immutable(resource, &before, &object);
        let _ = resource.selectable(&object);
        let _ = protobuf::encode(&object);
        let storage = builtin().storage(&resource.gvr);
        convert::between(resource, storage, &mut object);
    }

    #[test]
    fn what_was_structured_stays_as_it_is(seed in any::<u64>(), pick in any::<prop::sample::Index>()) {
        let resource = resource(pick);
        let mut object = arbitrary::object(resource, seed);
        spoil(&mut object, &mut seed.clone());
        if decode::structure(resource, &mut object).is_ok() {
            let once = object.clone();
            prop_assert_eq!(decode::structure(resource, &mut object), Ok(Vec::new()));
            prop_assert_eq!(object, once);
        }
    }

    #[test]
    fn no_version_loses_what_the_other_says(seed in any::<u64>(), pick in any::<prop::sample::Index>()) {
        let several: Vec<&Resource> = builtin()
            .iter()
            .map(AsRef::as_ref)
            .filter(|r| builtin().storage(&r.gvr).gvr != r.gvr && r.gvr.version != "v1beta1")
            .collect();
        let resource = *pick.get(&several);
        let storage = builtin().storage(&resource.gvr);
        let object = arbitrary::object(resource, seed);
        let mut there = object.clone();
        convert::between(resource, storage, &mut there);
        prop_assert_eq!(there["kind"].as_str(), Some(storage.gvk.kind.as_ref()));
        let mut fitting = there.clone();
        prop_assert_eq!(decode::structure(storage, &mut fitting), Ok(Vec::new()));
        convert::between(storage, resource, &mut there);
        prop_assert_eq!(without_names(&there), without_names(&object));
    }
}
