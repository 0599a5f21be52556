//! Reads the committed facts table (`crates/api/schema/`) into the arena.
//!
//! - One text per group-version, lines as `resource …`, `type …` and, indented below a type, its fields:
//!   `name type protobuf-path words…`. Types: `string`, `[]T`, `map:T`, a type of the same package, or `core.v1.T`.
//! - Two passes: names first, then fields, so that types may refer to each other in any order.

use std::collections::HashMap;

use super::{Field, Fields, List, ListKind, Patch, Proto, Schema, Struct, StructId, Subresource, Type};
use crate::gvr::{Gvk, Gvr};

/// The generated texts.
pub const FILES: &[&str] = &include!("../../schema/generated/index.in");
/// An API that the generated texts do not have, by hand.
pub const METRICS: &str = include_str!("../../schema/metrics.v1beta1.txt");
/// Closed sets and other rules, by hand; [`crate::validate`] reads those about names and absence.
pub const RULES: &str = include_str!("../../schema/rules.txt");
/// Fields whose zero is a value of its own, by hand.
const ZEROS: &str = include_str!("../../schema/zeros.txt");
/// Names, groups and selectable fields, by hand.
pub const NAMES: &str = include_str!("../../schema/names.txt");

/// The table as read.
#[derive(Debug, Default)]
pub struct Table {
    /// All types.
    pub schema: Schema,
    /// All resources; order is the files'.
    pub resources: Vec<RawResource>,
    /// Types by their OpenAPI name.
    pub structs: HashMap<Box<str>, StructId>,
    /// Types that are kinds.
    pub kinds: Vec<(Gvk, StructId)>,
}

/// A resource as the OpenAPI document knows it.
#[derive(Debug)]
pub struct RawResource {
    /// Its name.
    pub gvr: Gvr,
    /// Kind of its objects.
    pub gvk: Gvk,
    /// Kind of its lists, empty without.
    pub list_kind: Box<str>,
    /// Scope.
    pub namespaced: bool,
    /// Verbs in discovery's order.
    pub verbs: Box<[Box<str>]>,
    /// Subresources by name.
    pub subresources: Vec<Subresource>,
    /// Struct of its objects.
    pub object: StructId,
}

/// A line that the table's grammar does not know.
#[derive(Debug, thiserror::Error)]
#[error("unreadable line in the facts table: {0}")]
pub struct ParseError(pub String);

/// What a text's head says about it.
#[derive(Clone, Copy)]
struct Package<'a> {
    /// `io.k8s.api.core.v1`
    full: &'a str,
    /// `core.v1`
    short: &'a str,
    group: &'a str,
    version: &'a str,
}

/// Ids by `core.v1.Container`.
type Ids<'a> = HashMap<(&'a str, &'a str), StructId>;

/// Parses all texts.
pub fn parse(files: &[&'static str]) -> Result<Table, ParseError> {
    let mut table = Table::default();
    let ids = number(files)?;
    for file in files {
        let package = Package::of(file)?;
        let mut lines = Lines { rest: file.lines().skip(2).peekable() };
        while let Some(line) = lines.next_head() {
            table.entry(package, &ids, line, &mut lines).ok_or_else(|| ParseError(line.to_owned()))?;
        }
    }
    for line in ZEROS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        table.keep_zeros(&ids, line).ok_or_else(|| ParseError(line.to_owned()))?;
    }
    for line in RULES.lines() {
        if let Some(rule) = line.strip_prefix("enum ") {
            table.closed_set(&ids, rule).ok_or_else(|| ParseError(line.to_owned()))?;
        }
    }
    Ok(table)
}

fn number<'a>(files: &[&'a str]) -> Result<Ids<'a>, ParseError> {
    let mut ids = Ids::new();
    for file in files {
        let package = Package::of(file)?;
        for line in file.lines() {
            if let Some(name) = line.strip_prefix("type ").and_then(|rest| rest.split(' ').next()) {
                let id = StructId(u32::try_from(ids.len()).map_err(|_| ParseError(line.to_owned()))?);
                ids.insert((package.short, name), id);
            }
        }
    }
    Ok(ids)
}

struct Lines<I: Iterator> {
    rest: std::iter::Peekable<I>,
}

impl<'a, I: Iterator<Item = &'a str>> Lines<I> {
    fn next_head(&mut self) -> Option<&'a str> {
        self.rest.find(|line| !line.is_empty())
    }

    fn next_indented(&mut self) -> Option<&'a str> {
        self.rest.next_if(|line| line.starts_with("  ")).map(str::trim_start)
    }
}

impl<'a> Package<'a> {
    fn of(file: &'a str) -> Result<Self, ParseError> {
        let head = file.lines().nth(1).unwrap_or_default();
        Self::parse(head).ok_or_else(|| ParseError(head.to_owned()))
    }

    fn parse(head: &'a str) -> Option<Self> {
        let mut words = head.strip_prefix("package ")?.split(' ');
        let full = words.next()?;
        let (mut group, mut version) = ("", "v1");
        for word in words {
            match word.split_once('=')? {
                ("group", "core") => {}
                ("group", name) => group = name,
                ("version", name) => version = name,
                _ => return None,
            }
        }
        let dot = full.rmatch_indices('.').nth(1).map_or(0, |(at, _)| at + 1);
        Some(Self { full, short: &full[dot..], group, version })
    }
}

impl Table {
    fn entry<I: Iterator<Item = &'static str>>(
        &mut self,
        package: Package<'static>,
        ids: &Ids<'_>,
        line: &'static str,
        lines: &mut Lines<I>,
    ) -> Option<()> {
        let mut words = line.split(' ');
        match words.next()? {
            "resource" => self.resource(package, ids, words, lines),
            "type" => self.record(package, ids, words, lines),
            _ => None,
        }
    }

    fn keep_zeros(&mut self, ids: &Ids<'_>, rule: &str) -> Option<()> {
        let mut words = rule.split(' ');
        let id = *ids.get(&words.next()?.rsplit_once('.')?)?;
        let fields = &mut self.schema.structs.get_mut(id.0 as usize)?.fields;
        words.try_for_each(|name| {
            let field = fields.iter_mut().find(|field| field.name == name)?;
            field.proto.as_mut()?.keeps_zero = true;
            Some(())
        })
    }

    fn closed_set(&mut self, ids: &Ids<'_>, rule: &str) -> Option<()> {
        let mut words = rule.split(' ');
        let id = *ids.get(&words.next()?.rsplit_once('.')?)?;
        let name = words.next()?;
        let fields = &mut self.schema.structs.get_mut(id.0 as usize)?.fields;
        let field = fields.iter_mut().find(|field| field.name == name)?;
        field.allowed = words.map(Into::into).collect();
        Some(())
    }

    fn resource<I: Iterator<Item = &'static str>>(
        &mut self,
        package: Package<'static>,
        ids: &Ids<'_>,
        mut words: std::str::Split<'static, char>,
        lines: &mut Lines<I>,
    ) -> Option<()> {
        let (name, kind) = (words.next()?, words.next()?);
        let list_kind = words.next()?;
        let namespaced = words.next()? == "namespaced";
        let verbs = words.next()?;
        let mut subresources = Vec::new();
        while let Some(line) = lines.next_indented() {
            subresources.push(subresource(line)?);
        }
        self.resources.push(RawResource {
            gvr: Gvr::new(package.group, package.version, name),
            gvk: Gvk::new(package.group, package.version, kind),
            list_kind: if list_kind == "-" { "" } else { list_kind }.into(),
            namespaced,
            verbs: verbs.split(',').map(Into::into).collect(),
            subresources,
            object: *ids.get(&(package.short, kind))?,
        });
        Some(())
    }

    fn record<I: Iterator<Item = &'static str>>(
        &mut self,
        package: Package<'static>,
        ids: &Ids<'_>,
        mut words: std::str::Split<'static, char>,
        lines: &mut Lines<I>,
    ) -> Option<()> {
        let name = words.next()?;
        let id = *ids.get(&(package.short, name))?;
        let mut record = Struct {
            name: format!("{}.{name}", package.full).into(),
            fields: Fields::default(),
            atomic: false,
            preserve_unknown: false,
        };
        for word in words {
            match word {
                "atomic" => record.atomic = true,
                "kind" => self.kinds.push((Gvk::new(package.group, package.version, name), id)),
                _ => return None,
            }
        }
        let mut fields = Vec::new();
        while let Some(line) = lines.next_indented() {
            fields.push(field(package.short, ids, line)?);
        }
        record.fields = fields.into();
        self.structs.insert(record.name.clone(), id);
        self.schema.structs.push(record);
        Some(())
    }
}

fn subresource(line: &'static str) -> Option<Subresource> {
    let mut words = line.strip_prefix("sub ")?.split(' ');
    let name = words.next()?.into();
    let (group_version, kind) = words.next()?.rsplit_once('/')?;
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    let verbs = words.next()?.split(',').map(Into::into).collect();
    Some(Subresource { name, gvk: Gvk::new(group, version, kind), verbs })
}

fn field(package: &str, ids: &Ids<'_>, line: &str) -> Option<Field> {
    let (line, default) = match line.split_once(" default=") {
        Some((line, json)) => (line, Some(serde_json::from_str(json).ok()?)),
        None => (line, None),
    };
    let mut words = line.split(' ');
    let name = words.next()?.into();
    let ty = type_of(package, ids, words.next()?)?;
    let mut field = Field {
        name,
        ty,
        required: false,
        default,
        allowed: Box::default(),
        atomic: None,
        patch: Patch::default(),
        proto: proto(words.next()?)?,
    };
    words.try_for_each(|word| field.word(word))?;
    Some(field)
}

impl Field {
    fn word(&mut self, word: &str) -> Option<()> {
        match word.split_once('=').unwrap_or((word, "")) {
            ("required", "") => self.required = true,
            ("atomic", "") => self.atomic = Some(true),
            ("granular", "") => self.atomic = Some(false),
            ("retainKeys", "") => self.patch.retain_keys = true,
            ("replace", "") => self.patch.replace = true,
            ("merge", key) => self.patch.merge_key = Some(key.into()),
            ("list", kind) => {
                let Type::List(list) = &mut self.ty else { return None };
                list.kind = match kind.split_once(':') {
                    None if kind == "set" => ListKind::Set,
                    Some(("map", keys)) => ListKind::Map(keys.split(',').map(Into::into).collect()),
                    _ => return None,
                };
            }
            _ => return None,
        }
        Some(())
    }
}

fn proto(word: &str) -> Option<Option<Proto>> {
    if word == "-" {
        return Some(None);
    }
    let path: Result<Box<[u32]>, _> = word.split('.').map(str::parse).collect();
    Some(Some(Proto { path: path.ok()?, keeps_zero: false }))
}

fn type_of(package: &str, ids: &Ids<'_>, word: &str) -> Option<Type> {
    if let Some(item) = word.strip_prefix("[]") {
        return Some(Type::List(Box::new(List {
            item: type_of(package, ids, item)?,
            kind: ListKind::Atomic,
        })));
    }
    if let Some(item) = word.strip_prefix("map:") {
        return Some(Type::Map(Box::new(type_of(package, ids, item)?)));
    }
    Some(match word {
        "string" => Type::String,
        "bool" => Type::Bool,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "double" => Type::Double,
        "bytes" => Type::Bytes,
        "intorstring" => Type::IntOrString,
        "quantity" => Type::Quantity,
        "time" => Type::Time,
        "microtime" => Type::MicroTime,
        "any" => Type::Any,
        "fieldsv1" => Type::FieldsV1,
        name => Type::Struct(*ids.get(&name.rsplit_once('.').unwrap_or((package, name)))?),
    })
}
