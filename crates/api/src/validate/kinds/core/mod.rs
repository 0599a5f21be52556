//! Rules of the core group's types.

mod amounts;
mod config;
mod controllers;
mod endpoints;
mod nodes;
pub mod pods;
mod quota;
mod selectors;
mod services;
mod sources;
mod storage;

pub use storage::NOT_SOURCES as VOLUME_NOT_SOURCES;

use super::{
    At, ByText, Check, Fields, Seen, as_value, flag, items, judge, list, number, object, text, texts, under,
};

/// The checks of all types but those of pods.
pub const ALL: &[(&str, Check)] = &[
    ("core.v1.AWSElasticBlockStoreVolumeSource", sources::partition),
    ("core.v1.AzureDiskVolumeSource", sources::azure_disk),
    ("core.v1.CSIPersistentVolumeSource", storage::csi),
    ("core.v1.CSIVolumeSource", sources::csi),
    ("core.v1.ConfigMap", config::config_map),
    ("core.v1.ConfigMapVolumeSource", sources::default_mode),
    ("core.v1.DownwardAPIVolumeSource", sources::default_mode),
    ("core.v1.EndpointAddress", endpoints::address),
    ("core.v1.EndpointSubset", endpoints::subset),
    ("core.v1.Event", controllers::event),
    ("core.v1.FCVolumeSource", sources::fibre_channel),
    ("core.v1.FlexPersistentVolumeSource", sources::flex),
    ("core.v1.FlexVolumeSource", sources::flex),
    ("core.v1.FlockerVolumeSource", sources::flocker),
    ("core.v1.GCEPersistentDiskVolumeSource", sources::partition),
    ("core.v1.GitRepoVolumeSource", sources::git_repo),
    ("core.v1.HostPathVolumeSource", sources::host_path),
    ("core.v1.ISCSIPersistentVolumeSource", sources::iscsi),
    ("core.v1.ISCSIVolumeSource", sources::iscsi),
    ("core.v1.KeyToPath", sources::key_to_path),
    ("core.v1.LimitRangeItem", quota::limit),
    ("core.v1.LimitRangeSpec", quota::limit_range),
    ("core.v1.LocalVolumeSource", sources::host_path),
    ("core.v1.NFSVolumeSource", sources::nfs),
    ("core.v1.NamespaceSpec", controllers::namespace),
    ("core.v1.Node", nodes::node),
    ("core.v1.PersistentVolumeClaim", storage::claim_object),
    ("core.v1.PersistentVolumeClaimSpec", storage::claim),
    ("core.v1.PersistentVolumeSpec", storage::volume),
    ("core.v1.QuobyteVolumeSource", sources::quobyte),
    ("core.v1.ReplicationControllerSpec", controllers::replication_controller),
    ("core.v1.ResourceQuota", quota::quota_object),
    ("core.v1.ResourceQuotaSpec", quota::quota),
    ("core.v1.Secret", config::secret),
    ("core.v1.SecretVolumeSource", sources::default_mode),
    ("core.v1.Service", services::service),
    ("core.v1.ServiceSpec", services::spec),
    ("meta.v1.LabelSelectorRequirement", selectors::requirement),
];
