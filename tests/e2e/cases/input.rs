//! Bad input: each kind gets Kubernetes' own answer, and the cluster goes on.

use anyhow::{Context, Result, ensure};

use super::{Run, Table};
use crate::harness::{Cluster, Namespace, tiphys};

pub const CASES: Table = &[
    ("bad-manifests-are-refused-as-kubernetes-does", Run::Shared(manifests)),
    ("too-large-objects-are-refused", Run::Shared(too_large)),
    ("bad-starts-say-what-to-do", Run::Own(starts)),
];

fn manifests(ns: &Namespace<'_>) -> Result<()> {
    let create = |manifest: &str| -> Result<String> {
        let error = ns.feed(&["create", "--validate=strict", "-f", "-"], manifest);
        Ok(error.err().context("it was accepted")?.to_string())
    };
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers: [{name: c, image: i}]\n";
    let unknown = create(&pod.replace("image: i", "image: i, imagee: j"))?;
    ensure!(unknown.contains(r#"unknown field "spec.containers[0].imagee""#), "{unknown}");
    let wrong_type = create(&pod.replace("name: c,", "name: c, stdin: maybe,"))?;
    ensure!(wrong_type.contains("stdin"), "{wrong_type}");
    let invalid = create(&pod.replace("name: c", "name: C_"))?;
    ensure!(
        invalid.contains(r#"The Pod "x" is invalid: spec.containers[0].name: Invalid value: "C_""#),
        "{invalid}"
    );
    let missing = create(&pod.replace("containers: [{name: c, image: i}]", "containers: []"))?;
    ensure!(missing.contains("spec.containers: Required value"), "{missing}");
    let no_kind = create(&pod.replace("kind: Pod", "kind: Pond"))?;
    ensure!(no_kind.contains(r#"no matches for kind "Pond" in version "v1""#), "{no_kind}");
    create("apiVersion: v1\nkind: [\n")?;
    let exists = || ns.kubectl(&["create", "configmap", "twice"]);
    exists()?;
    let twice = exists().err().context("made twice")?.to_string();
    ensure!(twice.contains(r#"configmaps "twice" already exists"#), "{twice}");
    Ok(())
}

fn too_large(ns: &Namespace<'_>) -> Result<()> {
    let manifest = |bytes: usize| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: big}}\ndata: {{k: {}}}\n",
            "x".repeat(bytes)
        )
    };
    let object =
        ns.feed(&["create", "-f", "-"], &manifest(1_700_000)).err().context("1.7 MB was accepted")?;
    let text = object.to_string();
    ensure!(text.contains("Too long") || text.contains("too large"), "{text}");
    let body =
        ns.feed(&["create", "-f", "-"], &manifest(4_000_000)).err().context("4 MB was accepted")?.to_string();
    ensure!(body.contains("too large") || body.contains("RequestEntityTooLarge"), "{body}");
    ns.kubectl(&["get", "--raw", "/readyz"]).map(drop)
}

fn starts() -> Result<()> {
    let cluster = Cluster::new("bad", 8)?;
    let fails = |more: &[&str], expected: &str| -> Result<()> {
        let output = cluster.up_command(more).output()?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && error.contains(expected), "{more:?}: {error}");
        Ok(())
    };
    let taken = std::net::TcpListener::bind(("0.0.0.0", cluster.https_port()))?;
    fails(&[], "--https-port")?;
    drop(taken);
    fails(&["--service-cidr", "nonsense"], "is not an IPv4 range")?;
    fails(&["--no-such-flag"], "--no-such-flag")?;
    fails(&["--config", "/no/such/file.yaml"], "/no/such/file.yaml")?;
    std::fs::create_dir_all(cluster.data_dir())?;
    std::fs::write(cluster.data_dir().join("format"), "999\n")?;
    fails(&[], "newer Tiphys")?;
    std::fs::remove_dir_all(cluster.data_dir())?;
    let mut unprivileged = tiphys();
    unprivileged.args(["up", "--data-dir", "/nonexistent"]);
    std::os::unix::process::CommandExt::uid(&mut unprivileged, 65534);
    let output = unprivileged.output()?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && error.contains("needs root"), "{error}");
    Ok(())
}
