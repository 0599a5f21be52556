//! Rules of the core group's types.

mod amounts;
pub mod pods;
mod selectors;
mod sources;

use super::{
    At, Check, Fields, Seen, as_value, flag, items, judge, list, number, object, text, texts, under,
};

/// The checks of all types but those of pods.
pub const ALL: &[(&str, Check)] = &[
    ("core.v1.AWSElasticBlockStoreVolumeSource", sources::partition),
    ("core.v1.AzureDiskVolumeSource", sources::azure_disk),
    ("core.v1.CSIPersistentVolumeSource", sources::csi_driver),
    ("core.v1.CSIVolumeSource", sources::csi),
    ("core.v1.ConfigMapVolumeSource", sources::default_mode),
    ("core.v1.DownwardAPIVolumeSource", sources::default_mode),
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
    ("core.v1.LocalVolumeSource", sources::host_path),
    ("core.v1.NFSVolumeSource", sources::nfs),
    ("core.v1.QuobyteVolumeSource", sources::quobyte),
    ("core.v1.SecretVolumeSource", sources::default_mode),
    ("meta.v1.LabelSelectorRequirement", selectors::requirement),
];
