//! Jobs and CronJobs. No case waits for the clock: a time that was missed is made up at once.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::count;
use crate::cases::Run;
use crate::cases::conformance::Table;
use crate::harness::Namespace;
use crate::objects::{At, CRON_JOB, EVENT, JOB, Objects, POD, names};

pub const CASES: Table = &[
    (
        &[
            "[sig-apps] Job should adopt matching orphans and release non-matching pods",
            "[sig-apps] Job should delete a job",
        ],
        Run::Simulated(adopts_and_releases),
    ),
    (
        &[
            "[sig-apps] Job should run a job to completion when tasks sometimes fail and are locally restarted",
        ],
        Run::Shared(locally_restarted),
    ),
    (&["indexed-jobs-end-by-their-policies"], Run::Simulated(indexed)),
    (&["[sig-apps] CronJob should support CronJob API operations"], Run::Simulated(api_operations)),
    (
        &[
            "[sig-apps] CronJob should not schedule jobs when suspended [Slow]",
            "[sig-apps] CronJob should schedule multiple jobs concurrently",
            "[sig-apps] CronJob should not schedule new jobs when ForbidConcurrent [Slow]",
            "[sig-apps] CronJob should replace jobs when ReplaceConcurrent",
        ],
        Run::Simulated(policies),
    ),
];

/// A Job's spec, whose simulated pods run for so long.
fn job(parallelism: u32, run_time: &str) -> Value {
    let container = json!({"name": "c", "image": "example/task:1"});
    json!({"parallelism": parallelism, "template": {
        "metadata": {"annotations": {"simulate.tiphys.io/run-time": run_time}},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}}})
}

fn adopts_and_releases(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let work = objects.at(JOB, "work");
    work.create(json!({"spec": job(2, "1h")}))?;
    let of_work = "labelSelector=job-name=work";
    work.until("as many run as may", |work| count(work, "ready") == 2)?;
    let pods = objects.items(POD, of_work)?;
    ensure!(pods.len() == 2, "{pods:?}");
    let pod = objects.at(POD, names(&pods)[0]);
    pod.merge(&json!({"metadata": {"ownerReferences": null}}))?;
    let owner = |pod: &Value| pod["metadata"]["ownerReferences"][0]["name"].clone();
    pod.until("it is adopted again", |pod| owner(pod) == "work")?;
    pod.merge(&json!({"metadata": {"labels": null}}))?;
    pod.until("it is released", |pod| owner(pod).is_null())?;
    let others = objects.until(POD, of_work, "another stands in for it", |pods| pods.len() == 2)?;
    ensure!(!names(&others).contains(&names(&pods)[0]));
    work.delete(&json!({"propagationPolicy": "Background"}))?;
    work.gone()?;
    objects.until(POD, of_work, "its pods go with it", <[Value]>::is_empty)?;
    ensure!(names(&objects.items(POD, "")?) == [names(&pods)[0]], "what was released stays");
    Ok(())
}

/// What the first container looks for, the second one makes: the first try fails, one in the same pod does not.
fn locally_restarted(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let container = |name: &str, command: &str| {
        json!({"name": name, "image": "tiphys.local/hello:1", "command": [command, "/v/flag"],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]})
    };
    let containers = json!([container("looks", "/bin/cat"), container("makes", "/bin/touch")]);
    let pod = json!({"restartPolicy": "OnFailure", "containers": containers, "volumes": [{"name": "v", "emptyDir": {}}]});
    let tries = objects.at(JOB, "tries");
    tries.create(json!({"spec": {"completions": 2, "parallelism": 2, "template": {"spec": pod}}}))?;
    let done = tries.until("all tries end well", |job| super::condition(job, "Complete").is_some())?;
    ensure!(count(&done, "succeeded") == 2 && count(&done, "failed") == 0, "{done}");
    Ok(())
}

/// Indexes that succeed or fail decide about the whole.
fn indexed(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let make = |name: &str, exit_code: &str, mut more: Value| {
        more["completions"] = 2.into();
        more["completionMode"] = "Indexed".into();
        more["template"] = job(1, "0")["template"].take();
        more["template"]["metadata"]["annotations"]["simulate.tiphys.io/exit-code"] = exit_code.into();
        objects.at(JOB, name).create(json!({"spec": more}))
    };
    let rules = json!({"rules": [{"succeededIndexes": "0"}]});
    make("first", "0", json!({"parallelism": 1, "successPolicy": rules}))?;
    make("fails", "1", json!({"parallelism": 2, "backoffLimitPerIndex": 0}))?;
    let ends = |name: &str, condition: &str| {
        objects.at(JOB, name).until(condition, |job| super::condition(job, condition).is_some())
    };
    let first = ends("first", "Complete")?["status"].take();
    ensure!(first["completedIndexes"] == "0", "{first}");
    let fails = ends("fails", "Failed")?["status"].take();
    ensure!(fails["failedIndexes"] == "0,1" && fails["failed"] == 2, "{fails}");
    Ok(())
}

fn cron_job<'a>(objects: &'a Objects, suspend: bool) -> Result<At<'a>> {
    let template = json!({"metadata": {"labels": {"app": "tick"}}, "spec": job(1, "1h")});
    let spec =
        json!({"schedule": "0 0 1 1 *", "timeZone": "Etc/UTC", "suspend": suspend, "jobTemplate": template});
    let tick = objects.at(CRON_JOB, "tick");
    tick.create(json!({"metadata": {"labels": {"app": "tick"}}, "spec": spec}))?;
    Ok(tick)
}

fn api_operations(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let group = objects.get("/apis/batch")?;
    ensure!(group["versions"].to_string().contains("batch/v1"), "{group}");
    let mut changes = objects.watch(CRON_JOB, "")?;
    let tick = cron_job(&objects, true)?;
    changes.expect("ADDED", "tick")?;
    ensure!(tick.get()?["spec"]["concurrencyPolicy"] == "Allow", "the default");
    tick.merge(&json!({"metadata": {"annotations": {"patched": "true"}}}))?;
    changes.expect("MODIFIED", "tick")?;
    tick.update(|tick| tick["metadata"]["annotations"]["updated"] = "true".into())?;
    let updated = changes.expect("MODIFIED", "tick")?;
    ensure!(updated["metadata"]["annotations"] == json!({"patched": "true", "updated": "true"}), "{updated}");
    let status = tick.sub("status");
    let at = |hour: u32| format!("2026-01-01T{hour:02}:00:00Z");
    status.merge(&json!({"status": {"lastScheduleTime": at(1)}, "spec": {"suspend": false}}))?;
    status.update(|tick| tick["status"]["lastScheduleTime"] = at(2).into())?;
    let seen = status.get()?;
    ensure!(seen["status"]["lastScheduleTime"] == at(2) && seen["spec"]["suspend"] == true, "{seen}");
    tick.delete(&Value::Null)?;
    tick.gone()?;
    cron_job(&objects, true)?;
    super::collection(&objects, CRON_JOB, "tick")
}

fn active(cron: &Value) -> usize {
    cron["status"]["active"].as_array().map_or(0, Vec::len)
}

fn policies(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let tick = cron_job(&objects, true)?;
    tick.sub("status").merge(&json!({"status": {"lastScheduleTime": "2024-12-31T00:00:00Z"}}))?;
    // A change that is seen after that one, and answered by nothing: the times before it are over.
    let other = create_other(&objects)?;
    other.until("others are scheduled", |other| active(other) == 1)?;
    ensure!(objects.items(JOB, "labelSelector=app=tick")?.is_empty(), "it is suspended");
    tick.merge(&json!({"spec": {"suspend": false}}))?;
    tick.until("it is not any more", |tick| active(tick) == 1)?;
    // The next time comes while that job runs.
    tick.merge(&json!({"spec": {"concurrencyPolicy": "Forbid", "schedule": "0 0 2 1 *"}}))?;
    objects.until(EVENT, "fieldSelector=reason=JobAlreadyActive", "the policy is told", |events| {
        !events.is_empty()
    })?;
    ensure!(objects.items(JOB, "labelSelector=app=tick")?.len() == 1, "one job at a time");
    tick.merge(&json!({"spec": {"concurrencyPolicy": "Allow"}}))?;
    tick.until("two run at once", |tick| active(tick) == 2)?;
    let before = objects.items(JOB, "labelSelector=app=tick")?;
    tick.merge(&json!({"spec": {"concurrencyPolicy": "Replace", "schedule": "0 0 3 1 *"}}))?;
    let replaced = objects.until(JOB, "labelSelector=app=tick", "a newer job replaces them", |jobs| {
        jobs.len() == 1 && !names(&before).contains(&names(jobs)[0])
    })?;
    tick.until("it alone is active", |tick| {
        active(tick) == 1 && tick["status"]["active"][0]["name"] == names(&replaced)[0]
    })?;
    Ok(())
}

/// A CronJob whose time is over.
fn create_other(objects: &Objects) -> Result<At<'_>> {
    let other = objects.at(CRON_JOB, "other");
    let spec = json!({"schedule": "0 0 1 1 *", "timeZone": "Etc/UTC", "jobTemplate": {"spec": job(1, "1h")}});
    other.create(json!({"spec": spec}))?;
    other.sub("status").merge(&json!({"status": {"lastScheduleTime": "2024-12-31T00:00:00Z"}}))?;
    Ok(other)
}
