//! Storage: claims of the default class, kept by StatefulSets over their pods' lives, and volumes made by hand.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Run, Table};
use crate::harness::{Namespace, eventually};

pub const CASES: Table = &[
    // [sig-apps] StatefulSet Basic StatefulSet functionality, over volumes of its own
    ("statefulset-keeps-its-volumes", Run::Shared(kept)),
    // [sig-storage] PersistentVolumes CSI Conformance should run through the lifecycle of a PV and a PVC
    ("volume-and-claim-live-and-part", Run::Shared(by_hand)),
];

const SET: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: tiphys.local/hello:1
        securityContext: {runAsUser: 1234}
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
"#;

fn kept(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(SET)?;
    ns.rolled_out("statefulset/db")?;
    ns.kubectl(&["exec", "db-0", "--", "touch", "/data/mine"])?;
    let claim = ns.get(&["pvc", "data-db-0"])?;
    ensure!(
        claim["status"]["phase"] == "Bound" && claim["spec"]["storageClassName"] == "local-path",
        "{claim}"
    );
    let volume = ns.get(&["pv", claim["spec"]["volumeName"].as_str().context("no volume")?])?;
    let path = volume["spec"]["hostPath"]["path"].as_str().context("no path")?.to_owned();
    ensure!(Path::new(&path).join("mine").exists(), "{path}");

    ns.kubectl(&["delete", "pod", "db-0"])?;
    ns.rolled_out("statefulset/db")?;
    let files = ns.kubectl(&["exec", "db-0", "--", "ls", "/data"])?;
    ensure!(files.contains(" mine"), "{files}");

    ns.kubectl(&["delete", "pvc", "data-db-0", "--wait=false"])?;
    let claim = ns.get(&["pvc", "data-db-0"])?;
    ensure!(!claim["metadata"]["deletionTimestamp"].is_null(), "its pod uses it");
    ns.kubectl(&["delete", "statefulset", "db"])?;
    eventually("the claim, its volume and its directory go with the last pod", || {
        let volumes = ns.kubectl(&["get", "pv", "-o", "name"])?;
        let name = volume["metadata"]["name"].as_str().context("no name")?;
        ensure!(!volumes.contains(name), "{volumes}");
        ensure!(!Path::new(&path).exists(), "{path}");
        Ok(())
    })?;
    let left = ns.kubectl(&["get", "pvc", "-o", "name"])?;
    ensure!(left.trim() == "persistentvolumeclaim/data-db-1", "{left}");
    ns.kubectl(&["delete", "pvc", "--all"]).map(drop)
}

fn by_hand(ns: &Namespace<'_>) -> Result<()> {
    let volume = format!("{}-v", ns.name);
    let made = format!(
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {volume}}}\nspec:\n  capacity: {{storage: 1Gi}}\n  \
         accessModes: [ReadWriteOnce]\n  storageClassName: by-hand\n  hostPath: {{path: /tmp}}\n"
    );
    ns.apply(&made)?;
    let volume = format!("pv/{volume}");
    ns.wait("jsonpath={.status.phase}=Available", &[&volume])?;
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c}\nspec:\n  storageClassName: by-hand\n  \
                 accessModes: [ReadWriteOnce]\n  resources: {requests: {storage: 10Mi}}\n";
    ns.apply(claim)?;
    ns.wait("jsonpath={.status.phase}=Bound", &["pvc/c", &volume])?;
    ns.kubectl(&["delete", "pvc", "c"])?;
    ns.wait("jsonpath={.status.phase}=Released", &[&volume])?;
    ns.kubectl(&["delete", &volume]).map(drop)
}
