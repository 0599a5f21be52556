//! Admission webhooks: what they refuse and change, and what becomes of it.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::definition::{Definition, free, version};
use crate::cases::Run;
use crate::cases::conformance::Table;
use crate::harness::Namespace;
use crate::hooks::{Hook, admission, allow, change, deny};
use crate::objects::{CONFIG_MAP, Kind, Objects, POD, refusal};

pub const CASES: Table = &[
    (
        &[
            "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny pod and configmap creation",
            "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny attaching pod",
        ],
        Run::Simulated(denies),
    ),
    (
        &[
            "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny custom resource creation, \
             update and deletion",
        ],
        Run::Simulated(denies_custom),
    ),
    (
        &[
            "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should unconditionally reject operations on fail \
             closed webhook",
            "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should honor timeout",
        ],
        Run::Simulated(fails_and_waits),
    ),
    (
        &[
            "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate configmap",
            "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate pod and apply defaults after mutation",
        ],
        Run::Simulated(mutates),
    ),
    (
        &[
            "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource",
            "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with pruning",
            "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with different stored \
             version",
        ],
        Run::Simulated(mutates_custom),
    ),
    (
        &["[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should deny crd creation"],
        Run::Simulated(denies_definitions),
    ),
    (
        &[
            "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should not be able to mutate or prevent deletion of \
             webhook configuration objects",
        ],
        Run::Simulated(leaves_configurations),
    ),
    (
        &[
            "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing validating webhooks should work",
            "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing mutating webhooks should work",
        ],
        Run::Simulated(listed),
    ),
    (
        &[
            "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a validating webhook should work",
            "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a mutating webhook should work",
        ],
        Run::Simulated(changed),
    ),
];

const VALIDATING: Kind = Kind::new(
    "admissionregistration.k8s.io/v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
)
.cluster();
const MUTATING: Kind = Kind::new(
    "admissionregistration.k8s.io/v1",
    "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
)
.cluster();

pub fn rule(operations: &[&str], group: &str, resource: &str) -> Value {
    json!({"operations": operations, "apiGroups": [group], "apiVersions": ["*"], "resources": [resource]})
}

/// A webhook about objects of the case's namespace, and what is in none.
fn webhook(ns: &Namespace<'_>, name: &str, to: &Value, rules: &Value) -> Value {
    json!({
        "name": format!("{name}.hooks.example"), "clientConfig": to, "rules": rules, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "timeoutSeconds": 10,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns.name}},
    })
}

/// A configuration that goes when it is dropped.
struct Configured<'a> {
    objects: &'a Objects,
    kind: Kind,
    name: String,
}

impl<'a> Configured<'a> {
    fn new(ns: &Namespace<'_>, objects: &'a Objects, kind: Kind, webhooks: &Value) -> Result<Self> {
        Self::named(ns, objects, kind, "own", webhooks)
    }

    fn named(
        ns: &Namespace<'_>,
        objects: &'a Objects,
        kind: Kind,
        word: &str,
        webhooks: &Value,
    ) -> Result<Self> {
        let name = format!("{}-{word}", ns.name);
        let labels = json!({"case": ns.name});
        objects.at(kind, &name).create(json!({"metadata": {"labels": labels}, "webhooks": webhooks}))?;
        Ok(Self { objects, kind, name })
    }
}

impl Drop for Configured<'_> {
    fn drop(&mut self) {
        // The case may have deleted it.
        drop(self.objects.at(self.kind, &self.name).delete(&Value::Null));
    }
}

fn map(more: &Value) -> Value {
    json!({"data": more})
}

fn pod() -> Value {
    json!({"spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "example/web:1"}]}})
}

/// Refuses what says that it is unwanted.
fn judge(_: &str, request: &Value) -> Option<Value> {
    let unwanted =
        |object: &Value| object["data"]["wanted"] == "no" || object["metadata"]["labels"]["wanted"] == "no";
    let denied = match request["operation"].as_str() {
        Some("CONNECT") => request["subResource"] == "attach",
        Some("DELETE") => unwanted(&request["oldObject"]),
        _ => unwanted(&request["object"]),
    };
    Some(if denied { deny("it is unwanted") } else { allow() })
}

fn ensure_denied(outcome: Result<Value>) -> Result<()> {
    let refused = refusal(outcome)?;
    let told = refused.message.contains("denied the request: it is unwanted");
    ensure!(told && refused.code == 400, "{refused:?}");
    Ok(())
}

fn denies(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let hook = Hook::serve(ns, &objects, admission(judge))?;
    let rules = json!([
        rule(&["CREATE"], "", "pods"),
        rule(&["CREATE", "UPDATE", "DELETE"], "", "configmaps"),
        rule(&["CONNECT"], "", "pods/attach"),
    ]);
    let webhooks = json!([webhook(ns, "deny", &hook.at("/deny"), &rules)]);
    let _configured = Configured::new(ns, &objects, VALIDATING, &webhooks)?;
    let mut unwanted = pod();
    unwanted["metadata"]["labels"]["wanted"] = "no".into();
    ensure_denied(objects.at(POD, "unwanted").create(unwanted))?;
    ensure_denied(objects.at(CONFIG_MAP, "unwanted").create(map(&json!({"wanted": "no"}))))?;
    let wanted = objects.at(CONFIG_MAP, "wanted");
    wanted.create(map(&json!({"wanted": "yes"})))?;
    ensure_denied(wanted.update(|map| map["data"]["wanted"] = "no".into()))?;
    ensure_denied(wanted.merge(&json!({"data": {"wanted": "no"}})))?;
    ensure!(wanted.get()?["data"]["wanted"] == "yes");
    objects.at(POD, "p").create(pod())?;
    objects.at(POD, "p").until("it runs", |pod| pod["status"]["phase"] == "Running")?;
    ensure_denied(objects.at(POD, "p").sub("attach?container=c&stdout=true").post(&Value::Null))
}

fn denies_custom(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let hook = Hook::serve(ns, &objects, admission(judge))?;
    let widgets = Definition::new(ns, &objects, "deny", "Widget");
    widgets.establish(&json!([version("v1", true, &free())]))?;
    let rules = json!([rule(&["CREATE", "UPDATE", "DELETE"], &widgets.group, "widgets")]);
    let webhooks = json!([webhook(ns, "custom", &hook.at("/custom"), &rules)]);
    let _configured = Configured::new(ns, &objects, VALIDATING, &webhooks)?;
    ensure_denied(widgets.make("v1", "unwanted", map(&json!({"wanted": "no"}))))?;
    let mut object =
        widgets.make("v1", "held", json!({"data": {"wanted": "yes"}, "metadata": {"labels": {}}}))?;
    let path = format!("{}/held", widgets.path("v1"));
    object["data"]["wanted"] = "no".into();
    ensure_denied(objects.request("PUT", &path, &object))?;
    objects.request("DELETE", &path, &Value::Null)?;
    // What was there before the webhook is kept by it.
    drop(_configured);
    widgets.make("v1", "unwanted", map(&json!({"wanted": "no"})))?;
    let _configured = Configured::new(ns, &objects, VALIDATING, &webhooks)?;
    let path = format!("{}/unwanted", widgets.path("v1"));
    ensure_denied(objects.request("DELETE", &path, &Value::Null))?;
    drop(_configured);
    objects.request("DELETE", &path, &Value::Null).map(drop)
}

fn fails_and_waits(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let hook = Hook::serve(ns, &objects, admission(|path, _| (path != "/never").then(allow)))?;
    let rules = json!([rule(&["CREATE"], "", "configmaps")]);
    let attempt = |to: &Value, change: &dyn Fn(&mut Value), name: &str| -> Result<Result<Value>> {
        let mut webhook = webhook(ns, "slow", to, &rules);
        change(&mut webhook);
        let _configured = Configured::new(ns, &objects, VALIDATING, &json!([webhook]))?;
        Ok(objects.at(CONFIG_MAP, name).create(map(&json!({}))))
    };
    let mut nowhere = hook.at("/");
    nowhere["service"]["name"] = "nobody".into();
    let refused = refusal(attempt(&nowhere, &|_| {}, "closed")?)?;
    ensure!(refused.code == 500 && refused.message.contains("failed calling webhook"), "{refused:?}");
    attempt(&nowhere, &|webhook| webhook["failurePolicy"] = "Ignore".into(), "open")??;
    let soon = |webhook: &mut Value| webhook["timeoutSeconds"] = 1.into();
    let refused = refusal(attempt(&hook.at("/never"), &soon, "late")?)?;
    ensure!(refused.message.contains("context deadline exceeded"), "{refused:?}");
    let ignored = |webhook: &mut Value| {
        soon(webhook);
        webhook["failurePolicy"] = "Ignore".into();
    };
    attempt(&hook.at("/never"), &ignored, "ignored")??;
    attempt(&hook.at("/"), &soon, "in-time")??;
    attempt(&hook.at("/"), &|webhook| webhook["timeoutSeconds"] = Value::Null, "by-default")?.map(drop)
}

/// Adds what its path says, if what is before it is there.
fn stages(path: &str, request: &Value) -> Option<Value> {
    let data = &request["object"]["data"];
    let add = |name: &str| change(&json!([{"op": "add", "path": format!("/data/{name}"), "value": "yes"}]));
    Some(match path {
        "/one" if data["start"] == "yes" => add("one"),
        "/two" if data["one"] == "yes" => add("two"),
        "/pods" => {
            let container = json!({"name": "added", "image": "example/added:1"});
            change(&json!([{"op": "add", "path": "/spec/initContainers", "value": [container]}]))
        }
        _ => allow(),
    })
}

fn two_stages(ns: &Namespace<'_>, hook: &Hook, rules: &Value) -> Value {
    json!([webhook(ns, "one", &hook.at("/one"), rules), webhook(ns, "two", &hook.at("/two"), rules)])
}

fn mutates(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let hook = Hook::serve(ns, &objects, admission(stages))?;
    let mut webhooks = two_stages(ns, &hook, &json!([rule(&["CREATE"], "", "configmaps")]));
    let pods = webhook(ns, "pods", &hook.at("/pods"), &json!([rule(&["CREATE"], "", "pods")]));
    webhooks.as_array_mut().into_iter().for_each(|list| list.push(pods.clone()));
    let _configured = Configured::new(ns, &objects, MUTATING, &webhooks)?;
    let made = objects.at(CONFIG_MAP, "m").create(map(&json!({"start": "yes"})))?;
    ensure!(made["data"] == json!({"start": "yes", "one": "yes", "two": "yes"}), "{made}");
    let made = objects.at(POD, "p").create(pod())?;
    let added = &made["spec"]["initContainers"][0];
    ensure!(added["name"] == "added" && added["terminationMessagePolicy"] == "File", "{added}");
    Ok(())
}

fn mutates_custom(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let hook = Hook::serve(ns, &objects, admission(stages))?;
    let fields = json!({"start": {"type": "string"}, "one": {"type": "string"}});
    let narrow = json!({"type": "object", "properties": {"data": {"type": "object", "properties": fields}}});
    for (word, schema, kept) in [("free", free(), 3), ("pruned", narrow, 2)] {
        let widgets = Definition::new(ns, &objects, word, "Widget");
        let versions = |stored: &str| json!(["v1", "v2"].map(|name| version(name, name == stored, &schema)));
        widgets.establish(&versions("v1"))?;
        let rules = json!([rule(&["CREATE", "UPDATE"], &widgets.group, "widgets")]);
        let _configured = Configured::named(ns, &objects, MUTATING, word, &two_stages(ns, &hook, &rules))?;
        let made = widgets.make("v1", "a", map(&json!({"start": "yes"})))?;
        ensure!(made["data"].as_object().is_some_and(|data| data.len() == kept), "{made}");
        // Stored in another version from now on; what was stored before changes as well.
        widgets.at().merge(&json!({"spec": {"versions": versions("v2")}}))?;
        let path = format!("{}/a", widgets.path("v1"));
        let mut object = objects.get(&path)?;
        object["data"] = json!({"start": "yes"});
        let changed = objects.request("PUT", &path, &object)?;
        ensure!(changed["data"] == made["data"], "{changed}");
        ensure!(widgets.read("v2", "a")?["data"] == made["data"]);
    }
    Ok(())
}

fn denies_definitions(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let hook = Hook::serve(ns, &objects, admission(judge))?;
    let rules = json!([rule(&["CREATE"], "apiextensions.k8s.io", "customresourcedefinitions")]);
    let mut webhook = webhook(ns, "definitions", &hook.at("/"), &rules);
    // Other cases' definitions are none of its business.
    webhook["objectSelector"] = json!({"matchLabels": {"wanted": "no"}});
    let _configured = Configured::new(ns, &objects, VALIDATING, &json!([webhook]))?;
    let widgets = Definition::new(ns, &objects, "denied", "Widget");
    let mut body = widgets.body(&json!([version("v1", true, &free())]));
    body["metadata"]["labels"]["wanted"] = "no".into();
    ensure_denied(widgets.at().create(body))?;
    widgets.establish(&json!([version("v1", true, &free())])).map(drop)
}

fn leaves_configurations(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let hook = Hook::serve(
        ns,
        &objects,
        admission(|path, _| {
            let label = json!([{"op": "add", "path": "/metadata/labels/changed", "value": "yes"}]);
            Some(if path == "/change" { change(&label) } else { deny("it is unwanted") })
        }),
    )?;
    let group = "admissionregistration.k8s.io";
    let rules = json!([rule(&["*"], group, "*")]);
    let mut webhooks = ["/deny", "/change"].map(|path| {
        let mut webhook = webhook(ns, path.trim_matches('/'), &hook.at(path), &rules);
        // Of all configurations only those of this case.
        webhook["objectSelector"] = json!({"matchLabels": {"case": ns.name}});
        webhook
    });
    let [denies, changes] = webhooks.each_mut().map(|webhook| json!([webhook.take()]));
    let _denies = Configured::named(ns, &objects, VALIDATING, "denies", &denies)?;
    let _changes = Configured::named(ns, &objects, MUTATING, "changes", &changes)?;
    for kind in [VALIDATING, MUTATING] {
        let made = Configured::named(ns, &objects, kind, "dummy", &json!([]))?;
        let at = objects.at(kind, &made.name);
        ensure!(at.get()?["metadata"]["labels"]["changed"].is_null());
        at.delete(&Value::Null)?;
        at.gone()?;
    }
    Ok(())
}

/// Whether the webhooks of a kind act on a new config map.
fn acts(objects: &Objects, kind: Kind, name: &str) -> Result<bool> {
    let data = json!({"start": "yes", "wanted": if kind == VALIDATING { "no" } else { "yes" }});
    match objects.at(CONFIG_MAP, name).create(map(&data)) {
        Ok(made) => Ok(made["data"]["one"] == "yes"),
        Err(error) => ensure_denied(Err(error)).map(|()| true),
    }
}

fn acting(ns: &Namespace<'_>, objects: &Objects) -> Result<Hook> {
    let judge = |path: &str, request: &Value| {
        if path == "/judge" { judge(path, request) } else { stages(path, request) }
    };
    Hook::serve(ns, objects, admission(judge))
}

fn path_of(kind: Kind) -> &'static str {
    if kind == VALIDATING { "/judge" } else { "/one" }
}

fn listed(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let hook = acting(ns, &objects)?;
    let query = format!("labelSelector=case%3D{}", ns.name);
    for (kind, name) in [(VALIDATING, "v"), (MUTATING, "m")] {
        let webhooks = json!([webhook(
            ns,
            "listed",
            &hook.at(path_of(kind)),
            &json!([rule(&["CREATE"], "", "configmaps")])
        )]);
        let words = ["a", "b", "c"];
        let _all = words
            .iter()
            .map(|word| Configured::named(ns, &objects, kind, word, &webhooks))
            .collect::<Result<Vec<_>>>()?;
        ensure!(objects.items(kind, &query)?.len() == words.len());
        ensure!(acts(&objects, kind, &format!("{name}-first"))?);
        objects.delete_all(kind, &query)?;
        ensure!(objects.items(kind, &query)?.is_empty());
        ensure!(!acts(&objects, kind, &format!("{name}-second"))?);
    }
    Ok(())
}

fn changed(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let hook = acting(ns, &objects)?;
    for (kind, name) in [(VALIDATING, "v"), (MUTATING, "m")] {
        let rules = json!([rule(&["CREATE"], "", "configmaps")]);
        let webhooks = json!([webhook(ns, "changed", &hook.at(path_of(kind)), &rules)]);
        let configured = Configured::new(ns, &objects, kind, &webhooks)?;
        let at = objects.at(kind, &configured.name);
        ensure!(acts(&objects, kind, &format!("{name}-first"))?);
        at.update(|object| object["webhooks"][0]["rules"][0]["operations"] = json!(["UPDATE"]))?;
        ensure!(!acts(&objects, kind, &format!("{name}-second"))?);
        at.merge(&json!({"webhooks": webhooks}))?;
        ensure!(acts(&objects, kind, &format!("{name}-third"))?);
    }
    Ok(())
}
