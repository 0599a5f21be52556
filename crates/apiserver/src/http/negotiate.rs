//! Content negotiation: which form a client wants (`Accept`), and which form its body has (`Content-Type`).
//!
//! - Clauses are tried by quality, then by their order; the first that is served wins. Nothing served is 406.
//! - A clause may ask for another shape (`as=Table`, `as=PartialObjectMetadata`, `as=APIGroupDiscoveryList`); a shape
//!   that the endpoint does not have makes the clause fall through to the next, as `kubectl` counts on.
//! - Protobuf is answered only to who takes nothing else: JSON is what objects are kept in, so it costs least, and every
//!   client that accepts both reads both. CBOR likewise.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use tiphys_api::Status;

use super::query::Query;

/// The media type of protobuf.
const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// The media types served and accepted, as messages name them.
pub const SUPPORTED: &str =
    "application/json, application/yaml, application/vnd.kubernetes.protobuf, application/cbor";

/// The media types of custom resources.
pub const TEXTS: &str = "application/json, application/yaml, application/cbor";

/// The media types of watches, as messages name them.
pub const STREAMED: &str = "application/json, application/vnd.kubernetes.protobuf, application/cbor";

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `application/json`.
    #[default]
    Json,
    /// `application/json` for people: indented by two spaces.
    PrettyJson,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
    /// `application/cbor`; a watch is `application/cbor-seq`.
    Cbor,
}

impl Encoding {
    /// Whether objects have to be encoded anew, for machines: the cache keeps them as text.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Protobuf | Self::Cbor)
    }
}

/// Which shape an object takes in the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Shape {
    /// The object itself.
    #[default]
    Whole,
    /// `meta.k8s.io/v1` (or `v1beta1`) Table.
    Table,
    /// Metadata only.
    PartialMetadata,
    /// A list of metadata only.
    PartialMetadataList,
    /// `apidiscovery.k8s.io/v2` APIGroupDiscoveryList.
    Discovery,
}

/// What was agreed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MediaType {
    /// How the body is written.
    pub encoding: Encoding,
    /// Which shape it has.
    pub shape: Shape,
    /// Whether the shape was asked for in its `v1beta1` form.
    pub beta: bool,
}

/// Which shapes an endpoint can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shapes {
    /// Only its own.
    Own,
    /// Objects: also Table and metadata only.
    Objects,
    /// `/api` and `/apis`: also the aggregated form.
    Discovery,
}

#[derive(Debug)]
struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl MediaType {
    /// Chooses by the request's `Accept`, `?pretty` and user agent.
    pub fn negotiate(headers: &HeaderMap, query: &Query, shapes: Shapes) -> Result<Self, Status> {
        let mut chosen = Self::by_accept(headers, shapes)?;
        if chosen.encoding == Encoding::Json && wants_pretty(headers, query) {
            chosen.encoding = Encoding::PrettyJson;
        }
        Ok(chosen)
    }

    fn by_accept(headers: &HeaderMap, shapes: Shapes) -> Result<Self, Status> {
        let values: Vec<&str> =
            headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        let mut clauses: Vec<Clause<'_>> =
            values.iter().flat_map(|value| value.split(',')).filter_map(Clause::parse).collect();
        if clauses.is_empty() {
            return Ok(Self::default());
        }
        clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
        let mut served = clauses.iter().filter_map(|clause| clause.served(shapes));
        let mut fallback = None;
        let text = served.find(|media| {
            let binary = media.encoding.is_binary();
            fallback = fallback.or(binary.then_some(*media));
            !binary
        });
        text.or(fallback).ok_or_else(|| Status::not_acceptable(SUPPORTED))
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match (self.shape, self.encoding) {
            (Shape::Discovery, Encoding::Json | Encoding::PrettyJson) => {
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            }
            (_, Encoding::Yaml) => "application/yaml",
            (_, Encoding::Protobuf) => MEDIA_TYPE,
            (Shape::Discovery, Encoding::Cbor) => {
                "application/cbor;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            }
            (_, Encoding::Cbor) => "application/cbor",
            _ => "application/json",
        }
    }
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let (kind, subtype) = match name.split_once('/') {
            Some(pair) => pair,
            None if name == "*" => ("*", "*"),
            None => return None,
        };
        let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
        let quality = parameters.iter().find(|(key, _)| *key == "q");
        let quality = quality.and_then(|(_, q)| q.parse().ok()).unwrap_or(1.0);
        Some(Self { kind, subtype, parameters, quality })
    }

    fn served(&self, shapes: Shapes) -> Option<MediaType> {
        let encoding = match (self.kind, self.subtype) {
            ("*", "*") | ("application", "*" | "json") => Encoding::Json,
            ("application", "yaml") => Encoding::Yaml,
            ("application", "vnd.kubernetes.protobuf") => Encoding::Protobuf,
            ("application", "cbor" | "cbor-seq") => Encoding::Cbor,
            _ => return None,
        };
        if self.quality <= 0.0 {
            return None;
        }
        let (shape, beta) = self.shape(shapes)?;
        let is_metadata = matches!(shape, Shape::PartialMetadata | Shape::PartialMetadataList);
        let fits = match encoding {
            Encoding::Protobuf => shape == Shape::Whole || (is_metadata && !beta),
            Encoding::Cbor => shape != Shape::Table,
            _ => true,
        };
        if !fits {
            return None;
        }
        let pretty = matches!(self.parameter("pretty"), "1" | "true") && encoding == Encoding::Json;
        let encoding = if pretty { Encoding::PrettyJson } else { encoding };
        Some(MediaType { encoding, shape, beta })
    }

    fn shape(&self, shapes: Shapes) -> Option<(Shape, bool)> {
        let (name, group, version) = (self.parameter("as"), self.parameter("g"), self.parameter("v"));
        if name.is_empty() {
            return Some((Shape::Whole, false));
        }
        match (shapes, group, version, name) {
            (Shapes::Discovery, "apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList") => {
                Some((Shape::Discovery, false))
            }
            (Shapes::Objects, "meta.k8s.io", "v1" | "v1beta1", _) => {
                let shape = match name {
                    "Table" => Shape::Table,
                    "PartialObjectMetadata" => Shape::PartialMetadata,
                    "PartialObjectMetadataList" => Shape::PartialMetadataList,
                    _ => return None,
                };
                Some((shape, version == "v1beta1"))
            }
            _ => None,
        }
    }

    fn parameter(&self, name: &str) -> &'a str {
        self.parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value).unwrap_or_default()
    }
}

/// `?pretty` decides; without it, tools that people read with get indented answers.
fn wants_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(pretty) = query.get("pretty").filter(|value| !value.is_empty()) {
        return matches!(pretty, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|tool| agent.starts_with(tool))
}

/// Whether the client takes gzip.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        let gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        gzip && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// The form of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyForm {
    /// JSON; also when nothing is said.
    Json,
    /// YAML.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
    /// `application/cbor`.
    Cbor,
}

/// The form of a body by its `Content-Type`; 415 for others.
pub fn body_form(headers: &HeaderMap) -> Result<BodyForm, Status> {
    match essence(headers) {
        "" | "application/json" => Ok(BodyForm::Json),
        "application/yaml" => Ok(BodyForm::Yaml),
        MEDIA_TYPE => Ok(BodyForm::Protobuf),
        "application/cbor" => Ok(BodyForm::Cbor),
        _ => Err(Status::unsupported_media_type(SUPPORTED)),
    }
}

/// `Content-Type` without its parameters; empty when absent.
pub fn essence(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        headers
    }

    fn choose(accept: &str, shapes: Shapes) -> Option<(Encoding, Shape)> {
        let chosen = MediaType::negotiate(&headers(accept), &Query::default(), shapes).ok()?;
        Some((chosen.encoding, chosen.shape))
    }

    #[test]
    fn the_best_served_clause_wins() {
        use Encoding::{Json, Yaml};
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,\
                       application/json";
        for (accept, shapes, expected) in [
            (kubectl, Shapes::Objects, Some((Json, Shape::Table))),
            (kubectl, Shapes::Own, Some((Json, Shape::Whole))),
            ("application/vnd.kubernetes.protobuf,application/json", Shapes::Own, Some((Json, Shape::Whole))),
            ("application/vnd.kubernetes.protobuf", Shapes::Own, Some((Encoding::Protobuf, Shape::Whole))),
            ("application/vnd.kubernetes.protobuf, */*", Shapes::Own, Some((Json, Shape::Whole))),
            ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1", Shapes::Objects, None),
            ("application/cbor", Shapes::Own, Some((Encoding::Cbor, Shape::Whole))),
            ("application/cbor,application/json;q=0.9", Shapes::Own, Some((Json, Shape::Whole))),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                Shapes::Objects,
                Some((Encoding::Protobuf, Shape::PartialMetadata)),
            ),
            ("application/cbor;as=Table;g=meta.k8s.io;v=v1", Shapes::Objects, None),
            ("application/xml", Shapes::Own, None),
            ("application/json;q=0.5, application/yaml", Shapes::Own, Some((Yaml, Shape::Whole))),
            ("text/html, */*;q=0.1", Shapes::Own, Some((Json, Shape::Whole))),
            ("application/json;q=0", Shapes::Own, None),
            ("*", Shapes::Own, Some((Json, Shape::Whole))),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
                Shapes::Discovery,
                Some((Json, Shape::Discovery)),
            ),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Shapes::Objects,
                Some((Json, Shape::PartialMetadataList)),
            ),
        ] {
            assert_eq!(choose(accept, shapes), expected, "{accept}");
        }
    }

    #[test]
    fn people_get_indented_json() {
        let pretty = |query: &str, agent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(USER_AGENT, agent.parse().unwrap());
            MediaType::negotiate(&headers, &Query::parse(query), Shapes::Own).unwrap().encoding
        };
        assert_eq!(pretty("", "curl/8.0"), Encoding::PrettyJson);
        assert_eq!(pretty("pretty=false", "curl/8.0"), Encoding::Json);
        assert_eq!(pretty("pretty=true", "kubectl"), Encoding::PrettyJson);
    }

    #[test]
    fn gzip_is_taken_only_when_offered() {
        let offered = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, value.parse().unwrap());
            accepts_gzip(&headers)
        };
        assert!(offered("deflate, gzip;q=0.8") && !offered("gzip;q=0") && !offered("br"));
    }
}
