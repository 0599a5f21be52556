//! Questions and answers as clients see them.

use tiphys_api::schema::builtin;
use tiphys_api::{Gvr, Value, json};

use super::*;
use crate::auth::groups::MASTERS;
use crate::auth::rbac::tests::sample;
use crate::auth::token::Keys;
use crate::auth::{Authorizers, Lister};
use crate::registry::Request;

async fn ask(
    group: &'static str,
    resource: &str,
    user: &User,
    namespace: &str,
    mut body: Value,
) -> Result<Value, Status> {
    let lister: Arc<dyn Lister> = Arc::new(sample());
    let rbac = Arc::new(Rbac::new(lister.clone()));
    let authorizer: Arc<dyn Authorizer> = Arc::new(Authorizers::new(vec![rbac.clone()]));
    let key = rcgen::KeyPair::generate().unwrap();
    let key =
        crate::pki::ServiceAccountKey { private_pem: key.serialize_pem(), public_pem: key.public_key_pem() };
    let tokens = Arc::new(ServiceAccountTokens::new(Keys::new(&key).unwrap(), "iss", lister));
    let entries = all(&authorizer, &rbac, &tokens);
    let (.., computed) = entries.iter().find(|(g, r, _)| *g == group && *r == resource).unwrap();
    let resource = builtin().get(&Gvr::owned(group, "v1", resource)).unwrap();
    let request = Request { resource, namespace, name: "", subresource: "", user };
    computed.create(&request, None, &mut body).await?;
    Ok(body["status"].take())
}

fn user(name: &str, groups: &[&str]) -> User {
    User { name: name.into(), groups: groups.iter().map(|&g| g.into()).collect(), ..User::default() }
}

#[tokio::test]
async fn i_may_or_may_not() {
    let jane = user("jane", &[]);
    let asked = |verb: &str, namespace: &str| json!({"spec": {"resourceAttributes": {"verb": verb, "resource": "pods", "namespace": namespace}}});
    let mine = |body| ask(AUTHORIZATION, "selfsubjectaccessreviews", &jane, "", body);
    assert_eq!(mine(asked("get", "dev")).await.unwrap(), json!({"allowed": true}));
    assert_eq!(mine(asked("get", "prod")).await.unwrap(), json!({"allowed": false}));
    let bad = mine(json!({"spec": {}})).await.unwrap_err();
    assert!(bad.message.contains("exactly one of nonResourceAttributes or resourceAttributes"), "{bad}");
}

#[tokio::test]
async fn they_may_or_may_not() {
    let me = user("me", &[]);
    let body = json!({"spec": {"user": "jane", "resourceAttributes":
        {"verb": "get", "resource": "pods", "namespace": "dev"}}});
    let theirs = ask(AUTHORIZATION, "subjectaccessreviews", &me, "", body.clone()).await.unwrap();
    assert_eq!(theirs["allowed"], true);
    let here = ask(AUTHORIZATION, "localsubjectaccessreviews", &me, "prod", body).await.unwrap_err();
    assert!(here.message.contains("must match metadata.namespace"), "{here}");
    let nobody = json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/metrics"}}});
    let nobody = ask(AUTHORIZATION, "subjectaccessreviews", &me, "", nobody).await.unwrap_err();
    assert!(nobody.message.contains("at least one of user or group must be specified"), "{nobody}");
}

#[tokio::test]
async fn my_rules_are_listed() {
    let body = json!({"spec": {"namespace": "dev"}});
    let rules =
        ask(AUTHORIZATION, "selfsubjectrulesreviews", &user("jane", &[]), "", body.clone()).await.unwrap();
    assert_eq!(rules["resourceRules"][0]["resources"], json!(["pods"]));
    assert_eq!(rules["incomplete"], false);
    let rules =
        ask(AUTHORIZATION, "selfsubjectrulesreviews", &user("root", &[MASTERS]), "", body).await.unwrap();
    assert_eq!(rules["nonResourceRules"], json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]));
}

#[tokio::test]
async fn tokens_and_users_are_told() {
    let me = user("me", &["g"]);
    let status = ask(AUTHENTICATION, "tokenreviews", &me, "", json!({"spec": {"token": "x"}})).await.unwrap();
    assert_eq!(status["user"], json!({}));
    assert!(status["error"].as_str().unwrap().starts_with("invalid bearer token"));
    let status = ask(AUTHENTICATION, "selfsubjectreviews", &me, "", json!({})).await.unwrap();
    assert_eq!(status, json!({"userInfo": {"username": "me", "groups": ["g"]}}));
}
