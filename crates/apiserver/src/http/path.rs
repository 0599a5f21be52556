//! What a request asks for, read from its method, path and query: paths are data, as discovery's resources are.
//!
//! The rules are those of apiserver's `RequestInfoFactory`, so that authorization sees the same attributes:
//! - `/api/v1/...` and `/apis/<group>/<version>/...` name resources; all other paths name themselves.
//! - `namespaces/<ns>` in front scopes what follows; alone (or with `status`, `finalize`) it is the resource.
//! - a GET without a name is a list, or a watch with `?watch`; a field selector `metadata.name=x` counts as a name.
//! - the old `/watch/` prefix is a watch.

use http::Method;

use super::query::{Query, decode};

/// The meaning of one request line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// The decoded path.
    pub path: String,
    /// Whether it names a resource.
    pub is_resource: bool,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the method in lower case for
    /// other paths.
    pub verb: &'static str,
    /// API group; empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource name.
    pub resource: String,
    /// Subresource, or empty.
    pub subresource: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Object name, or empty.
    pub name: String,
    /// What follows the subresource, without a leading slash: the path behind `proxy`. `None` when not even a slash
    /// follows it.
    pub rest: Option<String>,
}

/// Why a request line has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The path is not valid percent-encoded UTF-8.
    #[error("the request path is not valid UTF-8 in percent encoding")]
    Encoding,
    /// `/api/v1/watch` with nothing behind it.
    #[error("unable to determine kind and namespace from url")]
    NoKind,
}

impl RequestInfo {
    /// Reads a request line.
    pub fn parse(method: &Method, raw_path: &str, query: &Query) -> Result<Self, Error> {
        let path = decode(raw_path, false).ok_or(Error::Encoding)?;
        let mut info = Self { verb: lower_case(method), path, ..Self::default() };
        let trimmed = info.path.trim_matches('/').to_owned();
        let mut parts: Vec<&str> = trimmed.split('/').collect();
        let Some(taken) = info.take_group_version(&parts) else { return Ok(info) };
        parts.drain(..taken);
        info.take_resource(method, &parts, query)?;
        Ok(info)
    }

    /// Takes `api/v1` or `apis/group/version` when a resource follows; returns how many parts that is.
    fn take_group_version(&mut self, parts: &[&str]) -> Option<usize> {
        let taken = match parts {
            ["api", version, _, ..] => {
                self.version = (*version).to_owned();
                2
            }
            ["apis", group, version, _, ..] => {
                (self.group, self.version) = ((*group).to_owned(), (*version).to_owned());
                3
            }
            _ => return None,
        };
        self.is_resource = true;
        Some(taken)
    }

    fn take_resource(&mut self, method: &Method, parts: &[&str], query: &Query) -> Result<(), Error> {
        self.verb = verb_of(method);
        let mut parts = parts;
        if let ["watch", rest @ ..] = parts {
            if rest.is_empty() {
                return Err(Error::NoKind);
            }
            (self.verb, parts) = ("watch", rest);
        }
        if let ["namespaces", namespace, rest @ ..] = parts {
            self.namespace = (*namespace).to_owned();
            if !matches!(rest, [] | ["status" | "finalize", ..]) {
                parts = rest;
            }
        }
        let part = |at: usize| parts.get(at).copied().unwrap_or_default().to_owned();
        (self.resource, self.name, self.subresource) = (part(0), part(1), part(2));
        if parts.len() > 2 {
            self.rest = self.behind_subresource(parts.get(3..).unwrap_or_default());
        }
        self.refine_collection_verb(query);
        Ok(())
    }

    /// The path behind the subresource, keeping a closing slash, which trimming took away.
    fn behind_subresource(&self, rest: &[&str]) -> Option<String> {
        let slash = self.path.ends_with('/');
        match rest {
            [] => slash.then(String::new),
            rest => Some(rest.join("/") + if slash { "/" } else { "" }),
        }
    }

    fn refine_collection_verb(&mut self, query: &Query) {
        if self.name.is_empty() {
            self.verb = match self.verb {
                "get" if query.switch("watch") => "watch",
                "get" => "list",
                "delete" => "deletecollection",
                other => other,
            };
        }
        if self.name.is_empty() && matches!(self.verb, "list" | "watch" | "deletecollection") {
            self.name = name_selected(query.text("fieldSelector")).unwrap_or_default();
        }
    }

    /// Whether the answer may take as long as the client likes: watches and streams.
    pub fn is_long_running(&self, query: &Query) -> bool {
        let stream = matches!(self.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy");
        self.verb == "watch" || stream || (self.subresource == "log" && query.switch("follow"))
    }

    /// `cluster`, `namespace` or `resource`: what metrics call the extent of a request.
    pub fn scope(&self) -> &'static str {
        match (self.is_resource, self.name.is_empty(), self.namespace.is_empty()) {
            (false, ..) => "",
            (_, false, _) => "resource",
            (_, _, false) => "namespace",
            _ => "cluster",
        }
    }
}

fn verb_of(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

fn lower_case(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        Method::CONNECT => "connect",
        Method::TRACE => "trace",
        _ => "",
    }
}

/// The name that a field selector pins, when it is one that a path could hold.
fn name_selected(selector: &str) -> Option<String> {
    let name = selector.split(',').find_map(|term| {
        let value = term.trim().strip_prefix("metadata.name")?;
        value.strip_prefix("==").or_else(|| value.strip_prefix('='))
    })?;
    let fits = !matches!(name, "" | "." | "..") && !name.contains(['/', '%', '\\']);
    fits.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &Method, url: &str) -> RequestInfo {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        RequestInfo::parse(method, path, &Query::parse(query)).unwrap()
    }

    /// `verb group/version namespace resource name subresource [rest]`
    fn line(method: &Method, url: &str) -> String {
        let i = parse(method, url);
        if !i.is_resource {
            return format!("{} path", i.verb);
        }
        let rest = i.rest.map(|r| format!(" [{r}]")).unwrap_or_default();
        format!(
            "{} {}/{} {}:{}:{}:{}{rest}",
            i.verb, i.group, i.version, i.namespace, i.resource, i.name, i.subresource
        )
    }

    #[test]
    fn request_lines_mean_what_kubernetes_says() {
        let get = Method::GET;
        for (url, expected) in [
            ("/api/v1/namespaces", "list /v1 :namespaces::"),
            ("/api/v1/namespaces/other", "get /v1 other:namespaces:other:"),
            ("/api/v1/namespaces/other/status", "get /v1 other:namespaces:other:status"),
            ("/api/v1/namespaces/other/pods", "list /v1 other:pods::"),
            ("/api/v1/namespaces/other/pods/foo", "get /v1 other:pods:foo:"),
            ("/api/v1/namespaces/other/pods/foo/log", "get /v1 other:pods:foo:log"),
            ("/api/v1/pods?watch=true", "watch /v1 :pods::"),
            ("/api/v1/pods?watch=0", "list /v1 :pods::"),
            ("/api/v1/pods/foo?watch=1", "get /v1 :pods:foo:"),
            ("/api/v1/watch/namespaces/n/pods/p", "watch /v1 n:pods:p:"),
            ("/api/v1/watch/pods", "watch /v1 :pods::"),
            ("/apis/apps/v1/namespaces/n/deployments/d/scale", "get apps/v1 n:deployments:d:scale"),
            ("/apis/apps/v1/deployments?fieldSelector=metadata.name%3Dx", "list apps/v1 :deployments:x:"),
            ("/apis/apps/v1/deployments?fieldSelector=metadata.name!=x", "list apps/v1 :deployments::"),
            ("/api/v1/nodes/n/proxy/logs/a/", "get /v1 :nodes:n:proxy [logs/a/]"),
            ("/api/v1/nodes/n/proxy/", "get /v1 :nodes:n:proxy []"),
            ("/api/v1/nodes/n/proxy", "get /v1 :nodes:n:proxy"),
            ("/apis/apps/v1", "get path"),
            ("/api/v1", "get path"),
            ("/healthz", "get path"),
            ("/", "get path"),
        ] {
            assert_eq!(line(&get, url), expected, "{url}");
        }
    }

    #[test]
    fn methods_are_verbs() {
        assert_eq!(line(&Method::DELETE, "/api/v1/namespaces/n/pods"), "deletecollection /v1 n:pods::");
        assert_eq!(line(&Method::DELETE, "/api/v1/namespaces/n/pods/p"), "delete /v1 n:pods:p:");
        assert_eq!(line(&Method::POST, "/api/v1/namespaces/n/pods"), "create /v1 n:pods::");
        assert_eq!(line(&Method::OPTIONS, "/api/v1/namespaces/n/pods"), " /v1 n:pods::");
        assert_eq!(line(&Method::POST, "/metrics"), "post path");
    }

    #[test]
    fn broken_paths_are_errors() {
        let parse = |path| RequestInfo::parse(&Method::GET, path, &Query::default());
        assert_eq!(parse("/api/v1/%ff"), Err(Error::Encoding));
        assert_eq!(parse("/api/v1/watch"), Err(Error::NoKind));
    }
}
