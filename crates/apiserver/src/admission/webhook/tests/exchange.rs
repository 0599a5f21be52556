//! What a response must be, and what is made of it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tiphys_api::Status;

use super::super::exchange::{Answer, Unusable, Version, answer, denial};
use super::*;

fn read(version: Version, mutating: bool, review: &Value) -> Result<Answer, Unusable> {
    answer(review.to_string().as_bytes(), version, "u", mutating)
}

fn reviewed(response: &Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

#[test]
fn an_answer_must_fit_its_question() {
    let wrong = |mutating, review: Value| match read(Version::V1, mutating, &review) {
        Err(Unusable::Wrong(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(wrong(true, json!({})), "webhook response was absent");
    assert_eq!(wrong(true, reviewed(&json!({"uid": "v"}))), r#"expected response.uid="u", got "v""#);
    let other = json!({"apiVersion": "v1", "kind": "Status", "response": {"uid": "u"}});
    assert_eq!(
        wrong(true, other),
        "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /v1, Kind=Status"
    );
    for (mutating, response, why) in [
        (true, json!({"patch": "W10="}), "webhook returned response.patch but not response.patchType"),
        (
            true,
            json!({"patchType": "JSONPatch"}),
            "webhook returned response.patchType but not response.patch",
        ),
        (
            true,
            json!({"patch": "W10=", "patchType": "X"}),
            "webhook returned invalid response.patchType of \"X\"",
        ),
        (false, json!({"patch": "W10="}), "validating webhook may not return response.patch"),
        (false, json!({"patchType": "X"}), "validating webhook may not return response.patchType"),
    ] {
        let mut response = response;
        response["uid"] = json!("u");
        assert_eq!(wrong(mutating, reviewed(&response)), why);
    }
    let unreadable = answer(b"no", Version::V1, "u", true);
    assert!(matches!(unreadable, Err(Unusable::Unreadable(_))), "{unreadable:?}");
}

#[test]
fn an_answer_says_what_it_says() {
    let response = json!({"uid": "u", "allowed": true, "warnings": ["a", "b"], "patchType": "JSONPatch",
                          "patch": STANDARD.encode("[]")});
    let read_v1 = read(Version::V1, true, &reviewed(&response)).unwrap();
    assert_eq!(
        (read_v1.allowed, read_v1.patch.as_slice(), read_v1.warnings.len()),
        (true, b"[]".as_slice(), 2)
    );
    let old = read(Version::V1beta1, true, &json!({"response": {"patch": STANDARD.encode("[]")}})).unwrap();
    assert_eq!((old.allowed, old.patch.as_slice()), (false, b"[]".as_slice()));
    let known = |versions: &[&str]| Version::of(&versions.iter().map(|v| (*v).into()).collect::<Vec<_>>());
    assert_eq!(known(&["v2", "v1beta1", "v1"]), Some(Version::V1beta1));
    assert_eq!(known(&["v2"]), None);
}

#[test]
fn denials_have_their_words() {
    let told = |status: Option<Value>| {
        let Status { code, reason, message, .. } = denial("x.io", status.as_ref());
        (code, reason, message)
    };
    let denied = |code, reason: &str, why: &str| {
        (code, reason.to_owned(), format!("admission webhook \"x.io\" denied the request{why}"))
    };
    assert_eq!(told(None), denied(400, "", " without explanation"));
    assert_eq!(told(Some(json!({"code": 200, "reason": "no"}))), denied(400, "no", ": no"));
    let full = json!({"status": "Success", "code": 403, "reason": "Forbidden", "message": "never"});
    assert_eq!(told(Some(full)), denied(403, "Forbidden", ": never"));
}
