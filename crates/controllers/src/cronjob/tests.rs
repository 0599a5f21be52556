use tiphys_api::{Value, json};
use tiphys_client::fake::FakeClient;

use super::*;
use crate::Config;
use crate::testing::{Cluster, typed};

/// A cron job whose last time was an hour ago.
fn cron(spec: &Value) -> CronJob {
    let mut all =
        json!({"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": {"containers": []}}}}});
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    let hour_ago = Timestamp::from_second(Timestamp::now().as_second() - 3600).unwrap();
    typed(json!({"metadata": {"name": "tick", "namespace": "n", "uid": "c"}, "spec": all,
        "status": {"lastScheduleTime": hour_ago.to_string()}}))
}

async fn start(client: FakeClient, spec: &Value) -> Cluster {
    client.put(&cron(spec));
    let config = Config { disabled: vec!["job".into()], ..Config::default() };
    let cluster = Cluster::start_with(client, config);
    tokio::time::sleep(Duration::from_millis(10)).await;
    cluster
}

fn job(name: &str, ended: Option<&str>) -> Job {
    let conditions: Vec<_> = ended.into_iter().map(|kind| json!({"type": kind, "status": "True"})).collect();
    typed(json!({"metadata": {"name": name, "namespace": "n", "uid": name, "ownerReferences": [
        {"apiVersion": "batch/v1", "kind": "CronJob", "name": "tick", "uid": "c", "controller": true}]},
        "status": {"conditions": conditions}}))
}

#[tokio::test(start_paused = true)]
async fn only_the_latest_missed_time_is_made_up() {
    let cluster = start(FakeClient::new(), &json!({})).await;
    let jobs = cluster.client.all::<Job>("n");
    assert_eq!(jobs.len(), 1);
    assert!(jobs[0].metadata.annotations.as_ref().unwrap().contains_key(SCHEDULED));
    let status = cluster.client.find::<CronJob>("n", "tick").unwrap().status.unwrap();
    assert_eq!(status.active.unwrap().len(), 1);
    let minute = Timestamp::now().as_second() / 60;
    assert!(minute - status.last_schedule_time.unwrap().0.as_second() / 60 <= 1);
}

#[tokio::test(start_paused = true)]
async fn a_running_job_forbids_or_is_replaced() {
    for (policy, left) in [("Forbid", "running"), ("Allow", "both"), ("Replace", "new")] {
        let client = FakeClient::new();
        client.put(&job("running", None));
        let cluster = start(client, &json!({"concurrencyPolicy": policy})).await;
        let names: Vec<_> = cluster.client.all::<Job>("n").iter().map(|job| job.name().to_owned()).collect();
        let old = names.contains(&"running".to_owned());
        let what = match (old, names.len()) {
            (true, 1) => "running",
            (true, 2) => "both",
            (false, 1) => "new",
            _ => "?",
        };
        assert_eq!(what, left, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn history_is_kept_short_and_suspension_holds() {
    let client = FakeClient::new();
    for i in 0..4 {
        client.put(&job(&format!("good-{i}"), Some("Complete")));
        client.put(&job(&format!("bad-{i}"), Some("Failed")));
    }
    let cluster = start(client, &json!({"suspend": true})).await;
    let jobs = cluster.client.all::<Job>("n");
    let of = |how: &str| jobs.iter().filter(|job| ended(job) == Some(how)).count();
    assert_eq!((jobs.len(), of("Complete"), of("Failed")), (4, 3, 1));
}
