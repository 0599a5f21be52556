//! A whole bootstrap against a cluster in memory.

use std::sync::Arc;

use tiphys_api::json;
use tiphys_client::fake::FakeClient;
use tiphys_store::{Embedded, Op, Store, Txn, embedded};

use super::masters::Masters;
use super::*;
use crate::auth::testing::Fake;
use crate::auth::{Attributes, Authorizer, Authorizers, Decision, NodeAuthorizer, Rbac, User, groups};

fn config() -> Config {
    Config {
        service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
        port: 6443,
        server: "https://192.0.2.7:6443".into(),
        ca_pem: "ca".into(),
        front_proxy_ca_pem: "front".into(),
    }
}

fn masters(all: &[&str]) -> Addresses {
    all.iter().map(|address| address.parse().unwrap()).collect()
}

async fn get(client: &FakeClient, gvr: &Gvr, namespace: &str, name: &str) -> Value {
    client.get(&Target::new(gvr, namespace, name)).await.unwrap().value().unwrap()
}

#[tokio::test]
async fn a_second_start_writes_nothing_and_a_third_repairs() {
    let client = FakeClient::new();
    let one = masters(&["192.0.2.7:6443"]);
    let first = run(&client, &config(), &one).await.unwrap();
    assert!(first > 150, "{first}");
    assert_eq!(run(&client, &config(), &one).await.unwrap(), 0);
    let dns = Target::new(&rbac::CLUSTER_ROLES, "", "system:kube-dns");
    client.delete(&dns, &DeleteOptions::default()).await.unwrap();
    let moved = masters(&["192.0.2.7:7443"]);
    assert_eq!(run(&client, &Config { port: 7443, ..config() }, &moved).await.unwrap(), 4);
    let service = get(&client, &Gvr::new("", "v1", "services"), "default", "kubernetes").await;
    assert_eq!(
        (&service["spec"]["clusterIP"], &service["spec"]["ports"][0]["targetPort"]),
        (&json!("10.43.0.1"), &json!(7443))
    );
    let endpoints = get(&client, &Gvr::new("", "v1", "endpoints"), "default", "kubernetes").await;
    assert_eq!(endpoints["subsets"][0]["ports"][0]["port"], 7443);
}

#[tokio::test(start_paused = true)]
async fn starts_at_the_same_time_do_not_hinder_each_other() {
    let client = FakeClient::new();
    run(&client, &config(), &masters(&["192.0.2.7:6443"])).await.unwrap();
    // Between the look and the write of each, the other has written.
    client.arrive_after(Duration::from_millis(10));
    let both = masters(&["192.0.2.7:6443", "192.0.2.8:6443"]);
    let (config, other) = (config(), client.apart());
    let (one, two) = tokio::join!(run(&client, &config, &both), run(&other, &config, &both));
    one.unwrap();
    two.unwrap();
    assert_eq!(run(&client, &config, &both).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_leads_to_the_server_is_made_again() {
    let client = FakeClient::new();
    let alone = Masters::alone("192.0.2.7:6443".parse().unwrap());
    let known = alone.known.borrow().clone();
    run(&client, &config(), &known).await.unwrap();
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(keep(Arc::new(client.clone()), config(), alone.known, stop.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    for item in objects::own(&config(), &known) {
        let found = target(&item);
        client.remove(&found.gvr, &found.namespace, &found.name);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(client.get(&found).await.is_ok(), "{}", found.path());
    }
    stop.cancel();
    keeping.await.unwrap();
}

/// Addresses with their ports, as the objects called `kubernetes` tell them: Endpoints, and slices.
async fn told(client: &FakeClient) -> [Vec<String>; 2] {
    let endpoints = Gvr::new("", "v1", "endpoints");
    let subsets = get(client, &endpoints, "default", "kubernetes").await["subsets"].clone();
    let slices = client.list(&objects::ENDPOINT_SLICES, "default", &ListOptions::default()).await.unwrap();
    let slices: Vec<Value> = slices.items.iter().map(|slice| slice.value().unwrap()).collect();
    let list = |groups: &[Value], field: &str, address: fn(&Value) -> &Value| {
        let mut all = Vec::new();
        for group in groups {
            for one in group[field].as_array().unwrap() {
                all.push(format!("{}:{}", address(one).as_str().unwrap(), group["ports"][0]["port"]));
            }
        }
        all.sort();
        all
    };
    [
        list(subsets.as_array().unwrap(), "addresses", |address| &address["ip"]),
        list(&slices, "endpoints", |endpoint| &endpoint["addresses"][0]),
    ]
}

/// An API server that shares a store, as far as the Service `kubernetes` goes.
async fn master(store: &Arc<dyn Store>, client: &FakeClient, address: &str) -> (CancellationToken, Masters) {
    let (stop, own) = (CancellationToken::new(), address.parse().unwrap());
    let joined = Masters::join(store.clone(), own, stop.clone()).await.unwrap();
    let known = joined.known.borrow().clone();
    run(client, &Config { port: own.port(), ..config() }, &known).await.unwrap();
    let keeping = keep(Arc::new(client.clone()), config(), joined.known.clone(), stop.clone());
    tokio::spawn(keeping);
    (stop, joined)
}

async fn until(client: &FakeClient, wanted: &[&str]) {
    for _ in 0..10_000 {
        if told(client).await.iter().all(|told| told == wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("{:?} instead of {wanted:?}", told(client).await);
}

#[tokio::test]
async fn the_service_leads_to_all_servers_that_live() {
    let store = Embedded::in_memory(&embedded::Options::default()).unwrap();
    let (store, client): (Arc<dyn Store>, _) = (Arc::new(store), FakeClient::new());
    let (first_stop, first) = master(&store, &client, "192.0.2.7:6443").await;
    until(&client, &["192.0.2.7:6443"]).await;
    let (_second_stop, _second) = master(&store, &client, "192.0.2.8:6443").await;
    // On a machine with another server.
    let (third_stop, _third) = master(&store, &client, "192.0.2.8:7443").await;
    until(&client, &["192.0.2.7:6443", "192.0.2.8:6443", "192.0.2.8:7443"]).await;
    third_stop.cancel();
    until(&client, &["192.0.2.7:6443", "192.0.2.8:6443"]).await;
    let slices = client.list(&objects::ENDPOINT_SLICES, "default", &ListOptions::default()).await.unwrap();
    assert_eq!(slices.items.len(), 1);
    // As kube-apiserver keeps itself there; it dies.
    let lease = store.grant(Duration::from_secs(600)).await.unwrap();
    let key = "/registry/masterleases/192.0.2.9";
    store.txn(Txn::new(Op::put_with_lease(key, "k8s", lease))).await.unwrap();
    until(&client, &["192.0.2.7:6443", "192.0.2.8:6443", "192.0.2.9:6443"]).await;
    store.revoke(lease).await.unwrap();
    until(&client, &["192.0.2.7:6443", "192.0.2.8:6443"]).await;
    first_stop.cancel();
    first.left.unwrap().await.unwrap();
    until(&client, &["192.0.2.8:6443"]).await;
}

#[tokio::test]
async fn a_refusal_is_told_with_what_was_tried() {
    let client = FakeClient::new();
    client.fail(Box::new(|verb, target| {
        (verb == "create" && target.name == "kube-public").then(|| Status::unavailable("no"))
    }));
    let error = run(&client, &config(), &Addresses::new()).await.unwrap_err();
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
