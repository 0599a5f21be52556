//! Rules of kinds as readable files: small changes to a valid object, and the errors that answer each of them.
//!
//! A file in `testdata/` is a list of blocks, apart by blank lines:
//!
//! ```text
//! base
//! <YAML of a valid object; what follows changes it>
//!
//! create                          or `update`, `update status` and so on
//! given spec.suspend = true       what differs from the base beforehand (updates)
//! spec.ports[0].name = Web        a path as errors name it, and a YAML value; `null` removes
//! =>
//! spec.ports[0].name: Invalid value: "Web": must …
//! ```
//!
//! Every case takes the registry's own write path. Run with `REWRITE=1` to write the answers anew, and read the diff.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use tiphys_api::schema::{Resource, builtin};
use tiphys_api::{Gvk, Status, Value, decode};

use crate::auth::User;
use crate::registry::testing::{self, Fixture};
use crate::registry::{Body, DeleteParams, Propagation, Request, WriteParams};

fn files() -> Vec<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/strategy/testdata");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn rules_answer_as_written() {
    let mut wrong = Vec::new();
    let rewrite = std::env::var_os("REWRITE").is_some();
    for path in files() {
        let written = std::fs::read_to_string(&path).unwrap();
        let played = play(&written).await;
        if played == written {
            continue;
        }
        if rewrite {
            std::fs::write(&path, played).unwrap();
        } else {
            wrong.push(format!("{}:\n{}", path.display(), first_difference(&written, &played)));
        }
    }
    assert!(wrong.is_empty(), "REWRITE=1 writes the answers anew\n{}", wrong.join("\n"));
}

/// What the end-to-end tests make of every kind is right.
#[tokio::test]
async fn right_objects_are_accepted() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/e2e/every-kind.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let stage = Stage::new().await;
    let mut wrong = String::new();
    for object in text.split("\n---").map(yaml).filter(|object| !object.is_null()) {
        if let Err(status) = stage.store(object).await {
            writeln!(wrong, "{}", status.message).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn first_difference(written: &str, played: &str) -> String {
    let pair = written.lines().zip(played.lines()).enumerate().find(|(_, (w, p))| w != p);
    match pair {
        Some((at, (w, p))) => format!("line {}\n  written {w}\n  played  {p}", at + 1),
        None => "one is longer than the other".into(),
    }
}

async fn play(text: &str) -> String {
    let mut stage = Stage::new().await;
    let mut played = String::new();
    for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let asked = block.split_once("\n=>").map_or(block, |(asked, _)| asked).trim_matches('\n');
        let head = asked.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
        let body: Vec<&str> = asked.lines().skip_while(|line| line.starts_with('#')).skip(1).collect();
        match head {
            "" => write!(played, "{asked}\n\n").unwrap(),
            "base" => {
                stage.base = yaml(&body.join("\n"));
                write!(played, "{asked}\n\n").unwrap();
            }
            _ => {
                let found = stage.case(head, &body).await;
                write!(played, "{asked}\n=>\n{found}\n\n").unwrap();
            }
        }
    }
    played.truncate(played.trim_end().len());
    played.push('\n');
    played
}

/// A registry and the object that cases start from.
struct Stage {
    fixture: Fixture,
    user: User,
    base: Value,
}

impl Stage {
    async fn new() -> Self {
        let user = User { name: "tester".into(), ..User::default() };
        Self { fixture: testing::fixture().await, user, base: Value::Null }
    }

    /// Plays a case and clears up behind it.
    async fn case(&mut self, head: &str, lines: &[&str]) -> String {
        let answer = match head.split_once(' ') {
            None if head == "create" => self.create(lines).await,
            None => self.update("", lines).await,
            Some((_, subresource)) => self.update(subresource, lines).await,
        };
        self.clear().await;
        match answer {
            Ok(()) => "valid".into(),
            Err(status) => errors_of(&status),
        }
    }

    async fn create(&self, lines: &[&str]) -> Result<(), Status> {
        let mut object = self.base.clone();
        lines.iter().for_each(|line| assign(&mut object, line));
        self.store(object).await
    }

    /// Makes the object with what is given, its status too.
    async fn store(&self, object: Value) -> Result<(), Status> {
        let status = object.get("status").cloned();
        let place = Place::of(&object);
        let request = place.request(&self.user, "", false);
        let params = WriteParams::default();
        self.fixture.registry.create(&request, as_body(&object), &params).await?;
        match status {
            Some(status) if place.resource.subresource("status").is_some() => {
                self.change(&place, "status", |object| object["status"] = status).await
            }
            _ => Ok(()),
        }
    }

    async fn update(&self, subresource: &str, lines: &[&str]) -> Result<(), Status> {
        let (given, changes): (Vec<&str>, Vec<&str>) =
            lines.iter().copied().partition(|line| line.starts_with("given "));
        let mut object = self.base.clone();
        given.iter().for_each(|line| assign(&mut object, line.trim_start_matches("given ")));
        let place = Place::of(&object);
        self.store(object).await.expect("the object before the change is valid");
        self.change(&place, subresource, |object| changes.iter().for_each(|line| assign(object, line))).await
    }

    async fn change(
        &self,
        place: &Place,
        subresource: &str,
        make: impl FnOnce(&mut Value),
    ) -> Result<(), Status> {
        let stored = self.fixture.registry.get(&place.request(&self.user, "", true), "").await?;
        let mut object = stored.value().unwrap();
        make(&mut object);
        let request = place.request(&self.user, subresource, true);
        let params = WriteParams::default();
        self.fixture.registry.update(&request, as_body(&object), &params).await.map(drop)
    }

    /// Deletes the object; what its finalizers keep is left to the store it lies in.
    async fn clear(&mut self) {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            propagation: Some(Propagation::Background),
            ..DeleteParams::default()
        };
        let place = Place::of(&self.base);
        let request = place.request(&self.user, "", true);
        drop(self.fixture.registry.delete(&request, &params).await);
        if self.fixture.registry.get(&request, "").await.is_ok() {
            self.fixture = testing::fixture().await;
        }
    }
}

/// Where an object is.
struct Place {
    resource: Arc<Resource>,
    namespace: String,
    name: String,
}

impl Place {
    fn of(object: &Value) -> Self {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let gvk = Gvk::from_api_version(text("/apiVersion"), text("/kind"));
        let resource = builtin().by_kind(&gvk).unwrap_or_else(|| panic!("no such kind: {gvk}")).clone();
        let namespace = if resource.namespaced { "n" } else { "" };
        Self { namespace: namespace.into(), name: text("/metadata/name").into(), resource }
    }

    fn request<'r>(&'r self, user: &'r User, subresource: &'r str, named: bool) -> Request<'r> {
        let name = if named { self.name.as_str() } else { "" };
        Request { resource: &self.resource, namespace: &self.namespace, name, subresource, user }
    }
}

fn as_body(object: &Value) -> Body {
    Body::Json(object.to_string().into())
}

fn yaml(text: &str) -> Value {
    decode::yaml(text.as_bytes()).unwrap_or_else(|e| panic!("{e}: {text}")).value
}

/// `spec.ports[0].name = Web`: sets the value, making what is missing on the way; `null` removes.
fn assign(object: &mut Value, line: &str) {
    let (path, value) = line.split_once(" = ").unwrap_or_else(|| panic!("no assignment: {line}"));
    let value = yaml(&format!("v: {value}"))["v"].take();
    let keys = keys(path);
    let (last, parents) = keys.split_last().unwrap();
    let parent = parents.iter().fold(object, |at, key| step(at, key));
    match parent {
        Value::Array(items) if value.is_null() => drop(items.remove(last.parse().unwrap())),
        Value::Object(fields) if value.is_null() => drop(fields.remove(last)),
        parent => *step(parent, last) = value,
    }
}

fn step<'v>(at: &'v mut Value, key: &str) -> &'v mut Value {
    match key.parse::<usize>() {
        Ok(index) => {
            if !at.is_array() {
                *at = Value::Array(Vec::new());
            }
            let items = at.as_array_mut().unwrap();
            if index == items.len() {
                items.push(Value::Null);
            }
            &mut items[index]
        }
        Err(_) => &mut at[key],
    }
}

/// The steps of `a.b[0].c[key.with/dots]`.
fn keys(path: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (key, left) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']').unwrap_or((inner, "")),
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        keys.push(key.to_owned());
        rest = left.strip_prefix('.').unwrap_or(left);
    }
    keys
}

/// The errors a line each; identities and times are masked.
fn errors_of(status: &Status) -> String {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    if causes.is_empty() {
        return format!("{} {}", status.code, mask(&status.message));
    }
    let line = |cause: &tiphys_api::status::Cause| mask(&format!("{}: {}", cause.field, cause.message));
    causes.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn mask(text: &str) -> String {
    let masked = text.split('"').map(|part| match part {
        part if uuid::Uuid::parse_str(part).is_ok() => "uid",
        part if part.parse::<jiff::Timestamp>().is_ok() && part.starts_with("20") => "time",
        part => part,
    });
    masked.collect::<Vec<_>>().join("\"")
}
