//! The objects that pods are made from, as the API keeps them. Nothing runs here.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Run, Table};
use crate::harness::Namespace;

pub const CASES: Table = &[
    (
        &[
            "[sig-node] ConfigMap should run through a ConfigMap lifecycle",
            "[sig-node] Secrets should patch a secret",
            "[sig-node] PodTemplates should run the lifecycle of PodTemplates",
            "[sig-node] PodTemplates should delete a collection of pod templates",
            "[sig-node] Lease lease API should be available",
        ],
        Run::Simulated(lifecycles),
    ),
    (
        &[
            "[sig-node] ConfigMap should fail to create ConfigMap with empty key",
            "[sig-node] Secrets should fail to create secret due to empty secret key",
        ],
        Run::Simulated(empty_keys),
    ),
    (
        &["[sig-node] RuntimeClass  should support RuntimeClasses API operations"],
        Run::Simulated(runtime_classes),
    ),
];

/// A kind: its manifest without metadata, a patch, where the patch shows, and what it then is.
struct Kind {
    resource: &'static str,
    path: &'static str,
    manifest: &'static str,
    patch: &'static str,
    shows: (&'static str, &'static str),
}

const KINDS: [Kind; 4] = [
    Kind {
        resource: "configmap",
        path: "/api/v1/namespaces/NS/configmaps",
        manifest: "apiVersion: v1\nkind: ConfigMap\ndata: {value: one}\n",
        patch: r#"{"metadata":{"labels":{"changed":"yes"}},"data":{"value":"two"}}"#,
        shows: ("/data/value", "two"),
    },
    Kind {
        resource: "secret",
        path: "/api/v1/namespaces/NS/secrets",
        manifest: "apiVersion: v1\nkind: Secret\ndata: {value: b25l}\n",
        patch: r#"{"metadata":{"labels":{"changed":"yes"}},"data":{"value":"dHdv"}}"#,
        shows: ("/data/value", "dHdv"),
    },
    Kind {
        resource: "podtemplate",
        path: "/api/v1/namespaces/NS/podtemplates",
        manifest: "apiVersion: v1\nkind: PodTemplate\ntemplate: {spec: {containers: [{name: c, image: i}]}}\n",
        patch: r#"{"metadata":{"labels":{"changed":"yes"}},"template":{"spec":{"nodeName":"n"}}}"#,
        shows: ("/template/spec/nodeName", "n"),
    },
    Kind {
        resource: "lease",
        path: "/apis/coordination.k8s.io/v1/namespaces/NS/leases",
        manifest: "apiVersion: coordination.k8s.io/v1\nkind: Lease\nspec: {holderIdentity: one, leaseDurationSeconds: 30}\n",
        patch: r#"{"metadata":{"labels":{"changed":"yes"}},"spec":{"holderIdentity":"two"}}"#,
        shows: ("/spec/holderIdentity", "two"),
    },
];

fn lifecycles(ns: &Namespace<'_>) -> Result<()> {
    KINDS.iter().try_for_each(|kind| lifecycle(ns, kind).with_context(|| kind.resource))
}

fn lifecycle(ns: &Namespace<'_>, kind: &Kind) -> Result<()> {
    let named =
        |name: &str| format!("{}metadata: {{name: {name}, labels: {{case: mine}}}}\n---\n", kind.manifest);
    ns.feed(&["create", "-f", "-"], &[named("one"), named("two")].concat())?;
    let listed = |selector: &str| -> Result<Vec<Value>> {
        let list = ns.get(&[kind.resource, "-l", selector])?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    };
    ensure!(listed("case=mine")?.len() == 2 && listed("changed=yes")?.is_empty());
    ns.kubectl(&["patch", kind.resource, "one", "-p", kind.patch])?;
    let changed = listed("changed=yes")?;
    let [one] = changed.as_slice() else { anyhow::bail!("{changed:?}") };
    ensure!(one["metadata"]["name"] == "one", "{one}");
    let (path, value) = kind.shows;
    ensure!(one.pointer(path).is_some_and(|seen| seen == value), "{one}");
    let mut replaced = ns.get(&[kind.resource, "two"])?;
    replaced["metadata"]["labels"]["replaced"] = "yes".into();
    ns.feed(&["replace", "-f", "-"], &replaced.to_string())?;
    ensure!(listed("replaced=yes")?.len() == 1);
    let part = format!("{}?labelSelector=changed%3Dyes", kind.path.replace("NS", &ns.name));
    ns.kubectl(&["delete", "--raw", &part])?;
    ensure!(listed("case=mine")?.len() == 1);
    ns.kubectl(&["delete", kind.resource, "two"])?;
    let gone = ns.kubectl_fails(&["get", kind.resource, "two"])?;
    ensure!(gone.contains("NotFound"), "{gone}");
    Ok(())
}

fn empty_keys(ns: &Namespace<'_>) -> Result<()> {
    for (kind, value) in [("ConfigMap", "text"), ("Secret", "dGV4dA==")] {
        let manifest =
            format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: empty}}\ndata: {{'': {value}}}\n");
        let refused =
            ns.feed(&["create", "-f", "-"], &manifest).err().context("it was accepted")?.to_string();
        ensure!(refused.contains("data[]: Invalid value"), "{refused}");
    }
    Ok(())
}

fn runtime_classes(ns: &Namespace<'_>) -> Result<()> {
    let ask =
        |path: &str| -> Result<Value> { Ok(serde_json::from_str(&ns.kubectl(&["get", "--raw", path])?)?) };
    let has = |list: &Value, key: &str, wanted: &str| {
        list.as_array().is_some_and(|list| list.iter().any(|item| item[key] == wanted))
    };
    ensure!(has(&ask("/apis")?["groups"], "name", "node.k8s.io"));
    ensure!(has(&ask("/apis/node.k8s.io")?["versions"], "version", "v1"));
    let resources = ask("/apis/node.k8s.io/v1")?;
    let listed = resources["resources"].as_array().cloned().unwrap_or_default();
    let classes = listed.iter().find(|r| r["name"] == "runtimeclasses").context("no runtimeclasses")?;
    for verb in ["create", "get", "list", "watch", "update", "patch", "delete", "deletecollection"] {
        ensure!(
            classes["verbs"].as_array().is_some_and(|verbs| verbs.iter().any(|v| v == verb)),
            "{classes}"
        );
    }
    // The kind is the cluster's own: a label tells whose these are.
    let (mine, name) = (format!("case={}", ns.name), format!("{}-one", ns.name));
    let manifest = format!(
        "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {{name: {name}, labels: {{case: {}}}}}\nhandler: h\n",
        ns.name
    );
    ns.feed(&["create", "-f", "-"], &manifest)?;
    ns.kubectl(&["patch", "runtimeclass", &name, "-p", r#"{"metadata":{"annotations":{"patched":"yes"}}}"#])?;
    let mut class = ns.get(&["runtimeclass", &name])?;
    ensure!(class["metadata"]["annotations"]["patched"] == "yes" && class["handler"] == "h", "{class}");
    class["metadata"]["annotations"]["updated"] = "yes".into();
    ns.feed(&["replace", "-f", "-"], &class.to_string())?;
    class["handler"] = "other".into();
    class["metadata"]["resourceVersion"] = "".into();
    ensure!(ns.feed(&["replace", "-f", "-"], &class.to_string()).is_err(), "the handler was changed");
    let part = format!("/apis/node.k8s.io/v1/runtimeclasses?labelSelector={}", mine.replace('=', "%3D"));
    ns.kubectl(&["delete", "--raw", &part])?;
    ensure!(ns.get(&["runtimeclass", "-l", &mine])?["items"].as_array().is_some_and(Vec::is_empty));
    Ok(())
}
