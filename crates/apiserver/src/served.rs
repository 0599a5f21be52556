//! Which versions of the API are served, as kube-apiserver's `--runtime-config` says it.
//!
//! - Stable versions are served, beta and alpha ones are not, unless asked for: `group/version=true`,
//!   `group/version/resource=false`, and for all of a stage `api/ga`, `api/beta`, `api/alpha` or `api/all`.
//! - The special word comes before the general one, whatever their order: resource, version, stage, all.
//! - What is not served is absent everywhere: 404, and in no discovery or OpenAPI document. It stays stored.

use std::collections::{HashMap, HashSet};

use tiphys_api::Gvr;
use tiphys_api::schema::{Catalog, Resource, builtin, version_rank};

/// Words for all versions and for those of a stage, the more general first. The number is the stage's in
/// [`version_rank`].
const STAGES: [(&str, Option<u8>); 4] =
    [("api/all", None), ("api/ga", Some(0)), ("api/beta", Some(1)), ("api/alpha", Some(2))];

/// A setting that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither `true` nor `false`.
    #[error("invalid value of runtime-config {key}: {value:?} is neither true nor false")]
    Value {
        /// What was set.
        key: String,
        /// To what.
        value: String,
    },
    /// No such group, version or resource.
    #[error("runtime-config {0} names no API of this server")]
    Unknown(String),
}

/// The built-in resources that are not served. Custom ones always are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    off: HashSet<Gvr>,
}

impl Default for Served {
    fn default() -> Self {
        Self::with(&Settings::default())
    }
}

impl Served {
    /// What a list of `key=value` says; a key alone means `true`.
    pub fn parse<'a>(settings: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        Settings::parse(settings).map(|settings| Self::with(&settings))
    }

    fn with(settings: &Settings) -> Self {
        // What elsewhere another server adds is not among the versions that are turned on and off.
        let own = |gvr: &Gvr| gvr.group != crate::node_metrics::GROUP;
        let off = builtin().iter().filter(|resource| own(&resource.gvr) && !settings.serves(&resource.gvr));
        Self { off: off.map(|resource| resource.gvr.clone()).collect() }
    }

    /// Whether a resource is served in this version.
    pub fn has(&self, gvr: &Gvr) -> bool {
        !self.off.contains(gvr)
    }

    /// The built-in resources that are served, in discovery's order.
    pub fn resources(&self) -> impl Iterator<Item = &'static std::sync::Arc<Resource>> {
        builtin().iter().filter(|resource| self.has(&resource.gvr))
    }
}

/// What was said.
#[derive(Debug, Default)]
struct Settings {
    /// By position in [`STAGES`].
    stages: HashMap<usize, bool>,
    /// By `group/version` (`v1` for core).
    versions: HashMap<String, bool>,
    /// By `group/version/resource`.
    resources: HashMap<String, bool>,
}

impl Settings {
    fn parse<'a>(settings: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let mut found = Self::default();
        for setting in settings.into_iter().map(str::trim).filter(|setting| !setting.is_empty()) {
            let (key, value) = setting.split_once('=').unwrap_or((setting, "true"));
            found.set(key, truth(key, value)?)?;
        }
        Ok(found)
    }

    fn set(&mut self, key: &str, on: bool) -> Result<(), Error> {
        if let Some(stage) = STAGES.iter().position(|(name, _)| *name == key) {
            self.stages.insert(stage, on);
            return Ok(());
        }
        let (version, resource) = known(builtin(), key).ok_or_else(|| Error::Unknown(key.to_owned()))?;
        match resource {
            None => drop(self.versions.insert(version, on)),
            Some(resource) => drop(self.resources.insert(format!("{version}/{resource}"), on)),
        }
        Ok(())
    }

    fn serves(&self, gvr: &Gvr) -> bool {
        let version = gvr.api_version();
        if let Some(on) = self.resources.get(&format!("{version}/{}", gvr.resource)) {
            return *on;
        }
        self.versions.get(&version).copied().unwrap_or_else(|| self.stage(version_rank(&gvr.version).0))
    }

    fn stage(&self, stage: u8) -> bool {
        let applying = STAGES.iter().enumerate().filter(|(_, (_, of))| of.is_none_or(|of| of == stage));
        let mut said = applying.rev().filter_map(|(at, _)| self.stages.get(&at).copied());
        said.next().unwrap_or(stage == 0)
    }
}

fn truth(key: &str, value: &str) -> Result<bool, Error> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::Value { key: key.to_owned(), value: value.to_owned() }),
    }
}

/// The version and resource that a key names, if the catalog has them.
fn known(catalog: &Catalog, key: &str) -> Option<(String, Option<String>)> {
    let (version, resource) = match key.split('/').collect::<Vec<_>>().as_slice() {
        ["v1"] | ["api", "v1"] => ("v1".to_owned(), None),
        ["api", "v1", resource] => ("v1".to_owned(), Some((*resource).to_owned())),
        [group, version] => (format!("{group}/{version}"), None),
        [group, version, resource] => (format!("{group}/{version}"), Some((*resource).to_owned())),
        _ => return None,
    };
    let mut all = catalog.iter().filter(|known| known.gvr.api_version() == version);
    let there = all.any(|known| resource.as_ref().is_none_or(|name| *name == known.gvr.resource));
    there.then_some((version, resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serves(settings: &str, resource: &str) -> bool {
        let served = Served::parse(settings.split(',')).unwrap();
        let (version, name) = resource.rsplit_once('/').unwrap();
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let gvr = Gvr::owned(group, version, name);
        assert!(builtin().get(&gvr).is_some(), "{resource}");
        served.has(&gvr)
    }

    #[test]
    fn the_special_word_wins() {
        for (settings, resource, expected) in [
            ("", "v1/pods", true),
            ("", "apps/v1/deployments", true),
            ("", "resource.k8s.io/v1beta1/resourceclaims", false),
            ("", "internal.apiserver.k8s.io/v1alpha1/storageversions", false),
            ("api/all=true", "internal.apiserver.k8s.io/v1alpha1/storageversions", true),
            ("api/beta", "resource.k8s.io/v1beta1/resourceclaims", true),
            ("api/beta", "internal.apiserver.k8s.io/v1alpha1/storageversions", false),
            ("api/beta=false,api/all=true", "resource.k8s.io/v1beta1/resourceclaims", false),
            ("api/all=false,v1=true", "v1/pods", true),
            ("api/all=false,v1=true", "apps/v1/deployments", false),
            ("apps/v1=false", "apps/v1/deployments", false),
            ("apps/v1/deployments=false", "apps/v1/deployments", false),
            ("apps/v1/deployments=false", "apps/v1/daemonsets", true),
            ("resource.k8s.io/v1beta1=true", "resource.k8s.io/v1beta1/resourceclaims", true),
            ("resource.k8s.io/v1beta1/resourceclaims=true", "resource.k8s.io/v1beta1/resourceclaims", true),
            ("resource.k8s.io/v1beta1/resourceclaims=true", "resource.k8s.io/v1beta1/deviceclasses", false),
        ] {
            assert_eq!(serves(settings, resource), expected, "{settings} {resource}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let error = |setting| Served::parse([setting]).unwrap_err().to_string();
        assert!(error("apps/v1=maybe").contains("neither true nor false"));
        for unknown in ["apps/v9=true", "nothing", "apps/v1/nothings=false", "a/b/c/d"] {
            assert!(error(unknown).contains("names no API"), "{unknown}");
        }
    }
}
