//! A small REST front for scenarios: request lines to the registry's calls, and answers to text.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use tiphys_api::schema::{Resource, builtin};
use tiphys_api::{Gvr, Object, Status, Value};

use crate::auth::User;
use crate::cache::{Delivery, EventKind};
use crate::registry::{
    Body, DeleteParams, Deleted, FieldValidation, List, ListParams, PatchType, Propagation, Registry,
    Request, Watch, WatchParams, WriteParams, Written,
};

/// A client: it knows its open watch and the identities it has seen.
pub struct Session {
    registry: Arc<Registry>,
    watches: HashMap<String, Watch>,
    uids: Vec<String>,
    user: User,
    first_revision: Option<u64>,
    /// The last list's continue token, which `$next` stands for.
    next_page: String,
}

struct Call {
    resource: Arc<Resource>,
    namespace: String,
    name: String,
    subresource: String,
    query: HashMap<String, String>,
}

type Answer = Result<(u16, String), Status>;

impl Session {
    pub fn new(registry: Arc<Registry>) -> Self {
        let user = User { name: "tester".into(), ..User::default() };
        Self {
            registry,
            watches: HashMap::new(),
            uids: Vec::new(),
            user,
            first_revision: None,
            next_page: String::new(),
        }
    }

    /// Plays one request line; `$rev` and `$uidN` in line and body stand for what was seen before.
    pub async fn ask(&mut self, line: &str, body: &str) -> String {
        let (line, body) = (self.fill(line), self.fill(body));
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let outcome = match verb {
            "WATCH" => self.watch(rest).await,
            "NEXT" => self.next(rest).await,
            _ => match parse(rest) {
                Some(call) => self.call(verb, &call, body).await,
                None => Err(Status::no_such_path()),
            },
        };
        let (code, text) = outcome.unwrap_or_else(|s| (s.code, String::from_utf8(s.to_json()).unwrap()));
        self.mask(&format!("{code}\n{text}"))
    }

    async fn call(&mut self, verb: &str, call: &Call, body: String) -> Answer {
        let user = self.user.clone();
        let request = call.request(&user);
        let write = call.write();
        match verb {
            "GET" if call.name.is_empty() => {
                let list = self.registry.list(&request, &call.list()).await?;
                self.next_page.clone_from(&list.continue_token);
                Ok((200, list_text(&list)))
            }
            "GET" => one(200, &self.registry.get(&request, call.text("resourceVersion")).await?),
            "POST" => {
                let written = self.registry.create(&request, Body::Yaml(body.into()), &write).await?;
                warned(&written)
            }
            "PUT" => {
                let written = self.registry.update(&request, Body::Yaml(body.into()), &write).await?;
                warned(&written)
            }
            "JSONPATCH" | "MERGE" | "STRATEGIC" | "APPLY" => {
                let form = match verb {
                    "JSONPATCH" => PatchType::Json,
                    "MERGE" => PatchType::Merge,
                    "STRATEGIC" => PatchType::Strategic,
                    _ => PatchType::Apply,
                };
                let body = if verb == "APPLY" { Body::Yaml(body.into()) } else { Body::Json(body.into()) };
                let written = self.registry.patch(&request, form, body, &write).await?;
                warned(&written)
            }
            "DELETE" if call.name.is_empty() => {
                let list = self.registry.delete_collection(&request, &call.list(), &call.delete()).await?;
                Ok((200, list_text(&list)))
            }
            "DELETE" => match self.registry.delete(&request, &call.delete()).await? {
                Deleted::Terminating(object) => one(200, &object),
                Deleted::Gone(object) => Ok((200, format!("gone {}", object.meta().key()))),
            },
            _ => Err(Status::method_not_allowed()),
        }
    }

    async fn watch(&mut self, rest: &str) -> Answer {
        let (label, path) = rest.split_once(' ').unwrap();
        let call = parse(path).ok_or_else(Status::no_such_path)?;
        let watch = self.registry.watch(&call.request(&self.user), &call.watch()).await?;
        self.watches.insert(label.into(), watch);
        self.next(label).await
    }

    /// All that a watch has to tell now.
    async fn next(&mut self, label: &str) -> Answer {
        self.registry.caches().catch_up().await?;
        let watch = self.watches.get_mut(label).unwrap();
        let mut lines = Vec::new();
        while let Some(Some(batch)) = watch.next().now_or_never() {
            match batch {
                Ok(batch) => lines.extend(batch.iter().map(delivery_text)),
                Err(status) => {
                    lines.push(format!("ERROR {}", String::from_utf8(status.to_json()).unwrap()));
                    break;
                }
            }
        }
        let told = if lines.is_empty() { "(nothing)".into() } else { lines.join("\n") };
        Ok((200, told))
    }

    fn fill(&self, text: &str) -> String {
        let mut text = text.replace("$next", &self.next_page);
        for (n, uid) in self.uids.iter().enumerate().rev() {
            text = text.replace(&format!("$uid{n}"), uid);
        }
        while let Some(at) = text.find("$rev") {
            let digits: String = text[at + 4..].chars().take_while(char::is_ascii_digit).collect();
            let revision = self.first_revision.unwrap_or(0) + digits.parse::<u64>().unwrap_or(0);
            text = text.replacen(&format!("$rev{digits}"), &revision.to_string(), 1);
        }
        text
    }

    /// Masks identities, times and revisions.
    fn mask(&mut self, text: &str) -> String {
        let mut masked = String::new();
        for (part, quoted) in text.split('"').enumerate().map(|(n, part)| (part, n % 2 == 1)) {
            if quoted || masked.ends_with('"') || !masked.is_empty() {
                masked.push('"');
            }
            let revision =
                masked.ends_with("resourceVersion\":\"").then(|| part.parse::<u64>().ok()).flatten();
            match (part, revision) {
                (_, Some(revision)) => {
                    let first = *self.first_revision.get_or_insert(revision);
                    masked.push_str(&format!("rev{}", revision as i64 - first as i64));
                }
                (part, _) if uuid::Uuid::parse_str(part).is_ok() => masked.push_str(&self.uid(part)),
                (part, _) if part.parse::<jiff::Timestamp>().is_ok() => masked.push_str("time"),
                (part, _) => masked.push_str(part),
            }
        }
        for (n, uid) in self.uids.iter().enumerate() {
            masked = masked.replace(uid, &format!("uid{n}"));
        }
        masked
    }

    fn uid(&mut self, uid: &str) -> String {
        let at = self.uids.iter().position(|u| u == uid).unwrap_or_else(|| {
            self.uids.push(uid.into());
            self.uids.len() - 1
        });
        format!("uid{at}")
    }
}

impl Call {
    fn text(&self, name: &str) -> &str {
        self.query.get(name).map(String::as_str).unwrap_or_default()
    }

    fn request<'r>(&'r self, user: &'r User) -> Request<'r> {
        Request {
            resource: &self.resource,
            namespace: &self.namespace,
            name: &self.name,
            subresource: &self.subresource,
            user,
        }
    }

    fn write(&self) -> WriteParams {
        WriteParams {
            field_manager: self.text("fieldManager").into(),
            user_agent: "test/1".into(),
            force: self.text("force") == "true",
            dry_run: self.text("dryRun") == "All",
            field_validation: match self.text("fieldValidation") {
                "Strict" => FieldValidation::Strict,
                "Ignore" => FieldValidation::Ignore,
                _ => FieldValidation::Warn,
            },
            protobuf: true,
        }
    }

    fn list(&self) -> ListParams {
        ListParams {
            labels: self.text("labelSelector").into(),
            fields: self.text("fieldSelector").into(),
            limit: self.text("limit").parse().unwrap_or(0),
            continue_token: self.text("continue").into(),
            resource_version: self.text("resourceVersion").into(),
            resource_version_match: self.text("resourceVersionMatch").into(),
        }
    }

    fn watch(&self) -> WatchParams {
        WatchParams {
            labels: self.text("labelSelector").into(),
            fields: self.text("fieldSelector").into(),
            resource_version: self.text("resourceVersion").into(),
            resource_version_match: self.text("resourceVersionMatch").into(),
            bookmarks: self.text("allowWatchBookmarks") == "true",
            send_initial_events: self.query.get("sendInitialEvents").map(|v| v == "true"),
            timeout: None,
        }
    }

    fn delete(&self) -> DeleteParams {
        DeleteParams {
            grace_period_seconds: self.text("gracePeriodSeconds").parse().ok(),
            propagation: match self.text("propagationPolicy") {
                "Orphan" => Some(Propagation::Orphan),
                "Foreground" => Some(Propagation::Foreground),
                "Background" => Some(Propagation::Background),
                _ => None,
            },
            uid: self.query.get("uid").cloned(),
            resource_version: None,
            dry_run: self.text("dryRun") == "All",
        }
    }
}

fn parse(path: &str) -> Option<Call> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let (group, rest) = match parts.as_slice() {
        ["api", rest @ ..] => ("", rest),
        ["apis", group, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (version, rest) = rest.split_first()?;
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !matches!(rest, [] | ["status" | "finalize"]) => {
            (*namespace, rest)
        }
        rest => ("", rest),
    };
    let (resource, rest) = rest.split_first()?;
    let resource = builtin().get(&Gvr::owned(group, version, resource))?.clone();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    Some(Call {
        resource,
        namespace: namespace.into(),
        name: rest.first().copied().unwrap_or_default().into(),
        subresource: rest.get(1).copied().unwrap_or_default().into(),
        query: pairs.map(|(k, v)| (k.into(), v.replace("%3D", "=").replace("%2C", ","))).collect(),
    })
}

fn one(code: u16, object: &Object) -> Answer {
    Ok((code, text(object)))
}

/// The object without what every answer repeats.
fn text(object: &Object) -> String {
    let mut tree: Value = object.value().unwrap();
    if let Some(fields) = tree.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        if let Some(prefix) = fields.get("generateName").and_then(Value::as_str) {
            let masked = format!("{prefix}?????");
            fields.insert("name".into(), masked.into());
        }
        if let Some(managed) = fields.remove("managedFields") {
            fields.insert("managedFields".into(), managers(&managed));
        }
    }
    tree.to_string()
}

fn managers(entries: &Value) -> Value {
    let one = |entry: &Value| {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        format!("{} {} {}", text("manager"), text("operation"), text("subresource")).trim_end().into()
    };
    entries.as_array().unwrap().iter().map(one).collect::<Vec<Value>>().into()
}

/// The answer to a write. Its protobuf, made with it, is that of its JSON.
fn warned(written: &Written) -> Answer {
    let (code, text) = one(if written.created { 201 } else { 200 }, &written.object)?;
    let read = Object::parse(written.object.json().clone()).unwrap();
    let [made, read] = [&written.object, &read].map(|object| object.sealed().map(|s| s.body().clone()).ok());
    assert_eq!(made, read, "{text}");
    let warnings: String = written.warnings.iter().map(|w| format!("\nwarning: {w}")).collect();
    Ok((code, format!("{text}{warnings}")))
}

fn list_text(list: &List) -> String {
    let names: Vec<String> = list.items.iter().map(|o| o.meta().key()).collect();
    let more = match (list.continue_token.is_empty(), list.remaining) {
        (true, _) => String::new(),
        (false, None) => " and more".into(),
        (false, Some(n)) => format!(" and {n} more"),
    };
    format!("[{}]{more} at \"resourceVersion\":\"{}\"", names.join(" "), list.resource_version)
}

fn delivery_text(delivery: &Delivery) -> String {
    let line = |kind: &EventKind, object: &Object| {
        let meta = object.meta();
        format!("{} {} at \"resourceVersion\":\"{}\"", kind.as_str(), meta.key(), meta.resource_version)
    };
    match delivery {
        Delivery::Event { kind, event } => line(kind, event.shown(*kind)),
        Delivery::Object { kind, object } => line(kind, object),
        Delivery::Bookmark { revision, initial_end } => {
            let end = if *initial_end { " initial-events-end" } else { "" };
            format!("BOOKMARK{end} at \"resourceVersion\":\"{revision}\"")
        }
    }
}
