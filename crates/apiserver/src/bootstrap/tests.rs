//! A whole bootstrap against a cluster in memory.

use std::sync::Arc;

use tiphys_api::json;
use tiphys_client::fake::FakeClient;

use super::*;
use crate::auth::testing::Fake;
use crate::auth::{Attributes, Authorizer, Authorizers, Decision, NodeAuthorizer, Rbac, User, groups};

fn config() -> Config {
    Config {
        service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
        advertise: "192.0.2.7".parse().unwrap(),
        port: 6443,
        server: "https://192.0.2.7:6443".into(),
        ca_pem: "ca".into(),
        front_proxy_ca_pem: "front".into(),
    }
}

async fn get(client: &FakeClient, gvr: &Gvr, namespace: &str, name: &str) -> Value {
    client.get(&Target::new(gvr, namespace, name)).await.unwrap().value().unwrap()
}

#[tokio::test]
async fn a_second_start_writes_nothing_and_a_third_repairs() {
    let client = FakeClient::new();
    let first = run(&client, &config()).await.unwrap();
    assert!(first > 150, "{first}");
    assert_eq!(run(&client, &config()).await.unwrap(), 0);
    let dns = Target::new(&rbac::CLUSTER_ROLES, "", "system:kube-dns");
    client.delete(&dns, &DeleteOptions::default()).await.unwrap();
    assert_eq!(run(&client, &Config { port: 7443, ..config() }).await.unwrap(), 4);
    let service = get(&client, &Gvr::new("", "v1", "services"), "default", "kubernetes").await;
    assert_eq!(
        (&service["spec"]["clusterIP"], &service["spec"]["ports"][0]["targetPort"]),
        (&json!("10.43.0.1"), &json!(7443))
    );
    let endpoints = get(&client, &Gvr::new("", "v1", "endpoints"), "default", "kubernetes").await;
    assert_eq!(endpoints["subsets"][0]["ports"][0]["port"], 7443);
}

#[tokio::test(start_paused = true)]
async fn what_leads_to_the_server_is_made_again() {
    let client = FakeClient::new();
    run(&client, &config()).await.unwrap();
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(keep(Arc::new(client.clone()), config(), stop.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    for item in objects::own(&config()) {
        let found = target(&item);
        client.remove(&found.gvr, &found.namespace, &found.name);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(client.get(&found).await.is_ok(), "{}", found.path());
    }
    stop.cancel();
    keeping.await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_told_with_what_was_tried() {
    let client = FakeClient::new();
    client.fail(Box::new(|verb, target| {
        (verb == "create" && target.name == "kube-public").then(|| Status::unavailable("no"))
    }));
    let error = run(&client, &config()).await.unwrap_err();
    assert_eq!(error.to_string(), "create /api/v1/namespaces/kube-public: no");
}

/// The cluster that `decisions.txt` describes.
fn cluster_with_people() -> Fake {
    let fake = Fake { versioned: true, ..Fake::default() };
    for item in roles().unwrap() {
        fake.put(&item.gvr, &item.object);
    }
    for (user, role, namespace) in
        [("jane", "edit", "dev"), ("jane", "view", "prod"), ("joe", "admin", "dev")]
    {
        let subject = json!({"kind": "User", "name": user});
        fake.put(
            &rbac::ROLE_BINDINGS,
            &json!({"metadata": {"name": user, "namespace": namespace}, "subjects": [subject],
                    "roleRef": {"kind": "ClusterRole", "name": role}}),
        );
    }
    let pod = |name: &str, node: &str, secret: &str| {
        json!({"metadata": {"namespace": "dev", "name": name}, "spec": {"nodeName": node, "serviceAccountName": name,
            "volumes": [{"secret": {"secretName": secret}}, {"configMap": {"name": "cfg"}}]}})
    };
    let pods = Gvr::new("", "v1", "pods");
    fake.put(&pods, &pod("web", "n1", "key"));
    fake.put(&pods, &pod("far", "n2", "far"));
    fake
}

fn asks(line: &str) -> User {
    let mut words = line.split_whitespace().skip(1).map(str::to_owned);
    let name = words.next().unwrap();
    let mut user = User { name, groups: words.collect(), ..User::default() };
    let known = if user.name == groups::ANONYMOUS { groups::UNAUTHENTICATED } else { groups::AUTHENTICATED };
    user.groups.push(known.to_owned());
    user
}

/// What a line asks, after its verdict.
fn asked<'a>(user: &'a User, words: &[&'a str]) -> Attributes<'a> {
    let (verb, what) = (words[0], words[1]);
    let mut asked = Attributes {
        user,
        verb,
        group: "",
        version: "v1",
        resource: "",
        subresource: "",
        namespace: "",
        name: "",
        path: "",
    };
    if what == "path" {
        return Attributes { path: words[2], ..asked };
    }
    let mut parts = what.split('/');
    asked.group = parts.next().filter(|group| *group != "core").unwrap_or_default();
    asked.resource = parts.next().unwrap();
    asked.subresource = parts.next().unwrap_or_default();
    let rest = match &words[2..] {
        ["in", namespace, rest @ ..] => {
            asked.namespace = namespace;
            rest
        }
        rest => rest,
    };
    asked.name = rest.first().copied().unwrap_or_default();
    asked
}

#[tokio::test]
async fn the_default_roles_decide_as_reviewed() {
    let lister = Arc::new(cluster_with_people());
    let nodes = NodeAuthorizer::new(lister.clone()).unwrap();
    let authorizer = Authorizers::new(vec![Arc::new(nodes), Arc::new(Rbac::new(lister))]);
    let mut user = User::default();
    let mut wrong = Vec::new();
    for (number, line) in include_str!("decisions.txt").lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] | ["#", ..] => {}
            ["as", ..] => user = asks(line),
            [verdict @ ("allow" | "deny"), rest @ ..] if rest.len() > 1 => {
                let allowed = authorizer.authorize(&asked(&user, rest)).await == Decision::Allow;
                if allowed != (*verdict == "allow") {
                    wrong.push(format!("line {}: {} as {}", number + 1, line, user.name));
                }
            }
            _ => panic!("line {}: {line}", number + 1),
        }
    }
    assert!(wrong.is_empty(), "decided otherwise:\n{}", wrong.join("\n"));
}
