//! Laws of what request lines say: what is written into one is what is read from it, in whatever form it is said; and
//! any other text ends in a refusal of the client.

use http::{HeaderMap, Method};
use proptest::prelude::*;
use tiphys_api::json;

use super::params::{self, Write};
use super::path::RequestInfo;
use super::query::{Query, decode, encode};

/// Texts that are nearly parameters.
fn raw() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "limit",
        "timeoutSeconds",
        "dryRun",
        "force",
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
        4 => prop::sample::select(vec!["0", "-1", "true", "All", "Orphan", "Strict", "9223372036854775808", "%ff", "%", "a%3Db"])
            .prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    prop::collection::vec((name, value), 0..5)
        .prop_map(|pairs| pairs.into_iter().map(|(name, value)| format!("{name}={value}&")).collect())
}

/// A part of a path that is no word of the grammar.
fn part() -> impl Strategy<Value = String> {
    "[a-zé:][a-z0-9é:.-]{0,8}".prop_filter("words of the grammar", |part| {
        !matches!(part.as_str(), "watch" | "namespaces" | "status" | "finalize" | "api" | "apis")
    })
}

proptest! {
    #[test]
    fn a_query_says_what_was_written_into_it(pairs in prop::collection::vec((any::<String>(), any::<String>()), 0..6)) {
        let raw: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let query = Query::parse(&raw.join("&"));
        for (name, _) in &pairs {
            let written: Vec<&str> = pairs.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
            prop_assert_eq!(query.all(name).collect::<Vec<_>>(), written);
        }
    }

    #[test]
    fn a_path_says_what_was_written_into_it(
        group in prop::option::of(part()),
        namespace in prop::option::of(part()),
        (version, resource, name, subresource) in (part(), part(), part(), part()),
        rest in prop::option::of(prop::collection::vec(part(), 0..3)),
    ) {
        let mut path = group.as_ref().map_or_else(|| "/api".to_owned(), |group| format!("/apis/{}", encode(group)));
        let mut add = |part: &str| path = format!("{path}/{}", encode(part));
        add(&version);
        if let Some(namespace) = &namespace {
            add("namespaces");
            add(namespace);
        }
        [&resource, &name, &subresource].into_iter().for_each(|part| add(part));
        if let Some(rest) = &rest {
            path = format!("{path}/{}", rest.iter().map(|part| encode(part)).collect::<Vec<_>>().join("/"));
        }
        let info = RequestInfo::parse(&Method::GET, &path, &Query::default()).unwrap();
        let expected = RequestInfo {
            path: decode(&path, false).unwrap(),
            is_resource: true,
            verb: "get",
            group: group.unwrap_or_default(),
            version,
            resource,
            subresource,
            namespace: namespace.unwrap_or_default(),
            name,
            rest: rest.map(|rest| rest.join("/")),
        };
        prop_assert_eq!(info, expected);
    }

    #[test]
    fn a_deletion_means_the_same_in_query_and_body(
        grace in prop::option::of(any::<i64>()),
        policy in prop::option::of(prop::sample::select(vec!["Orphan", "Background", "Foreground", "orphan"])),
        orphans in prop::option::of(any::<bool>()),
        dry_run in prop::collection::vec(prop::sample::select(vec!["All", "Some"]), 0..3),
    ) {
        let mut raw = String::new();
        let mut put = |name: &str, value: &str| raw.push_str(&format!("{name}={value}&"));
        grace.iter().for_each(|grace| put("gracePeriodSeconds", &grace.to_string()));
        policy.iter().for_each(|policy| put("propagationPolicy", policy));
        orphans.iter().for_each(|orphans| put("orphanDependents", &orphans.to_string()));
        dry_run.iter().for_each(|value| put("dryRun", value));
        let body = json!({"gracePeriodSeconds": grace, "propagationPolicy": policy, "orphanDependents": orphans,
            "dryRun": dry_run});
        let shown = |(query, body): (&Query, &str)| {
            let read = params::delete(query, body.as_bytes());
            read.map(|(params, code)| (format!("{params:?}"), code)).map_err(|status| status.message)
        };
        let from_query = shown((&Query::parse(&raw), ""));
        prop_assert_eq!(&from_query, &shown((&Query::default(), &body.to_string())));
        let wrong = dry_run.contains(&"Some") || policy == Some("orphan") || (policy.is_some() && orphans.is_some());
        prop_assert_eq!(from_query.is_err(), wrong);
    }

    #[test]
    fn numbers_are_read_as_they_are_or_refused(text in prop_oneof![any::<i64>().prop_map(|n| n.to_string()), "[-+0-9x]{1,4}"]) {
        let query = Query::parse(&format!("limit={}", encode(&text)));
        match text.parse::<i64>() {
            Ok(number) => prop_assert_eq!(params::list(&query).unwrap().limit, number.max(0) as u64),
            Err(_) => prop_assert_eq!(params::list(&query).unwrap_err().code, 400),
        }
    }

    #[test]
    fn what_cannot_be_read_is_the_clients_mistake(raw in raw(), body in any::<Vec<u8>>(), path in "\\PC{0,30}") {
        let query = Query::parse(&raw);
        let writes = [Write::Create, Write::Update, Write::Patch, Write::Apply];
        let refused = writes.iter().filter_map(|write| params::write(&query, &HeaderMap::new(), *write).err());
        for status in refused.chain(params::delete(&query, &body).err()) {
            prop_assert!((400..500).contains(&status.code), "{status:?}");
        }
        // A path that is read at all is read whole.
        if let Ok(info) = RequestInfo::parse(&Method::GET, &path, &query) {
            prop_assert_eq!(Some(info.path), decode(&path, false));
        }
    }
}
