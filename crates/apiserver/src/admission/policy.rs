//! `ValidatingAdmissionPolicy`: rules in CEL that an administrator sets over requests, where a binding applies them.
//!
//! - Which requests a policy is about is told as for webhooks ([`Webhooks::told`]): rules, selectors, conditions.
//! - Expressions read `object`, `oldObject`, `request`, `params`, `namespaceObject` and `variables`, which are evaluated when they are
//!   first read. `authorizer` is not there: a policy that asks it is refused when it is written.
//! - Policies and bindings are compiled once per change of either; with none a request costs two looks at a number.

use std::cell::RefCell;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tiphys_api::selector::LabelSelector;
use tiphys_api::status::Cause;
use tiphys_api::{Gvk, Gvr, Status, Value};
use tiphys_cel::value::from_tree;
use tiphys_cel::{Bindings, Budget, CompileError, Decl, Env, EvalError, Program, Type, Value as Cel, cost};

use super::webhook::{Scope, Webhooks};
use super::{Plugin, Review};
use crate::auth::Lister;
use crate::kinds::Kinds;
use crate::registry::tree;

const POLICIES: Gvr = Gvr::new("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies");
const BINDINGS: Gvr = Gvr::new("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings");
const NAMESPACES: Gvr = Gvr::new("", "v1", "namespaces");
/// What expressions read besides variables.
const NAMES: [&str; 5] = ["object", "oldObject", "request", "params", "namespaceObject"];
/// Reasons of a refusal, and their codes.
const REASONS: [(&str, u16); 4] =
    [("Unauthorized", 401), ("Forbidden", 403), ("Invalid", 422), ("RequestEntityTooLarge", 413)];

/// See the module.
pub struct ValidatingAdmissionPolicies {
    webhooks: Arc<Webhooks>,
    lister: Arc<dyn Lister>,
    kinds: Arc<Kinds>,
    known: ArcSwap<Known>,
}

/// What policies and bindings said at their versions.
#[derive(Default)]
struct Known {
    versions: [Option<u64>; 2],
    bound: Arc<[Bound]>,
}

/// A policy where a binding applies it.
struct Bound {
    name: Box<str>,
    policy: Arc<Policy>,
    scope: Option<Scope>,
    actions: Box<[Box<str>]>,
    params: Option<Value>,
}

struct Policy {
    name: Box<str>,
    scope: Scope,
    fails_open: bool,
    params: Option<Gvk>,
    variables: Box<[(String, Compiled)]>,
    validations: Box<[Validation]>,
}

type Compiled = Result<Program, String>;

struct Validation {
    program: Compiled,
    message: Option<Program>,
    text: Box<str>,
    reason: Box<str>,
}

/// What may be read by expressions of a policy, its first so many variables among them.
fn env(variables: &[Value]) -> Env {
    let any = || Decl::of(Type::Dyn);
    let env = NAMES.iter().fold(Env::new(), |env, name| env.with(name, any()));
    let names = variables.iter().map(|variable| tree::text(variable, &["name"]));
    names.fold(env, |env, name| env.with(&format!("variables.{name}"), any()))
}

/// What is wrong with the expressions of a policy's spec: each with where it stands.
pub fn judge(spec: &Value) -> Vec<(String, String, CompileError)> {
    let variables = tree::items(spec, &["variables"]);
    let mut found = Vec::new();
    let mut judge = |at: String, text: &str, env: &Env| {
        if let (false, Err(error)) = (text.trim().is_empty(), Program::compile(text.trim(), env)) {
            found.push((at, text.to_owned(), error));
        }
    };
    for (index, variable) in variables.iter().enumerate() {
        let before = env(variables.get(..index).unwrap_or_default());
        judge(format!("variables[{index}].expression"), tree::text(variable, &["expression"]), &before);
    }
    let all = env(variables);
    for (index, validation) in tree::items(spec, &["validations"]).iter().enumerate() {
        for name in ["expression", "messageExpression"] {
            judge(format!("validations[{index}].{name}"), tree::text(validation, &[name]), &all);
        }
    }
    found
}

fn compile(text: &str, env: &Env) -> Compiled {
    Program::compile(text.trim(), env).map_err(|error| error.to_string())
}

impl Policy {
    fn new(policy: &Value) -> Self {
        let spec = tree::at(policy, &["spec"]);
        let name = tree::text(policy, &["metadata", "name"]);
        let variables = tree::items(spec, &["variables"]);
        let variable = |(index, variable): (usize, &Value)| {
            let before = env(variables.get(..index).unwrap_or_default());
            let name = format!("variables.{}", tree::text(variable, &["name"]));
            (name, compile(tree::text(variable, &["expression"]), &before))
        };
        let all = env(variables);
        let kind = tree::at(spec, &["paramKind"]);
        let fails_open = tree::text(spec, &["failurePolicy"]) == "Ignore";
        Self {
            name: name.into(),
            scope: Scope::new(
                name,
                tree::at(spec, &["matchConstraints"]),
                tree::items(spec, &["matchConditions"]),
                fails_open,
            ),
            fails_open,
            params: kind.is_object().then(|| {
                Gvk::from_api_version(tree::text(kind, &["apiVersion"]), tree::text(kind, &["kind"]))
            }),
            variables: variables.iter().enumerate().map(variable).collect(),
            validations: tree::items(spec, &["validations"])
                .iter()
                .map(|v| Validation::new(v, &all))
                .collect(),
        }
    }
}

impl Validation {
    fn new(validation: &Value, env: &Env) -> Self {
        let text = |name: &str| tree::text(validation, &[name]).trim();
        let given = match text("message") {
            "" => format!("failed expression: {}", text("expression")),
            message => message.to_owned(),
        };
        Self {
            program: compile(text("expression"), env),
            message: compile(text("messageExpression"), env).ok(),
            text: given.into(),
            reason: text("reason").into(),
        }
    }
}

/// A request, as expressions read it.
struct Read<'a> {
    policy: &'a Policy,
    values: [&'a Value; NAMES.len()],
    budget: &'a Budget,
    variables: RefCell<Vec<Option<Result<Cel<'a>, EvalError>>>>,
}

impl<'a> Bindings<'a> for Read<'a> {
    fn get(&self, name: &str) -> Option<Result<Cel<'a>, EvalError>> {
        if let Some(value) = NAMES.iter().zip(self.values).find(|(known, _)| **known == name) {
            return Some(from_tree(value.1, &Type::Dyn));
        }
        let at = self.policy.variables.iter().position(|(known, _)| known == name)?;
        if let Some(Some(known)) = self.variables.borrow().get(at) {
            return Some(known.clone());
        }
        let (_, program) = self.policy.variables.get(at)?;
        let value = match program {
            Ok(program) => program.evaluate(self, self.budget),
            Err(why) => Err(EvalError::failed(why.as_str())),
        };
        if let Some(place) = self.variables.borrow_mut().get_mut(at) {
            *place = Some(value.clone());
        }
        Some(value)
    }
}

/// What the validations of a policy object to: why, and with which reason.
fn objections(policy: &Policy, values: [&Value; NAMES.len()]) -> Vec<(String, Box<str>)> {
    let budget = Budget::new(cost::PER_OBJECT);
    let variables = RefCell::new(vec![None; policy.variables.len()]);
    let read = Read { policy, values, budget: &budget, variables };
    let mut found = Vec::new();
    for validation in &policy.validations {
        let outcome = match &validation.program {
            Ok(program) => program.evaluate(&read, &budget).map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        match outcome {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => found.push((message(validation, &read), validation.reason.clone())),
            Err(_) if policy.fails_open => {}
            Err(why) => {
                let why = format!("expression '{}' resulted in error: {why}", expression(validation));
                found.push((why, "Invalid".into()));
            }
        }
    }
    found
}

fn expression(validation: &Validation) -> &str {
    validation.text.strip_prefix("failed expression: ").unwrap_or(&validation.text)
}

fn message(validation: &Validation, read: &Read<'_>) -> String {
    let told = validation.message.as_ref().map(|message| message.evaluate(read, read.budget));
    match told {
        Some(Ok(Cel::String(text))) if !text.trim().is_empty() && !text.contains('\n') => {
            text.trim().to_owned()
        }
        _ => validation.text.to_string(),
    }
}

impl ValidatingAdmissionPolicies {
    /// Over a server's webhooks, which know how requests are matched.
    pub fn new(webhooks: Arc<Webhooks>, lister: Arc<dyn Lister>, kinds: Arc<Kinds>) -> Self {
        Self { webhooks, lister, kinds, known: ArcSwap::default() }
    }

    fn bound(&self) -> Arc<[Bound]> {
        // The versions first: a change between the reads only makes the next look read again.
        let versions = [POLICIES, BINDINGS].map(|gvr| self.lister.version(&gvr));
        let known = self.known.load();
        if versions.iter().all(Option::is_some) && known.versions == versions {
            return known.bound.clone();
        }
        let bound: Arc<[Bound]> = self.read().into();
        self.known.store(Arc::new(Known { versions, bound: bound.clone() }));
        bound
    }

    fn read(&self) -> Vec<Bound> {
        let list = |gvr: &Gvr| {
            let mut objects = self.lister.list(gvr, "");
            objects.sort_by(|a, b| a.meta().name.cmp(&b.meta().name));
            // They were checked when they were written.
            objects.iter().filter_map(|object| object.value().ok()).collect::<Vec<_>>()
        };
        let policies: Vec<Arc<Policy>> =
            list(&POLICIES).iter().map(|policy| Arc::new(Policy::new(policy))).collect();
        let bind = |binding: &Value| {
            let spec = tree::at(binding, &["spec"]);
            let policy = policies.iter().find(|policy| *policy.name == *tree::text(spec, &["policyName"]))?;
            let name = tree::text(binding, &["metadata", "name"]);
            let matching = tree::at(spec, &["matchResources"]);
            let actions = tree::items(spec, &["validationActions"]).iter().filter_map(Value::as_str);
            Some(Bound {
                name: name.into(),
                policy: policy.clone(),
                scope: matching.is_object().then(|| Scope::new(name, matching, &[], false)),
                actions: actions.map(Into::into).collect(),
                params: Some(tree::at(spec, &["paramRef"])).filter(|params| params.is_object()).cloned(),
            })
        };
        list(&BINDINGS).iter().filter_map(bind).collect()
    }

    /// The parameters of a binding; `null` for a policy without.
    fn params(&self, bound: &Bound, review: &Review<'_>) -> Result<Vec<Value>, String> {
        let (Some(kind), Some(wanted)) = (&bound.policy.params, &bound.params) else {
            return Ok(vec![Value::Null]);
        };
        let resource = self
            .kinds
            .of_kind(kind)
            .ok_or_else(|| format!("failed to find resource referenced by paramKind: '{kind}'"))?;
        let namespace = match (resource.namespaced, tree::text(wanted, &["namespace"])) {
            (false, _) => "",
            (true, "") => review.namespace,
            (true, namespace) => namespace,
        };
        let found = match tree::text(wanted, &["name"]) {
            "" => {
                let selector = LabelSelector::from_value(tree::at(wanted, &["selector"]))
                    .map_err(|error| error.to_string())?;
                let all = self.lister.list(&resource.gvr, namespace);
                all.into_iter().filter(|object| selector.matches(&object.meta().labels)).collect()
            }
            name => self.lister.get(&resource.gvr, namespace, name).into_iter().collect::<Vec<_>>(),
        };
        let denies = tree::text(wanted, &["parameterNotFoundAction"]) != "Allow";
        if found.is_empty() && denies {
            return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
        }
        found.iter().map(|object| object.value().map_err(|error| error.to_string())).collect()
    }

    async fn apply(&self, bound: &Bound, review: &Review<'_>) -> Result<(), Status> {
        let Some(told) = self.webhooks.in_scope(&bound.policy.scope, review).await? else { return Ok(()) };
        if let Some(scope) = &bound.scope
            && self.webhooks.in_scope(scope, review).await?.is_none()
        {
            return Ok(());
        }
        let params = match self.params(bound, review) {
            Ok(params) => params,
            Err(_) if bound.policy.fails_open => return Ok(()),
            Err(why) => return act(bound, review, &format!("failed to configure binding: {why}"), "Invalid"),
        };
        let mut request = self.webhooks.request(review, &told).await?;
        let [object, old] = ["object", "oldObject"].map(|name| request[name].take());
        let namespace =
            self.lister.get(&NAMESPACES, "", review.namespace).and_then(|namespace| namespace.value().ok());
        let namespace = namespace.unwrap_or_default();
        for params in &params {
            for (why, reason) in objections(&bound.policy, [&object, &old, &request, params, &namespace]) {
                act(bound, review, &why, &reason)?;
            }
        }
        Ok(())
    }
}

/// Does what a binding wants done about an objection.
fn act(bound: &Bound, review: &Review<'_>, why: &str, reason: &str) -> Result<(), Status> {
    let (policy, name) = (&bound.policy.name, &bound.name);
    let does = |action: &str| bound.actions.iter().any(|wanted| **wanted == *action);
    if does("Warn") {
        crate::warning::add(&format!(
            "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{name}': {why}"
        ));
    }
    if !does("Deny") {
        return Ok(());
    }
    let message = format!("ValidatingAdmissionPolicy '{policy}' with binding '{name}' denied request: {why}");
    let mut status = review.forbidden(&message);
    let (reason, code) = REASONS.iter().find(|(known, _)| *known == reason).unwrap_or(&("Invalid", 422));
    status.reason = (*reason).into();
    status.code = *code;
    status.details.get_or_insert_default().causes.push(Cause { message, ..Cause::default() });
    Err(status)
}

#[async_trait]
impl Plugin for ValidatingAdmissionPolicies {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    async fn validate(&self, review: &Review<'_>) -> Result<(), Status> {
        let bound = self.bound();
        if bound.is_empty() || !self.webhooks.judges(review) {
            return Ok(());
        }
        for bound in bound.iter() {
            self.apply(bound, review).await?;
        }
        Ok(())
    }
}
