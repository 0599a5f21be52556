//! The `scale` subresource: `autoscaling/v1 Scale` as a view of any kind that has replicas.
//!
//! Where a kind keeps the numbers is data: all built-in kinds agree, custom resources say it.

use tiphys_api::schema::Resource;
use tiphys_api::selector::LabelSelector;
use tiphys_api::structural::FieldPath;
use tiphys_api::{Gvk, Object, Status, Value, field};

use super::change::{self, Change};
use super::request::{Body, PatchType, Request, WriteParams, Written};
use super::{Registry, decode, patch, tree};
use crate::admission::Review;
use crate::strategy;

const SCALE: Gvk = Gvk::new("autoscaling", "v1", "Scale");

impl Registry {
    pub(super) async fn update_scale(
        &self,
        request: &Request<'_>,
        body: Body,
        params: &WriteParams,
    ) -> Result<Written, Status> {
        let wanted = decode::loose(&SCALE, body)?;
        let named = tree::text(&wanted, &["metadata", "name"]);
        if !named.is_empty() && named != request.name {
            return Err(decode::wrong_name(named, request.name));
        }
        self.change_scale(request, params, &|_| Ok(wanted.clone())).await
    }

    pub(super) async fn patch_scale(
        &self,
        request: &Request<'_>,
        form: PatchType,
        body: Body,
        params: &WriteParams,
    ) -> Result<Written, Status> {
        // A Scale has no lists, so its strategic and applied forms merge as plain JSON does.
        let form = if form == PatchType::Json { form } else { PatchType::Merge };
        let (body, _) = patch::patch_body(form, body)?;
        let make = |object: &Value| {
            let mut scale = view(request.resource, object)?;
            patch::apply_patch(request, form, &mut scale, &body)?;
            Ok(scale)
        };
        self.change_scale(request, params, &make).await
    }

    async fn change_scale(
        &self,
        request: &Request<'_>,
        params: &WriteParams,
        make: &(dyn Fn(&Value) -> Result<Value, Status> + Send + Sync),
    ) -> Result<Written, Status> {
        let cache = self.cache(request.resource)?;
        let rules = strategy::of(request.resource);
        let make = |object: Option<&Value>| {
            let mut object = object.cloned().unwrap_or(Value::Null);
            let scale = make(&object)?;
            take(request, &mut object, &scale)?;
            Ok(object)
        };
        let change = Change {
            request,
            params,
            cache: &cache,
            rules,
            creates: false,
            managed: false,
            admitted: false,
            make: &make,
        };
        let mut written = self.change(change, Vec::new()).await?;
        written.object = of(request, &written.object)?;
        Ok(written)
    }

    /// Mutating admission of a changed scale: it sees Scales, and what it makes of one is taken over.
    pub(super) async fn mutate_scale(
        &self,
        change: &Change<'_>,
        object: &mut Value,
        current: &Object,
    ) -> Result<(), Status> {
        let (mut scale, old) = self.scales(change, object, current).await?;
        let before = scale.clone();
        self.mutate(Review { gvk: &SCALE, ..change::review(change, &mut scale, &old) }).await?;
        if scale == before { Ok(()) } else { take(change.request, object, &scale) }
    }

    /// The scale as it will be and as it was.
    async fn scales(
        &self,
        change: &Change<'_>,
        object: &Value,
        current: &Object,
    ) -> Result<(Value, Object), Status> {
        let (stored, wanted) = (&change.cache.resource, change.request.resource);
        let old = self.converter.object(wanted, stored, current.clone()).await?;
        Ok((view(wanted, object)?, of(change.request, &old)?))
    }

    /// The same of validating admission.
    pub(super) async fn admit_scale(
        &self,
        change: &Change<'_>,
        object: &Value,
        current: &Object,
    ) -> Result<(), Status> {
        let (mut scale, old) = self.scales(change, object, current).await?;
        self.admit(Review { gvk: &SCALE, ..change::review(change, &mut scale, &old) }).await
    }
}

/// The scale of an object.
pub(super) fn of(request: &Request<'_>, object: &Object) -> Result<Object, Status> {
    if request.resource.subresource("scale").is_none() {
        return Err(Status::no_such_path());
    }
    let tree = object.value().map_err(Status::internal)?;
    let bytes = serde_json::to_vec(&view(request.resource, &tree)?).map_err(Status::internal)?;
    Ok(Object::new(object.meta().clone(), bytes.into()))
}

/// Where the numbers are.
struct Places<'a> {
    spec: Vec<&'a str>,
    status: Vec<&'a str>,
    /// A text; built-in kinds have a selector in their spec.
    selector: Option<Vec<&'a str>>,
}

impl<'a> Places<'a> {
    fn of(resource: &'a Resource) -> Self {
        let names = |path: &'a FieldPath| path.iter().map(AsRef::as_ref).collect();
        match resource.custom.as_ref().and_then(|custom| custom.scale.as_ref()) {
            Some(scale) => Self {
                spec: names(&scale.spec),
                status: names(&scale.status),
                selector: scale.selector.as_ref().map(names),
            },
            None => {
                Self { spec: vec!["spec", "replicas"], status: vec!["status", "replicas"], selector: None }
            }
        }
    }
}

fn view(resource: &Resource, object: &Value) -> Result<Value, Status> {
    let places = Places::of(resource);
    let wanted = tree::at(object, &places.spec);
    if wanted.is_null() && resource.custom.is_some() {
        let path = places.spec.join(".");
        return Err(Status::internal(format!("the spec replicas field \".{path}\" does not exist")));
    }
    let mut scale = tiphys_api::json!({
        "apiVersion": SCALE.api_version(),
        "kind": SCALE.kind,
        "metadata": {},
        "spec": {},
        "status": { "replicas": tree::at(object, &places.status).as_i64().unwrap_or(0) },
    });
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        tree::set(&mut scale, &["metadata", name], tree::at(object, &["metadata", name]).clone());
    }
    // A Go integer of value 0 is left out of a Scale's spec.
    if wanted != &Value::from(0) {
        tree::set(&mut scale, &["spec", "replicas"], wanted.clone());
    }
    let selector = match (&resource.custom, &places.selector) {
        (None, _) => selector(tree::at(object, &["spec", "selector"])),
        (Some(_), path) => path.as_ref().map(|path| tree::text(object, path).to_owned()).unwrap_or_default(),
    };
    if !selector.is_empty() {
        tree::set(&mut scale, &["status", "selector"], selector.into());
    }
    Ok(scale)
}

/// A label selector, or the plain labels of older kinds, as text.
fn selector(value: &Value) -> String {
    let plain = value.as_object().filter(|m| m.values().all(Value::is_string));
    match plain {
        Some(labels) => {
            let pairs = labels.iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default()));
            LabelSelector::from_labels(pairs).to_string()
        }
        None => LabelSelector::from_value(value).map(|s| s.to_string()).unwrap_or_default(),
    }
}

/// Takes the wanted replicas over into the object.
fn take(request: &Request<'_>, object: &mut Value, scale: &Value) -> Result<(), Status> {
    let replicas = tree::at(scale, &["spec", "replicas"]).as_i64().unwrap_or(0);
    if replicas < 0 {
        let path = field::Path::new("spec").child("replicas");
        let error = field::Error::invalid(&path, replicas, "must be greater than or equal to 0");
        return Err(Status::invalid(&SCALE, request.name, &[error]));
    }
    tree::set(object, &Places::of(request.resource).spec, replicas.into());
    for name in ["resourceVersion", "uid"] {
        tree::set(object, &["metadata", name], tree::at(scale, &["metadata", name]).clone());
    }
    Ok(())
}
