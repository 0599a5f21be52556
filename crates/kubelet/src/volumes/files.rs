//! Volumes that are sets of files: configMap, secret, downwardAPI, and projections of all of them and of tokens.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccountTokenProjection, Volume,
    VolumeProjection,
};
use tiphys_client::typed::Kind;

use super::writer::{File, Payload};
use crate::context::Context;
use crate::downward::{self, Facts};
use crate::env::Data;
use crate::sources::Key;
use crate::{pod, security};

const DEFAULT_MODE: i32 = 0o644;

/// Collects the contents of a pod's volumes, and what they depend on.
pub(super) struct Gathered<'a> {
    pub(super) ctx: &'a Context,
    pub(super) pod: &'a Pod,
    pub(super) facts: Facts,
    pub(super) shown: BTreeMap<Key, u64>,
    pub(super) refresh: Option<Timestamp>,
}

/// Which keys of a source go where.
struct Selection<'a> {
    items: Option<&'a [KeyToPath]>,
    mode: i32,
    optional: bool,
}

impl Gathered<'_> {
    /// The files of a volume, whether they are secret, and the name of its kind in paths.
    pub(super) async fn payload(&mut self, volume: &Volume) -> Result<(Payload, bool, &'static str), String> {
        if let Some(map) = &volume.config_map {
            let selection = selection(map.items.as_deref(), map.default_mode, map.optional);
            return Ok((self.config_map(&map.name, &selection).await?, false, "configmap"));
        }
        if let Some(secret) = &volume.secret {
            let selection = selection(secret.items.as_deref(), secret.default_mode, secret.optional);
            let name = secret.secret_name.as_deref().unwrap_or_default();
            return Ok((self.secret(name, &selection).await?, true, "secret"));
        }
        if let Some(downward) = &volume.downward_api {
            let mode = downward.default_mode.unwrap_or(DEFAULT_MODE);
            let files = self.downward(downward.items.as_deref().unwrap_or_default(), mode)?;
            return Ok((files, false, "downward-api"));
        }
        let Some(projected) = &volume.projected else {
            return Err("the volume has a type that this kubelet cannot mount".into());
        };
        let mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
        let mut all = Payload::new();
        for source in projected.sources.iter().flatten() {
            all.extend(self.projection(source, mode).await?);
        }
        Ok((all, true, "projected"))
    }

    async fn projection(&mut self, source: &VolumeProjection, mode: i32) -> Result<Payload, String> {
        if let Some(map) = &source.config_map {
            let selection = selection(map.items.as_deref(), Some(mode), map.optional);
            return self.config_map(&map.name, &selection).await;
        }
        if let Some(secret) = &source.secret {
            let selection = selection(secret.items.as_deref(), Some(mode), secret.optional);
            return self.secret(&secret.name, &selection).await;
        }
        if let Some(downward) = &source.downward_api {
            return self.downward(downward.items.as_deref().unwrap_or_default(), mode);
        }
        match &source.service_account_token {
            Some(token) => self.token(token, mode).await,
            None => Err("a projected source has a type that this kubelet cannot mount".into()),
        }
    }

    async fn config_map(&mut self, name: &str, selection: &Selection<'_>) -> Result<Payload, String> {
        let (data, version) = self.ctx.config_map(pod::namespace(self.pod), name).await?;
        self.shown.insert((ConfigMap::GVR, pod::namespace(self.pod).into(), name.into()), version);
        select(data, selection, "configmap", "configmap references non-existent config key", name)
    }

    async fn secret(&mut self, name: &str, selection: &Selection<'_>) -> Result<Payload, String> {
        let (data, version) = self.ctx.secret(pod::namespace(self.pod), name).await?;
        self.shown.insert((Secret::GVR, pod::namespace(self.pod).into(), name.into()), version);
        select(data, selection, "secret", "references non-existent secret key", name)
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile], mode: i32) -> Result<Payload, String> {
        let mut payload = Payload::new();
        let none = k8s_openapi::api::core::v1::Container::default();
        for item in items {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => downward::field(self.pod, &self.facts, &field.field_path)?,
                (None, Some(of)) => downward::resource(self.pod, &none, &self.facts, of)?,
                (None, None) => continue,
            };
            payload.insert(item.path.clone(), file(text.into_bytes(), item.mode.unwrap_or(mode)));
        }
        Ok(payload)
    }

    async fn token(&mut self, source: &ServiceAccountTokenProjection, mode: i32) -> Result<Payload, String> {
        let token = self.ctx.tokens.get(&self.ctx.client, self.pod, source).await?;
        self.refresh = Some(self.refresh.map_or(token.refresh, |at| at.min(token.refresh)));
        let user = common_user(self.pod);
        let mut made = file(token.text.into_bytes(), mode);
        if user.is_some() || security::of_pod(self.pod).fs_group.is_some() {
            made.mode = if security::of_pod(self.pod).fs_group.is_some() { 0o640 } else { 0o600 };
            made.owner = user;
        }
        Ok([(source.path.clone(), made)].into())
    }
}

/// The user all containers run as, if they all say the same.
fn common_user(pod: &Pod) -> Option<u32> {
    let shared = security::of_pod(pod).run_as_user;
    let user = |c: &k8s_openapi::api::core::v1::Container| {
        c.security_context.as_ref().and_then(|s| s.run_as_user).or(shared)
    };
    let mut users = pod::containers(pod).map(user);
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}

fn selection(items: Option<&[KeyToPath]>, mode: Option<i32>, optional: Option<bool>) -> Selection<'_> {
    let items = items.filter(|items| !items.is_empty());
    Selection { items, mode: mode.unwrap_or(DEFAULT_MODE), optional: optional == Some(true) }
}

fn file(data: Vec<u8>, mode: i32) -> File {
    File { data, mode: u32::try_from(mode).unwrap_or(0o644) & 0o777, owner: None }
}

fn select(
    data: Data,
    selection: &Selection<'_>,
    kind: &str,
    no_key: &str,
    name: &str,
) -> Result<Payload, String> {
    let Some(data) = data else {
        let missing = format!("{kind} {name:?} not found");
        return if selection.optional { Ok(Payload::new()) } else { Err(missing) };
    };
    let Some(items) = selection.items else {
        return Ok(data.into_iter().map(|(key, value)| (key, file(value, selection.mode))).collect());
    };
    let mut payload = Payload::new();
    for item in items {
        match data.get(&item.key) {
            Some(value) => {
                let mode = item.mode.unwrap_or(selection.mode);
                payload.insert(item.path.clone(), file(value.clone(), mode));
            }
            None if selection.optional => {}
            None => return Err(format!("{no_key}: {}", item.key)),
        }
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_choose_and_missing_keys_are_named() {
        let data: Data = Some([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())].into());
        let of = |data: &Data, items: Option<&[KeyToPath]>| {
            select(data.clone(), &selection(items, None, None), "configmap", "no such key", "m")
        };
        assert_eq!(of(&data, None).unwrap().len(), 2);
        let item = |key: &str| KeyToPath { key: key.into(), path: "x/y".into(), mode: Some(0o400) };
        let one = of(&data, Some(&[item("a")])).unwrap();
        assert_eq!(one["x/y"], File { data: b"1".to_vec(), mode: 0o400, owner: None });
        assert_eq!(of(&data, Some(&[item("z")])).unwrap_err(), "no such key: z");
        assert_eq!(of(&None, None).unwrap_err(), "configmap \"m\" not found");
        let optional = selection(None, None, Some(true));
        assert!(select(None, &optional, "secret", "no such key", "s").unwrap().is_empty());
    }
}
