//! Bad input: each kind gets Kubernetes' own answer, and the cluster goes on.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Run, Running, Table};
use crate::harness::{Cluster, Namespace, eventually, tiphys};

pub const CASES: Table = &[
    ("bad-manifests-are-refused-as-kubernetes-does", Run::Shared(manifests)),
    ("too-large-objects-are-refused", Run::Shared(too_large)),
    ("bad-starts-say-what-to-do", Run::Own(starts)),
    ("broken-kubeconfigs-are-told-and-left-alone", Run::Own(kubeconfigs)),
    ("kubeconfigs-of-another-cluster-are-told", Run::Own(foreign_kubeconfigs)),
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
    // Nothing is installed where the path leads nowhere.
    refuses(cluster.up_command(&[]).env("PATH", "/nonexistent"), "Install with: apt-get install ")?;
    let mut unprivileged = tiphys();
    unprivileged.args(["up", "--data-dir", "/nonexistent"]);
    std::os::unix::process::CommandExt::uid(&mut unprivileged, 65534);
    let output = unprivileged.output()?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && error.contains("needs root"), "{error}");
    Ok(())
}

/// Runs what must fail; it must say `expected`.
fn refuses(command: &mut Command, expected: &str) -> Result<()> {
    let output = command.output()?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success() && error.contains(expected),
        "{command:?} without {expected:?}: {error}"
    );
    Ok(())
}

fn kubeconfigs() -> Result<()> {
    let cluster = Cluster::new("kubeconfigs", 9)?;
    let home = cluster.scratch("home");
    let (own, given) = (home.join(".kube/config"), cluster.kubeconfig());
    std::fs::create_dir_all(home.join(".kube"))?;
    let dangling = "contexts: [{name: c, context: {cluster: gone}}]\ncurrent-context: c\n";
    for (text, expected) in [
        ("clusters: [\n", "error loading config file"),
        ("", "no configuration has been provided"),
        (dangling, r#"cluster "gone" does not exist"#),
    ] {
        std::fs::write(&given, text)?;
        refuses(tiphys().arg("scheduler").arg("--kubeconfig").arg(&given), expected)?;
    }
    refuses(tiphys().args(["scheduler", "--kubeconfig", "/no/such/file"]), "cannot read /no/such/file")?;
    // A start writes to two files. Neither is touched where it is not what it should be, and nothing is started.
    let up = || {
        let mut up = cluster.up_command(&[]);
        up.env_remove("TIPHYS_NO_MERGE").env("HOME", &home);
        up
    };
    let foreign = "clusters: [{name: work, cluster: {server: 'https://192.0.2.1'}}]\n";
    for (path, text, expected) in [
        (&own, "clusters: [\n", "mend or move it, or give --no-merge"),
        (&own, "users: {a: b}\n", "`users` is no list"),
        (&given, "clusters: [\n", "give another file with --kubeconfig"),
        (&given, foreign, r#"holds another cluster, "work""#),
    ] {
        std::fs::write(&own, "")?;
        std::fs::write(&given, "")?;
        std::fs::write(path, text)?;
        refuses(&mut up(), expected)?;
        ensure!(std::fs::read_to_string(path)? == text, "{} was written to", path.display());
        ensure!(!cluster.data_dir().exists(), "something was made");
    }
    Ok(())
}

fn foreign_kubeconfigs() -> Result<()> {
    let server = Cluster::new("foreign", 9)?;
    let _server = Running(server.server_command().spawn()?);
    eventually("the API answers", || server.kubectl(&["get", "--raw", "/readyz"]))?;
    let text = std::fs::read_to_string(server.kubeconfig())?;
    let value = |key: &str| -> Result<&str> {
        let line = text.lines().find(|line| line.trim_start().starts_with(key));
        Ok(line.and_then(|line| line.split_once(": ")).context("no such key")?.1)
    };
    // Some certificate, but not the one that has signed the server's.
    let (ca, own) = (value("certificate-authority-data")?, value("client-certificate-data")?);
    let pair = format!("client-certificate-data: {own}\n    client-key-data: {}", value("client-key-data")?);
    for (broken, expected) in [
        (text.replace(&format!("authority-data: {ca}"), &format!("authority-data: {own}")), "TLS refuses"),
        (text.replace(&pair, "token: nonsense"), "does not know the user"),
    ] {
        ensure!(broken != text, "nothing was replaced in\n{text}");
        let path = server.scratch("broken.kubeconfig");
        std::fs::write(&path, &broken)?;
        refuses(tiphys().arg("controller-manager").arg("--kubeconfig").arg(&path), expected)?;
    }
    Ok(())
}
