//! Laws of what request lines say: whatever the text, reading it ends in parameters or in a refusal.

use http::{HeaderMap, Method};
use proptest::prelude::*;

use super::params::{self, Write};
use super::path::RequestInfo;
use super::query::{Query, decode, encode};

/// Texts that are nearly parameters.
fn raw() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "limit",
        "continue",
        "resourceVersion",
        "resourceVersionMatch",
        "watch",
        "timeoutSeconds",
        "dryRun",
        "force",
        "labelSelector",
        "fieldSelector",
        "sendInitialEvents",
        "fieldManager",
        "fieldValidation",
        "propagationPolicy",
        "gracePeriodSeconds",
        "orphanDependents",
        "%66orce",
        "",
        "é",
    ]);
    let value = prop_oneof![
        4 => prop::sample::select(vec!["0", "-1", "1", "true", "False", "All", "NotOlderThan", "Exact", "Orphan", "Strict",
            "9223372036854775807", "9223372036854775808", "18446744073709551615", "%00", "%ff", "%", "%2", "a%3Db", "+", "="])
            .prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    prop::collection::vec((name, value), 0..5)
        .prop_map(|pairs| pairs.into_iter().map(|(name, value)| format!("{name}={value}&")).collect())
}

fn path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        6 => prop::sample::select(vec!["api", "apis", "v1", "apps", "namespaces", "pods", "watch", "status", "finalize",
            "proxy", "n", "", "..", "%2f", "%zz", "%ff"]).prop_map(str::to_owned),
        1 => "\\PC{0,8}",
    ];
    prop::collection::vec(part, 0..9).prop_map(|parts| format!("/{}", parts.join("/")))
}

proptest! {
    #[test]
    fn any_query_is_read_or_refused(raw in raw(), body in any::<Vec<u8>>()) {
        let query = Query::parse(&raw);
        if let Ok(list) = params::list(&query) {
            prop_assert_eq!(list.continue_token.as_str(), query.text("continue"));
        }
        if let Ok(watch) = params::watch(&query) {
            prop_assert!(watch.timeout.is_none_or(|time| !time.is_zero()));
        }
        for write in [Write::Create, Write::Update, Write::Patch, Write::Apply] {
            if let Err(status) = params::write(&query, &HeaderMap::new(), write) {
                prop_assert!((400..500).contains(&status.code), "{status:?}");
            }
        }
        let bodies = [&b""[..], &body, br#"{"gracePeriodSeconds":-1,"preconditions":null}"#];
        for status in bodies.into_iter().filter_map(|body| params::delete(&query, body).err()) {
            prop_assert!((400..500).contains(&status.code), "{status:?}");
        }
    }

    #[test]
    fn any_request_line_means_one_thing(raw in raw(), path in path()) {
        let query = Query::parse(&raw);
        for method in [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS] {
            if let Ok(info) = RequestInfo::parse(&method, &path, &query) {
                prop_assert_eq!(decode(&path, false), Some(info.path.clone()));
                prop_assert!(info.is_resource || info.resource.is_empty());
            }
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_to_the_same(text in any::<String>()) {
        prop_assert_eq!(decode(&encode(&text), true), Some(text));
    }
}
