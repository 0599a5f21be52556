//! Webhook configurations, read once for all requests until one changes.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Deserialize;
use tiphys_api::selector::LabelSelector;
use tiphys_api::{Gvr, Value};

use super::conditions::Conditions;
use crate::auth::Lister;
use crate::hook::ClientConfig;

/// When an object says nothing else, in seconds.
const TIMEOUT: u64 = 10;

/// A selector, or why it cannot be used.
pub(super) type Selector = Result<LabelSelector, String>;

/// One webhook, ready to be asked about requests.
#[derive(Debug)]
pub(super) struct Webhook {
    /// `configuration/name/position`: one webhook among all.
    pub uid: Box<str>,
    /// `name`
    pub name: Box<str>,
    /// Where it is.
    pub client: ClientConfig,
    /// Which requests it is about.
    pub rules: Vec<Rule>,
    /// `matchPolicy: Equivalent`: in whatever version they come.
    pub equivalent: bool,
    /// Which namespaces.
    pub namespaces: Selector,
    /// Which objects.
    pub objects: Selector,
    /// `matchConditions`
    pub conditions: Conditions,
    /// `failurePolicy: Ignore`
    pub fails_open: bool,
    /// Whether it may be called on a dry run; `None` when it does not say.
    pub dry_runs: Option<bool>,
    /// How long it may take.
    pub timeout: Duration,
    /// Versions of AdmissionReview that it reads, in its order.
    pub versions: Vec<Box<str>>,
    /// `reinvocationPolicy: IfNeeded`
    pub reinvoked: bool,
}

/// `RuleWithOperations`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rule {
    pub operations: Vec<Box<str>>,
    pub api_groups: Vec<Box<str>>,
    pub api_versions: Vec<Box<str>>,
    pub resources: Vec<Box<str>>,
    pub scope: Option<Box<str>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Configuration {
    webhooks: Option<Vec<Raw>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    name: Box<str>,
    client_config: ClientConfig,
    rules: Option<Vec<Rule>>,
    failure_policy: Option<Box<str>>,
    match_policy: Option<Box<str>>,
    namespace_selector: Option<Value>,
    object_selector: Option<Value>,
    match_conditions: Option<Vec<Value>>,
    side_effects: Option<Box<str>>,
    timeout_seconds: Option<u64>,
    admission_review_versions: Option<Vec<Box<str>>>,
    reinvocation_policy: Option<Box<str>>,
}

impl Raw {
    fn compile(self, configuration: &str, position: usize) -> Webhook {
        let is = |value: &Option<Box<str>>, wanted: &str| value.as_deref() == Some(wanted);
        Webhook {
            uid: format!("{configuration}/{}/{position}", self.name).into(),
            fails_open: is(&self.failure_policy, "Ignore"),
            equivalent: !is(&self.match_policy, "Exact"),
            namespaces: selector(self.namespace_selector),
            objects: selector(self.object_selector),
            conditions: Conditions::of_webhook(&self.match_conditions.unwrap_or_default()),
            dry_runs: self.side_effects.map(|effects| matches!(effects.as_ref(), "None" | "NoneOnDryRun")),
            timeout: Duration::from_secs(self.timeout_seconds.unwrap_or(TIMEOUT)),
            versions: self.admission_review_versions.unwrap_or_default(),
            reinvoked: is(&self.reinvocation_policy, "IfNeeded"),
            rules: self.rules.unwrap_or_default(),
            client: self.client_config,
            name: self.name,
        }
    }
}

/// One webhook by itself; `None` for what is none.
pub(super) fn read(webhook: &Value) -> Option<Webhook> {
    let raw: Raw = serde_json::from_str(&webhook.to_string()).ok()?;
    let name = raw.name.clone();
    Some(raw.compile(&name, 0))
}

/// A selector; one that is absent selects all.
fn selector(selector: Option<Value>) -> Selector {
    match selector {
        None => Ok(LabelSelector::everything()),
        Some(selector) => LabelSelector::from_value(&selector).map_err(|error| error.to_string()),
    }
}

/// The webhooks of one kind of configuration, in the order in which they are called.
pub(super) struct Source {
    lister: Arc<dyn Lister>,
    gvr: Gvr,
    known: ArcSwap<Known>,
}

/// What the configurations said at a version.
#[derive(Default)]
struct Known {
    version: Option<u64>,
    webhooks: Arc<[Arc<Webhook>]>,
}

impl Source {
    pub(super) fn new(lister: Arc<dyn Lister>, gvr: Gvr) -> Self {
        Self { lister, gvr, known: ArcSwap::default() }
    }

    /// The webhooks as they are now. Costs a look at a number unless a configuration changed.
    pub(super) fn webhooks(&self) -> Arc<[Arc<Webhook>]> {
        // The version first: a change between the two reads only makes the next look read again.
        let version = self.lister.version(&self.gvr);
        let known = self.known.load();
        if version.is_some() && known.version == version {
            return known.webhooks.clone();
        }
        let webhooks = self.read();
        self.known.store(Arc::new(Known { version, webhooks: webhooks.clone() }));
        webhooks
    }

    /// Reads all configurations, by their names.
    fn read(&self) -> Arc<[Arc<Webhook>]> {
        let mut objects = self.lister.list(&self.gvr, "");
        objects.sort_by(|a, b| a.meta().name.cmp(&b.meta().name));
        let mut webhooks = Vec::new();
        for object in objects {
            let name = &object.meta().name;
            match object.decode::<Configuration>() {
                Ok(read) => webhooks.extend(
                    read.webhooks
                        .into_iter()
                        .flatten()
                        .enumerate()
                        .map(|(position, raw)| Arc::new(raw.compile(name, position))),
                ),
                // It was checked when it was written.
                Err(error) => tracing::error!(%name, %error, "a webhook configuration cannot be read"),
            }
        }
        webhooks.into()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A webhook as its JSON says.
    pub(in super::super) fn webhook(json: &Value) -> Webhook {
        json.to::<Raw>().unwrap().compile("c", 0)
    }
}
