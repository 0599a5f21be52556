//! ClusterRole aggregation: a role with an aggregation rule has the rules of all roles that its selectors match.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use tiphys_api::selector::LabelSelector;
use tiphys_api::{Object, Status, json};
use tiphys_client::typed::{Kind, decode};
use tiphys_client::{Client, Informer, PatchKind, Target, WorkQueue, WriteOptions};

use crate::context::{Context, Key, Outcome, ignore_not_found};

struct Controller {
    client: Arc<dyn Client>,
    roles: Arc<Informer>,
}

/// Runs the controller until the context stops.
pub(crate) async fn run(context: Arc<Context>) {
    let roles = context.informer(&ClusterRole::GVR);
    let queue = WorkQueue::named("ClusterRoleAggregator");
    let (weak, to) = (Arc::downgrade(&roles), queue.clone());
    roles.on_change(Box::new(move |_, new| {
        if let Some(role) = new.filter(|role| aggregates(role)) {
            to.add(Key::of(role));
        }
        // Roles change seldom, and few aggregate: whichever it is, all that aggregate look again.
        let Some(roles) = weak.upgrade() else { return };
        roles.filter("", aggregates).iter().for_each(|role| to.add(Key::of(role)));
    }));
    let controller = Arc::new(Controller {
        client: context.client("clusterrole-aggregation-controller"),
        roles: roles.clone(),
    });
    let reconcile = move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key.name).await.map(|()| None) as Outcome }
    };
    context.work(queue, 1, &[&roles], reconcile).await;
}

/// Asked of every role at every change, so it looks at the text before it parses.
fn aggregates(role: &Object) -> bool {
    let mark = br#""aggregationRule":{"#;
    role.json().windows(mark.len()).any(|window| window == mark)
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Result<(), Status> {
        let Some(object) = self.roles.get("", name) else { return Ok(()) };
        let role: ClusterRole = decode(&object).map_err(Status::internal)?;
        let Some(rules) = rules(&role, &self.roles.list("")) else { return Ok(()) };
        if role.rules.unwrap_or_default() == rules {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"resourceVersion": object.meta().resource_version.to_string()}, "rules": rules,
        });
        let target = Target::new(&ClusterRole::GVR, "", name);
        let options = WriteOptions::default();
        ignore_not_found(
            self.client.patch(&target, PatchKind::Merge, patch.to_string().into(), &options).await.map(drop),
        )
    }
}

/// The rules of a role that aggregates; `None` for one that does not.
fn rules(role: &ClusterRole, all: &[Object]) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.clone().unwrap_or_default();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        let selector = LabelSelector::from_value(&tiphys_api::Value::of(selector).ok()?).ok()?;
        let mut chosen: Vec<&Object> = all
            .iter()
            .filter(|other| *other.meta().name != *role.name() && selector.matches(&other.meta().labels))
            .collect();
        chosen.sort_by(|a, b| a.meta().name.cmp(&b.meta().name));
        for other in chosen.into_iter().filter_map(|other| decode::<ClusterRole>(other).ok()) {
            for rule in
                other.rules.into_iter().flatten().filter(|rule| !rules.contains(rule)).collect::<Vec<_>>()
            {
                rules.push(rule);
            }
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use tiphys_client::fake::FakeClient;

    use super::*;
    use crate::testing::{Cluster, typed};

    #[tokio::test(start_paused = true)]
    async fn a_role_gains_and_loses_the_rules_of_others() {
        let rule = |resource: &str| json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]});
        let role = |name: &str, label: &str, resource: &str| {
            typed::<ClusterRole>(json!({"metadata": {"name": name, "labels": {(label): "true"}},
                "rules": [rule(resource), rule("shared")]}))
        };
        let client = FakeClient::new();
        let select = json!([{"matchLabels": {"to-view": "true"}}]);
        let view = json!({"metadata": {"name": "view"}, "aggregationRule": {"clusterRoleSelectors": select},
            "rules": [rule("old")]});
        client.put(&typed::<ClusterRole>(view));
        client.put(&role("b", "to-view", "bees"));
        client.put(&role("a", "to-view", "ants"));
        client.put(&role("c", "to-edit", "cats"));
        let cluster = Cluster::start(client.clone());
        cluster.settle().await;
        let resources = || -> Vec<String> {
            let rules = client.find::<ClusterRole>("", "view").unwrap().rules.unwrap();
            rules.into_iter().map(|rule| rule.resources.unwrap()[0].clone()).collect()
        };
        assert_eq!(resources(), ["ants", "shared", "bees"]);
        client.remove(&ClusterRole::GVR, "", "a");
        cluster.settle().await;
        assert_eq!(resources(), ["bees", "shared"]);
    }
}
