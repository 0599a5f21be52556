//! `KubeletConfiguration` (`kubelet.config.k8s.io/v1beta1`): what a file may set, with Kubernetes' defaults.
//!
//! A field that Kubernetes does not know is refused, as Kubernetes refuses it: a slip of the pen must not be a default. A
//! field that Kubernetes knows and that has no effect here is told, and otherwise left alone.

mod known;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Taint;
use serde::{Deserialize, Serialize};
use tiphys_api::{Value, decode};

use crate::cgroups::Driver;
use crate::eviction::Thresholds;

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no YAML or JSON, or a field has a value of another kind.
    #[error("{0}")]
    Syntax(String),
    /// It is something else.
    #[error(
        "no kind {kind:?} is registered for version {version:?}; this is no KubeletConfiguration of {API_VERSION}"
    )]
    Kind {
        /// Its `kind`.
        kind: String,
        /// Its `apiVersion`.
        version: String,
    },
    /// It says what nobody understands.
    #[error("strict decoding error: unknown field {0:?}")]
    Unknown(String),
    /// Its values do not go together.
    #[error("invalid configuration: {0}")]
    Invalid(String),
}

/// What a file may set. Durations are written as `1m30s`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// Who is believed to be whom.
    pub authentication: Authentication,
    /// Who may ask for what.
    pub authorization: Authorization,
    /// The most pods.
    pub max_pods: u32,
    /// The most processes of a pod; none: as many as the node has.
    pub pod_pids_limit: Option<i64>,
    /// Who makes control groups.
    pub cgroup_driver: Driver,
    /// What is kept for Kubernetes' own programs, by resource.
    pub kube_reserved: BTreeMap<String, String>,
    /// What is kept for the system, by resource.
    pub system_reserved: BTreeMap<String, String>,
    /// Pods are evicted at once below these, by signal.
    pub eviction_hard: Thresholds,
    /// Pods are evicted below these when they are not met for a while.
    pub eviction_soft: Thresholds,
    /// How long, by signal.
    #[serde(with = "durations")]
    pub eviction_soft_grace_period: BTreeMap<String, SignedDuration>,
    /// The longest time that a soft eviction leaves a pod to end, in seconds.
    pub eviction_max_pod_grace_period: i64,
    /// How long a pressure is told after it has gone.
    #[serde(with = "duration")]
    pub eviction_pressure_transition_period: SignedDuration,
    /// How much at least is to be won back, by signal.
    pub eviction_minimum_reclaim: BTreeMap<String, String>,
    /// Images are removed when their file system is fuller than this, in percent.
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: u8,
    /// Down to this.
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: u8,
    /// The youngest unused image that is removed.
    #[serde(rename = "imageMinimumGCAge", with = "duration")]
    pub image_minimum_gc_age: SignedDuration,
    /// Unused images that are older are removed in any case; zero: never.
    #[serde(rename = "imageMaximumGCAge", with = "duration")]
    pub image_maximum_gc_age: SignedDuration,
    /// A log is put aside when it is larger.
    pub container_log_max_size: String,
    /// So many files are kept of each log.
    pub container_log_max_files: usize,
    /// How long all pods together may take to end before the machine goes down; zero: they are not waited for.
    #[serde(with = "duration")]
    pub shutdown_grace_period: SignedDuration,
    /// How much of that is for pods that the node or the cluster needs.
    #[serde(with = "duration")]
    pub shutdown_grace_period_critical_pods: SignedDuration,
    /// Instead of these two: how long pods of which priorities may take.
    pub shutdown_grace_period_by_pod_priority: Vec<GracePeriod>,
    /// Where the kubelet's health is told, without TLS.
    pub healthz_bind_address: IpAddr,
    /// At which port; 0: nowhere.
    pub healthz_port: u16,
    /// Whether logs, exec and the like are served.
    pub enable_debugging_handlers: bool,
    /// Directory of static pods.
    pub static_pod_path: Option<PathBuf>,
    /// Addresses of the cluster's DNS.
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Vec<String>,
    /// The cluster's domain.
    pub cluster_domain: Option<String>,
    /// The resolver configuration that pods inherit.
    pub resolv_conf: Option<PathBuf>,
    /// Taints that the node registers with.
    pub register_with_taints: Vec<Taint>,
}

/// An entry of `shutdownGracePeriodByPodPriority`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GracePeriod {
    /// The least priority that it is for.
    pub priority: i32,
    /// How long its pods may take, in seconds.
    pub shutdown_grace_period_seconds: i64,
}

/// `authentication`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authentication {
    /// Whoever shows nothing is `system:anonymous`.
    pub anonymous: Anonymous,
    /// Bearer tokens are looked up in the API.
    pub webhook: Webhook,
}

/// `authentication.anonymous`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Anonymous {
    /// Whether it is so.
    pub enabled: bool,
}

/// `authentication.webhook`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Webhook {
    /// Whether it is so.
    pub enabled: bool,
    /// How long an answer holds.
    #[serde(rename = "cacheTTL", with = "duration")]
    pub cache_ttl: SignedDuration,
}

impl Default for Webhook {
    fn default() -> Self {
        Self { enabled: true, cache_ttl: SignedDuration::from_mins(2) }
    }
}

/// `authorization`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authorization {
    /// How it is decided.
    pub mode: Mode,
    /// For how long.
    pub webhook: AuthorizationWebhook,
}

/// `authorization.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// The API is asked.
    #[default]
    Webhook,
    /// Whoever is known may do everything.
    AlwaysAllow,
}

/// `authorization.webhook`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthorizationWebhook {
    /// How long a yes holds.
    #[serde(rename = "cacheAuthorizedTTL", with = "duration")]
    pub authorized: SignedDuration,
    /// How long a no holds.
    #[serde(rename = "cacheUnauthorizedTTL", with = "duration")]
    pub unauthorized: SignedDuration,
}

impl Default for AuthorizationWebhook {
    fn default() -> Self {
        Self { authorized: SignedDuration::from_mins(5), unauthorized: SignedDuration::from_secs(30) }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            authentication: Authentication::default(),
            authorization: Authorization::default(),
            max_pods: 110,
            pod_pids_limit: None,
            cgroup_driver: Driver::Cgroupfs,
            kube_reserved: BTreeMap::new(),
            system_reserved: BTreeMap::new(),
            eviction_hard: Thresholds::hard(),
            eviction_soft: Thresholds::default(),
            eviction_soft_grace_period: BTreeMap::new(),
            eviction_max_pod_grace_period: 0,
            eviction_pressure_transition_period: SignedDuration::from_mins(5),
            eviction_minimum_reclaim: BTreeMap::new(),
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
            image_minimum_gc_age: SignedDuration::from_mins(2),
            image_maximum_gc_age: SignedDuration::ZERO,
            container_log_max_size: "10Mi".into(),
            container_log_max_files: 5,
            shutdown_grace_period: SignedDuration::ZERO,
            shutdown_grace_period_critical_pods: SignedDuration::ZERO,
            shutdown_grace_period_by_pod_priority: Vec::new(),
            healthz_bind_address: Ipv4Addr::LOCALHOST.into(),
            healthz_port: 10248,
            enable_debugging_handlers: true,
            static_pod_path: None,
            cluster_dns: Vec::new(),
            cluster_domain: None,
            resolv_conf: None,
            register_with_taints: Vec::new(),
        }
    }
}

impl Settings {
    /// Reads a file's bytes, YAML or JSON. Beside the settings: fields that have no effect here.
    pub fn parse(bytes: &[u8]) -> Result<(Self, Vec<String>), Error> {
        let value = decode::yaml(bytes).map_err(|error| Error::Syntax(error.to_string()))?.value;
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, version) = (text("kind"), text("apiVersion"));
        if (kind.as_str(), version.as_str()) != (KIND, API_VERSION) {
            return Err(Error::Kind { kind, version });
        }
        let idle = known::check(&value, &effective())?;
        let settings: Self = value.to().map_err(|error| Error::Syntax(error.to_string()))?;
        settings.check()?;
        Ok((settings, idle))
    }

    fn check(&self) -> Result<(), Error> {
        let invalid = |what: &str| Err(Error::Invalid(what.to_owned()));
        if self.image_gc_low_threshold_percent >= self.image_gc_high_threshold_percent
            || self.image_gc_high_threshold_percent > 100
        {
            return invalid(
                "imageGCLowThresholdPercent must be less than imageGCHighThresholdPercent, which must be at most 100",
            );
        }
        if self.container_log_max_files < 2 {
            return invalid("containerLogMaxFiles must be greater than 1");
        }
        if self.log_max_bytes().is_none() {
            return invalid("containerLogMaxSize is no quantity");
        }
        if let Some(why) = self.wrong_shutdown() {
            return invalid(&why);
        }
        let unsure = |signal: &&str| !self.eviction_soft_grace_period.contains_key(*signal);
        match self.eviction_soft.names().find(unsure) {
            Some(signal) => invalid(&format!("evictionSoft {signal} has no evictionSoftGracePeriod")),
            None => Ok(()),
        }
    }

    /// What is wrong with the times for a shutdown, if anything is.
    fn wrong_shutdown(&self) -> Option<String> {
        let (all, critical) = (self.shutdown_grace_period, self.shutdown_grace_period_critical_pods);
        let second = SignedDuration::from_secs(1);
        let told = [("shutdownGracePeriod", all), ("shutdownGracePeriodCriticalPods", critical)];
        if let Some((name, _)) = told.into_iter().find(|(_, time)| !time.is_zero() && *time < second) {
            return Some(format!("{name} must be either zero or otherwise >= 1 sec"));
        }
        if critical > all {
            return Some("shutdownGracePeriod must be >= shutdownGracePeriodCriticalPods".into());
        }
        let by_priority = &self.shutdown_grace_period_by_pod_priority;
        if !by_priority.is_empty() && !all.is_zero() {
            let both = "shutdownGracePeriodByPodPriority and shutdownGracePeriod";
            return Some(format!("Cannot specify both {both} at the same time"));
        }
        let negative = by_priority.iter().any(|group| group.shutdown_grace_period_seconds < 0);
        negative.then(|| "shutdownGracePeriodSeconds must not be negative".into())
    }

    /// The size at which a log is put aside, in bytes.
    pub(crate) fn log_max_bytes(&self) -> Option<u64> {
        let size: tiphys_api::quantity::Quantity = self.container_log_max_size.parse().ok()?;
        u64::try_from(size.value()).ok().filter(|size| *size > 0)
    }

    /// What `/configz` tells.
    pub(crate) fn told(&self) -> serde_json::Value {
        let mut told = serde_json::to_value(self).unwrap_or_default();
        told["kind"] = KIND.into();
        told["apiVersion"] = API_VERSION.into();
        told
    }
}

/// The fields of [`Settings`].
fn effective() -> Vec<String> {
    let all = serde_json::to_value(Settings::default()).unwrap_or_default();
    all.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// A duration as Go writes it.
mod duration {
    use jiff::SignedDuration;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &SignedDuration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text(value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SignedDuration, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }

    pub(super) fn text(value: &SignedDuration) -> String {
        match value.is_zero() {
            true => "0s".into(),
            false => format!("{value:#}").replace(' ', ""),
        }
    }
}

/// Durations by name.
mod durations {
    use std::collections::BTreeMap;

    use jiff::SignedDuration;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    type Map = BTreeMap<String, SignedDuration>;

    pub(super) fn serialize<S: Serializer>(map: &Map, to: S) -> Result<S::Ok, S::Error> {
        let texts: BTreeMap<&String, String> =
            map.iter().map(|(key, v)| (key, super::duration::text(v))).collect();
        texts.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Map, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(from)?;
        let parsed =
            |(key, text): (String, String)| Ok((key, text.parse().map_err(serde::de::Error::custom)?));
        texts.into_iter().map(parsed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1beta1\n";

    fn parse(rest: &str) -> Result<(Settings, Vec<String>), Error> {
        Settings::parse(format!("{HEAD}{rest}").as_bytes())
    }

    #[test]
    fn a_file_changes_only_what_it_says() {
        let (settings, idle) = parse(
            "maxPods: 20\nimageMinimumGCAge: 1m30s\nimageGCHighThresholdPercent: 90\nserializeImagePulls: false\n\
             evictionHard: {memory.available: 200Mi}\nclusterDNS: [10.0.0.10]\ncgroupDriver: systemd\n\
             authentication: {anonymous: {enabled: true}}\nsystemReserved: {cpu: 100m}\n",
        )
        .unwrap();
        assert_eq!((settings.max_pods, settings.image_gc_high_threshold_percent), (20, 90));
        assert_eq!(settings.image_minimum_gc_age, SignedDuration::from_secs(90));
        assert_eq!((settings.cgroup_driver, settings.cluster_dns.len()), (Driver::Systemd, 1));
        assert!(settings.authentication.anonymous.enabled && settings.authentication.webhook.enabled);
        assert_eq!(settings.system_reserved["cpu"], "100m");
        assert_eq!(idle, ["serializeImagePulls"]);
        assert_eq!(settings.image_gc_low_threshold_percent, 80);
    }

    #[test]
    fn what_kubernetes_refuses_is_refused() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(error("maxPod: 1\n"), "strict decoding error: unknown field \"maxPod\"");
        assert!(error("maxPods: many\n").contains("many"), "{}", error("maxPods: many\n"));
        assert!(error("authentication: {anonymous: {on: true}}\n").contains("unknown field"));
        assert!(error("containerLogMaxFiles: 1\n").contains("greater than 1"));
        assert!(error("imageGCHighThresholdPercent: 70\n").contains("less than"));
        assert!(error("evictionSoft: {memory.available: 1Gi}\n").contains("no evictionSoftGracePeriod"));
        assert!(error("evictionHard: {memory.free: 1Gi}\n").contains("memory.free"));
        assert!(error("shutdownGracePeriod: 10ms\n").contains(">= 1 sec"));
        assert!(
            error("shutdownGracePeriod: 2s\nshutdownGracePeriodCriticalPods: 3s\n").contains(">= shutdown")
        );
        assert!(matches!(Settings::parse(b"kind: Pod\napiVersion: v1\n"), Err(Error::Kind { .. })));
    }

    #[test]
    fn what_is_told_can_be_read_again() {
        let (settings, _) = parse(
            "evictionPressureTransitionPeriod: 1m30s\nevictionSoft: {memory.available: 5%}\n\
            evictionSoftGracePeriod: {memory.available: 2m}\n",
        )
        .unwrap();
        let told = settings.told();
        assert_eq!(told["evictionPressureTransitionPeriod"], "1m30s");
        assert_eq!(told["imageMaximumGCAge"], "0s");
        assert_eq!(Settings::parse(told.to_string().as_bytes()).unwrap(), (settings, vec![]));
    }
}
