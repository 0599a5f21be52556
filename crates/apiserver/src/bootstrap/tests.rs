//! A whole bootstrap against a cluster in memory.

use serde_json::json;
use tiphys_client::fake::FakeClient;

use super::*;

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

#[tokio::test]
async fn a_refusal_is_told_with_what_was_tried() {
    let client = FakeClient::new();
    client.fail(Box::new(|verb, target| {
        (verb == "create" && target.name == "kube-public").then(|| Status::unavailable("no"))
    }));
    let error = run(&client, &config()).await.unwrap_err();
    assert_eq!(error.to_string(), "create /api/v1/namespaces/kube-public: no");
}
