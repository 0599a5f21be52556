//! A whole API server as it is really composed: what a fresh cluster holds, and what each identity may do to it.
//!
//! Clients here are in-process ones: they pass the same authorizer, admission and write path as any other.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a test's message")]
#![allow(clippy::needless_pass_by_value, reason = "a literal reads best as a value")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tiphys_api::{Gvr, Status, Value, json};
use tiphys_apiserver::auth::User;
use tiphys_apiserver::{ApiServer, Config, pki};
use tiphys_client::{Client, ListOptions, Target, WriteOptions};
use tiphys_store::Embedded;
use tiphys_store::embedded::Options;
use tokio_util::sync::{CancellationToken, DropGuard};

const PODS: Gvr = Gvr::new("", "v1", "pods");
const NODES: Gvr = Gvr::new("", "v1", "nodes");
const SERVICES: Gvr = Gvr::new("", "v1", "services");
const SECRETS: Gvr = Gvr::new("", "v1", "secrets");
const ACCOUNTS: Gvr = Gvr::new("", "v1", "serviceaccounts");
const ROLE_BINDINGS: Gvr = Gvr::new("rbac.authorization.k8s.io", "v1", "rolebindings");
const CLUSTER_ROLES: Gvr = Gvr::new("rbac.authorization.k8s.io", "v1", "clusterroles");

struct Cluster {
    server: ApiServer,
    _stop: DropGuard,
    _dir: tempfile::TempDir,
}

async fn cluster() -> Cluster {
    let dir = tempfile::tempdir().unwrap();
    let keys = pki::Config {
        node_name: "n1".into(),
        node_ips: vec![],
        service_ips: vec!["10.43.0.1".parse().unwrap()],
        cluster_domain: "cluster.local".into(),
        extra_sans: vec![],
    };
    let config = Config {
        shared: false,
        store: Arc::new(Embedded::in_memory(&Options::default()).unwrap()),
        pki: pki::ensure(dir.path(), &keys, Timestamp::now()).unwrap(),
        bind: (Ipv4Addr::LOCALHOST, 0).into(),
        advertise: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
        cluster_domain: "cluster.local".into(),
        build: "test".into(),
        versions: Default::default(),
    };
    let stop = CancellationToken::new();
    let server = ApiServer::start(config, stop.clone()).await.unwrap();
    Cluster { server, _stop: stop.drop_guard(), _dir: dir }
}

impl Cluster {
    fn as_user(&self, name: &str, groups: &[&str]) -> Actor {
        Actor(self.server.client(User::system(name, groups), "test"))
    }

    fn admin(&self) -> Actor {
        self.as_user("admin", &["system:masters"])
    }

    fn node(&self, name: &str) -> Actor {
        self.as_user(&format!("system:node:{name}"), &["system:nodes"])
    }
}

struct Actor(Arc<dyn Client>);

impl Actor {
    async fn get(&self, gvr: &Gvr, namespace: &str, name: &str) -> Result<Value, Status> {
        self.0.get(&Target::new(gvr, namespace, name)).await.map(|object| object.value().unwrap())
    }

    async fn list(&self, gvr: &Gvr, namespace: &str) -> Result<usize, Status> {
        self.0.list(gvr, namespace, &ListOptions::default()).await.map(|list| list.items.len())
    }

    async fn create(&self, gvr: &Gvr, namespace: &str, object: Value) -> Result<Value, Status> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        self.post(&Target::new(gvr, namespace, name), &object).await
    }

    async fn post(&self, target: &Target, object: &Value) -> Result<Value, Status> {
        let body = Bytes::from(object.to_string());
        let created = self.0.create(target, body, &WriteOptions::default()).await?;
        Ok(created.value().unwrap())
    }
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
           "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

fn named(api_version: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}})
}

#[tokio::test]
async fn a_fresh_cluster_holds_what_kubernetes_has() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let kubernetes = admin.get(&SERVICES, "default", "kubernetes").await.unwrap();
    assert_eq!(kubernetes["spec"]["clusterIPs"], json!(["10.43.0.1"]));
    let slices = Gvr::new("discovery.k8s.io", "v1", "endpointslices");
    let slice = admin.get(&slices, "default", "kubernetes").await.unwrap();
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["192.0.2.7"]));
    assert_eq!(slice["ports"][0]["port"], cluster.server.address().port());
    let view = admin.get(&CLUSTER_ROLES, "", "view").await.unwrap();
    assert!(view["rules"].as_array().unwrap().len() > 5);
    let classes = Gvr::new("scheduling.k8s.io", "v1", "priorityclasses");
    assert_eq!(admin.list(&classes, "").await.unwrap(), 2);
    assert_eq!(admin.list(&Gvr::new("", "v1", "namespaces"), "").await.unwrap(), 4);
    assert_eq!(
        admin.list(&Gvr::new("flowcontrol.apiserver.k8s.io", "v1", "flowschemas"), "").await.unwrap(),
        13
    );
}

#[tokio::test]
async fn a_pod_is_admitted_with_account_token_priority_and_tolerations() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let mut other = pod("other");
    other["spec"]["serviceAccountName"] = "none".into();
    let refused = admin.create(&PODS, "default", other).await.unwrap_err();
    assert!(refused.message.contains("error looking up service account default/none"), "{refused}");
    admin.create(&ACCOUNTS, "default", named("v1", "ServiceAccount", "default")).await.unwrap();
    let spec = admin.create(&PODS, "default", pod("web")).await.unwrap()["spec"].clone();
    assert_eq!((&spec["serviceAccountName"], &spec["priority"]), (&json!("default"), &json!(0)));
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    let volume = spec["volumes"][0]["name"].as_str().unwrap();
    assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], volume);
    assert_eq!(admin.create(&PODS, "nowhere", pod("web")).await.unwrap_err().code, 404);
}

#[tokio::test]
async fn services_get_their_own_addresses_and_ports() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let spec = || json!({"type": "NodePort", "ports": [{"port": 80}]});
    let mut seen = std::collections::HashSet::new();
    for i in 0..20 {
        let made = admin.create(&SERVICES, "default", service(&format!("s{i}"), spec())).await.unwrap();
        assert!(seen.insert(made["spec"]["clusterIP"].to_string()));
        assert!(seen.insert(made["spec"]["ports"][0]["nodePort"].to_string()));
    }
    let taken = service("x", json!({"clusterIP": "10.43.0.1", "ports": [{"port": 80}]}));
    let taken = admin.create(&SERVICES, "default", taken).await.unwrap_err();
    assert_eq!(taken.code, 422);
    assert!(
        taken.message.ends_with("failed to allocate IP 10.43.0.1: provided IP is already allocated"),
        "{taken}"
    );
}

#[tokio::test]
async fn a_token_names_its_account_until_the_pod_goes() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    admin.create(&ACCOUNTS, "default", named("v1", "ServiceAccount", "default")).await.unwrap();
    let web = admin.create(&PODS, "default", pod("web")).await.unwrap();
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": web["metadata"]["uid"]});
    let mut request = named("authentication.k8s.io/v1", "TokenRequest", "");
    request["spec"] = json!({"boundObjectRef": bound, "expirationSeconds": 3607});
    let target = Target::new(&ACCOUNTS, "default", "default").sub("token");
    let issued = admin.post(&target, &request).await.unwrap();
    let token = issued["status"]["token"].as_str().unwrap();
    let reviews = Gvr::new("authentication.k8s.io", "v1", "tokenreviews");
    let mut review = named("authentication.k8s.io/v1", "TokenReview", "");
    review["spec"] = json!({"token": token});
    let answer = admin.create(&reviews, "", review.clone()).await.unwrap();
    assert_eq!(answer["status"]["user"]["username"], "system:serviceaccount:default:default");
    assert_eq!(answer["status"]["user"]["extra"]["authentication.kubernetes.io/pod-name"], json!(["web"]));
    admin.0.delete(&Target::new(&PODS, "default", "web"), &Default::default()).await.unwrap();
    let gone = admin.get(&PODS, "default", "web").await.unwrap_err();
    assert_eq!(gone.code, 404);
    let answer = admin.create(&reviews, "", review).await.unwrap();
    assert!(answer["status"]["error"].as_str().unwrap().contains("bound to pods \"web\""), "{answer}");
}

#[tokio::test]
async fn each_identity_does_its_own_and_no_more() {
    let cluster = cluster().await;
    let (admin, jane, kubelet) = (cluster.admin(), cluster.as_user("jane", &[]), cluster.node("n1"));
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "jane"}, "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}});
    assert_eq!(jane.list(&PODS, "default").await.unwrap_err().code, 403);
    assert_eq!(jane.create(&ROLE_BINDINGS, "default", binding.clone()).await.unwrap_err().code, 403);
    admin.create(&ROLE_BINDINGS, "default", binding).await.unwrap();
    // The cache may be a moment behind the write; a read of the newest state brings it up to date.
    admin.get(&ROLE_BINDINGS, "default", "jane").await.unwrap();
    assert_eq!(jane.list(&PODS, "default").await.unwrap(), 0);
    assert_eq!(
        jane.list(&SECRETS, "default").await.unwrap_err().message,
        r#"secrets is forbidden: User "jane" cannot list resource "secrets" in API group "" in the namespace "default""#
    );
    let made = kubelet.create(&NODES, "", named("v1", "Node", "n1")).await.unwrap();
    assert_eq!(made["spec"]["taints"][0]["key"], "node.kubernetes.io/not-ready");
    let other = kubelet.create(&NODES, "", named("v1", "Node", "n2")).await.unwrap_err();
    assert!(other.message.ends_with(r#"node "n1" is not allowed to modify node "n2""#), "{other}");
    admin.create(&SECRETS, "default", named("v1", "Secret", "s")).await.unwrap();
    let secret = kubelet.get(&SECRETS, "default", "s").await.unwrap_err();
    assert!(secret.message.ends_with("no relationship found between node 'n1' and this object"), "{secret}");
}
