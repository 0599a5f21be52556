//! update and every other change of a stored object: read, make the next version, compare-and-swap, again if another
//! was faster.

use std::borrow::Cow;
use std::sync::Arc;

use parking_lot::Mutex;
use tiphys_api::apply::folded::Before;
use tiphys_api::schema::Resource;
use tiphys_api::{Object, Status, Value, field, validate};

use super::commit::{self, Commit};
use super::create::{New, refuse};
use super::decode::Decoded;
use super::quota::Bill;
use super::request::{Body, Request, WriteParams, Written};
use super::{Registry, admit, convert, decode, manage, scope, system, tree};
use crate::admission::{Operation, Options, Review};
use crate::cache::{Cache, Prepared};
use crate::strategy::{self, Rules};

/// How often a change that another write overtook is made anew.
const RETRIES_MAX: usize = 100;

/// Decodes the body of an update.
fn replacement(
    request: &Request<'_>,
    rules: &Rules,
    body: Body,
    params: &WriteParams,
) -> Result<(Value, Vec<String>), Status> {
    let Decoded { mut tree, warnings } = decode::object(request.resource, body, params.field_validation)?;
    check_place(request, &mut tree)?;
    system::complete(&mut tree, None, request.resource, rules);
    Ok((tree, warnings))
}

/// Makes the next version of an object, in the request's version. `None`: there is no object yet.
pub(super) type Make<'m> = &'m (dyn Fn(Option<&Value>) -> Result<Value, Status> + Send + Sync);

/// A change on its way.
pub(super) struct Change<'a> {
    pub request: &'a Request<'a>,
    pub params: &'a WriteParams,
    pub cache: &'a Arc<Cache>,
    pub rules: &'static Rules,
    /// Whether an absent object is created.
    pub creates: bool,
    /// The maker keeps `managedFields` itself (server-side apply).
    pub managed: bool,
    /// Admission has judged the action behind this change.
    pub admitted: bool,
    pub make: Make<'a>,
}

/// One attempt's end.
enum Attempt {
    Done(Object),
    /// Another write came first; the store was seen at this revision.
    Overtaken(u64),
}

impl Registry {
    /// Replaces an object or its subresource.
    pub async fn update(
        &self,
        request: &Request<'_>,
        body: Body,
        params: &WriteParams,
    ) -> Result<Written, Status> {
        manage::check("UpdateOptions", params, None)?;
        if request.subresource == "scale" {
            return self.update_scale(request, body, params).await;
        }
        let cache = self.cache(request.resource)?;
        let rules = strategy::of(request.resource);
        // Read anew for each attempt after the first, which is cheaper than a copy of the tree for most.
        let again = body.clone();
        let (tree, warnings) = replacement(request, rules, body, params)?;
        let first = Mutex::new(Some(tree));
        let make = |_: Option<&Value>| {
            let tree = first.lock().take();
            tree.map_or_else(|| replacement(request, rules, again.clone(), params).map(|(tree, _)| tree), Ok)
        };
        let creates = rules.create_on_update && request.subresource.is_empty();
        let change = Change {
            request,
            params,
            cache: &cache,
            rules,
            creates,
            managed: false,
            admitted: false,
            make: &make,
        };
        self.change(change, warnings).await
    }

    /// Makes a change until it is committed or refused.
    pub(super) async fn change(&self, change: Change<'_>, warnings: Vec<String>) -> Result<Written, Status> {
        let request = change.request;
        for _ in 0..RETRIES_MAX {
            self.caches().catch_up().await?;
            let Some(current) = change.cache.get(request.namespace, request.name) else {
                match self.create_absent(&change).await {
                    Err(status) if status.is("AlreadyExists") => continue,
                    done => return done.map(|object| Written { object, created: true, warnings }),
                }
            };
            match self.attempt(&change, &current).await? {
                Attempt::Done(object) => {
                    let stored = &change.cache.resource;
                    let object = self.converter.object(request.resource, stored, object).await?;
                    return Ok(Written { object, created: false, warnings });
                }
                Attempt::Overtaken(revision) => self.caches().reach(revision).await?,
            }
        }
        Err(Status::conflict(
            &request.resource.gvr,
            request.name,
            "too many concurrent changes of this object",
        ))
    }

    async fn create_absent(&self, change: &Change<'_>) -> Result<Object, Status> {
        let request = change.request;
        if !change.creates {
            return Err(Status::not_found(&request.resource.gvr, request.name));
        }
        let mut tree = (change.make)(None)?;
        if !tree::text(&tree, &["metadata", "uid"]).is_empty() {
            return Err(Status::not_found(&request.resource.gvr, request.name));
        }
        tree::metadata(&mut tree).insert("name".into(), request.name.into());
        tree::metadata(&mut tree).remove("resourceVersion");
        let Change { params, cache, rules, managed, .. } = *change;
        let new = New { request, params, cache, rules, managed };
        self.create_tree(&new, tree).await
    }

    async fn attempt(&self, change: &Change<'_>, current: &Object) -> Result<Attempt, Status> {
        let (stored, wanted) = (&change.cache.resource, change.request.resource);
        let current = &self.converter.object(stored, stored, current.clone()).await?;
        let before = Before::read(current.json()).map_err(Status::internal)?;
        let mut view = Cow::Borrowed(before.tree());
        if !convert::is_same(stored, wanted) {
            view = Cow::Owned(self.converter.tree(stored, wanted, view.into_owned()).await?);
        }
        let mut tree = self.next_version(change, current, &view)?;
        self.mutate_change(change, &mut tree, current).await?;
        // A custom resource is judged by the schema of the version that the client speaks.
        let (judged, old) = if stored.custom.is_some() { (wanted, &*view) } else { (stored, before.tree()) };
        tree = self.converter.tree(wanted, judged, tree).await?;
        (change.rules.on_update)(&mut tree, old, change.request.subresource);
        system::on_update(&mut tree, old, change.rules, change.request.subresource);
        validate_change(change, judged, &tree, old)?;
        self.admit_change(change, &mut tree, current).await?;
        let finished = system::is_finished(&tree);
        let bill = self.bill_change(change, &tree, old);
        tree = self.converter.tree(judged, stored, tree).await?;
        let next = commit::prepare(change.cache, tree, Some((&before, current)), change.params.protobuf)?;
        self.commit_change(change, current, next, finished, bill.as_ref()).await
    }

    async fn mutate_change(
        &self,
        change: &Change<'_>,
        tree: &mut Value,
        current: &Object,
    ) -> Result<(), Status> {
        match change.request.subresource {
            _ if change.admitted => Ok(()),
            "scale" => self.mutate_scale(change, tree, current).await,
            _ => self.mutate(review(change, tree, current)).await,
        }
    }

    async fn admit_change(
        &self,
        change: &Change<'_>,
        tree: &mut Value,
        current: &Object,
    ) -> Result<(), Status> {
        match change.request.subresource {
            _ if change.admitted => Ok(()),
            "scale" => self.admit_scale(change, tree, current).await,
            _ => self.admit(review(change, tree, current)).await,
        }
    }

    /// The next version as the request has it, before admission. `old`: the present one, in the request's version.
    fn next_version(&self, change: &Change<'_>, current: &Object, old: &Value) -> Result<Value, Status> {
        let mut tree = (change.make)(Some(old))?;
        check_preconditions(change, current, &tree)?;
        scope::keep(change.request, &mut tree, old);
        if !change.managed {
            manage::record(change.request, change.params, Some(old), &mut tree);
        }
        Ok(tree)
    }

    /// What a change takes of quotas: of subresources, only `resize` lets an object take more.
    fn bill_change(&self, change: &Change<'_>, tree: &Value, old: &Value) -> Option<Bill> {
        let request = change.request;
        let judged = matches!(request.subresource, "" | "resize");
        judged.then(|| self.bill(request, request.name, tree, Some(old))).flatten()
    }

    async fn commit_change(
        &self,
        change: &Change<'_>,
        current: &Object,
        next: Prepared<'_>,
        finished: bool,
        bill: Option<&Bill>,
    ) -> Result<Attempt, Status> {
        let version = current.meta().resource_version;
        let key = (change.request.namespace, change.request.name);
        if !finished && next.is_same(current.json(), version) {
            return Ok(Attempt::Done(current.clone()));
        }
        if change.params.dry_run {
            self.try_bill(bill).await?;
            return Ok(Attempt::Done(next.imagined(version)));
        }
        if !finished {
            return Ok(match self.put_billed(change.cache, key, next, version, bill).await? {
                Commit::Done(object) => Attempt::Done(object),
                Commit::Conflict(revision) => Attempt::Overtaken(revision),
            });
        }
        match self.remove(change.cache, key, version).await? {
            Commit::Done(revision) => Ok(Attempt::Done(next.imagined(revision))),
            Commit::Conflict(revision) => Ok(Attempt::Overtaken(revision)),
        }
    }
}

/// The review of a change.
pub(super) fn review<'r>(change: &'r Change<'_>, tree: &'r mut Value, old: &'r Object) -> Review<'r> {
    admit::review(Operation::Update, change.request, tree, Some(old), Options::Update(change.params))
}

fn validate_change(change: &Change<'_>, judged: &Resource, tree: &Value, old: &Value) -> Result<(), Status> {
    let mut errors = validate::object_meta(change.request.resource, tree);
    errors.extend(validate::object_meta_update(old, tree));
    errors.extend(validate::immutable(judged, old, tree));
    system::check_finalizers(tree, old, &mut errors);
    errors.extend(validate::changed(judged, tree, old));
    (change.rules.validate)(tree, &mut errors);
    (change.rules.validate_update)(tree, old, change.request.subresource, &mut errors);
    refuse(change.request, change.request.name, errors)
}

/// What the new tree says about the version and identity it replaces.
fn check_preconditions(change: &Change<'_>, current: &Object, tree: &Value) -> Result<(), Status> {
    let (gvr, name) = (&change.request.resource.gvr, change.request.name);
    let uid = tree::text(tree, &["metadata", "uid"]);
    if !uid.is_empty() && uid != current.meta().uid.as_ref() {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            current.meta().uid
        );
        return Err(Status::conflict(gvr, name, &why));
    }
    match tree::text(tree, &["metadata", "resourceVersion"]) {
        "" | "0" if change.rules.unconditional_update => Ok(()),
        "" | "0" => {
            let path = field::Path::new("metadata").child("resourceVersion");
            let error = field::Error::invalid(&path, 0, "must be specified for an update");
            Err(Status::invalid(&change.request.resource.gvk, name, &[error]))
        }
        version if version.parse() == Ok(current.meta().resource_version) => Ok(()),
        _ => Err(Status::modified(gvr, name)),
    }
}

/// The body must be about the object in the path.
fn check_place(request: &Request<'_>, tree: &mut Value) -> Result<(), Status> {
    let metadata = tree::metadata(tree);
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).unwrap_or_default();
    let (name, namespace) = (text("name"), text("namespace"));
    if name != request.name {
        return Err(decode::wrong_name(name, request.name));
    }
    match (namespace, request.namespace) {
        (_, "") => drop(metadata.remove("namespace")),
        ("", wanted) => drop(metadata.insert("namespace".into(), wanted.into())),
        (given, wanted) if given != wanted => {
            return Err(Status::bad_request(format!(
                "the namespace of the object ({given}) does not match the namespace on the request ({wanted})"
            )));
        }
        _ => {}
    }
    Ok(())
}
