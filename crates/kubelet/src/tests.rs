//! The whole kubelet over a simulated runtime and a cluster in memory: what a user would see.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Pod, PodStatus};
use serde_json::{Value, json};
use tiphys_client::fake::FakeClient;
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Client, DeleteOptions, Target};
use tiphys_runtime::fake::Fake;
use tiphys_runtime::{Error, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::configuration::Settings;
use crate::eviction::Thresholds;
use crate::{Config, Shutdown};

/// Long enough for the slowest machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    dir: tempfile::TempDir,
    runtime: Arc<Fake>,
    client: FakeClient,
    settings: Settings,
    shutdown: Shutdown,
    kubelet: Option<AbortOnDropHandle<Result<(), crate::Error>>>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            dir: tempfile::tempdir().unwrap(),
            runtime: Arc::new(Fake::new(&["web:1", "web:2"])),
            client: FakeClient::new(),
            // These are about the simulated runtime: a full disk of the machine that runs them must not evict.
            settings: Settings { eviction_hard: Thresholds::default(), ..Settings::default() },
            shutdown: Shutdown::default(),
            kubelet: None,
        };
        std::fs::create_dir(world.dir.path().join("static")).unwrap();
        world.start();
        world
    }

    /// Starts a kubelet; one that runs is killed first, as by `kill -9`.
    fn start(&mut self) {
        let config = Config {
            node_name: "n1".into(),
            node_ip: "192.0.2.1".parse().unwrap(),
            root_dir: self.dir.path().join("kubelet"),
            log_dir: self.dir.path().join("logs"),
            static_pod_dir: Some(self.dir.path().join("static")),
            resolv_conf: self.dir.path().join("resolv.conf"),
            cluster_dns: vec!["10.43.0.10".into()],
            cluster_domain: "cluster.local".into(),
            cgroup_root: "/tiphys-unit-test".into(),
            // Another kubelet may have the port.
            settings: Settings { healthz_port: 0, ..self.settings.clone() },
            shutdown: self.shutdown.clone(),
            kept_images: Vec::new(),
            version: "v1.36.0".into(),
            labels: Default::default(),
            taints: Vec::new(),
            server: None,
            runtime: self.runtime.clone(),
        };
        self.kubelet = None;
        let run = crate::run(config, Arc::new(self.client.clone()), CancellationToken::new());
        self.kubelet = Some(AbortOnDropHandle::new(tokio::spawn(run)));
    }

    fn put(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = json!("n1");
        let meta = json!({"name": name, "namespace": "default", "uid": format!("uid-{name}")});
        let pod: Pod = serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap();
        self.client.put(&pod);
    }

    fn status(&self, name: &str) -> PodStatus {
        self.client.find::<Pod>("default", name).and_then(|pod| pod.status).unwrap_or_default()
    }

    /// Waits until a pod's status is as wanted.
    async fn until(&self, name: &str, wanted: impl Fn(&PodStatus) -> bool) -> PodStatus {
        self.wait(|| Some(self.status(name)).filter(&wanted), || format!("{:#?}", self.status(name))).await
    }

    async fn gone(&self, name: &str) {
        let left = || self.client.find::<Pod>("default", name);
        self.wait(|| left().is_none().then_some(()), || format!("{:?}", left())).await;
    }

    /// Waits for a fact. The fakes have no event for every fact, so this asks again and again.
    async fn wait<T>(&self, fact: impl Fn() -> Option<T>, tell: impl Fn() -> String) -> T {
        let ask = async {
            loop {
                if let Some(found) = fact() {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, ask).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain; calls: {:#?}; now: {}", self.runtime.calls(), tell()),
        }
    }

    async fn delete(&self, name: &str) {
        let target = Target::new(&Pod::GVR, "default", name);
        self.client.delete(&target, &DeleteOptions::default()).await.unwrap();
    }
}

fn phase(status: &PodStatus) -> &str {
    status.phase.as_deref().unwrap_or_default()
}

fn container<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let lists = [&status.init_container_statuses, &status.container_statuses];
    lists.into_iter().flatten().flatten().find(|status| status.name == name)
}

fn waiting<'a>(status: &'a PodStatus, name: &str) -> &'a str {
    let state = container(status, name).and_then(|c| c.state.as_ref()?.waiting.as_ref());
    state.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default()
}

fn ready(status: &PodStatus) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

#[tokio::test]
async fn a_pod_lives_and_is_deleted_without_a_trace() {
    let world = World::new();
    world.put("p", json!({"containers": [{"name": "c", "image": "web:1"}]}));
    let status = world.until("p", ready).await;
    assert_eq!(phase(&status), "Running");
    assert!(status.pod_ip.is_some() && status.host_ip.as_deref() == Some("192.0.2.1"));
    let running = world.runtime.containers().remove(0);
    assert_eq!(running.labels["io.kubernetes.pod.uid"], "uid-p");
    world.delete("p").await;
    world.gone("p").await;
    world.wait(|| world.runtime.sandboxes().is_empty().then_some(()), String::new).await;
    let left = || std::fs::read_dir(world.dir.path().join("kubelet/pods")).unwrap().count();
    world.wait(|| (left() == 0).then_some(()), || left().to_string()).await;
    assert_eq!(world.runtime.calls_of("stop_container"), ["stop_container c 30"]);
}

#[tokio::test]
async fn init_containers_and_sidecars_come_first_and_in_order() {
    let world = World::new();
    world.put(
        "p",
        json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "web:1"}, {"name": "d", "image": "web:1"}],
            "initContainers": [{"name": "i1", "image": "web:1"},
                {"name": "side", "image": "web:1", "restartPolicy": "Always"}, {"name": "i2", "image": "web:1"}]}),
    );
    world.until("p", |s| container(s, "i1").is_some_and(|c| c.started == Some(true))).await;
    assert_eq!(world.runtime.calls_of("start_container"), ["start_container i1"]);
    world.runtime.exit("i1", 0);
    world.until("p", |s| container(s, "i2").is_some_and(|c| c.started == Some(true))).await;
    world.runtime.exit("i2", 0);
    world.until("p", ready).await;
    let started = world.runtime.calls_of("start_container");
    assert_eq!(started.iter().map(|s| &s[16..]).collect::<Vec<_>>(), ["i1", "side", "i2", "c", "d"]);
    world.runtime.exit("c", 0);
    world.runtime.exit("d", 3);
    let status = world.until("p", |s| phase(s) == "Failed").await;
    assert_eq!(
        container(&status, "c").unwrap().state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code,
        0
    );
    // The sidecar was stopped when nobody needed it any more.
    assert_eq!(world.runtime.calls_of("stop_container").len(), 1);
}

#[tokio::test]
async fn a_killed_kubelet_starts_nothing_again() {
    let mut world = World::new();
    world.put("p", json!({"containers": [{"name": "c", "image": "web:1"}, {"name": "d", "image": "web:1"}]}));
    world.until("p", ready).await;
    world.put("q", json!({"containers": [{"name": "c", "image": "web:1"}]}));
    world.until("q", ready).await;
    let before = world.runtime.calls_of("start_container").len();
    let version = |world: &World| world.client.find::<Pod>("default", "p").unwrap().metadata.resource_version;
    let known = version(&world);
    // The kubelet is killed when it has put away the log of one container, and nobody has begun another.
    let of_p = |name: &str| {
        let all = world.runtime.containers();
        all.into_iter().find(|c| c.name == name && c.labels["io.kubernetes.pod.name"] == "p").unwrap()
    };
    let (c, d) = (of_p("c"), of_p("d"));
    std::fs::create_dir_all(std::path::Path::new(&d.log_path).parent().unwrap()).unwrap();
    std::fs::write(&d.log_path, "").unwrap();
    // The second pod vanishes from the API while no kubelet runs.
    world.kubelet = None;
    world.client.remove(&Pod::GVR, "default", "q");
    world.start();
    let one_left = |world: &World| (world.runtime.sandboxes().len() == 1).then_some(());
    world.wait(|| one_left(&world), String::new).await;
    assert_eq!(world.runtime.calls_of("start_container").len(), before);
    assert_eq!(version(&world), known, "nothing changed, so nothing is written");
    let reopened = || world.runtime.calls_of("reopen_log");
    world.wait(|| reopened().contains(&format!("reopen_log {}", c.id)).then_some(()), String::new).await;
    assert!(!reopened().contains(&format!("reopen_log {}", d.id)));
    world.runtime.exit("d", 1);
    let status =
        world.until("p", |s| container(s, "d").is_some_and(|d| d.restart_count == 1 && d.ready)).await;
    assert_eq!(container(&status, "c").unwrap().restart_count, 0);
}

#[tokio::test]
async fn a_crash_loop_is_slowed_down_and_told() {
    let world = World::new();
    world.put("p", json!({"containers": [{"name": "c", "image": "web:1"}]}));
    world.until("p", ready).await;
    world.runtime.exit("c", 1);
    world.until("p", |s| container(s, "c").is_some_and(|c| c.restart_count == 1 && c.ready)).await;
    world.runtime.exit("c", 1);
    // The simulated runtime's time is 1970: ends seem long ago, so the pause is over at once, but it is counted.
    world.until("p", |s| container(s, "c").is_some_and(|c| c.restart_count == 2)).await;
    let removed = world.runtime.calls_of("remove_container");
    assert!(removed.len() <= 1, "the container before the newest is kept: {removed:?}");
}

#[tokio::test]
async fn a_start_without_an_answer_is_a_start() {
    let world = World::new();
    world.runtime.lose_start();
    let hook = json!({"postStart": {"exec": {"command": ["hook"]}}});
    world.put("p", json!({"containers": [{"name": "c", "image": "web:1", "lifecycle": hook}]}));
    let hooks = || world.runtime.calls_of("exec_sync");
    world.wait(|| (hooks().len() == 1).then_some(()), || format!("{:?}", world.runtime.calls())).await;
    world.until("p", ready).await;
    assert!(world.runtime.calls_of("stop_container").is_empty());
    assert_eq!(world.runtime.calls_of("start_container").len(), 1);
}

#[tokio::test]
async fn what_is_missing_is_told_and_awaited() {
    let world = World::new();
    let env = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]);
    world.put("env", json!({"containers": [{"name": "c", "image": "web:1", "env": env}]}));
    world.until("env", |s| waiting(s, "c") == "CreateContainerConfigError").await;
    world.runtime.fail("pull_image", Error::Failed("no such image".into()));
    world.put("image", json!({"containers": [{"name": "c", "image": "nope:1"}]}));
    let status = world.until("image", |s| waiting(s, "c") == "ErrImagePull").await;
    assert_eq!(phase(&status), "Pending");
    let volume = json!([{"name": "v", "configMap": {"name": "m"}}]);
    let mounts = json!([{"name": "v", "mountPath": "/v"}]);
    let spec =
        json!({"volumes": volume, "containers": [{"name": "c", "image": "web:1", "volumeMounts": mounts}]});
    world.put("volume", spec);
    world.until("volume", |s| s.pod_ip.is_some()).await;
    let map = json!({"metadata": {"name": "m", "namespace": "default"}, "data": {"k": "v1"}});
    world.client.put(&serde_json::from_value::<ConfigMap>(map).unwrap());
    world.until("volume", ready).await;
    let file = world.dir.path().join("kubelet/pods/uid-volume/volumes/kubernetes.io~configmap/v/k");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "v1");
    let map = json!({"metadata": {"name": "m", "namespace": "default"}, "data": {"k": "v2"}});
    world.client.put(&serde_json::from_value::<ConfigMap>(map).unwrap());
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    world.wait(|| (read() == "v2").then_some(()), read).await;
}

#[tokio::test]
async fn a_pod_that_others_found_unready_is_ready_again() {
    let world = World::new();
    world.put("p", json!({"containers": [{"name": "c", "image": "web:1"}]}));
    world.until("p", ready).await;
    // As the node controller does while the node is not ready.
    let mut pod = world.client.find::<Pod>("default", "p").unwrap();
    let conditions = pod.status.as_mut().unwrap().conditions.as_mut().unwrap();
    conditions.iter_mut().filter(|c| c.type_ == "Ready").for_each(|c| c.status = "False".into());
    world.client.put(&pod);
    assert!(!ready(&world.status("p")));
    world.until("p", ready).await;
}

#[tokio::test]
async fn probes_decide_on_ready_and_on_life() {
    let world = World::new();
    let output = |exit_code| tiphys_runtime::ExecOutput { exit_code, ..Default::default() };
    world.runtime.on_exec("ready", output(1));
    let probe =
        |command: &str| json!({"exec": {"command": [command]}, "periodSeconds": 1, "failureThreshold": 1});
    let spec = json!({"terminationGracePeriodSeconds": 7, "containers": [{"name": "c", "image": "web:1",
        "readinessProbe": probe("ready"), "livenessProbe": probe("alive")}]});
    world.put("p", spec);
    let status = world.until("p", |s| phase(s) == "Running").await;
    assert!(!ready(&status));
    world.runtime.on_exec("ready", output(0));
    world.until("p", ready).await;
    world.runtime.on_exec("alive", output(1));
    world.until("p", |s| container(s, "c").is_some_and(|c| c.restart_count > 0)).await;
    assert_eq!(world.runtime.calls_of("stop_container")[0], "stop_container c 7");
}

#[tokio::test]
async fn a_changed_image_replaces_the_container() {
    let world = World::new();
    world.put("p", json!({"containers": [{"name": "c", "image": "web:1"}]}));
    world.until("p", ready).await;
    let mut pod = world.client.find::<Pod>("default", "p").unwrap();
    pod.spec.as_mut().unwrap().containers[0].image = Some("web:2".into());
    world.client.put(&pod);
    let status =
        world.until("p", |s| container(s, "c").is_some_and(|c| c.restart_count == 1 && c.ready)).await;
    assert_eq!(container(&status, "c").unwrap().image_id, "sha256:web:2");
}

#[tokio::test]
async fn a_static_pod_runs_and_has_a_picture_in_the_api() {
    let world = World::new();
    let dir = world.dir.path().join("static");
    let yaml =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: s}\nspec: {containers: [{name: c, image: web:1}]}\n";
    std::fs::write(dir.join("s.yaml"), yaml).unwrap();
    let status = world.until("s-n1", ready).await;
    assert_eq!(phase(&status), "Running");
    let mirror = world.client.find::<Pod>("default", "s-n1").unwrap();
    assert!(mirror.metadata.annotations.unwrap().contains_key("kubernetes.io/config.mirror"));
    std::fs::remove_file(dir.join("s.yaml")).unwrap();
    world.wait(|| world.runtime.sandboxes().is_empty().then_some(()), String::new).await;
}

#[tokio::test]
async fn a_picture_that_was_there_first_gets_its_pods_status_and_one_without_pod_goes() {
    let mut world = World::new();
    let file = world.dir.path().join("static/s.yaml");
    let yaml =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: s}\nspec: {containers: [{name: c, image: web:1}]}\n";
    std::fs::write(&file, yaml).unwrap();
    world.until("s-n1", ready).await;
    // The kubelet is killed, and the node started again: nothing runs, but the API still shows the pod as it was.
    world.kubelet = None;
    world.runtime = Arc::new(Fake::new(&["web:1"]));
    world.start();
    let started = |world: &World| world.runtime.containers().pop().map(|c| c.id);
    let id = world.wait(|| started(&world), String::new).await;
    let of =
        |status: &PodStatus| container(status, "c").and_then(|c| c.container_id.clone()).unwrap_or_default();
    world.until("s-n1", |status| ready(status) && of(status).ends_with(&id)).await;
    // The manifest goes while nobody looks.
    world.kubelet = None;
    std::fs::remove_file(&file).unwrap();
    world.start();
    world.gone("s-n1").await;
    world.wait(|| world.runtime.sandboxes().is_empty().then_some(()), String::new).await;
}

#[tokio::test]
async fn a_manifest_that_comes_back_starts_its_pod_again() {
    let world = World::new();
    let file = world.dir.path().join("static/s.yaml");
    let manifest = |image: &str| {
        let pod = format!("metadata: {{name: s}}\nspec: {{containers: [{{name: c, image: '{image}'}}]}}\n");
        std::fs::write(&file, format!("apiVersion: v1\nkind: Pod\n{pod}")).unwrap();
    };
    manifest("web:1");
    world.until("s-n1", ready).await;
    let image = |status: &PodStatus| container(status, "c").map(|c| c.image.clone()).unwrap_or_default();
    for version in ["web:2", "web:1"] {
        manifest(version);
        world.until("s-n1", |status| ready(status) && image(status) == version).await;
    }
    // What is no pod changes nothing, but is told.
    let first = world.runtime.containers();
    manifest("'");
    let told = || {
        let events = world.client.all::<k8s_openapi::api::core::v1::Event>("");
        events.into_iter().find(|event| event.reason.as_deref() == Some("InvalidStaticPod"))
    };
    let event = world.wait(told, String::new).await;
    let message = event.message.unwrap();
    assert!(
        message.starts_with("Could not process manifest file") && message.contains("s.yaml"),
        "{message}"
    );
    assert_eq!(world.runtime.containers(), first);
}

#[tokio::test]
async fn a_pod_that_belongs_elsewhere_is_refused_and_one_that_runs_stays() {
    let mut world = World::new();
    let spec = |port: u16, selector: Value| {
        let ports = json!([{"containerPort": 1, "hostPort": port}]);
        json!({"containers": [{"name": "c", "image": "web:1", "ports": ports}], "nodeSelector": selector})
    };
    let here = json!({"kubernetes.io/hostname": "n1"});
    world.put("first", spec(80, here.clone()));
    world.until("first", ready).await;
    world.put("second", spec(80, here.clone()));
    world.put("elsewhere", spec(81, json!({"kubernetes.io/hostname": "n2"})));
    for (name, reason) in [("second", "NodePorts"), ("elsewhere", "NodeAffinity")] {
        let status = world.until(name, |status| phase(status) == "Failed").await;
        assert_eq!(status.reason.as_deref(), Some(reason));
        let words = format!("Pod was rejected: Predicate {reason} failed: node(s) didn't ");
        assert!(status.message.as_ref().unwrap().starts_with(&words), "{:?}", status.message);
    }
    // Another that is told of first after a restart does not take what the one that runs has.
    world.kubelet = None;
    world.put("a-third", spec(80, here));
    let node = json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "renamed"}}});
    world.client.put(&serde_json::from_value::<k8s_openapi::api::core::v1::Node>(node).unwrap());
    world.start();
    world.until("a-third", |status| phase(status) == "Failed").await;
    assert!(ready(&world.status("first")));
}

#[tokio::test]
async fn a_node_that_shuts_down_ends_its_pods_in_order() {
    let mut world = World::new();
    world.kubelet = None;
    world.settings.shutdown_grace_period = jiff::SignedDuration::from_secs(20);
    world.settings.shutdown_grace_period_critical_pods = jiff::SignedDuration::from_secs(9);
    world.start();
    world.put("plain", json!({"containers": [{"name": "c", "image": "web:1"}]}));
    let critical = json!({"priority": 2_000_000_000, "containers": [{"name": "d", "image": "web:1"}]});
    world.put("critical", critical);
    world.until("plain", ready).await;
    world.until("critical", ready).await;
    world.shutdown.carry_out().await;
    assert_eq!(world.runtime.calls_of("stop_container"), ["stop_container c 11", "stop_container d 9"]);
    for name in ["plain", "critical"] {
        let status = world.status(name);
        assert_eq!((phase(&status), status.reason.as_deref()), ("Failed", Some("Terminated")));
        let words = "Pod was terminated in response to imminent node shutdown.";
        assert_eq!(status.message.as_deref(), Some(words));
        let conditions = status.conditions.unwrap_or_default();
        let told = conditions.iter().find(|c| c.type_ == "DisruptionTarget").unwrap();
        assert_eq!(
            (told.reason.as_deref(), told.message.as_deref()),
            (Some("TerminationByKubelet"), Some(words))
        );
    }
    world.put("late", json!({"containers": [{"name": "c", "image": "web:1"}]}));
    let late = world.until("late", |status| phase(status) == "Failed").await;
    assert_eq!(late.reason.as_deref(), Some("NodeShutdown"));
    let told = || {
        let node = world.client.find::<k8s_openapi::api::core::v1::Node>("", "n1")?;
        node.status?.conditions?.into_iter().find(|c| c.type_ == "Ready" && c.status == "False")?.message
    };
    assert_eq!(world.wait(told, String::new).await, "node is shutting down");
}

#[tokio::test]
async fn the_node_registers_itself_with_what_it_has() {
    let world = World::new();
    let node = || world.client.find::<k8s_openapi::api::core::v1::Node>("", "n1");
    let is_ready = |node: &k8s_openapi::api::core::v1::Node| {
        let conditions =
            node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
    };
    let node = world.wait(|| node().filter(is_ready), || format!("{:?}", node())).await;
    let status = node.status.unwrap();
    assert_eq!(status.capacity.unwrap()["pods"].0, "110");
    assert_eq!(status.node_info.unwrap().container_runtime_version, "fake://1.0.0");
    assert_eq!(node.metadata.labels.unwrap()["kubernetes.io/hostname"], "n1");
    let lease = || {
        let all = world.client.all::<k8s_openapi::api::coordination::v1::Lease>("kube-node-lease");
        all.into_iter().next().and_then(|lease| lease.spec?.renew_time)
    };
    world.wait(lease, String::new).await;
}

#[tokio::test]
async fn stopping_the_kubelet_leaves_containers_running() {
    let mut world = World::new();
    world.put("p", json!({"containers": [{"name": "c", "image": "web:1"}]}));
    world.until("p", ready).await;
    world.kubelet = None;
    let listed = world.runtime.list_containers(&Default::default()).await.unwrap();
    assert_eq!(listed[0].state, tiphys_runtime::ContainerState::Running);
    let target = Target::new(&Pod::GVR, "default", "p");
    assert!(decode::<Pod>(&world.client.get(&target).await.unwrap()).is_ok());
}
