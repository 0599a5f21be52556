//! Policies where bindings apply them: read once per change, and asked about requests.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tiphys_api::schema::Resource;
use tiphys_api::{Gvk, Gvr, Status, Value};
use tiphys_cel::{Budget, cost};

use super::super::Review;
use super::super::webhook::{Asked, Conditions, Scope, Webhooks};
use super::inputs::{Inputs, Read};
use crate::auth::Lister;
use crate::kinds::Kinds;
use crate::registry::tree;

const GROUP: &str = "admissionregistration.k8s.io";
const NAMESPACES: Gvr = Gvr::new("", "v1", "namespaces");

/// What one kind of policy does, besides what all do.
pub trait Rules: Send + Sync + Sized {
    /// The resource of its policies, and that of their bindings.
    const RESOURCES: [&'static str; 2];

    /// Of a policy's spec, whose expressions read what `inputs` says.
    fn new(spec: &Value, inputs: &Inputs) -> Self;
}

/// A policy.
pub struct Policy<R> {
    pub name: Box<str>,
    scope: Scope,
    conditions: Conditions,
    pub fails_open: bool,
    pub params: Option<Gvk>,
    pub inputs: Inputs,
    pub rules: R,
}

/// A policy where a binding applies it.
pub struct Bound<R> {
    pub name: Box<str>,
    pub policy: Arc<Policy<R>>,
    scope: Option<Scope>,
    /// What is done about objections, where the kind of policy has any.
    pub actions: Box<[Box<str>]>,
    /// Which objects are its parameters.
    pub params: Option<Value>,
}

/// A policy that is asked about a request through a binding.
pub struct Invocation<'b, R> {
    pub bound: &'b Bound<R>,
    /// As which resource the request is in its scope.
    pub told: Arc<Resource>,
    /// One of its parameters, or why it has none.
    pub params: Result<Value, String>,
}

/// All policies of a kind.
pub struct Policies<R> {
    pub webhooks: Arc<Webhooks>,
    pub lister: Arc<dyn Lister>,
    pub kinds: Arc<Kinds>,
    known: ArcSwap<Known<R>>,
}

/// What policies and bindings said at their versions.
struct Known<R> {
    versions: [Option<u64>; 2],
    bound: Arc<[Bound<R>]>,
}

impl<R: Rules> Policy<R> {
    fn new(policy: &Value) -> Self {
        let spec = tree::at(policy, &["spec"]);
        let name = tree::text(policy, &["metadata", "name"]);
        let kind = tree::at(spec, &["paramKind"]);
        let inputs = Inputs::new(spec);
        Self {
            name: name.into(),
            scope: Scope::new(name, tree::at(spec, &["matchConstraints"])),
            conditions: Conditions::new(tree::items(spec, &["matchConditions"]), &inputs.plain),
            fails_open: tree::text(spec, &["failurePolicy"]) == "Ignore",
            params: kind.is_object().then(|| {
                Gvk::from_api_version(tree::text(kind, &["apiVersion"]), tree::text(kind, &["kind"]))
            }),
            rules: R::new(spec, &inputs),
            inputs,
        }
    }

    /// Whether its conditions hold; why that cannot be told, if that matters.
    pub fn holds(&self, asked: &Asked, others: (&Value, &Value)) -> Result<bool, String> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let budget = Budget::new(cost::MATCH_CONDITIONS);
        match self.conditions.hold(&Read::new(&self.inputs, asked, others, &budget)) {
            Err(_) if self.fails_open => Ok(false),
            other => other,
        }
    }
}

impl<R: Rules> Bound<R> {
    fn new(binding: &Value, policies: &[Arc<Policy<R>>]) -> Option<Self> {
        let spec = tree::at(binding, &["spec"]);
        let policy = policies.iter().find(|policy| *policy.name == *tree::text(spec, &["policyName"]))?;
        let name = tree::text(binding, &["metadata", "name"]);
        let matching = tree::at(spec, &["matchResources"]);
        let actions = tree::items(spec, &["validationActions"]).iter().filter_map(Value::as_str);
        Some(Self {
            name: name.into(),
            policy: policy.clone(),
            scope: matching.is_object().then(|| Scope::new(name, matching)),
            actions: actions.map(Into::into).collect(),
            params: Some(tree::at(spec, &["paramRef"])).filter(|params| params.is_object()).cloned(),
        })
    }
}

impl<R: Rules> Policies<R> {
    /// Over a server's webhooks, which know how requests are matched.
    pub fn new(webhooks: Arc<Webhooks>, lister: Arc<dyn Lister>, kinds: Arc<Kinds>) -> Self {
        let known = Known { versions: [None; 2], bound: Arc::new([]) };
        Self { webhooks, lister, kinds, known: ArcSwap::from_pointee(known) }
    }

    /// The policies that may concern a request, by their names and those of their bindings.
    pub fn about(&self, review: &Review<'_>) -> Option<Arc<[Bound<R>]>> {
        let bound = self.bound();
        (!bound.is_empty() && self.webhooks.judges(review)).then_some(bound)
    }

    fn bound(&self) -> Arc<[Bound<R>]> {
        let resources = R::RESOURCES.map(|resource| Gvr::new(GROUP, "v1", resource));
        // The versions first: a change between the reads only makes the next look read again.
        let versions = resources.each_ref().map(|gvr| self.lister.version(gvr));
        let known = self.known.load();
        if versions.iter().all(Option::is_some) && known.versions == versions {
            return known.bound.clone();
        }
        let bound: Arc<[Bound<R>]> = self.read(&resources).into();
        self.known.store(Arc::new(Known { versions, bound: bound.clone() }));
        bound
    }

    fn read(&self, [policies, bindings]: &[Gvr; 2]) -> Vec<Bound<R>> {
        // They were checked when they were written.
        let list = |gvr| self.lister.list(gvr, "").into_iter().filter_map(|object| object.value().ok());
        let policies: Vec<_> = list(policies).map(|policy| Arc::new(Policy::new(&policy))).collect();
        let mut bound: Vec<_> =
            list(bindings).filter_map(|binding| Bound::new(&binding, &policies)).collect();
        bound.sort_by(|a, b| (&a.policy.name, &a.name).cmp(&(&b.policy.name, &b.name)));
        bound
    }

    /// Who is to be asked about a request, conditions aside. What keeps a policy that fails open from being asked passes.
    pub async fn invocations<'b>(
        &self,
        bound: &'b [Bound<R>],
        review: &Review<'_>,
    ) -> Result<Vec<Invocation<'b, R>>, Status> {
        let mut all = Vec::new();
        for bound in bound {
            let Some(told) = self.webhooks.in_scope(&bound.policy.scope, review).await? else { continue };
            if let Some(scope) = &bound.scope
                && self.webhooks.in_scope(scope, review).await?.is_none()
            {
                continue;
            }
            let invocation = |params| Invocation { bound, told: told.clone(), params };
            match self.params(bound, review) {
                Ok(params) => all.extend(params.into_iter().map(|params| invocation(Ok(params)))),
                Err(_) if bound.policy.fails_open => {}
                Err(why) => all.push(invocation(Err(format!("failed to configure binding: {why}")))),
            }
        }
        Ok(all)
    }

    /// The object of a request's namespace; null outside of one.
    pub fn namespace(&self, review: &Review<'_>) -> Value {
        let namespace = self.lister.get(&NAMESPACES, "", review.namespace);
        namespace.and_then(|namespace| namespace.value().ok()).unwrap_or_default()
    }
}
