//! Tells in the status of a ValidatingAdmissionPolicy which of its expressions do not fit the kinds that it is about:
//! once for each generation, as Kubernetes' controller of this name. Policies decide all the same. A definition that comes
//! after its policy is not looked at before the policy changes, as there.

mod check;

use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use tiphys_api::schema::builtin;
use tiphys_api::{Gvk, Gvr, Object, Status, Value, json};
use tiphys_cel::Decl;
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Client, Informer, PatchKind, Target, WorkQueue, WriteOptions};

use crate::context::{Context, Key, Outcome, ignore_not_found};
use check::Kinds;

const DEFINITIONS: Gvr = Gvr::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
const NAME: &str = "validatingadmissionpolicy-status-controller";

struct Controller {
    client: Arc<dyn Client>,
    policies: Arc<Informer>,
    definitions: Arc<Informer>,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let (policies, definitions) =
        (context.informer(&ValidatingAdmissionPolicy::GVR), context.informer(&DEFINITIONS));
    let queue = WorkQueue::named("validatingadmissionpolicy-status");
    let to = queue.clone();
    policies.on_change(Box::new(move |_, new| {
        if let Some(policy) = new {
            to.add(Key::of(policy));
        }
    }));
    let controller = Arc::new(Controller {
        client: context.client(NAME),
        policies: policies.clone(),
        definitions: definitions.clone(),
    });
    let reconcile = move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key.name).await.map(|()| None) as Outcome }
    };
    context.work(queue, 1, &[&policies, &definitions], reconcile).await;
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Result<(), Status> {
        let Some(object) = self.policies.get("", name) else { return Ok(()) };
        let policy: ValidatingAdmissionPolicy = decode(&object).map_err(Status::internal)?;
        let generation = policy.metadata.generation.unwrap_or_default();
        let observed = policy.status.and_then(|status| status.observed_generation).unwrap_or_default();
        let Some(spec) = policy.spec.filter(|_| observed < generation) else { return Ok(()) };
        let mut checked = json!({});
        let warnings = check::warnings(&spec, self);
        if !warnings.is_empty() {
            checked["expressionWarnings"] = Value::of(warnings).map_err(Status::internal)?;
        }
        let gvk = ValidatingAdmissionPolicy::GVK;
        let status = json!({
            "apiVersion": gvk.api_version(), "kind": &*gvk.kind, "metadata": {"name": name, "uid": &*object.meta().uid},
            "status": {"observedGeneration": generation, "typeChecking": checked},
        });
        let target = Target::new(&ValidatingAdmissionPolicy::GVR, "", name).sub("status");
        let options = WriteOptions { field_manager: NAME.into(), force: true, ..WriteOptions::default() };
        let applied = self.client.patch(&target, PatchKind::Apply, status.to_string().into(), &options).await;
        ignore_not_found(applied.map(drop))
    }

    /// The definitions of a group, as trees.
    fn definitions(&self, group: &str) -> impl Iterator<Item = Value> {
        let own = |object: &Object| object.meta().name.split_once('.').is_some_and(|(_, of)| of == group);
        self.definitions.filter("", own).into_iter().filter_map(|object| object.value().ok())
    }
}

/// A version that a definition serves.
fn version<'d>(definition: &'d Value, name: &str) -> Option<&'d Value> {
    let mut versions = definition["spec"]["versions"].as_array()?.iter();
    versions.find(|version| version["name"] == name && version["served"] == true)
}

impl Kinds for Controller {
    fn of_resource(&self, resource: &Gvr) -> Option<Gvk> {
        if let Some(known) = builtin().get(resource) {
            return Some(known.gvk.clone());
        }
        let named = |definition: &Value| definition["spec"]["names"]["plural"] == *resource.resource;
        let definition = self.definitions(&resource.group).find(named)?;
        version(&definition, &resource.version)?;
        let kind = definition["spec"]["names"]["kind"].as_str()?;
        Some(Gvk::owned(&resource.group, &resource.version, kind))
    }

    fn object(&self, kind: &Gvk) -> Option<Decl> {
        if let Some(known) = check::built_in(kind) {
            return Some(known);
        }
        let named = |definition: &Value| definition["spec"]["names"]["kind"] == *kind.kind;
        let definition = self.definitions(&kind.group).find(named)?;
        Some(check::custom(&version(&definition, &kind.version)?["schema"]["openAPIV3Schema"]))
    }
}

#[cfg(test)]
mod tests {
    use tiphys_client::fake::FakeClient;

    use super::*;
    use crate::testing::{Cluster, typed};

    fn policy(generation: i64, expression: &str) -> ValidatingAdmissionPolicy {
        let rule =
            json!({"apiGroups": ["example.com"], "apiVersions": ["v1", "v2"], "resources": ["widgets"]});
        typed(json!({
            "metadata": {"name": "p", "uid": "p", "generation": generation},
            "spec": {
                "matchConstraints": {"resourceRules": [rule]},
                "validations": [{"expression": expression}],
            },
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn each_generation_is_checked_once_against_the_versions_that_are_served() {
        let client = FakeClient::new();
        let schema = |field: &str| json!({"openAPIV3Schema": {"type": "object", "properties": {(field): {"type": "integer"}}}});
        let version = |name: &str, field: &str, served: bool| json!({"name": name, "served": served, "schema": schema(field)});
        let definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": {
            "group": "example.com", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [version("v1", "size", true), version("v2", "length", false)]}});
        client.put_value(&DEFINITIONS, &definition);
        client.put(&policy(1, "object.length > 1"));
        let cluster = Cluster::start(client.clone());
        let status = || client.find::<ValidatingAdmissionPolicy>("", "p").unwrap().status.unwrap();
        let told = || {
            let checked = status().type_checking.unwrap();
            checked
                .expression_warnings
                .unwrap_or_default()
                .into_iter()
                .map(|warning| warning.warning)
                .collect::<String>()
        };
        cluster.settle().await;
        let wanted = "example.com/v1, Kind=Widget: ERROR: <input>:1:7: undefined field 'length'\n | object.length > 1\n | ......^\n";
        assert_eq!((told().as_str(), status().observed_generation), (wanted, Some(1)));
        let writes = client.find::<ValidatingAdmissionPolicy>("", "p").unwrap().metadata.resource_version;
        cluster.settle().await;
        assert_eq!(
            client.find::<ValidatingAdmissionPolicy>("", "p").unwrap().metadata.resource_version,
            writes
        );
        client.put(&policy(2, "object.size > 1"));
        cluster.settle().await;
        assert_eq!((told().as_str(), status().observed_generation), ("", Some(2)));
    }
}
