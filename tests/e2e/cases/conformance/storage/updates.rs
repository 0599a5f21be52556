//! ConfigMaps and Secrets that change while pods show them, and those that may not change.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::super::Table;
use super::{USER, exec, lines, pod, run};
use crate::cases::Run;
use crate::harness::{Namespace, eventually};

pub const CASES: Table = &[
    (
        &[
            "[sig-storage] ConfigMap updates should be reflected in volume [NodeConformance]",
            "[sig-storage] ConfigMap optional updates should be reflected in volume [NodeConformance]",
            "[sig-storage] Projected configMap updates should be reflected in volume [NodeConformance]",
            "[sig-storage] Projected configMap optional updates should be reflected in volume [NodeConformance]",
            "[sig-storage] Secrets optional updates should be reflected in volume [NodeConformance]",
            "[sig-storage] Projected secret optional updates should be reflected in volume [NodeConformance]",
        ],
        Run::Shared(reflected),
    ),
    (
        &["[sig-storage] ConfigMap should be immutable if `immutable` field is set"],
        Run::Shared(immutable_map),
    ),
    (
        &["[sig-storage] Secrets should be immutable if `immutable` field is set"],
        Run::Shared(immutable_secret),
    ),
];

const KINDS: [&str; 2] = ["ConfigMap", "Secret"];

fn object(kind: &str, name: &str, value: &str) -> Value {
    let field = if kind == "Secret" { "stringData" } else { "data" };
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, (field): {"data": format!("{value}\n")}})
}

/// Volumes of one object, plain and projected, whose names tell what they show.
fn volumes(kind: &str, name: &str) -> [(String, Value); 2] {
    let (plain, projected) = match kind {
        "Secret" => (
            json!({"secret": {"secretName": name, "optional": true}}),
            json!({"secret": {"name": name, "optional": true}}),
        ),
        _ => {
            let source = json!({"configMap": {"name": name, "optional": true}});
            (source.clone(), source)
        }
    };
    let kind = kind.to_lowercase();
    [
        (format!("{kind}-{name}"), plain),
        (format!("{kind}-{name}-projected"), json!({"projected": {"sources": [projected]}})),
    ]
}

fn reflected(ns: &Namespace<'_>) -> Result<()> {
    let all = || KINDS.iter().flat_map(|kind| ["made", "changed", "gone"].map(|name| (*kind, name)));
    let mounted: Vec<(String, Value)> = all().flat_map(|(kind, name)| volumes(kind, name)).collect();
    let objects: Vec<Value> =
        all().filter(|(_, name)| *name != "made").map(|(kind, name)| object(kind, name, "value-1")).collect();
    run(ns, &objects, &pod("p", &[("c", USER)], &mounted))?;
    let of = |wanted: &str| -> Vec<String> {
        let names = mounted.iter().map(|(name, _)| name);
        names.filter(|name| name.contains(wanted)).map(|name| format!("/v/{name}/data")).collect()
    };
    ensure!(lines(ns, "c", &[of("-changed"), of("-gone")].concat())? == ["value-1"; 8]);
    ensure!(exec(ns, "c", &["ls", "/v/configmap-made/data"]).is_err(), "it does not exist yet");
    let changed =
        KINDS.iter().flat_map(|kind| [object(kind, "made", "value-1"), object(kind, "changed", "value-2")]);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": changed.collect::<Vec<_>>()});
    ns.apply(&list.to_string())?;
    ns.kubectl(&["delete", "configmap/gone", "secret/gone"])?;
    eventually("the volumes follow", || {
        ensure!(lines(ns, "c", &of("-made"))? == ["value-1"; 4]);
        ensure!(lines(ns, "c", &of("-changed"))? == ["value-2"; 4]);
        for path in of("-gone") {
            ensure!(exec(ns, "c", &["ls", &path]).is_err(), "{path}");
        }
        Ok(())
    })
}

fn immutable_map(ns: &Namespace<'_>) -> Result<()> {
    immutable(ns, "ConfigMap")
}

fn immutable_secret(ns: &Namespace<'_>) -> Result<()> {
    immutable(ns, "Secret")
}

fn immutable(ns: &Namespace<'_>, kind: &str) -> Result<()> {
    let allowed = |change: &str| ns.kubectl(&["patch", kind, "fixed", "-p", change]);
    let refused = |change: &str| {
        let why = ns.kubectl_fails(&["patch", kind, "fixed", "-p", change])?;
        ensure!(why.contains("immutable"), "{why}");
        Ok(())
    };
    ns.apply(&object(kind, "fixed", "value-1").to_string())?;
    allowed(r#"{"data": {"data": "dmFsdWU="}}"#)?;
    allowed(r#"{"immutable": true}"#)?;
    refused(r#"{"data": {"data": "b3RoZXI="}}"#)?;
    refused(r#"{"immutable": false}"#)?;
    allowed(r#"{"metadata": {"labels": {"still": "free"}}}"#)?;
    ns.kubectl(&["delete", kind, "fixed"]).map(drop)
}
