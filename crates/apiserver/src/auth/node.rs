//! The node authorizer: a kubelet has the rules of `system:node`, and reads secrets, config maps and volumes only as far as
//! pods on its own node use them.
//!
//! What a node may read follows from the pods of one namespace at the time of asking; nothing is kept.

use std::sync::Arc;

use async_trait::async_trait;
use tiphys_api::schema::builtin;
use tiphys_api::{Gvr, Object, Value};

use super::rbac::Rule;
use super::{Attributes, Authorizer, Decision, Lister};
use crate::bootstrap::policy;

const PODS: Gvr = Gvr::new("", "v1", "pods");
const CLAIMS: Gvr = Gvr::new("", "v1", "persistentvolumeclaims");
const VOLUMES: Gvr = Gvr::new("", "v1", "persistentvolumes");
const ATTACHMENTS: Gvr = Gvr::new("storage.k8s.io", "v1", "volumeattachments");
const LEASES: &str = "kube-node-lease";
/// The role whose rules nodes have.
const ROLE: &str = "system:node";

/// See the module.
pub struct NodeAuthorizer {
    lister: Arc<dyn Lister>,
    rules: Vec<Rule>,
    /// Where a pod's header says its node.
    node_field: Option<usize>,
}

impl NodeAuthorizer {
    /// Reads pods and volumes from `lister`.
    pub fn new(lister: Arc<dyn Lister>) -> Result<Self, policy::Malformed> {
        let policy = policy::default_policy()?;
        let role = policy.cluster_roles.iter().find(|role| role["metadata"]["name"] == ROLE);
        let rules = role.and_then(|role| role["rules"].as_array()).into_iter().flatten();
        let rules = rules.filter_map(|rule| serde::Deserialize::deserialize(rule).ok()).collect();
        let labels = builtin().get(&PODS).map(|pods| &pods.field_labels);
        let node_field =
            labels.and_then(|labels| labels.iter().position(|label| label.as_ref() == "spec.nodeName"));
        Ok(Self { lister, rules, node_field })
    }

    fn decide(&self, asked: &Attributes<'_>) -> Decision {
        let Some(node) = asked.user.node() else { return Decision::NoOpinion(String::new()) };
        if !self.rules.iter().any(|rule| rule.allows(asked)) {
            return Decision::NoOpinion(String::new());
        }
        let related = match (asked.group, asked.resource, asked.subresource) {
            ("", "secrets" | "configmaps" | "persistentvolumeclaims", _)
            | ("", "serviceaccounts", "token")
            | ("resource.k8s.io", "resourceclaims", _) => {
                if asked.name.is_empty() {
                    return Decision::NoOpinion("No Object name found".to_owned());
                }
                self.used_on(node, asked.namespace, &Use { resource: asked.resource, name: asked.name })
            }
            ("", "persistentvolumes", _) => self.volume_used_on(node, asked.name),
            ("storage.k8s.io", "volumeattachments", _) => self.attached_to(node, asked.name),
            ("coordination.k8s.io", "leases", _) => {
                asked.namespace == LEASES
                    && (asked.name == node || (asked.verb == "create" && asked.name.is_empty()))
            }
            ("storage.k8s.io", "csinodes", _) => {
                asked.name == node || (asked.verb == "create" && asked.name.is_empty())
            }
            _ => true,
        };
        match related {
            true => Decision::Allow,
            false => {
                Decision::NoOpinion(format!("no relationship found between node '{node}' and this object"))
            }
        }
    }

    fn used_on(&self, node: &str, namespace: &str, used: &Use<'_>) -> bool {
        let pods = self.lister.list(&PODS, namespace);
        pods.iter().any(|pod| {
            self.may_be_on(pod, node)
                && may_mention(pod, used)
                && pod.value().is_ok_and(|pod| text(&pod["spec"], "nodeName") == node && used.by(&pod))
        })
    }

    /// Whether the header leaves it possible that the pod is on the node.
    fn may_be_on(&self, pod: &Object, node: &str) -> bool {
        let said = self.node_field.and_then(|at| pod.meta().fields.get(at));
        said.is_none_or(|said| said.as_ref() == node)
    }

    fn volume_used_on(&self, node: &str, name: &str) -> bool {
        let volume = self.lister.get(&VOLUMES, "", name).and_then(|volume| volume.value().ok());
        let Some(volume) = volume else { return false };
        let claim = &volume["spec"]["claimRef"];
        let (namespace, claim) = (text(claim, "namespace"), text(claim, "name"));
        !claim.is_empty() && self.used_on(node, namespace, &Use { resource: &CLAIMS.resource, name: claim })
    }

    fn attached_to(&self, node: &str, name: &str) -> bool {
        let attachment = self.lister.get(&ATTACHMENTS, "", name).and_then(|object| object.value().ok());
        attachment.is_some_and(|attachment| text(&attachment["spec"], "nodeName") == node)
    }
}

#[async_trait]
impl Authorizer for NodeAuthorizer {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        self.decide(attributes)
    }
}

/// An object that a pod may use.
struct Use<'a> {
    resource: &'a str,
    name: &'a str,
}

impl Use<'_> {
    fn by(&self, pod: &Value) -> bool {
        let spec = &pod["spec"];
        match self.resource {
            "secrets" => {
                self.in_list(spec, "imagePullSecrets", "name")
                    || list(spec, "volumes").any(|volume| self.secret_volume(volume))
                    || self.in_environment(spec, "secretKeyRef", "secretRef")
            }
            "configmaps" => {
                list(spec, "volumes").any(|volume| {
                    self.is(&volume["configMap"]["name"])
                        || list(&volume["projected"], "sources")
                            .any(|source| self.is(&source["configMap"]["name"]))
                }) || self.in_environment(spec, "configMapKeyRef", "configMapRef")
            }
            "persistentvolumeclaims" => list(spec, "volumes").any(|volume| {
                let own = format!("{}-{}", text(&pod["metadata"], "name"), text(volume, "name"));
                self.is(&volume["persistentVolumeClaim"]["claimName"])
                    || (volume["ephemeral"].is_object() && own == self.name)
            }),
            "resourceclaims" => {
                self.in_list(spec, "resourceClaims", "resourceClaimName")
                    || self.in_list(&pod["status"], "resourceClaimStatuses", "resourceClaimName")
            }
            "serviceaccounts" => self.is(&spec["serviceAccountName"]),
            _ => false,
        }
    }

    fn is(&self, value: &Value) -> bool {
        value == self.name
    }

    fn in_list(&self, object: &Value, key: &str, name: &str) -> bool {
        list(object, key).any(|item| self.is(&item[name]))
    }

    fn secret_volume(&self, volume: &Value) -> bool {
        let sources = volume.as_object().into_iter().flatten().map(|(_, source)| source);
        self.is(&volume["secret"]["secretName"])
            || self.is(&volume["azureFile"]["secretName"])
            || self.is(&volume["csi"]["nodePublishSecretRef"]["name"])
            || sources.into_iter().any(|source| self.is(&source["secretRef"]["name"]))
            || list(&volume["projected"], "sources").any(|source| self.is(&source["secret"]["name"]))
    }

    fn in_environment(&self, spec: &Value, key: &str, whole: &str) -> bool {
        ["containers", "initContainers", "ephemeralContainers"].iter().any(|kind| {
            list(spec, kind).any(|container| {
                list(container, "env").any(|env| self.is(&env["valueFrom"][key]["name"]))
                    || list(container, "envFrom").any(|from| self.is(&from[whole]["name"]))
            })
        })
    }
}

/// Whether the pod's bytes hold the name at all, which spares most pods a parse. A claim of an ephemeral volume is named
/// after the pod, and not held.
fn may_mention(pod: &Object, used: &Use<'_>) -> bool {
    let quoted = format!("{:?}", used.name);
    used.resource == CLAIMS.resource
        || pod.json().windows(quoted.len()).any(|window| window == quoted.as_bytes())
}

fn list<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    object[key].as_array().into_iter().flatten()
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tiphys_api::json;

    use super::*;
    use crate::auth::User;
    use crate::auth::groups::NODES;
    use crate::auth::testing::Fake;

    fn authorizer() -> NodeAuthorizer {
        let fake = Fake::default();
        fake.put(
            &PODS,
            &json!({"metadata": {"namespace": "ns", "name": "p"}, "spec": {
                "nodeName": "n1", "serviceAccountName": "web", "imagePullSecrets": [{"name": "pull"}],
                "volumes": [{"name": "a", "secret": {"secretName": "s"}}, {"name": "b", "projected": {"sources": [
                    {"configMap": {"name": "ca"}}]}}, {"name": "c", "persistentVolumeClaim": {"claimName": "data"}},
                    {"name": "d", "ephemeral": {}}],
                "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "key"}}}],
                                "envFrom": [{"configMapRef": {"name": "env"}}]}]}}),
        );
        fake.put(
            &PODS,
            &json!({"metadata": {"namespace": "ns", "name": "q"}, "spec": {"nodeName": "n2",
            "volumes": [{"secret": {"secretName": "other"}}]}}),
        );
        let claim = json!({"namespace": "ns", "name": "data"});
        fake.put(&VOLUMES, &json!({"metadata": {"name": "pv"}, "spec": {"claimRef": claim}}));
        fake.put(&ATTACHMENTS, &json!({"metadata": {"name": "att"}, "spec": {"nodeName": "n1"}}));
        NodeAuthorizer::new(Arc::new(fake)).unwrap()
    }

    /// `verb group/resource/subresource namespace name`, with `-` for none.
    fn may(line: &str) -> bool {
        let user = User { name: "system:node:n1".into(), groups: vec![NODES.into()], ..User::default() };
        let words: Vec<&str> = line.split(' ').map(|word| if word == "-" { "" } else { word }).collect();
        let [verb, what, namespace, name] = words.try_into().unwrap();
        let mut what = what.split('/');
        let mut next = || what.next().unwrap_or_default();
        let (group, resource, subresource) = (next(), next(), next());
        let asked = Attributes {
            user: &user,
            verb,
            group,
            version: "v1",
            resource,
            subresource,
            namespace,
            name,
            path: "",
        };
        authorizer().decide(&asked) == Decision::Allow
    }

    #[test]
    fn a_node_reads_what_its_pods_use() {
        for name in [
            "secrets ns s",
            "secrets ns pull",
            "secrets ns key",
            "configmaps ns ca",
            "configmaps ns env",
            "persistentvolumeclaims ns data",
            "persistentvolumeclaims ns p-d",
            "persistentvolumes - pv",
        ] {
            assert!(may(&format!("get /{name}")), "{name}");
        }
        assert!(may("create /serviceaccounts/token ns web") && may("watch /secrets ns s"));
        assert!(may("get storage.k8s.io/volumeattachments - att"));
        for name in [
            "secrets ns other",
            "secrets default s",
            "secrets ns ca",
            "secrets ns -",
            "configmaps ns s",
            "persistentvolumeclaims ns q-d",
            "persistentvolumes - none",
        ] {
            assert!(!may(&format!("get /{name}")), "{name}");
        }
        assert!(!may("create /serviceaccounts/token ns default") && !may("list /secrets - -"));
    }

    #[test]
    fn a_node_has_the_rules_of_its_role_and_its_own_lease() {
        assert!(may("list /pods - -") && may("patch /nodes/status - n1") && may("create /events ns -"));
        assert!(
            !may("delete /nodes - n1") && !may("update /secrets ns s") && !may("create /deployments ns -")
        );
        assert!(may("update coordination.k8s.io/leases kube-node-lease n1"));
        assert!(may("create coordination.k8s.io/leases kube-node-lease -"));
        assert!(!may("update coordination.k8s.io/leases kube-node-lease n2"));
        assert!(!may("update coordination.k8s.io/leases default n1"));
    }

    #[test]
    fn others_are_not_judged() {
        let user = User { name: "jane".into(), ..User::default() };
        let asked = Attributes {
            user: &user,
            verb: "get",
            group: "",
            version: "v1",
            resource: "nodes",
            subresource: "",
            namespace: "",
            name: "",
            path: "",
        };
        assert_eq!(authorizer().decide(&asked), Decision::NoOpinion(String::new()));
    }
}
