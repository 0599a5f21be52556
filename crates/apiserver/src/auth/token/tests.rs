//! Tokens through their life: asked for, used, and ended by time, audience, or the end of what they are bound to.

use jiff::ToSpan;
use tiphys_api::json;

use super::request::BoundTo;
use super::*;
use crate::auth::testing::Fake;
use crate::pki::ServiceAccountKey;
use jiff::Timestamp;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn key() -> ServiceAccountKey {
    let key = rcgen::KeyPair::generate().unwrap();
    ServiceAccountKey { private_pem: key.serialize_pem(), public_pem: key.public_key_pem() }
}

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn cluster() -> (Arc<Fake>, ServiceAccountTokens) {
    let fake = Arc::new(Fake::default());
    fake.put_named(&SERVICE_ACCOUNTS, "ns", "web", "sa-uid");
    fake.put_named(&NODES, "", "n1", "node-uid");
    fake.put(
        &PODS,
        &json!({"metadata": {"namespace": "ns", "name": "p", "uid": "pod-uid"},
                "spec": {"nodeName": "n1", "serviceAccountName": "web"}}),
    );
    let tokens = ServiceAccountTokens::new(Keys::new(&key()).unwrap(), ISSUER, fake.clone());
    (fake, tokens)
}

fn bound(kind: &str, name: &str) -> Request {
    let to = BoundTo { api_version: "v1".into(), kind: kind.into(), name: name.into(), uid: String::new() };
    Request { bound_object_ref: Some(to), ..Request::default() }
}

fn token(fake: &Fake, tokens: &ServiceAccountTokens, request: &Request) -> String {
    let account = fake.get(&SERVICE_ACCOUNTS, "ns", "web").unwrap();
    tokens.issue(&account, request, now()).unwrap().token
}

#[test]
fn a_plain_token_names_the_account_until_it_expires() {
    let (fake, tokens) = cluster();
    let token = token(&fake, &tokens, &Request::default());
    let user = tokens.verify(&token, &[], now()).unwrap().user;
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("system:serviceaccount:ns:web", "sa-uid"));
    assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]);
    assert!(matches!(tokens.verify(&token, &[], now() + 62.minutes()), Err(Refused::Time)));
    assert!(matches!(tokens.verify(&token, &[], now() - 2.minutes()), Err(Refused::Time)));
    fake.put_named(&SERVICE_ACCOUNTS, "ns", "web", "another");
    assert!(matches!(tokens.verify(&token, &[], now()), Err(Refused::Gone(_))));
}

#[test]
fn audiences_must_meet() {
    let (fake, tokens) = cluster();
    let request = Request { audiences: Some(vec!["vault".into(), "db".into()]), ..Request::default() };
    let token = token(&fake, &tokens, &request);
    assert!(matches!(tokens.verify(&token, &[], now()), Err(Refused::Audience { .. })));
    let verified = tokens.verify(&token, &["other".into(), "vault".into()], now()).unwrap();
    assert_eq!(verified.audiences, ["vault"]);
}

#[test]
fn a_pods_token_dies_with_the_pod() {
    let (fake, tokens) = cluster();
    let token = token(&fake, &tokens, &bound("Pod", "p"));
    let user = tokens.verify(&token, &[], now()).unwrap().user;
    let facts: Vec<&str> =
        user.extra.iter().filter(|(k, _)| k.ends_with("name")).map(|(_, v)| v[0].as_str()).collect();
    assert_eq!(facts, ["n1", "p"]);
    let deleting = |at: &str| {
        fake.put(
            &PODS,
            &json!({"metadata": {"namespace": "ns", "name": "p", "uid": "pod-uid", "deletionTimestamp": at},
                    "spec": {"nodeName": "n1"}}),
        );
        tokens.verify(&token, &[], now()).is_ok()
    };
    assert!(deleting("2026-11-22T11:59:30Z"));
    assert!(!deleting("2026-11-22T11:58:00Z"));
    fake.delete(&PODS, "ns", "p");
    assert!(tokens.verify(&token, &[], now()).is_err());
}

#[test]
fn the_kubelets_token_outlives_its_warning() {
    let (fake, tokens) = cluster();
    let request = Request { expiration_seconds: Some(3607), ..bound("Pod", "p") };
    let token = token(&fake, &tokens, &request);
    assert!(tokens.verify(&token, &[], now() + (24 * 300).hours()).is_ok());
    let claims = tokens.keys.open(&token, ISSUER).unwrap();
    assert_eq!(claims.bound.warnafter, Some(now().as_second() + 3607));
}

#[test]
fn wrong_requests_are_refused() {
    let (fake, tokens) = cluster();
    let account = fake.get(&SERVICE_ACCOUNTS, "ns", "web").unwrap();
    let refused = |request: &Request| tokens.issue(&account, request, now()).unwrap_err();
    let short = refused(&Request { expiration_seconds: Some(60), ..Request::default() });
    assert_eq!(
        short.message,
        "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 60: \
         may not specify a duration less than 10 minutes"
    );
    assert_eq!(refused(&bound("Pod", "none")).code, 404);
    assert_eq!(refused(&bound("Service", "x")).code, 400);
    let mut other = bound("Pod", "p");
    other.bound_object_ref.as_mut().unwrap().uid = "x".into();
    assert_eq!(refused(&other).code, 409);
    fake.put_named(&PODS, "ns", "p", "pod-uid");
    assert!(refused(&bound("Pod", "p")).message.starts_with("cannot bind token for serviceaccount \"web\""));
}

#[test]
fn tokens_of_others_do_not_count() {
    let (fake, tokens) = cluster();
    let foreign = ServiceAccountTokens::new(Keys::new(&key()).unwrap(), ISSUER, fake.clone());
    let forged = token(&fake, &foreign, &Request::default());
    assert!(matches!(tokens.verify(&forged, &[], now()), Err(Refused::Signature(_))));
    let token = token(&fake, &tokens, &Request::default());
    let (head, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    assert!(tokens.verify(&format!("{head}.{first}{}", &signature[1..]), &[], now()).is_err());
    assert!(matches!(tokens.verify("x", &[], now()), Err(Refused::Signature(_))));
    assert!(matches!(tokens.verify(&"x".repeat(20_000), &[], now()), Err(Refused::Malformed)));
}

#[test]
fn the_published_key_verifies_the_tokens() {
    let (fake, tokens) = cluster();
    let token = token(&fake, &tokens, &Request::default());
    let jwk: jsonwebtoken::jwk::Jwk = tokens.jwks()["keys"][0].to().unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    (rules.validate_exp, rules.validate_aud) = (false, false);
    let public = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
    let opened = jsonwebtoken::decode::<Claims>(&token, &public, &rules).unwrap();
    assert_eq!(opened.header.kid, jwk.common.key_id);
    assert_eq!(tokens.openid_configuration("https://x/openid/v1/jwks")["issuer"], ISSUER);
}

#[test]
fn the_use_of_a_kept_token_is_noted_once_a_day_until_it_is_marked() {
    let (fake, tokens) = cluster();
    let secret = |kind: &str, labels: Value| {
        let meta = json!({"namespace": "ns", "name": "s", "uid": "s-uid", "labels": labels});
        fake.put(&SECRETS, &json!({"metadata": meta, "type": kind}));
    };
    let kept = "kubernetes.io/service-account-token";
    secret(kept, json!({}));
    let token = token(&fake, &tokens, &bound("Secret", "s"));
    let mut uses = tokens.uses();
    let used = |uses: &mut tokio::sync::mpsc::Receiver<kept::Use>| {
        tokens.verify(&token, &[], now()).map_err(|refused| refused.to_string())?;
        Ok::<bool, String>(uses.try_recv().is_ok())
    };
    assert_eq!(used(&mut uses), Ok(true));
    secret(kept, json!({"kubernetes.io/legacy-token-last-used": "2026-11-22"}));
    assert_eq!(used(&mut uses), Ok(false), "noted today");
    secret(kept, json!({"kubernetes.io/legacy-token-last-used": "2026-11-21"}));
    assert_eq!(used(&mut uses), Ok(true));
    let marked = json!({"kubernetes.io/legacy-token-invalid-since": "2026-11-22"});
    secret(kept, marked.clone());
    assert!(used(&mut uses).unwrap_err().starts_with("the token in secret ns/s has been marked invalid."));
    secret("Opaque", marked);
    assert_eq!(used(&mut uses), Ok(false), "a token that is only bound to a Secret is not kept in it");
}

#[tokio::test]
async fn a_use_is_noted_on_the_secret() {
    let (fake, tokens) = cluster();
    let secret = json!({"metadata": {"namespace": "ns", "name": "s", "uid": "s-uid"},
        "type": "kubernetes.io/service-account-token"});
    fake.put(&SECRETS, &secret);
    let client = tiphys_client::fake::FakeClient::new();
    client.put_value(&SECRETS, &secret);
    let (stop, uses) = (tokio_util::sync::CancellationToken::new(), tokens.uses());
    let noting = tokio::spawn(kept::note(Arc::new(client.clone()), fake.clone(), uses, stop));
    let token = token(&fake, &tokens, &bound("Secret", "s"));
    tokens.verify(&token, &[], now()).unwrap();
    drop(tokens);
    noting.await.unwrap();
    let target = tiphys_client::Target::new(&SECRETS, "ns", "s");
    let noted = tiphys_client::Client::get(&client, &target).await.unwrap();
    assert_eq!(noted.meta().labels.get("kubernetes.io/legacy-token-last-used"), Some("2026-11-22"));
}
