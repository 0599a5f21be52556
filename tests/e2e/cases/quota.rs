//! Quotas and limit ranges: what a namespace may hold, and what its containers get.

use anyhow::{Result, ensure};

use super::{Run, Table};
use crate::harness::{Namespace, eventually};

pub const CASES: Table = &[
    ("resourcequota-says-what-it-refuses", Run::Shared(lives)),
    // [sig-scheduling] LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied
    ("limitrange-defaults-are-applied", Run::Shared(limits)),
];

fn used(ns: &Namespace<'_>, what: &str) -> Result<String> {
    let quota = ns.get(&["resourcequota", "q"])?;
    Ok(quota["status"]["used"][what].as_str().unwrap_or("unknown").to_owned())
}

fn counts(ns: &Namespace<'_>, what: &str, wanted: &str) -> Result<()> {
    eventually(&format!("{what} used: {wanted}"), || {
        let now = used(ns, what)?;
        ensure!(now == wanted, "{now}");
        Ok(())
    })
}

fn lives(ns: &Namespace<'_>) -> Result<()> {
    ns.kubectl(&["create", "quota", "q", "--hard=pods=3,requests.cpu=1,count/configmaps=2"])?;
    // One map is there from the beginning: the cluster's CA.
    counts(ns, "count/configmaps", "1")?;
    counts(ns, "pods", "0")?;
    ns.kubectl(&["create", "configmap", "one"])?;
    ensure!(used(ns, "count/configmaps")? == "2", "a charge is there with its object");
    let refused = ns.kubectl_fails(&["create", "configmap", "two"])?;
    let why = "exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=2, limited: count/configmaps=2";
    ensure!(refused.contains(why), "{refused}");
    ns.kubectl(&["delete", "configmap", "one"])?;
    counts(ns, "count/configmaps", "1")?;
    let refused = ns.kubectl_fails(&["run", "silent", "--image=tiphys.local/hello:1"])?;
    ensure!(refused.contains("failed quota: q: must specify requests.cpu for: silent"), "{refused}");
    ns.apply(MANY)?;
    counts(ns, "pods", "3")?;
    eventually("the Deployment says why it has no more", || {
        let deployment = ns.get(&["deployment", "many"])?;
        let conditions = deployment["status"]["conditions"].to_string();
        ensure!(
            conditions.contains("ReplicaFailure") && conditions.contains("exceeded quota: q"),
            "{conditions}"
        );
        Ok(())
    })?;
    ns.kubectl(&["delete", "deployment", "many", "--cascade=foreground"])?;
    counts(ns, "pods", "0")?;
    counts(ns, "requests.cpu", "0")
}

const MANY: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: 6
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: c, image: "tiphys.local/hello:1", resources: {requests: {cpu: 10m}}}
"#;

fn limits(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(LIMITS)?;
    ns.kubectl(&["run", "p", "--image=tiphys.local/hello:1"])?;
    let pod = ns.get(&["pod", "p"])?;
    let resources = &pod["spec"]["containers"][0]["resources"];
    ensure!(resources["requests"]["cpu"] == "20m" && resources["limits"]["cpu"] == "100m", "{resources}");
    let told = pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"].to_string();
    ensure!(told.contains("LimitRanger plugin set: cpu request for container p"), "{told}");
    let large = r#"--overrides={"spec":{"containers":[{"name":"l","image":"x","resources":{"limits":{"cpu":"2"}}}]}}"#;
    let refused = ns.kubectl_fails(&["run", "l", "--image=x", large])?;
    ensure!(refused.contains("maximum cpu usage per Container is 1, but limit is 2"), "{refused}");
    Ok(())
}

const LIMITS: &str = r#"
apiVersion: v1
kind: LimitRange
metadata: {name: r}
spec:
  limits:
  - {type: Container, defaultRequest: {cpu: 20m}, default: {cpu: 100m}, max: {cpu: "1"}}
"#;
