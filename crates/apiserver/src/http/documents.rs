//! Discovery and OpenAPI documents: built from the table of kinds when first asked for, kept, and tagged.
//!
//! - Every document has an `ETag` from its bytes; a client that has it (`If-None-Match`) gets 304 and no body.
//! - `/openapi/v3/<group-version>?hash=` with the right hash may be kept for ever, with a wrong one leads to the right.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, ETAG, EXPIRES, HeaderValue, IF_NONE_MATCH, LOCATION, VARY};
use http::{HeaderMap, StatusCode};
use parking_lot::RwLock;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tiphys_api::{Status, discovery};
use tiphys_api::schema::{self, Resource};

use super::pending::openapi;
use super::answer::{self, Answer};
use super::encode;
use super::handle::Call;
use super::negotiate::{Encoding, MediaType, Shape, Shapes};

/// A document in one encoding.
#[derive(Clone)]
struct Document {
    body: Bytes,
    /// Quoted, as the header has it.
    tag: Arc<str>,
}

type Key = (String, Shape, Encoding);

/// All documents made so far.
pub struct Documents {
    version: String,
    address: String,
    made: RwLock<HashMap<Key, Document>>,
}

impl Documents {
    /// Nothing made yet; `version` stands in OpenAPI's `info`, `address` is where clients reach the server.
    pub fn new(version: &str, address: &str) -> Self {
        Self { version: version.to_owned(), address: address.to_owned(), made: RwLock::default() }
    }

    /// `/api/v1`, `/apis/apps`, `/apis/apps/v1` …
    pub fn group_version_paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for (group, version) in discovery::group_versions(resources()) {
            paths.push(match group.as_str() {
                "" => format!("/api/{version}"),
                group => format!("/apis/{group}/{version}"),
            });
            if !group.is_empty() {
                paths.push(format!("/apis/{group}"));
            }
        }
        paths.sort();
        paths.dedup();
        paths
    }

    /// Answers a path that has a document; `None` for others.
    pub fn answer(&self, path: &str, call: &Call) -> Result<Option<Answer>, Status> {
        let aggregated = matches!(path, "/api" | "/apis");
        let shapes = if aggregated { Shapes::Discovery } else { Shapes::Own };
        let media = MediaType::negotiate(&call.headers, &call.query, shapes)?;
        let Some(document) = self.document(path, media)? else { return Ok(None) };
        let hash = call.query.text("hash");
        let versioned = path.starts_with("/openapi/v3/") && !hash.is_empty();
        if versioned && document.tag.trim_matches('"') != hash {
            return Ok(Some(elsewhere(path, &document)));
        }
        let mut answer = tagged(&document, media, &call.headers);
        if aggregated {
            answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        }
        if versioned {
            keep_for_ever(&mut answer);
        }
        Ok(Some(answer))
    }

    /// The plain JSON of a document, for components of this process; `None` when the path has none.
    pub fn json(&self, path: &str) -> Result<Option<Bytes>, Status> {
        Ok(self.document(path, MediaType::default())?.map(|document| document.body))
    }

    fn document(&self, path: &str, media: MediaType) -> Result<Option<Document>, Status> {
        let key = (path.to_owned(), media.shape, media.encoding);
        if let Some(document) = self.made.read().get(&key) {
            return Ok(Some(document.clone()));
        }
        let Some(body) = self.make(path, media)? else { return Ok(None) };
        let document = Document { tag: tag(&body), body };
        Ok(Some(self.made.write().entry(key).or_insert(document).clone()))
    }

    fn make(&self, path: &str, media: MediaType) -> Result<Option<Bytes>, Status> {
        let tree = match (path, media.shape) {
            ("/openapi/v3", _) => Some(self.openapi_index()?),
            (path, Shape::Discovery) => aggregated(path),
            (path, _) => self.plain(path),
        };
        tree.map(|tree| encode::tree(&tree, media.encoding)).transpose()
    }

    /// Every group-version's document with the hash of its bytes.
    fn openapi_index(&self) -> Result<Value, Status> {
        let mut paths = serde_json::Map::new();
        for base in self.group_version_paths() {
            let path = format!("/openapi/v3{base}");
            if let Some(document) = self.document(&path, MediaType::default())? {
                let hash = document.tag.trim_matches('"');
                let url = json!({"serverRelativeURL": format!("{path}?hash={hash}")});
                paths.insert(base.trim_start_matches('/').to_owned(), url);
            }
        }
        Ok(json!({"paths": paths}))
    }

    fn plain(&self, path: &str) -> Option<Value> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            ["api"] => Some(discovery::api_versions(&self.address)),
            ["apis"] => Some(discovery::groups(resources())),
            ["api", version] => discovery::resources(resources(), "", version),
            ["apis", group] => discovery::group(resources(), group),
            ["apis", group, version] => discovery::resources(resources(), group, version),
            ["openapi", "v2"] => Some(openapi::v2(&self.version)),
            ["openapi", "v3", "api", version] => openapi::v3("", version),
            ["openapi", "v3", "apis", group, version] => openapi::v3(group, version),
            _ => None,
        }
    }
}

fn resources() -> impl Iterator<Item = &'static Arc<Resource>> {
    schema::builtin().iter()
}

fn aggregated(path: &str) -> Option<Value> {
    match path {
        "/api" => Some(discovery::aggregated_api(resources())),
        "/apis" => Some(discovery::aggregated_apis(resources())),
        _ => None,
    }
}

/// Quoted hash of a body, in upper-case hexadecimal.
fn tag(body: &[u8]) -> Arc<str> {
    let digest = Sha256::digest(body);
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02X}")).collect();
    format!("\"{hex}\"").into()
}

fn tagged(document: &Document, media: MediaType, headers: &HeaderMap) -> Answer {
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    let mut answer = match known.any(|tag| tag == document.tag.as_ref() || tag == "*") {
        true => answer::with_body(StatusCode::NOT_MODIFIED, media.content_type(), ""),
        false => answer::with_body(StatusCode::OK, media.content_type(), document.body.clone()),
    };
    answer::set(&mut answer, ETAG, &document.tag);
    answer
}

fn keep_for_ever(answer: &mut Answer) {
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    headers.insert(EXPIRES, HeaderValue::from_static("Fri, 31 Dec 2100 23:59:59 GMT"));
}

fn elsewhere(path: &str, document: &Document) -> Answer {
    let mut answer = answer::with_body(StatusCode::MOVED_PERMANENTLY, "text/plain", "");
    answer::set(&mut answer, LOCATION, &format!("{path}?hash={}", document.tag.trim_matches('"')));
    answer
}
