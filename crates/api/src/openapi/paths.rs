//! Paths and operations of resources, for both versions of OpenAPI.

use super::schemas::{Dialect, kind};
use super::write::Json;
use crate::gvr::Gvk;
use crate::schema::{Resource, Subresource};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const PATCHES: [&str; 5] = [
    "application/apply-patch+cbor",
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const BODIES: [&str; 4] =
    ["application/json", "application/yaml", "application/cbor", "application/vnd.kubernetes.protobuf"];

/// Name and OpenAPI type of query parameters.
type Parameters = &'static [(&'static str, &'static str)];

const LISTING: Parameters = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITING: Parameters =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCHING: Parameters =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];
const DELETING: Parameters = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

/// One operation.
struct Operation<'a> {
    method: &'static str,
    /// `x-kubernetes-action`.
    action: &'static str,
    /// Such as `listCoreV1NamespacedPod`.
    id: String,
    parameters: Parameters,
    gvk: &'a Gvk,
    body: Option<String>,
    answer: String,
    /// Of a custom resource.
    custom: bool,
}

impl Operation<'_> {
    /// Nobody says how lists of custom resources merge strategically.
    fn patches(&self) -> &'static [&'static str] {
        if self.custom { &PATCHES[..4] } else { &PATCHES }
    }

    /// Custom resources have no protobuf.
    fn bodies(&self) -> &'static [&'static str] {
        if self.custom { &BODIES[..3] } else { &BODIES }
    }
}

/// Writes the paths of one resource.
pub struct Writer<'a> {
    /// Which OpenAPI.
    pub dialect: Dialect,
    /// Where references point.
    pub prefix: &'static str,
    /// OpenAPI name of a kind's type; `None` for kinds that have none here.
    pub type_of: &'a dyn Fn(&Gvk) -> Option<String>,
}

impl Writer<'_> {
    /// All paths of a resource and its subresources.
    pub fn resource(&self, out: &mut Json, resource: &Resource) {
        let base = resource.gvr.base_path();
        let name = &resource.gvr.resource;
        if resource.namespaced {
            if resource.has_verb("list") {
                self.path(
                    out,
                    &format!("{base}/{name}"),
                    &[],
                    self.list(resource, "", "ForAllNamespaces").into_iter().collect(),
                );
            }
            let base = format!("{base}/namespaces/{{namespace}}/{name}");
            self.under(out, resource, &base, &["namespace"]);
        } else {
            self.under(out, resource, &format!("{base}/{name}"), &[]);
        }
    }

    fn under(&self, out: &mut Json, resource: &Resource, base: &str, scope: &[&str]) {
        let scoped = if resource.namespaced { "Namespaced" } else { "" };
        let mut operations: Vec<Operation<'_>> = self.list(resource, scoped, "").into_iter().collect();
        operations.extend(self.create(resource, scoped));
        operations.extend(self.delete_collection(resource, scoped));
        self.path(out, base, scope, operations);
        let names: Vec<&str> = scope.iter().copied().chain(["name"]).collect();
        let item = format!("{base}/{{name}}");
        let operations =
            ["get", "update", "patch", "delete"].into_iter().filter(|verb| resource.has_verb(verb));
        let operations: Vec<Operation<'_>> =
            operations.filter_map(|verb| self.single(resource, verb, &resource.gvk, "")).collect();
        if !operations.is_empty() {
            self.path(out, &item, &names, operations);
        }
        for sub in &resource.subresources {
            let operations = sub.verbs.iter().filter_map(|verb| self.sub(resource, sub, verb)).collect();
            self.path(out, &format!("{item}/{}", sub.name), &names, operations);
        }
    }

    fn sub<'a>(&self, resource: &Resource, sub: &'a Subresource, verb: &str) -> Option<Operation<'a>> {
        let connects = matches!(sub.name.as_ref(), "attach" | "exec" | "portforward" | "proxy");
        let mut operation = self.single(resource, verb, &sub.gvk, &camel(&sub.name))?;
        if connects {
            operation.action = "connect";
            (operation.body, operation.parameters) = (None, &[]);
            operation.id = format!("connect{}", operation.id);
        }
        Some(operation)
    }

    fn id(&self, verb: &str, resource: &Resource, scope: &str, rest: &str) -> String {
        let group = match resource.gvr.group.as_ref() {
            "" => "Core".to_owned(),
            group => group.trim_end_matches(".k8s.io").split('.').map(camel).collect(),
        };
        format!("{verb}{group}{}{scope}{}{rest}", camel(&resource.gvr.version), resource.gvk.kind)
    }

    fn reference(&self, gvk: &Gvk) -> String {
        (self.type_of)(gvk).unwrap_or_default()
    }

    fn list<'a>(&self, resource: &'a Resource, scope: &str, rest: &str) -> Option<Operation<'a>> {
        let kind = Gvk { kind: resource.list_kind.to_string().into(), ..resource.gvk.clone() };
        resource.has_verb("list").then(|| Operation {
            method: "get",
            action: "list",
            id: self.id("list", resource, scope, rest),
            parameters: LISTING,
            gvk: &resource.gvk,
            body: None,
            answer: self.reference(&kind),
            custom: resource.custom.is_some(),
        })
    }

    fn create<'a>(&self, resource: &'a Resource, scope: &str) -> Option<Operation<'a>> {
        resource.has_verb("create").then(|| Operation {
            method: "post",
            action: "post",
            id: self.id("create", resource, scope, ""),
            parameters: WRITING,
            gvk: &resource.gvk,
            body: Some(self.reference(&resource.gvk)),
            answer: self.reference(&resource.gvk),
            custom: resource.custom.is_some(),
        })
    }

    fn delete_collection<'a>(&self, resource: &'a Resource, scope: &str) -> Option<Operation<'a>> {
        resource.has_verb("deletecollection").then(|| Operation {
            method: "delete",
            action: "deletecollection",
            id: self.id("delete", resource, &format!("Collection{scope}"), ""),
            parameters: DELETING,
            gvk: &resource.gvk,
            body: Some(format!("{META}.DeleteOptions")),
            answer: format!("{META}.Status"),
            custom: resource.custom.is_some(),
        })
    }

    /// An operation on one object or on a subresource of it.
    fn single<'a>(&self, resource: &Resource, verb: &str, gvk: &'a Gvk, rest: &str) -> Option<Operation<'a>> {
        let scope = if resource.namespaced { "Namespaced" } else { "" };
        let own = self.reference(gvk);
        let (method, action, word, parameters, body): (_, _, _, Parameters, _) = match verb {
            "get" => ("get", "get", "read", &[], None),
            "create" => ("post", "post", "create", WRITING, Some(own.clone())),
            "update" => ("put", "put", "replace", WRITING, Some(own.clone())),
            "patch" => ("patch", "patch", "patch", PATCHING, Some(format!("{META}.Patch"))),
            "delete" => ("delete", "delete", "delete", DELETING, Some(format!("{META}.DeleteOptions"))),
            _ => return None,
        };
        let status = verb == "delete" && !(resource.returned && rest.is_empty());
        let answer = if status { format!("{META}.Status") } else { own };
        let id = self.id(word, resource, scope, rest);
        let custom = resource.custom.is_some();
        Some(Operation { method, action, id, parameters, gvk, body, answer, custom })
    }

    fn path(&self, out: &mut Json, path: &str, names: &[&str], operations: Vec<Operation<'_>>) {
        out.key(path).object(|out| {
            for operation in operations {
                out.key(operation.method).object(|out| self.operation(out, &operation));
            }
            out.key("parameters").list(|out| {
                names.iter().for_each(|name| self.parameter(out, "path", name, "string", true));
                self.parameter(out, "query", "pretty", "string", false);
            });
        });
    }

    fn operation(&self, out: &mut Json, operation: &Operation<'_>) {
        out.pair("operationId", &operation.id);
        if self.dialect == Dialect::V2 {
            let media = if operation.method == "patch" { operation.patches() } else { &["*/*"] };
            out.strings("consumes", media.iter().copied());
            out.strings("produces", operation.bodies().iter().copied());
        }
        out.key("parameters").list(|out| {
            if let (Dialect::V2, Some(body)) = (self.dialect, &operation.body) {
                out.object(|out| {
                    out.pair("in", "body");
                    out.pair("name", "body");
                    out.key("schema").object(|out| self.schema(out, body));
                });
            }
            operation.parameters.iter().for_each(|(name, ty)| self.parameter(out, "query", name, ty, false));
        });
        if let (Dialect::V3, Some(body)) = (self.dialect, &operation.body) {
            let media = if operation.method == "patch" { operation.patches() } else { operation.bodies() };
            out.key("requestBody").object(|out| self.content(out, media, body));
        }
        out.key("responses").object(|out| {
            out.key("200").object(|out| {
                out.pair("description", "OK");
                match self.dialect {
                    Dialect::V2 => out.key("schema").object(|out| self.schema(out, &operation.answer)),
                    Dialect::V3 => self.content(out, operation.bodies(), &operation.answer),
                }
            });
            out.raw_pair("401", r#"{"description":"Unauthorized"}"#);
        });
        out.pair("x-kubernetes-action", operation.action);
        kind(out.key("x-kubernetes-group-version-kind"), operation.gvk);
    }

    fn content(&self, out: &mut Json, media: &[&str], name: &str) {
        out.key("content").object(|out| {
            for media in media {
                out.key(media).object(|out| out.key("schema").object(|out| self.schema(out, name)));
            }
        });
    }

    fn schema(&self, out: &mut Json, name: &str) {
        match name {
            "" => out.pair("type", "string"),
            name => out.pair("$ref", &format!("{}{name}", self.prefix)),
        }
    }

    fn parameter(&self, out: &mut Json, place: &str, name: &str, ty: &str, required: bool) {
        out.object(|out| {
            out.pair("in", place);
            out.pair("name", name);
            if required {
                out.raw_pair("required", "true");
            }
            match self.dialect {
                Dialect::V2 => out.pair("type", ty),
                Dialect::V3 => out.key("schema").object(|out| out.pair("type", ty)),
            }
        });
    }
}

/// `Scale` of `scale`.
fn camel(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}
