use std::collections::BTreeMap;

use proptest::prelude::*;
use tiphys_api::{Value, json};
use tiphys_client::PatchKind;
use tiphys_client::fake::FakeClient;

use super::*;
use crate::testing::{Cluster, typed};

fn deployment(replicas: i32, image: &str, strategy: &Value) -> Deployment {
    typed(json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "d", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "strategy": strategy,
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]}}},
    }))
}

async fn set_image(cluster: &Cluster, image: &str) {
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    cluster.api::<Deployment>("n").patch("web", PatchKind::Merge, &patch).await.unwrap();
    cluster.settle().await;
}

/// `image:replicas` of each set with its revision, by revision.
fn revisions(cluster: &Cluster) -> Vec<String> {
    let mut by_revision = BTreeMap::new();
    for set in cluster.client.all::<ReplicaSet>("n") {
        let spec = set.spec.as_ref().unwrap();
        let image =
            spec.template.as_ref().unwrap().spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        let revision = view::number(&set, view::REVISION).unwrap();
        by_revision.insert(revision, format!("{revision} {image}:{}", view::wanted(&set)));
    }
    by_revision.into_values().collect()
}

async fn run_to_the_end(cluster: &Cluster) {
    for _ in 0..30 {
        cluster.run_pods().await;
    }
}

fn condition(status: &DeploymentStatus, kind: &str) -> (String, String) {
    let found = status.conditions.iter().flatten().find(|c| c.type_ == kind).unwrap();
    (found.status.clone(), found.reason.clone().unwrap())
}

async fn status(cluster: &Cluster) -> DeploymentStatus {
    cluster.api::<Deployment>("n").get("web").await.unwrap().status.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_rollout_and_its_undoing() {
    let cluster = Cluster::start(FakeClient::new());
    cluster.api::<Deployment>("n").create(&deployment(3, "one", &json!(null))).await.unwrap();
    cluster.settle().await;
    let early = status(&cluster).await;
    assert_eq!(condition(&early, "Available"), ("False".into(), "MinimumReplicasUnavailable".into()));
    run_to_the_end(&cluster).await;
    let done = status(&cluster).await;
    assert_eq!(condition(&done, "Progressing"), ("True".into(), "NewReplicaSetAvailable".into()));
    assert_eq!((done.replicas, done.available_replicas, done.unavailable_replicas), (Some(3), Some(3), None));

    set_image(&cluster, "two").await;
    run_to_the_end(&cluster).await;
    assert_eq!(revisions(&cluster), ["1 one:0", "2 two:3"]);
    set_image(&cluster, "one").await;
    run_to_the_end(&cluster).await;
    assert_eq!(revisions(&cluster), ["2 two:0", "3 one:3"]);
    let noted = cluster.client.find::<Deployment>("n", "web").unwrap().metadata.annotations.unwrap();
    assert_eq!(noted[view::REVISION], "3");
    let writes = cluster.client.writes();
    cluster.settle().await;
    assert_eq!(cluster.client.writes(), writes, "a finished rollout writes nothing");
    let events = cluster.events();
    let first = events.iter().find(|event| event.starts_with("ScalingReplicaSet")).unwrap();
    assert!(
        first.starts_with("ScalingReplicaSet: Scaled up replica set web-") && first.ends_with("from 0 to 3")
    );
}

#[tokio::test(start_paused = true)]
async fn recreation_waits_for_the_old_pods() {
    let cluster = Cluster::start(FakeClient::new());
    let made = deployment(2, "one", &json!({"type": "Recreate"}));
    cluster.api::<Deployment>("n").create(&made).await.unwrap();
    cluster.settle().await;
    run_to_the_end(&cluster).await;
    set_image(&cluster, "two").await;
    // The node has not let go of the pods.
    assert_eq!(revisions(&cluster), ["1 one:0"]);
    run_to_the_end(&cluster).await;
    assert_eq!(revisions(&cluster), ["1 one:0", "2 two:2"]);
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_the_rollout_but_not_the_size() {
    let cluster = Cluster::start(FakeClient::new());
    cluster.api::<Deployment>("n").create(&deployment(2, "one", &json!(null))).await.unwrap();
    cluster.settle().await;
    run_to_the_end(&cluster).await;
    let patch = json!({"spec": {"paused": true, "replicas": 4}});
    cluster.api::<Deployment>("n").patch("web", PatchKind::Merge, &patch).await.unwrap();
    set_image(&cluster, "two").await;
    run_to_the_end(&cluster).await;
    assert_eq!(revisions(&cluster), ["1 one:4"]);
    assert_eq!(condition(&status(&cluster).await, "Progressing").1, "DeploymentPaused");
    let patch = json!({"spec": {"paused": false}});
    cluster.api::<Deployment>("n").patch("web", PatchKind::Merge, &patch).await.unwrap();
    cluster.settle().await;
    run_to_the_end(&cluster).await;
    assert_eq!(revisions(&cluster), ["1 one:0", "2 two:4"]);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_rollout_misses_its_deadline() {
    let cluster = Cluster::start(FakeClient::new());
    cluster.api::<Deployment>("n").create(&deployment(1, "broken", &json!(null))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(condition(&status(&cluster).await, "Progressing").1, "ReplicaSetUpdated");
    // Timestamps are real while tokio's time is paused: age the last progress instead.
    let mut late = cluster.client.find::<Deployment>("n", "web").unwrap();
    for condition in late.status.as_mut().unwrap().conditions.as_mut().unwrap() {
        condition.last_update_time = Some(typed(json!("2020-01-01T00:00:00Z")));
    }
    cluster.client.put(&late);
    cluster.settle().await;
    let found = condition(&status(&cluster).await, "Progressing");
    assert_eq!(found, ("False".into(), "ProgressDeadlineExceeded".into()));
}

#[tokio::test(start_paused = true)]
async fn old_revisions_are_forgotten_beyond_the_limit() {
    let cluster = Cluster::start(FakeClient::new());
    let mut made = deployment(1, "v0", &json!(null));
    made.spec.as_mut().unwrap().revision_history_limit = Some(1);
    cluster.api::<Deployment>("n").create(&made).await.unwrap();
    for version in ["v1", "v2", "v3"] {
        cluster.settle().await;
        run_to_the_end(&cluster).await;
        set_image(&cluster, version).await;
    }
    run_to_the_end(&cluster).await;
    assert_eq!(revisions(&cluster), ["3 v2:0", "4 v3:1"]);
}

#[test]
fn a_new_size_in_the_middle_is_shared_in_proportion() {
    let made = deployment(20, "new", &json!(null));
    let set = |name: &str, image: &str, replicas: i32| -> ReplicaSet {
        let mut set = revision::new_set(
            &deployment(10, image, &json!(null)),
            &view::Numbers::of(&deployment(10, image, &json!(null))),
            1,
        );
        set.metadata.name = Some(name.into());
        set.spec.as_mut().unwrap().replicas = Some(replicas);
        set
    };
    let sets = vec![set("a", "old", 8), set("b", "new", 5)];
    let plan = plan::plan(&made, sets, |_| 0, Timestamp::UNIX_EPOCH);
    let sizes: Vec<_> = plan.update.iter().map(|c| (c.set.name(), view::wanted(&c.set))).collect();
    // 13 of 13 become 25 of 25: 8 -> 15, 5 -> 10.
    assert_eq!(sizes, [("a", 15), ("b", 10)]);
}

/// A cluster of sets whose pods become available, fail, and are created by chance.
struct Simulation {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
}

impl Simulation {
    /// One step of the deployment controller, seeing the sets as they are.
    fn step(&mut self) {
        let now = Timestamp::UNIX_EPOCH;
        let plan = plan::plan(&self.deployment, self.sets.clone(), |_| 0, now);
        for change in plan.update {
            let at = self.sets.iter().position(|set| set.name() == change.set.name()).unwrap();
            self.sets[at] = change.set;
        }
        if let Some(Change { mut set, .. }) = plan.create {
            set.metadata.uid = Some(format!("uid-{}", self.sets.len()));
            set.metadata.creation_timestamp =
                Some(typed(json!(Timestamp::from_second(self.sets.len() as i64 + 1).unwrap().to_string())));
            self.sets.push(set);
        }
        self.deployment.status = Some(plan.status);
    }

    /// The set's controller and nodes at work: pods follow the size, some become available.
    fn pods(&mut self, at: usize, more: i32) {
        let Some(set) = self.sets.get_mut(at) else { return };
        let wanted = view::wanted(set);
        let status = set.status.get_or_insert_default();
        status.replicas = wanted;
        let available = status.available_replicas.unwrap_or(0).min(wanted) + more;
        status.available_replicas = Some(available.clamp(0, wanted));
    }

    fn total(&self) -> i32 {
        self.sets.iter().map(view::wanted).sum()
    }

    /// Pods that stay available whatever the sets' controllers do next.
    fn safe(&self) -> i32 {
        self.sets.iter().map(|set| view::available(set).min(view::wanted(set))).sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However pods come up, and whenever the template changes: never too many, never too few, and it ends.
    #[test]
    fn a_rolling_update_keeps_its_bounds(
        replicas in 1i32..30,
        surge in 0i32..6,
        unavailable in 0i32..6,
        moves in proptest::collection::vec((0usize..4, 0i32..5, 0u8..12), 1..80),
    ) {
        let strategy = json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        let mut run = Simulation { deployment: deployment(replicas, "v0", &strategy), sets: Vec::new() };
        run.step();
        run.pods(0, replicas);
        let numbers = view::Numbers::of(&run.deployment);
        let mut version = 0;
        for (set, more, change) in moves {
            if change == 0 {
                version += 1;
                let spec = run.deployment.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
                spec.containers[0].image = Some(format!("v{version}"));
            }
            run.step();
            prop_assert!(run.total() <= replicas + numbers.max_surge, "{} pods", run.total());
            prop_assert!(run.safe() >= replicas - numbers.max_unavailable, "{} available", run.safe());
            run.pods(set, more);
        }
        for _ in 0..200 {
            run.step();
            (0..run.sets.len()).for_each(|set| run.pods(set, 1));
        }
        let new = revision::find_new(&run.deployment, &run.sets).unwrap();
        prop_assert_eq!(view::wanted(&run.sets[new]), replicas);
        prop_assert_eq!(run.total(), replicas);
    }
}
