//! Paths below volumes that are made of variables.

use anyhow::{Result, ensure};

use super::{Run, Table, phase, pod, status};
use crate::harness::{Namespace, eventually};

pub const CASES: Table = &[(
    &[
        "[sig-node] Variable Expansion should allow substituting values in a volume subpath",
        "[sig-node] Variable Expansion should fail substituting values in a volume subpath with absolute path [Slow]",
        "[sig-node] Variable Expansion should fail substituting values in a volume subpath with backticks [Slow]",
        "[sig-node] Variable Expansion should succeed in writing subpaths in container [Slow]",
        "[sig-node] Variable Expansion should verify that a failing subpath expansion can be modified during the lifecycle of a container [Slow]",
    ],
    Run::Shared(expressions),
)];

/// A pod whose annotation `path` names the part of a volume that its container sees at `/part`.
fn annotated(name: &str, path: &str) -> String {
    let env = "env: [{name: PART, valueFrom: {fieldRef: {fieldPath: 'metadata.annotations[''path'']'}}}]";
    let mounts =
        "volumeMounts: [{name: v, mountPath: /part, subPathExpr: $(PART)}, {name: v, mountPath: /all}]";
    let container = format!("name: c, command: [sleep, '3600'], {env}, {mounts}");
    let text = pod(name, "volumes: [{name: v, emptyDir: {}}]", &[&container]);
    text.replacen("labels:", &format!("annotations: {{path: '{path}'}}, labels:"), 1)
}

fn expressions(ns: &Namespace<'_>) -> Result<()> {
    let pods = [annotated("good", "sub/dir"), annotated("absolute", "/tmp"), annotated("backticks", "..")];
    ns.apply(&pods.concat())?;
    ns.wait("condition=Ready", &["pod/good"])?;
    ns.kubectl(&["exec", "good", "--", "touch", "/part/file"])?;
    ns.kubectl(&["exec", "good", "--", "ls", "/all/sub/dir/file"])?;
    for name in ["absolute", "backticks"] {
        eventually("it is not started", || {
            let pod = ns.get(&["pod", name])?;
            let waiting = &status(&pod, "c")?["state"]["waiting"];
            ensure!(waiting["reason"] == "CreateContainerConfigError", "{}", pod["status"]);
            Ok(())
        })?;
    }
    ns.kubectl(&["annotate", "pod", "absolute", "--overwrite", "path=sub"])?;
    phase(ns, "absolute", "Running")?;
    // Where the variable leads by now does not keep the volume from being taken down.
    ns.kubectl(&["annotate", "pod", "good", "--overwrite", "path=/nowhere"])?;
    ns.kubectl(&["delete", "pod", "--all"]).map(drop)
}
