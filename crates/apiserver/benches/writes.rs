//! What a write costs apart from network and disk: each verb through authorization, admission and registry, one at a
//! time, in a store in memory.
//!
//! `cargo bench -p tiphys-apiserver --bench writes -- [COUNT [VERB]]` prints processor time of the whole process for each.
//! Instructions are steadier than time on a machine with neighbours: run the built program under
//! `valgrind --tool=callgrind` with a count of some hundred, once with a verb and once with `nothing`.
//! `-- serve DIRECTORY` only serves, from a store on disk, for a load generator and a profiler; a kubeconfig is in the directory.

#[path = "../../../benches/src/objects.rs"]
mod objects;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tiphys_api::{Gvr, json};
use tiphys_apiserver::auth::User;
use tiphys_apiserver::pki::Pki;
use tiphys_apiserver::{ApiServer, Config, pki};
use tiphys_client::{Client, DeleteOptions, PatchKind, Target, WriteOptions};
use tiphys_store::Store;
use tiphys_store::embedded::{Embedded, Options};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const CONFIG_MAPS: Gvr = Gvr::new("", "v1", "configmaps");
const PODS: Gvr = Gvr::new("", "v1", "pods");
const VERBS: [&str; 6] =
    ["create configmap", "create pod", "patch pod", "apply pod", "status pod", "delete pod"];

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench").peekable();
    if words.next_if_eq("serve").is_some() {
        let directory = words.next().expect("serve DIRECTORY");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("there are threads");
        return runtime.block_on(serve(Path::new(&directory)));
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("there is a thread");
    runtime.block_on(measure(words));
}

/// Serves until the process is ended.
async fn serve(directory: &Path) {
    let store = Embedded::open(&directory.join("store"), &Options::default()).expect("it can be opened");
    let (server, pki) = start(directory, Arc::new(store), CancellationToken::new()).await;
    let address = format!("https://{}", server.address());
    pki::kubeconfig::write_admin(&directory.join("kubeconfig"), &pki, "bench", &address)
        .expect("it can be written");
    server.ended().await.expect("it serves");
}

async fn measure(mut words: impl Iterator<Item = String>) {
    let count = words.next().and_then(|word| word.parse().ok()).unwrap_or(2_000_u32);
    let only = words.collect::<Vec<_>>().join(" ");
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let directory = tempfile::tempdir().expect("there is room for keys");
    let store = Embedded::in_memory(&Options::default()).expect("memory can be written");
    let (server, _) = start(directory.path(), Arc::new(store), stop).await;
    let client = administrator(&server).await;
    let last = VERBS.iter().position(|verb| *verb == only).unwrap_or(VERBS.len() - 1);
    for (at, verb) in VERBS.iter().enumerate() {
        // Patches need pods; those are not shown when one verb is asked for.
        let needed = only.is_empty() || at == last || (*verb == "create pod" && last > at);
        if only == "nothing" || !needed {
            continue;
        }
        let bodies: Vec<Bytes> = (0..count as usize).map(|number| body(verb, number)).collect();
        let (began, used) = (Instant::now(), processor_time());
        for (number, body) in bodies.into_iter().enumerate() {
            once(client.as_ref(), verb, &name(number), body).await;
        }
        let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(count);
        println!(
            "{verb:18} {:7.1} µs, of the processor {:7.1} µs",
            each(began.elapsed()),
            each(processor_time() - used)
        );
    }
}

async fn start(directory: &Path, store: Arc<dyn Store>, stop: CancellationToken) -> (ApiServer, Pki) {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let keys = pki::Config {
        node_name: "bench".into(),
        node_ips: vec![local],
        service_ips: Vec::new(),
        cluster_domain: "cluster.local".into(),
        extra_sans: Vec::new(),
    };
    let pki = pki::ensure(&directory.join("pki"), &keys, jiff::Timestamp::now()).expect("keys can be made");
    let config = Config {
        store,
        pki: pki.clone(),
        bind: (local, 0).into(),
        advertise: Ipv4Addr::new(192, 0, 2, 7).into(),
        service_cidrs: vec!["10.73.0.0/16".parse().expect("it is a range")],
        cluster_domain: "cluster.local".into(),
        build: "bench".into(),
        shared: false,
        versions: Default::default(),
    };
    (ApiServer::start(config, stop).await.expect("it starts"), pki)
}

/// One who may do everything, in a namespace that pods can be made in.
async fn administrator(server: &ApiServer) -> Arc<dyn Client> {
    let groups = vec!["system:masters".into()];
    let client = server.client(User { name: "bench".into(), groups, ..User::default() }, "bench");
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let accounts = target(Gvr::new("", "v1", "serviceaccounts"), "");
    client.create(&accounts, account.to_string().into(), &WriteOptions::default()).await.expect("it is new");
    client
}

fn target(gvr: Gvr, name: &str) -> Target {
    Target { gvr, namespace: "default".into(), name: name.into(), subresource: "" }
}

fn name(number: usize) -> String {
    format!("pod-{number:06}")
}

fn body(verb: &str, number: usize) -> Bytes {
    let name = name(number);
    match verb {
        "create configmap" => objects::config_map(&name),
        "create pod" => objects::parked_pod(&name),
        "patch pod" => {
            json!({"metadata": {"labels": {"round": format!("patch-{number}")}}}).to_string().into()
        }
        "apply pod" => applied(&name, number),
        "status pod" => status_patch(number),
        _ => Bytes::new(),
    }
}

async fn once(client: &dyn Client, verb: &str, name: &str, body: Bytes) {
    let (pod, options) = (target(PODS, name), WriteOptions::default());
    let outcome = match verb {
        "create configmap" => client.create(&target(CONFIG_MAPS, ""), body, &options).await,
        "create pod" => client.create(&target(PODS, ""), body, &options).await,
        "patch pod" => client.patch(&pod, PatchKind::Strategic, body, &options).await,
        "apply pod" => {
            let options = WriteOptions { field_manager: "applier".into(), force: true, ..options };
            client.patch(&pod, PatchKind::Apply, body, &options).await
        }
        "status pod" => {
            let status = Target { subresource: "status", ..pod };
            client.patch(&status, PatchKind::Strategic, body, &options).await
        }
        _ => {
            let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
            return client.delete(&pod, &options).await.map(drop).expect("it is there");
        }
    };
    drop(outcome.expect("the write is taken"));
}

fn applied(name: &str, number: usize) -> Bytes {
    let image = json!({"name": "server", "image": format!("registry.example/shop/front:2.0.{number}")});
    let labels = json!({"applied": format!("apply-{number}")});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [image]}});
    pod.to_string().into()
}

/// As a kubelet tells that a pod has started.
fn status_patch(number: usize) -> Bytes {
    let time = "2026-01-01T00:00:09Z";
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": time});
    let container = |name: &str| {
        json!({"name": name, "image": "registry.example/tools/logs:4.5", "ready": true, "started": true,
            "imageID": "registry.example/tools/logs@sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
            "containerID": "containerd://2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
            "restartCount": number, "state": {"running": {"startedAt": time}}})
    };
    let status = json!({"phase": "Running", "hostIP": "192.0.2.1", "podIP": "10.42.0.7",
        "podIPs": [{"ip": "10.42.0.7"}], "startTime": time,
        "conditions": [condition("Initialized"), condition("Ready"), condition("ContainersReady")],
        "containerStatuses": [container("server"), container("logs")]});
    json!({ "status": status }).to_string().into()
}

/// User and system time of this process so far.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
