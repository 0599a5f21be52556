//! DaemonSets. The nodes are every case's, so each case has labels of its own.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{broken_image, count, create, image, images, keeps_status, observed, running, uids};
use crate::cases::Run;
use crate::cases::conformance::Table;
use crate::harness::Namespace;
use crate::objects::{CONTROLLER_REVISION, DAEMON_SET, NODE, Objects, POD, names};
use crate::simulated::NODES;

pub const CASES: Table = &[
    (
        &[
            "[sig-apps] Daemon set [Serial] should run and stop simple daemon",
            "[sig-apps] Daemon set [Serial] should retry creating failed daemon pods",
        ],
        Run::Simulated(simple),
    ),
    (&["[sig-apps] Daemon set [Serial] should run and stop complex daemon"], Run::Simulated(complex)),
    (
        &[
            "[sig-apps] Daemon set [Serial] should update pod when spec was updated and update strategy is RollingUpdate",
        ],
        Run::Simulated(rolling_update),
    ),
    (
        &["[sig-apps] Daemon set [Serial] should rollback without unnecessary restarts"],
        Run::Simulated(rollback),
    ),
    (
        &[
            "[sig-apps] Daemon set [Serial] should verify changes to a daemon set status",
            "[sig-apps] Daemon set [Serial] should list and delete a collection of DaemonSets",
        ],
        Run::Simulated(status_and_collection),
    ),
];

fn hosts(pods: &[Value]) -> Vec<&str> {
    let mut hosts: Vec<&str> = pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
    hosts.sort_unstable();
    hosts
}

fn simple(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let agent = create(&objects, DAEMON_SET, "agent", &json!({}))?;
    let pods = running(&objects, "agent", NODES)?;
    let nodes = objects.items(NODE, "")?;
    ensure!(hosts(&pods) == names(&nodes), "one on each node: {:?}", hosts(&pods));
    let name = names(&pods)[0];
    objects.at(POD, name).delete(&Value::Null)?;
    objects.at(POD, name).gone()?;
    let pods = running(&objects, "agent", NODES)?;
    ensure!(hosts(&pods) == names(&nodes), "it is replaced on its node: {:?}", hosts(&pods));
    let name = names(&pods)[0];
    objects.at(POD, name).sub("status").merge(&json!({"status": {"phase": "Failed"}}))?;
    objects.at(POD, name).gone()?;
    let pods = running(&objects, "agent", NODES)?;
    ensure!(hosts(&pods) == names(&nodes), "a failed one is, too: {:?}", hosts(&pods));
    agent.delete(&Value::Null)?;
    objects.until(POD, &super::labelled("agent"), "all are stopped", <[Value]>::is_empty).map(drop)
}

fn complex(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let mut template = super::spec(DAEMON_SET, "agent", &json!({}))["template"].take();
    template["spec"]["nodeSelector"] = json!({"tiphys.test/complex": "blue"});
    let agent = create(&objects, DAEMON_SET, "agent", &json!({"template": template}))?;
    agent.until("no node fits", |agent| observed(agent) && count(agent, "desiredNumberScheduled") == 0)?;
    let node = objects.at(NODE, "sim-1");
    let colour =
        |colour: Value| node.merge(&json!({"metadata": {"labels": {"tiphys.test/complex": colour}}}));
    colour("blue".into())?;
    ensure!(hosts(&running(&objects, "agent", 1)?) == ["sim-1"]);
    colour("green".into())?;
    objects.until(POD, "", "the node fits no longer", <[Value]>::is_empty)?;
    let green = json!({"spec": {"nodeSelector": {"tiphys.test/complex": "green"}}});
    agent.merge(&json!({"spec": {"template": green, "updateStrategy": {"type": "RollingUpdate"}}}))?;
    ensure!(hosts(&running(&objects, "agent", 1)?) == ["sim-1"]);
    colour(Value::Null)?;
    objects.until(POD, "", "it fits nowhere again", <[Value]>::is_empty).map(drop)
}

fn rolling_update(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let agent = create(&objects, DAEMON_SET, "agent", &json!({}))?;
    running(&objects, "agent", NODES)?;
    let first = revision(&objects, 1)?;
    agent.patch(&image("example/web:2"))?;
    agent.until("it is rolled out", |agent| {
        observed(agent)
            && ["updatedNumberScheduled", "numberAvailable"]
                .iter()
                .all(|field| count(agent, field) == NODES as i64)
    })?;
    let pods = running(&objects, "agent", NODES)?;
    ensure!(images(&pods) == ["example/web:2"], "{:?}", images(&pods));
    let hash = revision(&objects, 2)?;
    let hashes = pods.iter().map(|pod| &pod["metadata"]["labels"]["controller-revision-hash"]);
    ensure!(first != hash && hashes.into_iter().all(|found| *found == hash), "{first} {hash} {pods:?}");
    Ok(())
}

/// The hash of a revision.
fn revision(objects: &Objects, number: i64) -> Result<Value> {
    let revisions = objects.items(CONTROLLER_REVISION, "")?;
    let found = revisions.iter().find(|revision| revision["revision"] == number);
    Ok(found.context("no such revision")?["metadata"]["labels"]["controller-revision-hash"].clone())
}

fn rollback(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let agent = create(&objects, DAEMON_SET, "agent", &json!({}))?;
    let before = running(&objects, "agent", NODES)?;
    agent.patch(&broken_image("example/web:404")?)?;
    let stuck = objects.until(POD, "", "the update is stuck at one node", |pods| {
        pods.len() == NODES && pods.iter().any(|pod| images(std::slice::from_ref(pod)) == ["example/web:404"])
    })?;
    let kept: Vec<String> = uids(&stuck).into_iter().filter(|uid| uids(&before).contains(uid)).collect();
    ensure!(kept.len() == NODES - 1, "{kept:?}");
    let mut undone = image("example/web:1");
    undone["spec"]["template"]["metadata"]["annotations"] = Value::Null;
    agent.patch(&undone)?;
    agent.until("it is rolled back", |agent| {
        observed(agent) && count(agent, "updatedNumberScheduled") == NODES as i64
    })?;
    let after = running(&objects, "agent", NODES)?;
    ensure!(images(&after) == ["example/web:1"], "{:?}", images(&after));
    ensure!(kept.iter().all(|uid| uids(&after).contains(uid)), "a healthy pod was restarted");
    Ok(())
}

fn status_and_collection(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let agent = create(&objects, DAEMON_SET, "agent", &json!({}))?;
    running(&objects, "agent", NODES)?;
    agent.until("it is counted", |agent| count(agent, "numberReady") == NODES as i64)?;
    keeps_status(&agent)?;
    super::collection(&objects, DAEMON_SET, "agent")
}
