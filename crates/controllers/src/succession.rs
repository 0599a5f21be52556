//! Two controller managers and one Lease: the one that works is killed in the middle of it, fifty times. Nothing is done
//! twice, nothing is forgotten.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tiphys_api::json;
use tiphys_client::fake::FakeClient;
use tiphys_client::leader::{Election, Timing, lead};
use tiphys_client::typed::Kind;
use tiphys_client::{Api, DeleteOptions, PatchKind, Target};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::Config;
use crate::chaos::ready;
use crate::testing::{serve_discovery, typed};

const KILLS: usize = 50;
const REPLICAS: usize = 4;
const SURGE: usize = 1;
const COMPLETIONS: usize = 3;
const NAME: &str = "kube-controller-manager";

/// What the managers have in common: the cluster, what went wrong in it, and when the next of them dies.
struct Stage {
    server: FakeClient,
    wrong: Mutex<Option<String>>,
    /// Writes until whoever works is killed, right after the last of them.
    fuse: AtomicUsize,
    burnt: Notify,
}

/// A controller manager. Dropping it kills it.
fn manager(stage: &Arc<Stage>, identity: String) -> AbortOnDropHandle<()> {
    let client = stage.server.apart();
    client.answer_after(Duration::from_millis(2));
    let seen = stage.clone();
    // Loses no answer, but looks at what every write has made.
    client.lose(Box::new(move |verb, target| {
        seen.written(verb, target);
        None
    }));
    let election = Election { name: NAME, identity, timing: Timing::SHARED };
    // Nobody heartbeats here.
    let absent = ["node-lifecycle", "taint-eviction", "pod-garbage-collector"].map(str::to_owned);
    let config = Config { disabled: absent.into(), ..Config::default() };
    let client: Arc<dyn tiphys_client::Client> = Arc::new(client);
    let task = tokio::spawn(async move {
        let work = |stop| crate::run(config.clone(), client.clone(), stop);
        let ended = lead(client.clone(), election, CancellationToken::new(), work).await;
        panic!("a manager ended by itself: {ended:?}");
    });
    AbortOnDropHandle::new(task)
}

impl Stage {
    /// Looks whether there is more than was asked for, and burns the fuse.
    fn written(&self, verb: &str, target: &Target) {
        if ["leases", "events"].contains(&target.gvr.resource.as_ref()) {
            return;
        }
        if verb == "create"
            && target.gvr == Pod::GVR
            && let Some(why) = self.doubled()
        {
            self.wrong.lock().get_or_insert(why);
        }
        let left = self.fuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left == Ok(1) {
            self.burnt.notify_one();
        }
    }

    /// Which owner has more pods than it may have. A Job's count even when they have ended.
    fn doubled(&self) -> Option<String> {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for pod in self.server.all::<Pod>("n") {
            let app = pod.metadata.labels.and_then(|mut labels| labels.remove("app")).unwrap_or_default();
            if app.starts_with("job-") || pod.metadata.deletion_timestamp.is_none() {
                *counts.entry(app).or_default() += 1;
            }
        }
        let most = |app: &str| if app.starts_with("job-") { COMPLETIONS } else { REPLICAS + SURGE };
        let over = counts.into_iter().find(|(app, count)| *count > most(app));
        over.map(|(app, count)| format!("{count} pods of {} of {app}", most(&app)))
    }

    fn api<T: Kind>(&self) -> Api<T> {
        Api::new(Arc::new(self.server.clone()), "n")
    }

    fn leader(&self) -> Option<String> {
        self.server.find::<Lease>("kube-system", NAME)?.spec?.holder_identity
    }

    /// A node at work: starts pods, ends those of Jobs, removes those under deletion.
    fn run_pods(&self) {
        for mut pod in self.server.all::<Pod>("n") {
            let runs = pod.status.as_ref().is_some_and(|status| status.phase.is_some());
            if pod.metadata.deletion_timestamp.is_some() && pod.metadata.finalizers.is_none() {
                self.server.remove(&Pod::GVR, "n", pod.name());
            } else if !runs && pod.name().starts_with("job-") {
                pod.status = Some(typed(json!({"phase": "Succeeded"})));
                self.server.put(&pod);
            } else if !runs {
                self.server.put(&ready(pod));
            }
        }
    }

    /// What people ask for in a round: a new template, another size, a new Job, and the one before last to go.
    async fn ask(&self, round: usize) {
        let image = json!([{"name": "c", "image": format!("v{round}")}]);
        let patch = json!({"spec": {"template": {"spec": {"containers": image}}}});
        self.api::<Deployment>().patch("web", PatchKind::Merge, &patch).await.unwrap();
        let patch = json!({"spec": {"replicas": 1 + round % 3}});
        self.api::<StatefulSet>().patch("db", PatchKind::Merge, &patch).await.unwrap();
        self.api::<Job>().create(&job(round)).await.unwrap();
        if round >= 2 {
            let how = if round.is_multiple_of(2) { "Foreground" } else { "Background" };
            let options = DeleteOptions { propagation: Some(how), ..DeleteOptions::default() };
            self.api::<Job>().delete(&format!("job-{}", round - 2), &options).await.unwrap();
        }
    }

    /// What of it is not there yet.
    fn missing(&self, round: usize) -> Option<String> {
        let (pods, jobs) = (self.server.all::<Pod>("n"), self.server.all::<Job>("n"));
        let web = self.server.find::<Deployment>("n", "web")?.status.unwrap_or_default();
        let db = self.server.find::<StatefulSet>("n", "db")?.status.unwrap_or_default();
        let new = (web.updated_replicas, web.available_replicas, web.replicas);
        let whole = Some(REPLICAS as i32);
        let size = 1 + (round % 3) as i32;
        let names: Vec<&str> = jobs.iter().map(Job::name).collect();
        let done = |job: &Job| job.status.as_ref().is_some_and(|s| s.succeeded == Some(COMPLETIONS as i32));
        let wanted = REPLICAS + size as usize + COMPLETIONS * jobs.len();
        let arrived = new == (whole, whole, whole)
            && (db.ready_replicas.unwrap_or(0), db.replicas) == (size, size)
            && names.len() == 2.min(round + 1)
            && jobs.iter().all(done)
            && pods.len() == wanted;
        (!arrived).then(|| format!("{new:?}, {db:?}, {names:?}, {} of {wanted} pods", pods.len()))
    }
}

/// The collector is to know of Jobs.
fn serve_jobs(server: &FakeClient) {
    let group = |name: &str| {
        let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
        json!({"name": name, "versions": [version], "preferredVersion": version})
    };
    server.serve_path("/apis", &json!({"groups": [group("apps"), group("batch")]}));
    let jobs = json!({"name": "jobs", "kind": "Job", "namespaced": true,
        "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]});
    server.serve_path("/apis/batch/v1", &json!({"resources": [jobs]}));
}

fn template(app: &str, image: &str) -> tiphys_api::Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"restartPolicy": "Never",
        "containers": [{"name": "c", "image": image}]}})
}

fn job(round: usize) -> Job {
    let name = format!("job-{round}");
    typed(json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"completions": COMPLETIONS,
        "parallelism": COMPLETIONS, "selector": {"matchLabels": {"app": name}}, "template": template(&name, "i")}}))
}

#[tokio::test(start_paused = true)]
async fn a_leader_killed_in_the_middle_of_its_work_leaves_nothing_doubled_and_nothing_forgotten() {
    let server = FakeClient::new();
    serve_discovery(&server);
    serve_jobs(&server);
    let selector = |app: &str| json!({"matchLabels": {"app": app}});
    server.put::<Deployment>(&typed(json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {
        "replicas": REPLICAS, "selector": selector("web"), "revisionHistoryLimit": 2, "template": template("web", "i"),
        "strategy": {"rollingUpdate": {"maxSurge": SURGE, "maxUnavailable": 1}}}})));
    server.put::<StatefulSet>(&typed(json!({"metadata": {"name": "db", "namespace": "n"}, "spec": {
        "replicas": 1, "selector": selector("db"), "template": template("db", "i")}})));
    let (wrong, fuse) = (Mutex::default(), AtomicUsize::new(0));
    let stage = Arc::new(Stage { server, wrong, fuse, burnt: Notify::new() });
    let mut managers: Vec<_> = ["0", "1"].map(|name| (name.to_owned(), manager(&stage, name.into()))).into();
    for round in 0..KILLS {
        // Anywhere in what a round takes: its first write, or its last.
        stage.fuse.store(1 + round * 7 % 40, Ordering::SeqCst);
        stage.ask(round).await;
        let mut killed = None;
        for _ in 0..60 {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = stage.burnt.notified() => {
                    killed = stage.leader();
                    managers.retain(|(name, _)| Some(name) != killed.as_ref());
                    let name = format!("{}", round + 2);
                    managers.push((name.clone(), manager(&stage, name)));
                }
            }
            stage.run_pods();
            if stage.missing(round).is_none() && killed.is_some() {
                break;
            }
        }
        assert_eq!(stage.missing(round), None, "round {round}, killed: {killed:?}");
        assert!(killed.is_some() && stage.leader() != killed, "round {round}, killed: {killed:?}");
        assert_eq!(stage.wrong.lock().take(), None, "round {round}");
    }
}
