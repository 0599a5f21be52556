//! Reads the default roles (`policy.txt`) into the objects that a cluster holds.
//!
//! The text is part of the program, so a mistake in it is found by this module's tests and not by users.

use tiphys_api::{Map, Text, Value, json};

use crate::auth::rbac::GROUP;

const TEXT: &str = include_str!("policy.txt");
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const BOOTSTRAPPING: &str = "kubernetes.io/bootstrapping";

/// What is wrong with the text, and where.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("default roles, line {line}: {what}")]
pub struct Malformed {
    line: usize,
    what: &'static str,
}

/// The default roles and bindings, as complete objects.
#[derive(Debug, Default, PartialEq)]
pub struct Policy {
    /// ClusterRoles; aggregated ones with the rules they select.
    pub cluster_roles: Vec<Value>,
    /// ClusterRoleBindings.
    pub cluster_role_bindings: Vec<Value>,
    /// Roles.
    pub roles: Vec<Value>,
    /// RoleBindings.
    pub role_bindings: Vec<Value>,
}

/// The default policy.
pub fn default_policy() -> Result<Policy, Malformed> {
    parse(TEXT)
}

fn parse(text: &str) -> Result<Policy, Malformed> {
    let mut policy = Policy::default();
    // Where the next rule belongs.
    let mut in_namespace = false;
    for (number, line) in text.lines().enumerate() {
        let refuse = |what| Malformed { line: number + 1, what };
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with(' ') {
            let roles = if in_namespace { &mut policy.roles } else { &mut policy.cluster_roles };
            let role = roles.last_mut().ok_or_else(|| refuse("a rule without a role"))?;
            add_rule(role, rule(&words).ok_or_else(|| refuse("a rule is VERBS GROUPS RESOURCE..."))?);
            continue;
        }
        in_namespace = words[0] == "role";
        policy.head(&words).ok_or_else(|| refuse("neither role, clusterrole, controller nor bind"))?;
    }
    fill_aggregated(&mut policy.cluster_roles);
    Ok(policy)
}

impl Policy {
    /// Takes a line that begins something; `None` when it has no known form.
    fn head(&mut self, words: &[&str]) -> Option<()> {
        match words {
            ["clusterrole", name, rest @ ..] => self.cluster_roles.push(cluster_role(name, rest)?),
            ["controller", name] => {
                let role = format!("system:controller:{name}");
                let account = format!("sa:kube-system/{name}");
                self.cluster_roles.push(cluster_role(&role, &[])?);
                self.cluster_role_bindings.push(binding("", &role, &role, &[&account])?);
            }
            ["role", namespace, name] => {
                let mut role = object("Role", namespace, name);
                role["rules"] = json!([]);
                self.roles.push(role);
            }
            ["bind", name, "to", subjects @ ..] => {
                self.cluster_role_bindings.push(binding("", name, name, subjects)?);
            }
            ["bind", namespace, name, role, "to", subjects @ ..] => {
                self.role_bindings.push(binding(namespace, name, role, subjects)?);
            }
            _ => return None,
        }
        Some(())
    }
}

fn object(kind: &str, namespace: &str, name: &str) -> Value {
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": {
            "name": name,
            "annotations": { (AUTOUPDATE): "true" },
            "labels": { (BOOTSTRAPPING): "rbac-defaults" },
        },
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

fn cluster_role(name: &str, options: &[&str]) -> Option<Value> {
    let mut role = object("ClusterRole", "", name);
    role["rules"] = json!([]);
    for option in options.chunks(2) {
        match option {
            ["label", key] => role["metadata"]["labels"][*key] = "true".into(),
            ["aggregate", key] => {
                let selector = json!({ "matchLabels": { (*key): "true" } });
                role["aggregationRule"] = json!({ "clusterRoleSelectors": [selector] });
            }
            _ => return None,
        }
    }
    Some(role)
}

fn binding(namespace: &str, name: &str, role: &str, subjects: &[&str]) -> Option<Value> {
    let (kind, role_kind) =
        if namespace.is_empty() { ("ClusterRoleBinding", "ClusterRole") } else { ("RoleBinding", "Role") };
    let mut object = object(kind, namespace, name);
    object["roleRef"] = json!({ "apiGroup": GROUP, "kind": role_kind, "name": role });
    let subjects = subjects.iter().map(|text| subject(text)).collect::<Option<Vec<Value>>>()?;
    if !subjects.is_empty() {
        object["subjects"] = subjects.into();
    }
    Some(object)
}

fn subject(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once(':')?;
    Some(match kind {
        "group" => json!({ "apiGroup": GROUP, "kind": "Group", "name": name }),
        "user" => json!({ "apiGroup": GROUP, "kind": "User", "name": name }),
        "sa" => {
            let (namespace, name) = name.split_once('/')?;
            json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace })
        }
        _ => return None,
    })
}

fn rule(words: &[&str]) -> Option<Value> {
    let (&[verbs, group], targets) = words.split_at_checked(2)? else { return None };
    let mut rule = Map::new();
    let (targets, names) = match targets.iter().position(|word| *word == "named") {
        Some(at) => (&targets[..at], &targets[at + 1..]),
        None => (targets, &[][..]),
    };
    if targets.is_empty() {
        return None;
    }
    rule.insert("verbs".into(), sorted(verbs.split(',').flat_map(spelled_out)));
    if group == "path" {
        rule.insert("nonResourceURLs".into(), sorted(targets.iter().copied()));
        return Some(rule.into());
    }
    rule.insert("apiGroups".into(), sorted(group.split(',').map(|g| if g == "core" { "" } else { g })));
    rule.insert("resources".into(), sorted(targets.iter().copied()));
    if !names.is_empty() {
        rule.insert("resourceNames".into(), sorted(names.iter().copied()));
    }
    Some(rule.into())
}

fn spelled_out(verb: &str) -> Vec<&str> {
    match verb {
        "READ" => vec!["get", "list", "watch"],
        "WRITE" => vec!["create", "delete", "deletecollection", "patch", "update"],
        "SAY" => vec!["create", "patch", "update"],
        verb => vec![verb],
    }
}

fn sorted<'a>(texts: impl Iterator<Item = &'a str>) -> Value {
    let mut texts: Vec<&str> = texts.collect();
    texts.sort_unstable();
    texts.into()
}

fn add_rule(role: &mut Value, rule: Value) {
    if let Some(rules) = role["rules"].as_array_mut() {
        rules.push(rule);
    }
}

/// Gives aggregated roles the rules they select, so that they are right before any controller runs. The text lists
/// them from the widest to the narrowest, and the narrowest must be filled first.
fn fill_aggregated(roles: &mut [Value]) {
    for at in (0..roles.len()).rev() {
        let Some(key) = aggregated_key(&roles[at]) else { continue };
        let selected = |role: &&Value| role["metadata"]["labels"].get(&key).is_some();
        let mut chosen: Vec<&Value> = roles.iter().filter(selected).collect();
        chosen.sort_by_key(|role| role["metadata"]["name"].as_str());
        let mut rules: Vec<Value> = Vec::new();
        for rule in chosen.iter().filter_map(|role| role["rules"].as_array()).flatten() {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
        roles[at]["rules"] = rules.into();
    }
}

fn aggregated_key(role: &Value) -> Option<Text> {
    let selector = role.pointer("/aggregationRule/clusterRoleSelectors/0/matchLabels")?;
    selector.as_object()?.keys().next().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_well_formed() {
        let policy = default_policy().unwrap();
        let named = |objects: &[Value], name: &str| {
            objects
                .iter()
                .find(|o| o["metadata"]["name"] == name)
                .cloned()
                .unwrap_or_else(|| panic!("{name}"))
        };
        for binding in policy.cluster_role_bindings.iter().chain(&policy.role_bindings) {
            let role = binding["roleRef"]["name"].as_str().unwrap();
            let roles =
                if binding["roleRef"]["kind"] == "Role" { &policy.roles } else { &policy.cluster_roles };
            named(roles, role);
        }
        let mut names: Vec<&Value> =
            policy.cluster_roles.iter().map(|role| &role["metadata"]["name"]).collect();
        let all = names.len();
        names.sort_by_key(|name| name.as_str());
        names.dedup();
        assert_eq!(names.len(), all);
        for role in policy.cluster_roles.iter().chain(&policy.roles) {
            assert!(!role["rules"].as_array().unwrap().is_empty(), "{role}");
        }
        let rules = |name: &str| named(&policy.cluster_roles, name)["rules"].as_array().unwrap().len();
        assert_eq!(
            rules("view"),
            rules("system:aggregate-to-view") + rules("system:aggregated-metrics-reader")
        );
        assert_eq!(rules("edit"), rules("view") + rules("system:aggregate-to-edit"));
        assert_eq!(rules("admin"), rules("edit") + rules("system:aggregate-to-admin"));
    }

    #[test]
    fn mistakes_are_found_with_their_line() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(error("\n  get core pods"), "default roles, line 2: a rule without a role");
        assert_eq!(
            error("clusterrole x\n  get core"),
            "default roles, line 2: a rule is VERBS GROUPS RESOURCE..."
        );
        assert_eq!(
            error("bind x to everyone"),
            "default roles, line 1: neither role, clusterrole, controller nor bind"
        );
    }
}
