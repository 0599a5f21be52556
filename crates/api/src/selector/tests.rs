use crate::json;
use proptest::prelude::*;

use super::*;
use crate::object::Labels;

fn labels(text: &str) -> Labels {
    text.split(',').filter_map(|pair| pair.split_once('=')).collect()
}

fn selects(selector: &str, on: &str) -> bool {
    LabelSelector::parse(selector).unwrap().matches(&labels(on))
}

#[test]
fn every_operator_selects_as_kubernetes_does() {
    for (selector, on, expected) in [
        ("", "", true),
        ("a=b", "a=b", true),
        ("a==b", "a=c", false),
        ("a=", "a=", true),
        ("a=", "", false),
        ("a!=b", "", true),
        ("a!=b", "a=b", false),
        ("a in (b, c)", "a=c", true),
        ("a in (b,c)", "", false),
        ("a in (,b)", "a=", true),
        ("a in ()", "a=", true),
        ("a notin (b,c)", "", true),
        ("a notin (b,c)", "a=b", false),
        ("a", "a=x", true),
        ("!a", "a=x", false),
        ("! a , b=c", "b=c", true),
        ("in in (in)", "in=in", true),
        ("a>5", "a=6", true),
        ("a<5", "a=6", false),
        ("a>5", "a=x", false),
        ("x=y,a=b", "a=b", false),
        ("example.com/a=b", "example.com/a=b", true),
    ] {
        assert_eq!(selects(selector, on), expected, "{selector:?} on {on:?}");
    }
}

#[test]
fn refusals_are_worded_as_kubernetes_words_them() {
    for (selector, text) in [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=b,", "found '', expected: identifier after ','"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("!a=b", "found '=', expected: ',' or 'end of string'"),
    ] {
        assert_eq!(LabelSelector::parse(selector).unwrap_err().to_string(), text, "{selector:?}");
    }
    let bad_value = LabelSelector::parse("a=b_").unwrap_err().to_string();
    let start =
        "unable to parse requirement: values[0][a]: Invalid value: \"b_\": a valid label must be an empty";
    assert!(bad_value.starts_with(start), "{bad_value}");
    let bad_key = LabelSelector::parse("-a=b").unwrap_err().to_string();
    assert!(bad_key.starts_with("unable to parse requirement: <nil>: Invalid value: \"-a\": name part must"));
}

#[test]
fn the_object_form_selects_as_the_text_form() {
    let value = json!({"matchLabels": {"app": "web"}, "matchExpressions": [
        {"key": "tier", "operator": "In", "values": ["b", "a"]},
        {"key": "old", "operator": "DoesNotExist"},
    ]});
    let selector = LabelSelector::from_value(&value).unwrap();
    assert_eq!(selector.to_string(), "app=web,!old,tier in (a,b)");
    assert!(selector.matches(&labels("app=web,tier=a")));
    assert!(!selector.matches(&labels("app=web,tier=a,old=1")));
    assert!(LabelSelector::from_value(&json!({})).unwrap().is_everything());
    assert!(!LabelSelector::from_value(&json!(null)).unwrap().matches(&labels("")));
    let bad = json!({"matchExpressions": [{"key": "a", "operator": "Like"}]});
    let text = LabelSelector::from_value(&bad).unwrap_err().to_string();
    assert_eq!(text, "\"Like\" is not a valid label selector operator");
    let empty = json!({"matchExpressions": [{"key": "a", "operator": "In"}]});
    let text = LabelSelector::from_value(&empty).unwrap_err().to_string();
    assert_eq!(text, "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty");
}

#[test]
fn a_selector_tells_what_it_pins() {
    let selector = LabelSelector::parse("a=b,c in (d),e in (f,g),h!=i").unwrap();
    assert_eq!([selector.exact("a"), selector.exact("c")], [Some("b"), Some("d")]);
    assert_eq!([selector.exact("e"), selector.exact("h")], [None, None]);
}

#[test]
fn field_selectors_read_escapes_and_refuse_the_rest() {
    let selector = FieldSelector::parse(r"spec.nodeName=a\,b\=c\\,status.phase!=Failed").unwrap();
    assert_eq!(selector.exact("spec.nodeName"), Some(r"a,b=c\"));
    assert_eq!(selector.to_string(), r"spec.nodeName=a\,b\=c\\,status.phase!=Failed");
    let get = |path: &str| (path == "spec.nodeName").then_some(r"a,b=c\");
    assert!(selector.matches(get));
    assert!(!selector.matches(|_| None));
    assert!(FieldSelector::parse("").unwrap().is_everything());
    assert!(FieldSelector::parse("spec.nodeName=").unwrap().matches(|_| None));
    for (text, error) in [
        ("a", "invalid selector: 'a'; can't understand 'a'"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        (r"a=\x", r"invalid field selector: invalid escape sequence: \x"),
        (r"a=\", r"invalid field selector: invalid escape sequence: \"),
    ] {
        assert_eq!(FieldSelector::parse(text).unwrap_err().to_string(), error);
    }
}

proptest! {
    #[test]
    fn no_text_panics_and_what_parses_prints_back(text in "[ab=!<>(),\\\\ \0é.inot/-]{0,24}") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
        }
        if let Ok(selector) = FieldSelector::parse(&text) {
            prop_assert_eq!(FieldSelector::parse(&selector.to_string()).unwrap(), selector);
        }
    }
}
