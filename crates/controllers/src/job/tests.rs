use tiphys_client::fake::FakeClient;

use super::*;
use crate::testing::{Cluster, typed};

fn job(spec: &Value) -> Job {
    let mut all = json!({"selector": {"matchLabels": {"job": "work"}}, "template": {
        "metadata": {"labels": {"job": "work"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}});
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    typed(json!({"metadata": {"name": "work", "namespace": "n"}, "spec": all}))
}

async fn start(spec: &Value) -> Cluster {
    let cluster = Cluster::start(FakeClient::new());
    cluster.api::<Job>("n").create(&job(spec)).await.unwrap();
    cluster.settle().await;
    cluster
}

fn active(cluster: &Cluster) -> Vec<Pod> {
    let open = |pod: &Pod| pod.status.is_none() && pod.metadata.deletion_timestamp.is_none();
    cluster.client.all::<Pod>("n").into_iter().filter(open).collect()
}

/// Ends one pod with an exit code.
async fn end(cluster: &Cluster, mut pod: Pod, code: i32) {
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    let old = "2020-01-01T00:00:00Z";
    pod.status = Some(typed(
        json!({"phase": phase, "containerStatuses": [{"name": "c", "ready": false, "image": "",
        "imageID": "", "restartCount": 0, "state": {"terminated": {"exitCode": code, "finishedAt": old}}}]}),
    ));
    cluster.client.put(&pod);
    cluster.settle().await;
}

async fn status(cluster: &Cluster) -> k8s_openapi::api::batch::v1::JobStatus {
    cluster.api::<Job>("n").get("work").await.unwrap().status.unwrap()
}

fn conditions(status: &k8s_openapi::api::batch::v1::JobStatus) -> Vec<String> {
    let text = |c: &k8s_openapi::api::batch::v1::JobCondition| {
        format!("{}={} {}", c.type_, c.status, c.reason.clone().unwrap())
    };
    status.conditions.iter().flatten().map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn completions_are_counted_once() {
    let cluster = start(&json!({"completions": 3, "parallelism": 2})).await;
    assert_eq!(active(&cluster).len(), 2);
    for left in [2, 1, 0] {
        let pod = active(&cluster).remove(0);
        let name = pod.name().to_owned();
        end(&cluster, pod, 0).await;
        assert_eq!(active(&cluster).len(), left);
        let pod = cluster.client.find::<Pod>("n", &name).unwrap();
        assert_eq!(pod.metadata.finalizers, None, "counted pods are let go");
        // A counted pod may vanish without changing the count.
        cluster.client.remove(&Pod::GVR, "n", &name);
        cluster.settle().await;
    }
    let status = status(&cluster).await;
    assert_eq!((status.succeeded, status.failed, status.active), (Some(3), None, None));
    assert_eq!(
        conditions(&status),
        ["SuccessCriteriaMet=True CompletionsReached", "Complete=True CompletionsReached"]
    );
    assert!(status.completion_time.is_some());
    let writes = cluster.client.writes();
    cluster.settle().await;
    assert_eq!(cluster.client.writes(), writes);
}

#[tokio::test(start_paused = true)]
async fn too_many_failures_end_it() {
    let cluster = start(&json!({"backoffLimit": 1})).await;
    for _ in 0..2 {
        let pod = active(&cluster).remove(0);
        end(&cluster, pod, 3).await;
    }
    let status = status(&cluster).await;
    assert_eq!(status.failed, Some(2));
    assert_eq!(conditions(&status).last().unwrap(), "Failed=True BackoffLimitExceeded");
    assert!(
        cluster
            .events()
            .contains(&"BackoffLimitExceeded: Job has reached the specified backoff limit".into())
    );
}

#[tokio::test(start_paused = true)]
async fn every_index_runs_to_its_success() {
    let cluster = start(&json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"})).await;
    let mut pods = active(&cluster);
    pods.sort_by_key(|pod| pod.metadata.annotations.as_ref().unwrap()[INDEX].clone());
    assert_eq!(pods[2].spec.as_ref().unwrap().hostname.as_deref(), Some("work-2"));
    end(&cluster, pods.remove(2), 0).await;
    end(&cluster, pods.remove(0), 0).await;
    assert_eq!(status(&cluster).await.completed_indexes.as_deref(), Some("0,2"));
    end(&cluster, pods.remove(0), 1).await;
    let again = active(&cluster).remove(0);
    assert_eq!(again.metadata.annotations.as_ref().unwrap()[INDEX], "1");
    end(&cluster, again, 0).await;
    let status = status(&cluster).await;
    assert_eq!((status.completed_indexes.as_deref(), status.failed), (Some("0-2"), Some(1)));
    assert_eq!(conditions(&status).last().unwrap(), "Complete=True CompletionsReached");
}

#[tokio::test(start_paused = true)]
async fn a_policy_may_fail_or_forgive() {
    let rules = json!({"rules": [
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]});
    let cluster = start(&json!({"backoffLimit": 0, "podFailurePolicy": rules})).await;
    let pod = active(&cluster).remove(0);
    end(&cluster, pod, 7).await;
    assert_eq!(status(&cluster).await.failed, None);
    let pod = active(&cluster).remove(0);
    end(&cluster, pod, 42).await;
    let status = status(&cluster).await;
    let failed = status.conditions.unwrap().pop().unwrap();
    assert_eq!((failed.type_.as_str(), failed.reason.as_deref()), ("Failed", Some("PodFailurePolicy")));
    assert!(failed.message.unwrap().ends_with("failed with exit code 42 matching FailJob rule at index 1"));
}

#[tokio::test(start_paused = true)]
async fn a_suspended_job_has_no_pods() {
    let cluster = start(&json!({"parallelism": 2, "suspend": true})).await;
    assert!(active(&cluster).is_empty());
    let resume = json!({"spec": {"suspend": false}});
    cluster.api::<Job>("n").patch("work", PatchKind::Merge, &resume).await.unwrap();
    cluster.settle().await;
    assert_eq!(active(&cluster).len(), 2);
    assert_eq!(conditions(&status(&cluster).await), ["Suspended=False JobResumed"]);
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_job_that_is_gone_are_let_go() {
    let cluster = start(&json!({})).await;
    cluster.client.remove(&Job::GVR, "n", "work");
    cluster.settle().await;
    assert!(cluster.client.all::<Pod>("n").iter().all(|pod| pod.metadata.finalizers.is_none()));
}

/// Ends the active pod of an index.
async fn end_index(cluster: &Cluster, index: i32, code: i32) {
    let of = |pod: &Pod| pod.metadata.annotations.as_ref().unwrap()[INDEX] == index.to_string();
    let pod = active(cluster).into_iter().find(of).expect("the index has a pod");
    end(cluster, pod, code).await;
}

#[tokio::test(start_paused = true)]
async fn each_index_has_its_own_limit() {
    let rules =
        json!({"rules": [{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}]});
    let spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed",
        "backoffLimitPerIndex": 1, "podFailurePolicy": rules});
    let cluster = start(&spec).await;
    end_index(&cluster, 0, 1).await;
    let again = active(&cluster).into_iter().find(|pod| pod.name().starts_with("work-0-")).unwrap();
    assert_eq!(again.metadata.annotations.as_ref().unwrap()[FAILURES], "1");
    assert_eq!(status(&cluster).await.failed, Some(1), "counted once its number was handed on");
    end_index(&cluster, 0, 1).await;
    assert_eq!(status(&cluster).await.failed_indexes.as_deref(), Some("0"));
    end_index(&cluster, 1, 42).await;
    assert_eq!(status(&cluster).await.failed_indexes.as_deref(), Some("0,1"), "a rule may end an index");
    assert_eq!(active(&cluster).len(), 1);
    end_index(&cluster, 2, 0).await;
    let status = status(&cluster).await;
    assert_eq!(
        (status.completed_indexes.as_deref(), status.succeeded, status.failed),
        (Some("2"), Some(1), Some(3))
    );
    assert_eq!(conditions(&status), ["FailureTarget=True FailedIndexes", "Failed=True FailedIndexes"]);
}

#[tokio::test(start_paused = true)]
async fn too_many_failed_indexes_end_it() {
    let spec = json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed",
        "backoffLimitPerIndex": 0, "maxFailedIndexes": 1});
    let cluster = start(&spec).await;
    end_index(&cluster, 3, 1).await;
    assert_eq!(active(&cluster).len(), 3);
    end_index(&cluster, 1, 1).await;
    let status = status(&cluster).await;
    assert_eq!(status.failed_indexes.as_deref(), Some("1,3"));
    assert_eq!(
        (status.failed, status.active, status.uncounted_terminated_pods.clone()),
        (Some(4), None, Some(Default::default()))
    );
    assert_eq!(conditions(&status).last().unwrap(), "Failed=True MaxFailedIndexesExceeded");
}

#[tokio::test(start_paused = true)]
async fn a_policy_may_call_some_indexes_enough() {
    let rules =
        json!({"rules": [{"succeededIndexes": "0-1", "succeededCount": 2}, {"succeededIndexes": "3"}]});
    let spec =
        json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed", "successPolicy": rules});
    let cluster = start(&spec).await;
    end_index(&cluster, 0, 0).await;
    assert_eq!(conditions(&status(&cluster).await), [] as [&str; 0]);
    end_index(&cluster, 3, 0).await;
    let done = status(&cluster).await;
    let wanted = ["SuccessCriteriaMet=True SuccessPolicy", "Complete=True SuccessPolicy"];
    assert_eq!(conditions(&done), wanted);
    assert_eq!(done.conditions.unwrap()[1].message.as_deref(), Some("Matched rules at index 1"));
    assert_eq!(
        (done.completed_indexes.as_deref(), done.succeeded, done.failed),
        (Some("0,3"), Some(2), None)
    );
    assert!(active(&cluster).is_empty(), "the others are ended");
}

#[tokio::test(start_paused = true)]
async fn only_ended_pods_are_replaced_if_asked() {
    for (policy, together) in [("Failed", 1), ("TerminatingOrFailed", 2)] {
        let cluster = start(&json!({"podReplacementPolicy": policy})).await;
        let mut pod = active(&cluster).remove(0);
        pod.spec.as_mut().unwrap().node_name = Some("node".into());
        cluster.client.put(&pod);
        // Pauses count from when a pod ended, and a deletion is an end: age it.
        cluster.api::<Pod>("n").delete(pod.name(), &Default::default()).await.unwrap();
        let mut pod = cluster.client.find::<Pod>("n", pod.name()).unwrap();
        pod.metadata.deletion_timestamp = Some(typed(json!("2020-01-01T00:00:00Z")));
        cluster.client.put(&pod);
        cluster.settle().await;
        assert_eq!(cluster.client.all::<Pod>("n").len(), together, "{policy}");
        let now = status(&cluster).await;
        assert_eq!(now.terminating, Some(1));
        assert_eq!(now.failed, (together == 2).then_some(1), "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn parallelism_goes_up_and_down_and_others_jobs_are_left_alone() {
    let cluster = start(&json!({"parallelism": 4, "completions": 8, "completionMode": "Indexed"})).await;
    let patch = async |spec: &Value| {
        cluster.api::<Job>("n").patch("work", PatchKind::Merge, &json!({"spec": spec})).await.unwrap();
        cluster.settle().await;
    };
    patch(&json!({"parallelism": 1})).await;
    assert_eq!((active(&cluster).len(), status(&cluster).await.active), (1, Some(1)));
    patch(&json!({"parallelism": 0})).await;
    assert_eq!((active(&cluster).len(), status(&cluster).await.active), (0, None));

    let mut other = job(&json!({"managedBy": "example.com/queue"}));
    other.metadata.name = Some("other".into());
    cluster.api::<Job>("n").create(&other).await.unwrap();
    cluster.settle().await;
    assert_eq!(cluster.client.find::<Job>("n", "other").unwrap().status, None);
}

#[tokio::test(start_paused = true)]
async fn a_finished_job_goes_when_its_time_is_over() {
    let client = FakeClient::new();
    for (name, ended) in [("old", "2020-01-01T00:00:00Z"), ("new", "2999-01-01T00:00:00Z")] {
        let mut done = job(&json!({"ttlSecondsAfterFinished": 10}));
        done.metadata.name = Some(name.into());
        done.status = Some(typed(json!({"conditions": [
            {"type": "Complete", "status": "True", "lastTransitionTime": ended}]})));
        client.put(&done);
    }
    let cluster = Cluster::start(client);
    cluster.settle().await;
    let deleted = |name| {
        cluster.client.find::<Job>("n", name).is_none_or(|job| job.metadata.deletion_timestamp.is_some())
    };
    assert!(deleted("old") && !deleted("new"));
}
