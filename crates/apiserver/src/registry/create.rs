//! create: a new object on the one write path.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use tiphys_api::schema::Resource;
use tiphys_api::{Object, Status, Value, field, validate};

use super::commit::{self, Commit};
use super::decode::Decoded;
use super::quota::Bill;
use super::request::{Body, Request, WriteParams, Written};
use super::{Registry, admit, decode, manage, names, system, tree};
use crate::admission::{Operation, Options, Review};
use crate::cache::{Cache, Prepared};
use crate::strategy::{self, Rules};

/// How often a colliding generated name is tried anew.
const GENERATE_MAX: usize = 8;

/// An object on its way into the store.
pub(super) struct New<'a> {
    pub request: &'a Request<'a>,
    pub params: &'a WriteParams,
    pub cache: &'a Arc<Cache>,
    pub rules: &'static Rules,
    /// The tree's `managedFields` are kept already (server-side apply).
    pub managed: bool,
}

impl Registry {
    /// Creates an object, or posts to a subresource.
    pub async fn create(
        &self,
        request: &Request<'_>,
        body: Body,
        params: &WriteParams,
    ) -> Result<Written, Status> {
        manage::check("CreateOptions", params, None)?;
        if let Some(computed) = self.computed(request) {
            return self.compute(computed, request, body, params).await;
        }
        if super::action::is_action(request) {
            return self.act(request, body, params).await;
        }
        let cache = self.cache(request.resource)?;
        let Decoded { mut tree, warnings } = decode::object(request.resource, body, params.field_validation)?;
        if !request.name.is_empty() {
            tree::metadata(&mut tree).entry("name").or_insert_with(|| request.name.into());
        }
        let rules = strategy::of(request.resource);
        let new = New { request, params, cache: &cache, rules, managed: false };
        let object = self.create_tree(&new, tree).await?;
        Ok(Written { object, created: true, warnings })
    }

    /// Takes a decoded tree of the request's version from defaults to the commit.
    pub(super) async fn create_tree(&self, new: &New<'_>, mut tree: Value) -> Result<Object, Status> {
        if !tree::text(&tree, &["metadata", "resourceVersion"]).is_empty() {
            return Err(Status::failure(
                500,
                "",
                "resourceVersion should not be set on objects to be created",
            ));
        }
        place(new.request, &mut tree)?;
        if !new.rules.status_on_create && new.request.resource.subresource("status").is_some() {
            tree::set(&mut tree, &["status"], Value::Null);
        }
        system::complete(&mut tree, None, new.request.resource, new.rules);
        if !new.managed {
            manage::record(new.request, new.params, None, &mut tree);
        }
        match generated_prefix(&tree) {
            None => {
                let name = tree::text(&tree, &["metadata", "name"]).to_owned();
                self.create_named(new, tree, &name).await
            }
            Some(prefix) => self.create_generated(new, tree, &prefix).await,
        }
    }

    async fn create_generated(&self, new: &New<'_>, tree: Value, prefix: &str) -> Result<Object, Status> {
        let mut collision = None;
        for _ in 0..GENERATE_MAX {
            let mut attempt = tree.clone();
            let name = names::generate(prefix)?;
            tree::metadata(&mut attempt).insert("name".into(), name.as_str().into());
            match self.create_named(new, attempt, &name).await {
                Err(status) if status.is("AlreadyExists") => collision = Some(status),
                done => return done,
            }
        }
        Err(collision.unwrap_or_else(|| Status::already_exists(&new.request.resource.gvr, prefix)))
    }

    async fn create_named(&self, new: &New<'_>, mut tree: Value, name: &str) -> Result<Object, Status> {
        self.mutate(review(new, &mut tree, name)).await?;
        let (stored, wanted) = (&new.cache.resource, new.request.resource);
        // A custom resource is judged by the schema of the version that the client speaks.
        let judged = if stored.custom.is_some() { wanted } else { stored };
        tree = self.converter.tree(wanted, judged, tree).await?;
        system::on_create(&mut tree, new.rules, Timestamp::now());
        (new.rules.on_create)(&mut tree, new.request.user);
        validate_new(new, judged, &tree, name)?;
        self.admit(review(new, &mut tree, name)).await?;
        let bill = self.bill(new.request, name, &tree, None);
        tree = self.converter.tree(judged, stored, tree).await?;
        let next = commit::prepare(new.cache, tree, None, new.params.protobuf)?;
        let object = self.commit_new(new, name, next, bill.as_ref()).await?;
        self.converter.object(wanted, stored, object).await
    }

    async fn commit_new(
        &self,
        new: &New<'_>,
        name: &str,
        next: Prepared<'_>,
        bill: Option<&Bill>,
    ) -> Result<Object, Status> {
        let namespace = new.request.namespace;
        let exists = || Status::already_exists(&new.request.resource.gvr, name);
        if new.params.dry_run {
            self.caches().catch_up().await?;
            self.try_bill(bill).await?;
            return match new.cache.get(namespace, name) {
                Some(_) => Err(exists()),
                None => Ok(next.imagined(0)),
            };
        }
        match self.put_billed(new.cache, (namespace, name), next, 0, bill).await? {
            Commit::Done(object) => Ok(object),
            Commit::Conflict(_) => Err(exists()),
        }
    }
}

fn validate_new(new: &New<'_>, judged: &Resource, tree: &Value, name: &str) -> Result<(), Status> {
    let mut errors = validate::object_meta(new.request.resource, tree);
    errors.extend(validate::required(judged, tree));
    (new.rules.validate)(tree, &mut errors);
    (new.rules.validate_create)(tree, &mut errors);
    refuse(new.request, name, errors)
}

/// 422 if there are errors.
pub(super) fn refuse(request: &Request<'_>, name: &str, errors: field::Errors) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    // A rule of the schema and one of the kind may find the same.
    let mut seen = HashSet::new();
    let errors: Vec<field::Error> = errors.into_iter().filter(|e| seen.insert(e.to_string())).collect();
    Err(Status::invalid(&request.resource.gvk, name, &errors))
}

fn review<'r>(new: &'r New<'_>, object: &'r mut Value, name: &'r str) -> Review<'r> {
    Review {
        name,
        subresource: "",
        ..admit::review(Operation::Create, new.request, object, None, Options::Create(new.params))
    }
}

/// Puts the object into the request's namespace.
fn place(request: &Request<'_>, tree: &mut Value) -> Result<(), Status> {
    let metadata = tree::metadata(tree);
    let given = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
    match (given, request.namespace) {
        (_, "") => drop(metadata.remove("namespace")),
        ("", namespace) => drop(metadata.insert("namespace".into(), namespace.into())),
        (given, namespace) if given == namespace => {}
        _ => {
            let why = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Status::bad_request(why));
        }
    }
    Ok(())
}

fn generated_prefix(tree: &Value) -> Option<String> {
    let metadata = |name| tree::text(tree, &["metadata", name]);
    let generates = metadata("name").is_empty() && !metadata("generateName").is_empty();
    generates.then(|| metadata("generateName").to_owned())
}
