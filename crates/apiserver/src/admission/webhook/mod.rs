//! MutatingAdmissionWebhook and ValidatingAdmissionWebhook: policy that is somebody else's program.
//!
//! - Which webhooks a request is put to is decided purely ([`matching`]) from configurations that are read once per change
//!   ([`config`]); what is said to them and what their answers mean is pure as well ([`exchange`]). Without configurations a
//!   request costs a look at a number.
//! - Mutating webhooks are called one after the other, each with what those before it made of the object, which is decoded,
//!   pruned and defaulted anew ([`patched`]); validating ones all at once.
//! - A webhook that cannot be asked refuses the request or is passed over, as its `failurePolicy` says.
//! - While a server starts, its own writes pass: a webhook whose pods need this server first must not keep it from starting.

mod call;
mod conditions;
mod config;
mod exchange;
mod matching;
mod metrics;
mod patched;
mod scope;
mod shown;
#[cfg(test)]
mod tests;
mod versions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::future::join_all;
use tiphys_api::schema::Resource;
use tiphys_api::{Gvr, Object, Status};

use super::rounds::Who;
use super::{Plugin, Review};
use crate::auth::{Authorizer, Lister};
use crate::hook::Caller;
pub use conditions::Conditions;
use config::{Source, Webhook};
use metrics::{Metrics, Phase};
pub use scope::Scope;
pub use shown::{Asked, is_whole};
pub use versions::{Convertible, Versions};

const NAMESPACES: Gvr = Gvr::new("", "v1", "namespaces");
const MUTATING: Gvr = Gvr::new("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations");
const VALIDATING: Gvr = Gvr::new("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations");

/// What both plugins work with.
pub struct Webhooks {
    caller: Arc<dyn Caller>,
    lister: Arc<dyn Lister>,
    authorizer: Arc<dyn Authorizer>,
    versions: Arc<dyn Versions>,
    metrics: Metrics,
    open: AtomicBool,
}

impl Webhooks {
    /// Calls webhooks through `caller`; none until it is [opened](Self::open).
    pub fn new(
        caller: Arc<dyn Caller>,
        lister: Arc<dyn Lister>,
        authorizer: Arc<dyn Authorizer>,
        versions: Arc<dyn Versions>,
    ) -> Arc<Self> {
        let (metrics, open) = (Metrics::new(), AtomicBool::new(false));
        Arc::new(Self { caller, lister, authorizer, versions, metrics, open })
    }

    /// From now on webhooks are called.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// The plugins in their order.
    pub fn plugins(self: &Arc<Self>) -> Vec<Arc<dyn Plugin>> {
        let source = |gvr: Gvr| Source::new(self.lister.clone(), gvr);
        vec![
            Arc::new(MutatingAdmissionWebhook { webhooks: self.clone(), source: source(MUTATING) }),
            Arc::new(ValidatingAdmissionWebhook { webhooks: self.clone(), source: source(VALIDATING) }),
        ]
    }

    /// Adds the metrics of webhooks to a scrape.
    pub fn render(&self, out: &mut String) {
        self.metrics.render(out);
    }

    /// The webhooks of a source, where this request may concern any.
    fn of(&self, source: &Source, review: &Review<'_>) -> Option<Arc<[Arc<Webhook>]>> {
        let webhooks = source.webhooks();
        let idle = webhooks.is_empty() || matching::is_exempt(review) || !self.open.load(Ordering::Acquire);
        if idle { None } else { Some(webhooks) }
    }

    /// The resource that a webhook is told about, if it is to be asked.
    async fn told(&self, webhook: &Webhook, review: &Review<'_>) -> Result<Option<Arc<Resource>>, Status> {
        let equivalents = || self.versions.of(review.resource);
        let Some(told) = matching::told(webhook, review, equivalents) else { return Ok(None) };
        let objects = webhook.objects.as_ref().map_err(Status::internal);
        let namespaces = self.in_namespace(webhook, review).await;
        if matches!(namespaces, Ok(false)) {
            return Ok(None);
        }
        // An error counts only where nothing else excludes the webhook.
        if !objects.map(|selector| matching::object_matches(selector, review))? {
            return Ok(None);
        }
        namespaces?;
        self.conditions_hold(webhook, review, &told).await.map(|hold| hold.then_some(told))
    }

    /// Whether a webhook's `matchConditions` hold. Where that cannot be told it is passed over, or the request refused, as its
    /// `failurePolicy` says.
    async fn conditions_hold(
        &self,
        webhook: &Webhook,
        review: &Review<'_>,
        told: &Arc<Resource>,
    ) -> Result<bool, Status> {
        if webhook.conditions.is_empty() {
            return Ok(true);
        }
        let asked = self.asked(review, told).await?;
        match (webhook.conditions.hold_for(&asked), webhook.fails_open) {
            (Ok(hold), _) => Ok(hold),
            (Err(_), true) => Ok(false),
            (Err(why), false) => Err(review.forbidden(&why)),
        }
    }

    async fn in_namespace(&self, webhook: &Webhook, review: &Review<'_>) -> Result<bool, Status> {
        let namespace = matching::namespace(review);
        if namespace.is_empty() {
            return Ok(true);
        }
        let selector = webhook.namespaces.as_ref().map_err(Status::internal)?;
        if selector.is_everything() {
            return Ok(true);
        }
        if matching::is_own_namespace(review) {
            return Ok(selector.matches_with(|key| matching::label(review.object, key)));
        }
        Ok(selector.matches(&self.namespace(namespace).await?.meta().labels))
    }

    async fn namespace(&self, name: &str) -> Result<Object, Status> {
        if let Some(found) = self.lister.get(&NAMESPACES, "", name) {
            return Ok(found);
        }
        self.lister.refresh().await;
        self.lister.get(&NAMESPACES, "", name).ok_or_else(|| Status::not_found(&NAMESPACES, name))
    }
}

/// See the module.
struct MutatingAdmissionWebhook {
    webhooks: Arc<Webhooks>,
    source: Source,
}

#[async_trait]
impl Plugin for MutatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "MutatingAdmissionWebhook"
    }

    async fn mutate(&self, review: &mut Review<'_>) -> Result<(), Status> {
        let Some(all) = self.webhooks.of(&self.source, review) else { return Ok(()) };
        review.rounds.enter(Who::Webhooks, review.object);
        for webhook in all.iter() {
            let Some(told) = self.webhooks.told(webhook, review).await? else { continue };
            if !review.rounds.calls(Who::Webhooks, &webhook.uid) {
                continue;
            }
            let changed = self.webhooks.change(webhook, review, &told).await?;
            review.rounds.called(Who::Webhooks, &webhook.uid, changed, webhook.reinvoked);
        }
        review.rounds.leave(Who::Webhooks, review.object);
        Ok(())
    }
}

/// See the module.
struct ValidatingAdmissionWebhook {
    webhooks: Arc<Webhooks>,
    source: Source,
}

#[async_trait]
impl Plugin for ValidatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    async fn validate(&self, review: &Review<'_>) -> Result<(), Status> {
        let Some(all) = self.webhooks.of(&self.source, review) else { return Ok(()) };
        let mut asked = Vec::new();
        for webhook in all.iter() {
            if let Some(told) = self.webhooks.told(webhook, review).await? {
                asked.push((webhook, told));
            }
        }
        let all = asked.iter().map(|(webhook, told)| self.webhooks.judge(webhook, review, told));
        let verdicts = join_all(all).await;
        // Of several refusals the client hears the first.
        verdicts.into_iter().collect()
    }
}
