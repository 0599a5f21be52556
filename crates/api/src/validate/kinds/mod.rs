//! Rules that relate several fields, one function per type, named as `schema/rules.txt` names types.
//!
//! A function gets the fields of an object of its type and adds errors; what lies inside is checked by the walk.

mod apps;
mod batch;
mod config;
mod core;
mod here;
mod networking;
mod select;
mod storage;
mod workloads;

use serde_json::Value;

use self::core::pods;
use super::forms::judge;
use super::seen::Seen;
use super::{At, Fields};
use crate::field::{Errors, Path};

/// Checks one struct.
pub type Check = fn(&At<'_>, &Fields, &mut Errors);

/// All of them.
pub fn all() -> impl Iterator<Item = &'static (&'static str, Check)> {
    GROUPS.iter().chain(core::ALL).chain(pods::ALL)
}

/// Those of all groups but the core.
const GROUPS: &[(&str, Check)] = &[
    ("apps.v1.ControllerRevision", apps::controller_revision),
    ("apps.v1.DaemonSetSpec", apps::daemon_set),
    ("apps.v1.DeploymentSpec", apps::deployment),
    ("apps.v1.ReplicaSetSpec", apps::replica_set),
    ("apps.v1.StatefulSetSpec", apps::stateful_set),
    ("autoscaling.v1.HorizontalPodAutoscalerSpec", workloads::autoscaler),
    ("autoscaling.v2.HorizontalPodAutoscalerSpec", workloads::autoscaler),
    ("batch.v1.CronJob", batch::cron_job_name),
    ("batch.v1.CronJobSpec", batch::cron_job),
    ("batch.v1.JobSpec", batch::job),
    ("batch.v1.PodFailurePolicyOnPodConditionsPattern", batch::pod_condition),
    ("core.v1.ConfigMap", config::config_map),
    ("core.v1.PersistentVolumeClaimSpec", storage::claim),
    ("core.v1.PersistentVolumeSpec", storage::volume),
    ("core.v1.ReplicationControllerSpec", workloads::replication_controller),
    ("core.v1.Secret", config::secret),
    ("core.v1.ServiceSpec", networking::service),
    ("networking.v1.HTTPIngressPath", networking::ingress_path),
    ("networking.v1.IngressSpec", networking::ingress),
    ("policy.v1.PodDisruptionBudgetSpec", workloads::disruption_budget),
    ("rbac.v1.ClusterRole", config::cluster_role),
    ("rbac.v1.Role", config::role),
    ("rbac.v1.RoleRef", config::role_ref),
    ("rbac.v1.ClusterRoleBinding", config::cluster_role_binding),
];

/// A text field; empty when absent.
fn text<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(fields: &Fields, name: &str) -> Option<i64> {
    fields.get(name).and_then(Value::as_i64)
}

fn object<'a>(fields: &'a Fields, name: &str) -> Option<&'a Fields> {
    fields.get(name)?.as_object()
}

/// The objects of a list field with their places.
fn items<'a>(fields: &'a Fields, name: &str) -> impl Iterator<Item = (usize, &'a Fields)> {
    let list = fields.get(name).and_then(Value::as_array);
    list.into_iter().flatten().enumerate().filter_map(|(at, item)| Some((at, item.as_object()?)))
}

/// `a.b.c` under a place.
fn under(at: &At<'_>, path: &str) -> Path {
    path.split('.').fold(at.path(), |path, name| path.child(name))
}

/// A boolean field; false when absent.
fn flag(fields: &Fields, name: &str) -> bool {
    fields.get(name).and_then(Value::as_bool).unwrap_or_default()
}

/// The items of a list field; none when absent.
fn list<'a>(fields: &'a Fields, name: &str) -> &'a [Value] {
    fields.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The texts of a list field with their places.
fn texts<'a>(fields: &'a Fields, name: &str) -> impl Iterator<Item = (usize, &'a str)> {
    list(fields, name).iter().enumerate().filter_map(|(at, item)| Some((at, item.as_str()?)))
}

/// A copy to show in an error.
fn as_value(fields: &Fields) -> Value {
    Value::Object(fields.clone())
}
