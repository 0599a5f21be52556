//! NodeRestriction: a kubelet changes its own node and the pods on it, and nothing else.

mod audience;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use tiphys_api::{Gvr, Object, Status, Value};

use super::service_account::MIRROR;
use super::tree::{items, text};
use super::{Operation, Plugin, Review};
use crate::auth::{Authorizer, Lister};

const PODS: Gvr = Gvr::new("", "v1", "pods");
const LEASES: &str = "kube-node-lease";
const RESTRICTED: &str = "node-restriction.kubernetes.io";

/// Labels of Kubernetes' own that a kubelet may set on its node.
const OWN_LABELS: [&str; 14] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/instance-type",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// See the module.
pub struct NodeRestriction {
    lister: Arc<dyn Lister>,
    authorizer: Arc<dyn Authorizer>,
}

impl NodeRestriction {
    /// Reads pods from `lister`; `authorizer` may allow a node more audiences than its pods name.
    pub fn new(lister: Arc<dyn Lister>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { lister, authorizer }
    }

    fn pod(&self, review: &Review<'_>, node: &str) -> Result<(), Status> {
        let old = || match review.old {
            Some(old) => Some(old.clone()),
            None => self.lister.get(&PODS, review.namespace, review.name),
        };
        match (review.operation, review.subresource) {
            (Operation::Create, "") => new_pod(review, node),
            (Operation::Delete, "") => on_node(review, old(), node, "delete pods"),
            (Operation::Update, "status") => {
                on_node(review, old(), node, "update pod status for pods")?;
                let labels = text_map(review.object);
                let old_labels = review.old.and_then(|old| old.value().ok()).map(|old| text_map(&old));
                match old_labels.is_none_or(|old| old == labels) {
                    true => Ok(()),
                    false => {
                        Err(review
                            .forbidden(&format!("node {node:?} cannot update labels through pod status")))
                    }
                }
            }
            (Operation::Create, "eviction") => on_node(review, old(), node, "evict pods"),
            _ => Ok(()),
        }
    }
}

impl NodeRestriction {
    /// A node gets tokens only for pods that run on it, that end with them, and for whom they are used.
    async fn token(&self, review: &Review<'_>, node: &str) -> Result<(), Status> {
        if (review.operation, review.subresource) != (Operation::Create, "token") {
            return Ok(());
        }
        let bound = |key: &str| text(review.object, &format!("/spec/boundObjectRef/{key}"));
        let (name, uid) = (bound("name"), bound("uid"));
        if (bound("apiVersion"), bound("kind")) != ("v1", "Pod") || name.is_empty() {
            return Err(review.forbidden("node requested token not bound to a pod"));
        }
        if uid.is_empty() {
            return Err(review.forbidden("node requested token with a pod binding without a uid"));
        }
        let pod = self.lister.get(&PODS, review.namespace, name);
        let pod = pod.ok_or_else(|| Status::not_found(&PODS, name))?;
        if pod.meta().uid.as_ref() != uid {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
                 have been deleted and then recreated"
            );
            return Err(review.forbidden(&why));
        }
        let pod = pod.value().map_err(Status::internal)?;
        if text(&pod, "/spec/nodeName") != node {
            return Err(review.forbidden("node requested token bound to a pod scheduled on a different node"));
        }
        audience::judge(self.lister.as_ref(), self.authorizer.as_ref(), review, &pod).await
    }
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    async fn validate(&self, review: &Review<'_>) -> Result<(), Status> {
        let Some(node) = review.user.node().filter(|_| review.operation != Operation::Connect) else {
            return Ok(());
        };
        match (review.gvr.group.as_ref(), review.gvr.resource.as_ref()) {
            ("", "pods") => self.pod(review, node),
            ("", "nodes") => own_node(review, node),
            ("", "serviceaccounts") => self.token(review, node).await,
            ("resource.k8s.io", "resourceslices") => own_slice(review, node),
            ("coordination.k8s.io", "leases") => own_lease(review, node),
            ("storage.k8s.io", "csinodes") if name(review) != node => Err(review.forbidden(&format!(
                "can only access CSINode with the same name as the requesting node {node:?}"
            ))),
            _ => Ok(()),
        }
    }
}

fn name<'a>(review: &'a Review<'_>) -> &'a str {
    if review.name.is_empty() { text(review.object, "/metadata/name") } else { review.name }
}

fn new_pod(review: &Review<'_>, node: &str) -> Result<(), Status> {
    let refuse = |what: &str| Err(review.forbidden(&format!("node {node:?} {what}")));
    if review.object.pointer(MIRROR).is_none() {
        let why = format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
        );
        return Err(review.forbidden(&why));
    }
    if text(review.object, "/spec/nodeName") != node {
        return refuse("can only create pods with spec.nodeName set to itself");
    }
    let owners = items(review.object, "/metadata/ownerReferences");
    let own = |owner: &Value| {
        text(owner, "/apiVersion") == "v1" && text(owner, "/kind") == "Node" && text(owner, "/name") == node
    };
    if !owners.iter().all(own) || owners.len() > 1 {
        return refuse("can only create pods with an owner reference set to itself");
    }
    Ok(())
}

fn on_node(review: &Review<'_>, pod: Option<Object>, node: &str, what: &str) -> Result<(), Status> {
    let Some(pod) = pod else { return Err(Status::not_found(&PODS, review.name)) };
    let pod = pod.value().map_err(Status::internal)?;
    match text(&pod, "/spec/nodeName") == node {
        true => Ok(()),
        false => {
            Err(review.forbidden(&format!("node {node:?} can only {what} with spec.nodeName set to itself")))
        }
    }
}

fn own_lease(review: &Review<'_>, node: &str) -> Result<(), Status> {
    if review.namespace != LEASES {
        let why = format!("can only access leases in the {LEASES:?} system namespace");
        return Err(review.forbidden(&why));
    }
    match name(review) == node {
        true => Ok(()),
        false => {
            Err(review.forbidden("can only access node lease with the same name as the requesting node"))
        }
    }
}

fn own_slice(review: &Review<'_>, node: &str) -> Result<(), Status> {
    let old = review.old.map(|old| old.value()).transpose().map_err(Status::internal)?;
    let slice = old.as_ref().unwrap_or(&*review.object);
    if text(slice, "/spec/nodeName") == node {
        return Ok(());
    }
    let verb = match review.operation {
        Operation::Create => "create",
        Operation::Update => "update",
        Operation::Delete | Operation::Connect => "delete",
    };
    let why = format!("can only {verb} ResourceSlice with the same NodeName as the requesting node");
    Err(review.forbidden(&why))
}

fn own_node(review: &Review<'_>, node: &str) -> Result<(), Status> {
    if name(review) != node {
        let why = format!("node {node:?} is not allowed to modify node {:?}", name(review));
        return Err(review.forbidden(&why));
    }
    if review.operation == Operation::Delete {
        return Ok(());
    }
    let old = review.old.map(|old| old.value()).transpose().map_err(Status::internal)?;
    if let Some(old) = &old {
        if items(old, "/spec/taints") != items(review.object, "/spec/taints") {
            return Err(review.forbidden(&format!("node {node:?} is not allowed to modify taints")));
        }
        let owners = "/metadata/ownerReferences";
        if items(old, owners) != items(review.object, owners) {
            return Err(review.forbidden(&format!("node {node:?} is not allowed to modify ownerReferences")));
        }
    }
    let before = old.map(|old| text_map(&old)).unwrap_or_default();
    let after = text_map(review.object);
    let changed: BTreeSet<&str> = before.symmetric_difference(&after).map(|(key, _)| key.as_str()).collect();
    let forbidden: Vec<&str> = changed.into_iter().filter(|key| !may_set(key)).collect();
    if forbidden.is_empty() {
        return Ok(());
    }
    let verb = if review.old.is_some() { "modify" } else { "set" };
    let why = format!("is not allowed to {verb} the following labels: {}", forbidden.join(", "));
    Err(review.forbidden(&why))
}

/// The labels of an object as pairs.
fn text_map(object: &Value) -> BTreeSet<(String, String)> {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let pairs = labels.into_iter().flatten();
    pairs.map(|(key, value)| (key.to_string(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn may_set(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else { return true };
    let within =
        |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|d| d.ends_with('.'));
    if within(RESTRICTED) {
        return false;
    }
    let kubernetes = within("kubernetes.io") || within("k8s.io");
    !kubernetes
        || OWN_LABELS.contains(&label)
        || within("kubelet.kubernetes.io")
        || within("node.kubernetes.io")
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "a literal reads best as a value")]
mod tests {
    use tiphys_api::json;

    use super::*;
    use crate::admission::testing::Case;
    use crate::auth::groups::NODES;
    use crate::auth::testing::Fake;
    use crate::auth::{Attributes, Decision, User};

    /// Allows tokens for one audience.
    struct ForVault;

    #[async_trait]
    impl Authorizer for ForVault {
        async fn authorize(&self, asked: &Attributes<'_>) -> Decision {
            match (asked.verb, asked.resource, asked.name) {
                ("request-serviceaccounts-token-audience", "vault", "x") => Decision::Allow,
                _ => Decision::NoOpinion(String::new()),
            }
        }
    }

    async fn check(case: Case) -> Result<(), String> {
        let user = User { name: "system:node:n1".into(), groups: vec![NODES.into()], ..User::default() };
        let plugin = NodeRestriction::new(Arc::new(Fake::default()), Arc::new(ForVault));
        Case { user, ..case }.validate(&plugin).await.map_err(|status| status.message)
    }

    fn node(name: &'static str, labels: Value) -> Case {
        Case { name, ..Case::create("nodes", "", json!({"metadata": {"name": name, "labels": labels}})) }
    }

    #[tokio::test]
    async fn a_node_writes_itself_with_labels_of_its_own() {
        let ok = json!({"kubernetes.io/os": "linux", "example.com/x": "1", "node.kubernetes.io/y": "", "plain": ""});
        assert_eq!(check(node("n1", ok)).await, Ok(()));
        let other = check(node("n2", json!({}))).await.unwrap_err();
        assert_eq!(other, r#"nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2""#);
        let roles = check(node(
            "n1",
            json!({"node-role.kubernetes.io/master": "", "x.node-restriction.kubernetes.io/a": ""}),
        ))
        .await;
        assert!(roles.unwrap_err().ends_with(
            "set the following labels: node-role.kubernetes.io/master, x.node-restriction.kubernetes.io/a"
        ));
        let mut tainting = node("n1", json!({})).operation(Operation::Update);
        tainting.old = Some(json!({"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "a"}]}}));
        assert!(check(tainting).await.unwrap_err().ends_with("is not allowed to modify taints"));
    }

    #[tokio::test]
    async fn pods_of_others_are_not_its_business() {
        let pod = |on: &str| json!({"metadata": {"name": "x"}, "spec": {"nodeName": on}});
        let status = |on: &str| {
            let mut case = Case::create("pods", "ns", pod(on)).operation(Operation::Update);
            (case.subresource, case.old) = ("status", Some(pod(on)));
            case
        };
        assert_eq!(check(status("n1")).await, Ok(()));
        assert!(
            check(status("n2"))
                .await
                .unwrap_err()
                .contains("can only update pod status for pods with spec.nodeName")
        );
        let plain = check(Case::create("pods", "ns", pod("n1"))).await.unwrap_err();
        assert!(plain.contains("can only create mirror pods"), "{plain}");
    }

    #[tokio::test]
    async fn tokens_are_for_pods_that_run_there() {
        let state = Fake::default();
        let volumes = json!([
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {}}, {"serviceAccountToken": {"audience": "db"}}]}},
            {"name": "own", "ephemeral": {"volumeClaimTemplate": {}}},
        ]);
        for (name, node) in [("here", "n1"), ("there", "n2")] {
            let metadata = json!({"namespace": "ns", "name": name, "uid": "u"});
            state.put(&PODS, &json!({"metadata": metadata, "spec": {"nodeName": node, "volumes": volumes}}));
        }
        let core = |name| Gvr::new("", "v1", name);
        let claim =
            json!({"metadata": {"namespace": "ns", "name": "here-own"}, "spec": {"volumeName": "pv"}});
        state.put(&core("persistentvolumeclaims"), &claim);
        let volume = json!({"metadata": {"name": "pv"}, "spec": {"csi": {"driver": "d"}}});
        state.put(&core("persistentvolumes"), &volume);
        let driver = json!({"metadata": {"name": "d"}, "spec": {"tokenRequests": [{"audience": "disks"}]}});
        state.put(&Gvr::new("storage.k8s.io", "v1", "csidrivers"), &driver);
        let plugin = NodeRestriction::new(Arc::new(state), Arc::new(ForVault));
        for (pod, uid, audiences, refusal) in [
            ("here", "u", json!(null), ""),
            ("here", "u", json!(["db"]), ""),
            ("here", "u", json!(["disks"]), ""),
            ("here", "u", json!(["vault"]), ""),
            ("here", "u", json!(["db", "disks"]), "only request 0 or 1 audiences"),
            (
                "here",
                "u",
                json!(["bank"]),
                "audience \"bank\" not found in pod spec volume, system:node:n1 is not authorized to request tokens",
            ),
            ("here", "", json!([]), "without a uid"),
            ("here", "v", json!([]), "does not match the UID"),
            ("there", "u", json!([]), "on a different node"),
            ("", "u", json!([]), "not bound to a pod"),
            ("gone", "u", json!([]), "not found"),
        ] {
            let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid});
            let spec = json!({"boundObjectRef": bound, "audiences": audiences});
            let case = Case::create("serviceaccounts", "ns", json!({"spec": spec}));
            let user = User { name: "system:node:n1".into(), groups: vec![NODES.into()], ..User::default() };
            let outcome = Case { user, subresource: "token", ..case }.validate(&plugin).await;
            let told = outcome.map_or_else(|status| status.message, |()| String::new());
            assert!(told.contains(refusal) && told.is_empty() == refusal.is_empty(), "{pod} {uid}: {told}");
        }
    }

    #[tokio::test]
    async fn slices_are_of_its_own_devices() {
        let slice =
            |on: &str| Case::create("resource.k8s.io/resourceslices", "", json!({"spec": {"nodeName": on}}));
        assert_eq!(check(slice("n1")).await, Ok(()));
        assert!(check(slice("n2")).await.unwrap_err().contains("same NodeName"));
        for (operation, verb) in [(Operation::Update, "update"), (Operation::Delete, "delete")] {
            let stolen = Case { old: Some(json!({"spec": {"nodeName": "n2"}})), ..slice("n1") };
            let told = check(stolen.operation(operation)).await.unwrap_err();
            assert!(told.contains(&format!("can only {verb} ResourceSlice")), "{told}");
        }
    }

    #[tokio::test]
    async fn its_lease_is_its_own() {
        let lease = |namespace, name| {
            let case =
                Case::create("coordination.k8s.io/leases", namespace, json!({"metadata": {"name": name}}));
            Case { name, ..case }
        };
        assert_eq!(check(lease(LEASES, "n1")).await, Ok(()));
        assert!(check(lease(LEASES, "n2")).await.is_err() && check(lease("default", "n1")).await.is_err());
    }
}
