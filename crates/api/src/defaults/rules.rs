//! The constant defaults, as a plan per struct.

use std::collections::HashMap;

use crate::{Map, Text, Value};

use super::computed;
use crate::schema::{Schema, Struct, Type};

/// The hand-written rules.
pub const TEXT: &str = include_str!("../../schema/defaults.txt");

/// What to do with objects of one struct.
#[derive(Debug, Default)]
pub struct Plan {
    /// Constants, in order.
    pub rules: Vec<Rule>,
    /// What takes code.
    pub computed: Option<computed::Compute>,
    /// Fields whose values hold structs with plans.
    pub inner: Vec<(Text, Type)>,
}

/// One constant default.
#[derive(Debug)]
pub struct Rule {
    path: Vec<Text>,
    value: Value,
    when: Option<Condition>,
}

#[derive(Debug)]
struct Condition {
    path: Vec<Text>,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Present,
    Absent,
    Is(Text),
}

/// A line that the grammar or the table does not know.
#[derive(Debug, thiserror::Error)]
#[error("unreadable line in the defaults: {0}")]
pub struct RuleError(String);

impl Rule {
    /// Sets the field if it is absent and the condition holds.
    pub fn apply(&self, fields: &mut Map) {
        if !self.when.as_ref().is_none_or(|condition| condition.holds(fields)) {
            return;
        }
        let Some((name, parents)) = self.path.split_last() else { return };
        // Looked at first: what is not changed stays shared.
        let holder = parents.iter().try_fold(&*fields, |at, key| at.get(key.as_ref())?.as_object());
        if holder.is_none_or(|holder| holder.contains_key(name.as_ref())) {
            return;
        }
        let holder = parents.iter().try_fold(fields, |at, key| at.get_mut(key.as_ref())?.as_object_mut());
        if let Some(holder) = holder {
            holder.insert(Text::new(name), self.value.clone());
        }
    }
}

impl Condition {
    fn holds(&self, fields: &Map) -> bool {
        let found = match self.path.split_first() {
            Some((first, rest)) => rest.iter().try_fold(fields.get(first), |at, key| Some(at?.get(key))),
            None => None,
        };
        match (&self.test, found.flatten()) {
            (Test::Present, found) => found.is_some(),
            (Test::Absent, found) => found.is_none(),
            (Test::Is(wanted), found) => found.and_then(Value::as_str) == Some(wanted.as_ref()),
        }
    }
}

/// The plan of each struct of the schema, by its index.
pub fn plans(schema: &Schema, text: &str) -> Result<Vec<Plan>, RuleError> {
    let by_name: HashMap<&str, usize> =
        schema.structs.iter().enumerate().map(|(at, record)| (record.short_name(), at)).collect();
    let mut plans: Vec<Plan> = schema.structs.iter().map(declared).collect();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let refused = || RuleError(line.to_owned());
        let (name, rule) = line.split_once(' ').ok_or_else(refused)?;
        let at = *by_name.get(name).ok_or_else(refused)?;
        let rule = parse(rule).filter(|rule| exists(schema, &schema.structs[at], &rule.path));
        plans[at].rules.push(rule.ok_or_else(refused)?);
    }
    for (name, compute) in computed::ALL {
        let at = *by_name.get(name).ok_or_else(|| RuleError((*name).to_owned()))?;
        plans[at].computed = Some(*compute);
    }
    descend(schema, &mut plans);
    Ok(plans)
}

fn declared(record: &Struct) -> Plan {
    let rules = record.fields.iter().filter_map(|field| {
        let value = field.default.clone()?;
        Some(Rule { path: vec![field.name.clone()], value, when: None })
    });
    Plan { rules: rules.collect(), ..Plan::default() }
}

fn parse(text: &str) -> Option<Rule> {
    let (text, when) = match text.split_once(" when ") {
        Some((text, condition)) => (text, Some(parse_condition(condition))),
        None => (text, None),
    };
    let (path, json) = text.split_once(' ')?;
    Some(Rule { path: split(path), value: serde_json::from_str(json).ok()?, when })
}

fn parse_condition(text: &str) -> Condition {
    let (path, test) = match (text.split_once('='), text.strip_prefix('!')) {
        (Some((path, wanted)), _) => (path, Test::Is(wanted.into())),
        (None, Some(path)) => (path, Test::Absent),
        (None, None) => (text, Test::Present),
    };
    Condition { path: split(path), test }
}

fn split(path: &str) -> Vec<Text> {
    path.split('.').map(Into::into).collect()
}

fn exists(schema: &Schema, record: &Struct, path: &[Text]) -> bool {
    let Some((first, rest)) = path.split_first() else { return true };
    match record.field(first).map(|field| &field.ty) {
        Some(Type::Struct(id)) => exists(schema, schema.get(*id), rest),
        Some(_) => rest.is_empty(),
        None => false,
    }
}

/// Fills in `inner`: first finds which structs lead to a rule at all.
fn descend(schema: &Schema, plans: &mut [Plan]) {
    let mut leads: Vec<bool> = plans.iter().map(|p| !p.rules.is_empty() || p.computed.is_some()).collect();
    loop {
        let before = leads.iter().filter(|l| **l).count();
        for (at, record) in schema.structs.iter().enumerate() {
            leads[at] = leads[at] || record.fields.iter().any(|field| reaches(&field.ty, &leads));
        }
        if leads.iter().filter(|l| **l).count() == before {
            break;
        }
    }
    for (plan, record) in plans.iter_mut().zip(&schema.structs) {
        let inner = record.fields.iter().filter(|field| reaches(&field.ty, &leads));
        plan.inner = inner.map(|field| (field.name.clone(), field.ty.clone())).collect();
    }
}

fn reaches(ty: &Type, leads: &[bool]) -> bool {
    match ty {
        Type::Struct(id) => leads.get(id.0 as usize).copied().unwrap_or(false),
        Type::List(list) => reaches(&list.item, leads),
        Type::Map(item) => reaches(item, leads),
        _ => false,
    }
}
