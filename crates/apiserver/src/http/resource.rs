//! Requests for resources: find the kind in the table, check that it has the verb, ask the registry, shape the answer.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde::de::IgnoredAny;
use tiphys_api::schema::Resource;
use tiphys_api::{Gvk, Object, Status, Value};

use super::answer::{self, Answer};
use super::handle::Call;
use super::negotiate::{self, BodyForm, Encoding, MediaType, Shape, Shapes};
use super::path::RequestInfo;
use super::server::Server;
use super::table::{TableForm, Tables};
use super::watch::{self, Frames, Running};
use super::{encode, listing, params};
use crate::metrics::Dimensions;
use crate::node_metrics;
use crate::node_proxy::{self, Lasting};
use crate::registry::{Body, DeleteParams, Deleted, List, PatchType, Request, WriteParams, Written};

/// Answers one request for a resource.
pub async fn answer(server: &Arc<Server>, call: Call, dimensions: &Dimensions) -> Result<Answer, Status> {
    let resource = dimensions.resource.clone().ok_or_else(Status::no_such_path)?;
    let mut answer = asked(server, call, &resource, dimensions).await?;
    if let Some(warning) = resource.custom.as_ref().and_then(|custom| custom.warning.as_ref()) {
        answer::warn(&mut answer, &[warning.to_string()]);
    }
    Ok(answer)
}

async fn asked(
    server: &Arc<Server>,
    mut call: Call,
    resource: &Arc<Resource>,
    dimensions: &Dimensions,
) -> Result<Answer, Status> {
    check(resource, &call.info, &call.method)?;
    if node_proxy::serves(&call.info) {
        admit_stream(server, resource, &mut call).await?;
        let lasting = Lasting::new(server.metrics.requests.long_running(dimensions), server.stop.clone());
        return server.nodes.answer(server.lister.as_ref(), call, lasting).await;
    }
    let asked = Asked { server, resource, media: media(resource, &call)?, dimensions };
    if node_metrics::serves(&call.info) {
        return asked.measured(&call).await;
    }
    match call.info.verb {
        "get" => asked.get(&call).await,
        "list" => asked.list(&call).await,
        "watch" => asked.watch(&call).await,
        "create" => asked.create(call).await,
        "update" => asked.update(call).await,
        "patch" => asked.patch(call).await,
        "delete" => asked.delete(call).await,
        "deletecollection" => asked.delete_collection(call).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// Asks admission about a stream, as about a write. What it changes is done.
async fn admit_stream(server: &Server, resource: &Arc<Resource>, call: &mut Call) -> Result<(), Status> {
    let info = &call.info;
    let Some(stream) = resource.subresource(&info.subresource).filter(|_| node_proxy::connects(info)) else {
        return Ok(());
    };
    node_proxy::check_options(&stream.gvk, &call.query)?;
    let asked = node_proxy::options(&stream.gvk, &call.query, info.rest.as_deref());
    let mut options = asked.clone();
    let request = Request {
        resource,
        namespace: &info.namespace,
        name: &info.name,
        subresource: &info.subresource,
        user: &call.user,
    };
    server.registry.admit_connect(&request, &stream.gvk, &mut options).await?;
    if options != asked {
        node_proxy::put_back(&options, &mut call.query, &mut call.info.rest);
    }
    Ok(())
}

/// Whether the path and verb exist for this kind: 404 and 405 before anything is read.
fn check(resource: &Resource, info: &RequestInfo, method: &Method) -> Result<(), Status> {
    let about_namespaces = resource.gvr.resource == "namespaces" && resource.gvr.group.is_empty();
    let in_namespace = !info.namespace.is_empty() && !about_namespaces;
    let spans_all = info.name.is_empty() || matches!(info.verb, "list" | "watch");
    if in_namespace && !resource.namespaced || (resource.namespaced && !in_namespace && !spans_all) {
        return Err(Status::no_such_path());
    }
    if resource.namespaced && !in_namespace && !matches!(info.verb, "list" | "watch") {
        return Err(Status::method_not_allowed());
    }
    if info.rest.as_deref().is_some_and(|rest| !rest.is_empty()) && info.subresource != "proxy" {
        return Err(Status::no_such_path());
    }
    if *method == Method::HEAD && info.subresource != "proxy" {
        return Err(Status::method_not_allowed());
    }
    let has_verb = match info.subresource.as_str() {
        "" => resource.has_verb(info.verb),
        name => {
            let subresource = resource.subresource(name).ok_or_else(Status::no_such_path)?;
            // OPTIONS is no verb of the API, but what is behind a proxy may know it.
            let passed_on = name == "proxy" && *method == Method::OPTIONS;
            passed_on || subresource.verbs.iter().any(|verb| verb.as_ref() == info.verb)
        }
    };
    // A POST to a name, or a PUT to none, is no path that exists.
    let named = !info.name.is_empty();
    let misplaced = match info.verb {
        "create" => named && info.subresource.is_empty(),
        "update" | "patch" => !named,
        _ => false,
    };
    if has_verb && !misplaced { Ok(()) } else { Err(Status::method_not_allowed()) }
}

/// Tables and metadata are of what is kept; a review has neither rows nor a name.
fn media(resource: &Resource, call: &Call) -> Result<MediaType, Status> {
    let kept = resource.has_verb("get") || resource.has_verb("list");
    let shapes = if kept { Shapes::Objects } else { Shapes::Own };
    let media = MediaType::negotiate(&call.headers, &call.query, shapes)?;
    // Only metadata of a custom resource has a form in protobuf.
    match (&resource.custom, media.shape, media.encoding) {
        (Some(_), Shape::Whole, Encoding::Protobuf) => Err(Status::not_acceptable(negotiate::TEXTS)),
        _ => Ok(media),
    }
}

/// One request for a resource that exists.
struct Asked<'a> {
    server: &'a Arc<Server>,
    resource: &'a Arc<Resource>,
    media: MediaType,
    dimensions: &'a Dimensions,
}

impl Asked<'_> {
    fn request<'c>(&'c self, call: &'c Call, name: &'c str) -> Request<'c> {
        let namespace = if self.resource.namespaced { call.info.namespace.as_str() } else { "" };
        Request {
            resource: self.resource,
            namespace,
            name,
            subresource: &call.info.subresource,
            user: &call.user,
        }
    }

    /// Objects that exist only while they are asked for.
    async fn measured(&self, call: &Call) -> Result<Answer, Status> {
        let metrics = &self.server.node_metrics;
        // A duration is a message of its own in protobuf, which the table of kinds does not know.
        let media = match self.media.encoding {
            Encoding::Protobuf => MediaType { encoding: Encoding::Json, ..self.media },
            _ => self.media,
        };
        let asked = Self { media, ..*self };
        if call.info.verb == "get" {
            return asked.one(StatusCode::OK, &metrics.get(self.resource, &call.info).await?, call);
        }
        let params = params::list(&call.query)?;
        let selection = node_metrics::selection(self.resource, &call.info, &params.labels, &params.fields)?;
        let items = metrics.list(&call.info, &selection).await?;
        asked.many(List { items: items.into(), ..List::default() }, call)
    }

    async fn get(&self, call: &Call) -> Result<Answer, Status> {
        let request = self.request(call, &call.info.name);
        let object = self.server.registry.get(&request, call.query.text("resourceVersion")).await?;
        self.one(StatusCode::OK, &object, call)
    }

    async fn list(&self, call: &Call) -> Result<Answer, Status> {
        let params = params::list(&call.query)?;
        let list = self.server.registry.list(&self.request(call, ""), &params).await?;
        self.many(list, call)
    }

    async fn watch(&self, call: &Call) -> Result<Answer, Status> {
        let frames = Frames::new(self.resource.clone(), self.media, TableForm::of(&call.query)?)?;
        let params = params::watch(&call.query)?;
        let watch = self.server.registry.watch(&self.request(call, &call.info.name), &params).await?;
        let sent = self.server.metrics.watch_events(&self.resource.gvr);
        let lasting = self.server.metrics.requests.long_running(self.dimensions);
        Ok(watch::answer(Running::new(watch, frames, self.server.stop.clone(), sent, lasting)))
    }

    async fn create(&self, mut call: Call) -> Result<Answer, Status> {
        let params = self.write_params(&call, params::Write::Create)?;
        let body = self.body(&mut call).await?;
        let request = self.request(&call, &call.info.name);
        let written = self.server.registry.create(&request, body, &params).await?;
        self.written(&written, &call)
    }

    async fn update(&self, mut call: Call) -> Result<Answer, Status> {
        let params = self.write_params(&call, params::Write::Update)?;
        let body = self.body(&mut call).await?;
        let written =
            self.server.registry.update(&self.request(&call, &call.info.name), body, &params).await?;
        self.written(&written, &call)
    }

    async fn patch(&self, mut call: Call) -> Result<Answer, Status> {
        let (patch, form) = params::patch_type(&call.headers, self.resource.custom.is_some())?;
        let write = if patch == PatchType::Apply { params::Write::Apply } else { params::Write::Patch };
        let params = self.write_params(&call, write)?;
        let body = in_form(take(&mut call).await?, form);
        let request = self.request(&call, &call.info.name);
        let written = self.server.registry.patch(&request, patch, body, &params).await?;
        self.written(&written, &call)
    }

    fn write_params(&self, call: &Call, write: params::Write) -> Result<WriteParams, Status> {
        let protobuf = self.media.encoding == Encoding::Protobuf;
        Ok(WriteParams { protobuf, ..params::write(&call.query, &call.headers, write)? })
    }

    async fn delete(&self, mut call: Call) -> Result<Answer, Status> {
        let (params, pending) = delete_params(&mut call).await?;
        let request = self.request(&call, &call.info.name);
        match self.server.registry.delete(&request, &params).await? {
            Deleted::Terminating(object) => self.one(pending, &object, &call),
            Deleted::Gone(object) if self.resource.returned => self.one(StatusCode::OK, &object, &call),
            Deleted::Gone(object) => Ok(self.gone(&object)),
        }
    }

    fn gone(&self, object: &Object) -> Answer {
        let meta = object.meta();
        answer::status(&Status::deleted(&self.resource.gvr, &meta.name, &meta.uid), self.media.encoding)
    }

    async fn delete_collection(&self, mut call: Call) -> Result<Answer, Status> {
        let select = params::list(&call.query)?;
        let (params, _) = delete_params(&mut call).await?;
        let list = self.server.registry.delete_collection(&self.request(&call, ""), &select, &params).await?;
        self.many(list, &call)
    }

    async fn body(&self, call: &mut Call) -> Result<Body, Status> {
        let form = negotiate::body_form(&call.headers)?;
        if form == BodyForm::Protobuf && self.resource.custom.is_some() {
            return Err(Status::unsupported_media_type(negotiate::TEXTS));
        }
        Ok(in_form(take(call).await?, form))
    }

    fn written(&self, written: &Written, call: &Call) -> Result<Answer, Status> {
        let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
        let mut answer = self.one(code, &written.object, call)?;
        answer::warn(&mut answer, &written.warnings);
        Ok(answer)
    }

    fn one(&self, code: StatusCode, object: &Object, call: &Call) -> Result<Answer, Status> {
        let mut answer = match self.media.shape {
            Shape::Table => {
                let mut tables = Tables::new(self.resource, self.media, TableForm::of(&call.query)?);
                answer::tree(&tables.of_one(object)?, self.media)?
            }
            Shape::Whole => answer::object(code, object, self.media)?,
            _ => answer::with_body(code, self.media.content_type(), encode::shaped(object, self.media)?),
        };
        *answer.status_mut() = code;
        Ok(answer)
    }

    fn list_kind(&self) -> Gvk {
        Gvk { kind: self.resource.list_kind.to_string().into(), ..self.resource.gvk.clone() }
    }

    fn many(&self, list: List, call: &Call) -> Result<Answer, Status> {
        match self.media.shape {
            Shape::Table => Tables::new(self.resource, self.media, TableForm::of(&call.query)?).of_list(list),
            Shape::PartialMetadata | Shape::PartialMetadataList => listing::partial(list, self.media),
            _ => {
                // Go's own types leave out what their list says; custom resources, which have none, do not.
                let common = self.resource.custom.is_none().then_some(&self.resource.gvk);
                listing::whole(list, &self.list_kind(), common, self.media)
            }
        }
    }
}

async fn take(call: &mut Call) -> Result<bytes::Bytes, Status> {
    let body = std::mem::replace(&mut call.body, super::incoming::RequestBody::empty());
    body.collect(&call.headers).await
}

async fn delete_params(call: &mut Call) -> Result<(DeleteParams, StatusCode), Status> {
    let form = negotiate::body_form(&call.headers)?;
    let body = take(call).await?;
    let tree = match form {
        _ if body.is_empty() => return params::delete(&call.query, b""),
        BodyForm::Json => return params::delete(&call.query, &body),
        BodyForm::Yaml => {
            tiphys_api::decode::yaml(&body).map_err(|error| Status::bad_request(error.to_string()))?.value
        }
        BodyForm::Protobuf => from_protobuf(&body)?,
        BodyForm::Cbor => from_cbor(&body)?,
    };
    params::delete(&call.query, tree.to_string().as_bytes())
}

/// YAML that is JSON (as `kubectl apply --server-side` sends) goes the quick way.
fn in_form(body: bytes::Bytes, form: BodyForm) -> Body {
    match form {
        BodyForm::Json => Body::Json(body),
        BodyForm::Yaml if is_json(&body) => Body::Json(body),
        BodyForm::Yaml => Body::Yaml(body),
        BodyForm::Protobuf => Body::Protobuf(body),
        BodyForm::Cbor => Body::Cbor(body),
    }
}

fn is_json(body: &[u8]) -> bool {
    body.first() == Some(&b'{') && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

fn from_protobuf(body: &[u8]) -> Result<Value, Status> {
    tiphys_api::protobuf::open(body).map_err(|error| Status::bad_request(error.to_string()))
}

fn from_cbor(body: &[u8]) -> Result<Value, Status> {
    tiphys_api::cbor::decode(body).map_err(|error| Status::bad_request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use tiphys_api::{Gvr, schema};

    use super::super::query::Query;
    use super::*;

    fn code(method: &Method, url: &str) -> u16 {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let info = RequestInfo::parse(method, path, &Query::parse(query)).unwrap();
        let gvr = Gvr::owned(&info.group, &info.version, &info.resource);
        let Some(resource) = schema::builtin().get(&gvr) else { return 404 };
        check(resource, &info, method).err().map_or(200, |status| status.code)
    }

    #[test]
    fn what_does_not_exist_is_told_from_what_is_not_allowed() {
        for (method, url, expected) in [
            (Method::GET, "/api/v1/pods", 200),
            (Method::GET, "/api/v1/namespaces/n/pods/p", 200),
            (Method::GET, "/api/v1/pods/p", 404),
            (Method::POST, "/api/v1/pods", 405),
            (Method::POST, "/api/v1/namespaces/n/pods", 200),
            (Method::POST, "/api/v1/namespaces/n/pods/p", 405),
            (Method::PUT, "/api/v1/namespaces/n/pods", 405),
            (Method::GET, "/api/v1/namespaces/n/nodes", 404),
            (Method::GET, "/api/v1/namespaces/n", 200),
            (Method::DELETE, "/api/v1/namespaces/n", 200),
            (Method::POST, "/api/v1/namespaces", 200),
            (Method::GET, "/api/v1/namespaces/n/pods/p/nothing", 404),
            (Method::POST, "/api/v1/namespaces/n/pods/p/log", 405),
            (Method::POST, "/api/v1/namespaces/n/pods/p/binding", 200),
            (Method::GET, "/api/v1/namespaces/n/pods/p/status/more", 404),
            (Method::GET, "/apis/apps/v1/namespaces/n/deployments/d/scale", 200),
            (Method::OPTIONS, "/api/v1/pods", 405),
            (Method::OPTIONS, "/api/v1/namespaces/n/pods/p/proxy/some/path", 200),
            (Method::OPTIONS, "/api/v1/namespaces/n/pods/p/status", 405),
            (Method::HEAD, "/api/v1/pods", 405),
            (Method::GET, "/api/v1/watch/namespaces/n/pods/p", 200),
            (Method::GET, "/api/v1/nothings", 404),
        ] {
            assert_eq!(code(&method, url), expected, "{method} {url}");
        }
    }
}
