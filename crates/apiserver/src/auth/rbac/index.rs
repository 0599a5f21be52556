//! Roles and bindings, read once: from a subject to the rules that bindings give it.
//!
//! - The index is rebuilt when a role or binding changes; objects that did not change are not read again.
//! - A ClusterRole with an aggregation rule has the rules of the ClusterRoles it selects, at once, without waiting for a
//!   controller to copy them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;
use tiphys_api::selector::LabelSelector;
use tiphys_api::{Gvr, Object, Value};

use super::rule::Rule;
use super::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, GROUP, ROLE_BINDINGS, ROLES};
use crate::auth::groups::service_account_user;
use crate::auth::{Lister, User};

const KINDS: [&Gvr; 4] = [&CLUSTER_ROLES, &ROLES, &CLUSTER_ROLE_BINDINGS, &ROLE_BINDINGS];

type Key = (Box<str>, Box<str>);
type Table<T> = HashMap<Key, (Object, Arc<T>)>;

/// What a binding gives to its subjects.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    /// The role's rules; `None` when there is no such role.
    pub(super) rules: Option<Arc<[Rule]>>,
    /// As `clusterrole.rbac.authorization.k8s.io "x"`.
    pub(super) role: Box<str>,
}

/// Grants by subject, in one namespace or in all.
#[derive(Debug, Default)]
struct Subjects {
    users: HashMap<Box<str>, Vec<Grant>>,
    groups: HashMap<Box<str>, Vec<Grant>>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Index {
    versions: [Option<u64>; 4],
    lists: [Vec<Object>; 4],
    roles: Table<Role>,
    bindings: Table<Binding>,
    cluster: Subjects,
    namespaces: HashMap<Box<str>, Subjects>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Role {
    #[serde(default, deserialize_with = "shared")]
    rules: Arc<[Rule]>,
    #[serde(default, deserialize_with = "selectors")]
    aggregation_rule: Vec<LabelSelector>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    subjects: Option<Vec<Subject>>,
    role_ref: RoleRef,
}

/// `rbac/v1` Subject.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Subject {
    kind: Box<str>,
    name: Box<str>,
    #[serde(default)]
    namespace: Box<str>,
}

/// `rbac/v1` RoleRef.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RoleRef {
    pub(super) kind: Box<str>,
    pub(super) name: Box<str>,
}

/// `null` counts as an empty list.
fn shared<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Arc<[Rule]>, D::Error> {
    Ok(Option::<Vec<Rule>>::deserialize(deserializer)?.unwrap_or_default().into())
}

fn selectors<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<LabelSelector>, D::Error> {
    let rule = Value::deserialize(deserializer)?;
    let list = rule.get("clusterRoleSelectors").and_then(Value::as_array);
    // A selector that cannot be read selects nothing.
    Ok(list.into_iter().flatten().filter_map(|selector| LabelSelector::from_value(selector).ok()).collect())
}

impl Index {
    /// Whether nothing changed since this was built.
    pub(super) fn is_current(&self, lister: &dyn Lister) -> bool {
        KINDS.iter().enumerate().all(|(i, gvr)| match (self.versions[i], lister.version(gvr)) {
            (Some(then), Some(now)) => then == now,
            _ => same_objects(&self.lists[i], &lister.list(gvr, "")),
        })
    }

    /// Reads the present roles and bindings; what `old` already read is taken over.
    pub(super) fn build(lister: &dyn Lister, old: &Self) -> Self {
        // Versions first: a change between the two reads only makes the next check fail.
        let versions = KINDS.map(|gvr| lister.version(gvr));
        let lists = KINDS.map(|gvr| lister.list(gvr, ""));
        let [cluster_roles, roles, cluster_bindings, bindings] = &lists;
        let mut index = Self {
            roles: read(cluster_roles.iter().chain(roles), &old.roles),
            bindings: read(cluster_bindings.iter().chain(bindings), &old.bindings),
            versions,
            ..Self::default()
        };
        index.lists = lists;
        index.grant_all();
        index
    }

    fn grant_all(&mut self) {
        let mut resolved = HashMap::new();
        let (mut cluster, mut namespaces) = (Subjects::default(), HashMap::<Box<str>, Subjects>::new());
        for ((namespace, _), (_, binding)) in &self.bindings {
            let grant = self.grant(namespace, &binding.role_ref, &mut resolved);
            let place = match namespace.as_ref() {
                "" => &mut cluster,
                _ => namespaces.entry(namespace.clone()).or_default(),
            };
            for subject in binding.subjects.iter().flatten() {
                place.add(subject, namespace, &grant);
            }
        }
        (self.cluster, self.namespaces) = (cluster, namespaces);
    }

    fn grant(
        &self,
        namespace: &str,
        role: &RoleRef,
        resolved: &mut HashMap<Key, Option<Arc<[Rule]>>>,
    ) -> Grant {
        let place = if role.kind.as_ref() == "Role" { namespace } else { "" };
        let key = (Box::from(place), role.name.clone());
        let rules = resolved.entry(key).or_insert_with(|| self.rules_of(place, &role.name)).clone();
        let kind = role.kind.to_lowercase();
        Grant { rules, role: format!("{kind}.{GROUP} {:?}", role.name).into() }
    }

    /// A role's rules, aggregated ones included; `None` when there is no such role.
    pub(super) fn rules_of(&self, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        let (_, role) = self.roles.get(&(Box::from(namespace), Box::from(name)))?;
        if role.aggregation_rule.is_empty() {
            return Some(role.rules.clone());
        }
        let (mut all, mut seen) = (Vec::new(), HashSet::new());
        self.aggregate(name, &mut all, &mut seen);
        all.dedup();
        Some(all.into())
    }

    /// Collects the rules of a role and of those it selects, each role once, in the order of names.
    fn aggregate<'a>(&'a self, name: &'a str, all: &mut Vec<Rule>, seen: &mut HashSet<&'a str>) {
        let Some((_, role)) = self.roles.get(&(Box::default(), Box::from(name))) else { return };
        if !seen.insert(name) {
            return;
        }
        if role.aggregation_rule.is_empty() {
            return all.extend(role.rules.iter().cloned());
        }
        let mut selected: Vec<&str> = Vec::new();
        for ((namespace, other), (object, _)) in &self.roles {
            let labels = &object.meta().labels;
            if namespace.is_empty() && role.aggregation_rule.iter().any(|selector| selector.matches(labels)) {
                selected.push(other);
            }
        }
        selected.sort_unstable();
        for other in selected {
            self.aggregate(other, all, seen);
        }
    }

    /// Every grant to a user in a namespace (empty: only those for the whole cluster).
    pub(super) fn grants<'a>(&'a self, user: &'a User, namespace: &str) -> impl Iterator<Item = &'a Grant> {
        let places = [Some(&self.cluster), self.namespaces.get(namespace)];
        places.into_iter().flatten().flat_map(move |place| place.of(user))
    }
}

impl Subjects {
    fn add(&mut self, subject: &Subject, namespace: &str, grant: &Grant) {
        let (map, name) = match subject.kind.as_ref() {
            "Group" => (&mut self.groups, subject.name.clone()),
            "User" => (&mut self.users, subject.name.clone()),
            _ => {
                let home = if subject.namespace.is_empty() { namespace } else { &subject.namespace };
                if home.is_empty() {
                    return;
                }
                (&mut self.users, service_account_user(home, &subject.name).into())
            }
        };
        map.entry(name).or_default().push(grant.clone());
    }

    fn of<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a Grant> {
        let groups = user.groups.iter().filter_map(|group| self.groups.get(group.as_str()));
        self.users.get(user.name.as_str()).into_iter().chain(groups).flatten()
    }
}

fn same_objects(a: &[Object], b: &[Object]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b))
}

fn read<'a, T>(objects: impl Iterator<Item = &'a Object>, old: &Table<T>) -> Table<T>
where
    T: for<'de> Deserialize<'de>,
{
    let mut table = Table::new();
    for object in objects {
        let meta = object.meta();
        let key = (meta.namespace.clone(), meta.name.clone());
        let kept = old.get(&key).filter(|(known, _)| known.same(object)).map(|(_, value)| value.clone());
        match kept.map_or_else(|| object.decode().map(Arc::new), Ok) {
            Ok(value) => {
                table.insert(key, (object.clone(), value));
            }
            // The registry validated it; a role that cannot be read gives nothing.
            Err(error) => tracing::warn!(object = meta.key(), %error, "unreadable role or binding"),
        }
    }
    table
}
