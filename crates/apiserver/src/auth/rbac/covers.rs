//! Whether one set of rules gives all that another gives: nobody may hand out what they do not hold.
//!
//! As Kubernetes does it: the other rules are broken into single permissions, and each must lie within one held rule.

use std::fmt::Write;

use super::rule::{Rule, url_covers};

/// The single permissions of `wanted` that `held` does not give; empty when all are held.
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let single = wanted.iter().flat_map(break_down);
    single.filter(|one| !held.iter().any(|rule| covers(rule, one))).collect()
}

/// One rule per verb, group, resource and name, or per verb and path.
fn break_down(rule: &Rule) -> Vec<Rule> {
    let mut single = Vec::new();
    let one = |text: &str| vec![Box::from(text)];
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                let bare = Rule {
                    api_groups: one(group),
                    resources: one(resource),
                    verbs: one(verb),
                    ..Rule::default()
                };
                if rule.resource_names.is_empty() {
                    single.push(bare.clone());
                }
                let named = rule.resource_names.iter();
                single.extend(named.map(|name| Rule { resource_names: one(name), ..bare.clone() }));
            }
        }
    }
    for url in &rule.non_resource_urls {
        let verbs = rule.verbs.iter();
        single.extend(verbs.map(|verb| Rule {
            non_resource_urls: one(url),
            verbs: one(verb),
            ..Rule::default()
        }));
    }
    single
}

fn covers(held: &Rule, one: &Rule) -> bool {
    let within = |held: &[Box<str>], wanted: &[Box<str>]| {
        held.iter().any(|h| h.as_ref() == "*") || wanted.iter().all(|w| held.contains(w))
    };
    let names = held.resource_names.is_empty()
        || (!one.resource_names.is_empty()
            && one.resource_names.iter().all(|n| held.resource_names.contains(n)));
    let urls = one
        .non_resource_urls
        .iter()
        .all(|url| held.non_resource_urls.iter().any(|pattern| url_covers(pattern, url)));
    within(&held.verbs, &one.verbs)
        && within(&held.api_groups, &one.api_groups)
        && one.resources.iter().all(|resource| covers_resource(&held.resources, resource))
        && names
        && urls
}

fn covers_resource(held: &[Box<str>], resource: &str) -> bool {
    let any = |wanted: &str| held.iter().any(|h| h.as_ref() == wanted);
    any("*") || any(resource) || resource.split_once('/').is_some_and(|(_, sub)| any(&format!("*/{sub}")))
}

/// The rules as refusals list them, verbs of the same resource together, sorted, a line each.
pub fn describe(rules: &[Rule]) -> String {
    let mut together: Vec<Rule> = Vec::new();
    for rule in rules {
        let same =
            together.iter_mut().find(|other| Rule { verbs: rule.verbs.clone(), ..(*other).clone() } == *rule);
        match same.filter(|_| rule.non_resource_urls.is_empty()) {
            Some(other) => other.verbs.extend(rule.verbs.iter().cloned()),
            None => together.push(rule.clone()),
        }
    }
    let mut lines: Vec<String> = together.iter().map(line).collect();
    lines.sort();
    lines.dedup();
    lines.join("\n")
}

fn line(rule: &Rule) -> String {
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let full = parts.iter().filter(|(_, texts)| !texts.is_empty());
    let texts: Vec<String> = full.map(|(name, texts)| format!("{name}:{}", quoted(texts))).collect();
    format!("{{{}}}", texts.join(", "))
}

/// `["a" "b"]`, as Go prints a list of quoted strings.
pub fn quoted<T: AsRef<str>>(texts: &[T]) -> String {
    let mut out = String::from("[");
    for (i, text) in texts.iter().enumerate() {
        let space = if i == 0 { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = write!(out, "{space}{:?}", text.as_ref());
    }
    out.push(']');
    out
}
