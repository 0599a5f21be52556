//! Discovery and OpenAPI documents: built from the table of kinds when first asked for, kept, and tagged.
//!
//! - Every document has an `ETag`; a client that has it (`If-None-Match`) gets 304 and no body.
//! - `/openapi/v3/<group-version>?hash=` with the right hash may be kept for ever, with a wrong one leads to the right.
//! - What extension servers serve is merged in. When anything changes that is served, all is made anew.
//! - Large documents are kept compressed: megabytes of text that few clients read a few times.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, ETAG, EXPIRES, HeaderValue, IF_NONE_MATCH, LOCATION, VARY,
};
use http::{HeaderMap, StatusCode};
use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use tiphys_api::schema::Resource;
use tiphys_api::{Status, Value, discovery, openapi};

use super::answer::{self, Answer};
use super::handle::Call;
use super::negotiate::{self, Encoding, MediaType, Shape, Shapes};
use super::query::Query;
use super::{encode, gnostic};
use crate::aggregate::{Aggregator, merge};
use crate::kinds::Kinds;

/// From this size on a document is kept compressed, in bytes.
const PACK_MIN: usize = 64 * 1024;

/// A document in one encoding.
#[derive(Clone)]
struct Document {
    body: Bytes,
    /// Whether `body` is gzip.
    packed: bool,
    /// Quoted, as the header has it.
    tag: Arc<str>,
}

type Key = (String, Shape, Encoding);

/// All documents made so far.
pub struct Documents {
    version: String,
    address: String,
    kinds: Arc<Kinds>,
    aggregator: Arc<Aggregator>,
    /// Of which generations of kinds and extension servers, and what was made of them.
    made: RwLock<((u64, u64), HashMap<Key, Document>)>,
}

impl Document {
    fn new(body: Bytes, tag: Arc<str>) -> Self {
        if body.len() < PACK_MIN {
            return Self { body, packed: false, tag };
        }
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        match packer.write_all(&body).and_then(|()| packer.finish()) {
            Ok(packed) => Self { body: packed.into(), packed: true, tag },
            Err(_) => Self { body, packed: false, tag },
        }
    }

    fn text(&self) -> Result<Bytes, Status> {
        if !self.packed {
            return Ok(self.body.clone());
        }
        let mut text = Vec::new();
        GzDecoder::new(&self.body[..]).read_to_end(&mut text).map_err(Status::internal)?;
        Ok(text.into())
    }
}

impl Documents {
    /// Nothing made yet; `version` stands in OpenAPI's `info`, `address` is where clients reach the server, `kinds` are
    /// shown, and beside them what `aggregator` knows.
    pub fn new(version: &str, address: &str, kinds: Arc<Kinds>, aggregator: Arc<Aggregator>) -> Self {
        let (version, address) = (version.to_owned(), address.to_owned());
        Self { version, address, kinds, aggregator, made: RwLock::default() }
    }

    /// `/api/v1`, `/apis/apps`, `/apis/apps/v1` …
    pub fn group_version_paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        let others = self.aggregator.shown().into_iter().map(|shown| (shown.group, shown.version));
        for (group, version) in discovery::group_versions(&self.kinds.all()).into_iter().chain(others) {
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
        let media = match path.starts_with("/openapi/") {
            true => openapi_media(path, &call.headers)?,
            false => MediaType::negotiate(&call.headers, &call.query, shapes)?,
        };
        let Some(document) = self.document(path, media)? else { return Ok(None) };
        let hash = call.query.text("hash");
        let versioned = path.starts_with("/openapi/v3/") && !hash.is_empty();
        if versioned && document.tag.trim_matches('"') != hash {
            return Ok(Some(elsewhere(path, &document)));
        }
        let mut answer = tagged(&document, media, &call.headers)?;
        if aggregated {
            answer.headers_mut().append(VARY, HeaderValue::from_static("Accept"));
        }
        if versioned {
            keep_for_ever(&mut answer);
        }
        Ok(Some(answer))
    }

    /// The plain JSON of a document, for components of this process; `None` when the path has none.
    pub fn json(&self, path: &str) -> Result<Option<Bytes>, Status> {
        self.document(path, MediaType::default())?.map(|document| document.text()).transpose()
    }

    fn document(&self, path: &str, media: MediaType) -> Result<Option<Document>, Status> {
        let key = (path.to_owned(), media.shape, media.encoding);
        // Read before the kinds: what is made of later ones is made again.
        let generation = (self.kinds.generation(), self.aggregator.generation());
        let made = self.made.read();
        if let Some(document) = made.1.get(&key).filter(|_| made.0 == generation) {
            return Ok(Some(document.clone()));
        }
        drop(made);
        let Some(document) = self.make(path, media)? else { return Ok(None) };
        let mut made = self.made.write();
        if made.0 != generation {
            *made = (generation, HashMap::new());
        }
        made.1.insert(key, document.clone());
        Ok(Some(document))
    }

    fn make(&self, path: &str, media: MediaType) -> Result<Option<Document>, Status> {
        let all = &self.kinds.all();
        if let Some((text, tag)) = self.openapi(path, all) {
            let body = match media.encoding {
                Encoding::Protobuf => gnostic::encode(&text).map_err(Status::internal)?.into(),
                _ => text.into(),
            };
            return Ok(Some(Document::new(body, tag)));
        }
        let tree =
            if media.shape == Shape::Discovery { self.aggregated(path, all) } else { self.plain(path, all) };
        let body = tree.map(|tree| encode::tree(&tree, media.encoding)).transpose()?;
        Ok(body.map(|body| Document::new(body.clone(), tag(&body))))
    }

    fn openapi(&self, path: &str, all: &[Arc<Resource>]) -> Option<(String, Arc<str>)> {
        let parts: Vec<&str> = path.strip_prefix("/openapi/")?.split('/').collect();
        let (text, hash) = match parts.as_slice() {
            ["v2"] => (openapi::v2(all, &self.version), None),
            ["v3"] => (self.openapi_index(all), None),
            ["v3", "api", version] => self.openapi_v3(all, "", version)?,
            ["v3", "apis", group, version] => self.openapi_v3(all, group, version)?,
            _ => return None,
        };
        let tag = hash.map_or_else(|| tag(text.as_bytes()), |hash: String| format!("\"{hash}\"").into());
        Some((text, tag))
    }

    fn openapi_index(&self, all: &[Arc<Resource>]) -> String {
        let (own, others) = (openapi::v3_index(all), self.aggregator.shown());
        match Value::from_json(own.as_bytes()) {
            Ok(index) if !others.is_empty() => merge::openapi_index(index, &others).to_string(),
            _ => own,
        }
    }

    fn openapi_v3(
        &self,
        all: &[Arc<Resource>],
        group: &str,
        version: &str,
    ) -> Option<(String, Option<String>)> {
        let text = openapi::v3(all, group, version, &self.version)?;
        Some((text, Some(openapi::v3_hash(all, group, version))))
    }

    fn aggregated(&self, path: &str, all: &[Arc<Resource>]) -> Option<Value> {
        match path {
            "/api" => Some(discovery::aggregated_api(all)),
            "/apis" => Some(merge::aggregated(discovery::aggregated_apis(all), &self.aggregator.shown())),
            _ => None,
        }
    }

    fn groups(&self, all: &[Arc<Resource>]) -> Value {
        merge::groups(&discovery::groups(all), &self.aggregator.shown())
    }

    fn plain(&self, path: &str, all: &[Arc<Resource>]) -> Option<Value> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            ["api"] => Some(discovery::api_versions(&self.address)),
            ["apis"] => Some(self.groups(all)),
            ["api", version] => discovery::resources(all, "", version),
            ["apis", group] => merge::group(&self.groups(all), group),
            ["apis", group, version] => discovery::resources(all, group, version),
            _ => None,
        }
    }
}

/// OpenAPI is JSON, and version 2 also protobuf for who takes only that.
fn openapi_media(path: &str, headers: &HeaderMap) -> Result<MediaType, Status> {
    let asked = |media: &str| {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|clause| clause.trim().split(';').next() == Some(media))
    };
    let json = MediaType::negotiate(headers, &Query::default(), Shapes::Own);
    let binary = path == "/openapi/v2" && (asked(gnostic::MEDIA_TYPE) || asked(gnostic::OLD_MEDIA_TYPE));
    match json {
        Err(_) if binary => Ok(MediaType { encoding: Encoding::Protobuf, ..MediaType::default() }),
        json => json.map(|_| MediaType::default()),
    }
}

/// Quoted hash of a body, in upper-case hexadecimal.
fn tag(body: &[u8]) -> Arc<str> {
    let digest = Sha256::digest(body);
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02X}")).collect();
    format!("\"{hex}\"").into()
}

fn tagged(document: &Document, media: MediaType, headers: &HeaderMap) -> Result<Answer, Status> {
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    let unchanged = known.any(|tag| tag == document.tag.as_ref() || tag == "*");
    let packed = document.packed && negotiate::accepts_gzip(headers);
    let (code, body) = match (unchanged, packed) {
        (true, _) => (StatusCode::NOT_MODIFIED, Bytes::new()),
        (false, true) => (StatusCode::OK, document.body.clone()),
        (false, false) => (StatusCode::OK, document.text()?),
    };
    let content_type = match media.encoding {
        Encoding::Protobuf => gnostic::MEDIA_TYPE,
        _ => media.content_type(),
    };
    let mut answer = answer::with_body(code, content_type, body);
    answer::set(&mut answer, ETAG, &document.tag);
    if document.packed {
        answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    if packed && !unchanged {
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(answer)
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
