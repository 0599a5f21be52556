//! The client's options in the registry's words.

use tiphys_client::{DeleteOptions, ListOptions, PatchKind, WatchOptions, WriteOptions};

use crate::registry::{
    DeleteParams, FieldValidation, ListParams, PatchType, Propagation, WatchParams, WriteParams,
};

pub(super) fn list(options: &ListOptions) -> ListParams {
    ListParams {
        labels: options.labels.clone(),
        fields: options.fields.clone(),
        limit: options.limit.into(),
        continue_token: options.continue_token.clone(),
        resource_version: options.resource_version.clone(),
        resource_version_match: String::new(),
    }
}

pub(super) fn watch(options: &WatchOptions) -> WatchParams {
    WatchParams {
        labels: options.labels.clone(),
        fields: options.fields.clone(),
        resource_version: options.resource_version.clone(),
        bookmarks: options.bookmarks,
        ..WatchParams::default()
    }
}

pub(super) fn write(options: &WriteOptions, agent: &str) -> WriteParams {
    WriteParams {
        field_manager: options.field_manager.clone(),
        user_agent: agent.to_owned(),
        force: options.force,
        dry_run: options.dry_run,
        // Warnings would go nowhere.
        field_validation: FieldValidation::Ignore,
        protobuf: false,
    }
}

pub(super) fn form(kind: PatchKind) -> PatchType {
    match kind {
        PatchKind::Json => PatchType::Json,
        PatchKind::Merge => PatchType::Merge,
        PatchKind::Strategic => PatchType::Strategic,
        PatchKind::Apply => PatchType::Apply,
    }
}

pub(super) fn delete(options: &DeleteOptions) -> DeleteParams {
    DeleteParams {
        grace_period_seconds: options.grace_period_seconds,
        propagation: options.propagation.and_then(propagation),
        uid: options.uid.clone(),
        resource_version: options.resource_version.map(|v| v.to_string()),
        dry_run: options.dry_run,
    }
}

fn propagation(policy: &str) -> Option<Propagation> {
    match policy {
        "Orphan" => Some(Propagation::Orphan),
        "Background" => Some(Propagation::Background),
        "Foreground" => Some(Propagation::Foreground),
        _ => None,
    }
}
