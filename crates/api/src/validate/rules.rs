//! The rules of `schema/rules.txt` by struct, ready for the walk.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::Value;

use super::forms::Form;
use super::kinds;
use super::seen::Seen;
use super::{At, Fields};
use crate::field::{Error, Errors};
use crate::schema::{RULES, Schema, Struct, builtin};

/// What objects of one struct are held to, beyond what the schema says.
#[derive(Debug, Default)]
pub struct Checks {
    /// Fields whose absence is an error or is looked into, by index, and whether by a rule here.
    demanded: Vec<(usize, bool)>,
    absence: Vec<(&'static str, bool)>,
    forms: Vec<(&'static str, Form)>,
    unique: Vec<(&'static str, &'static str)>,
    /// Forms and keys again, by index of the field: only fields that are there cost anything.
    by_field: Vec<Rules>,
    own: Option<kinds::Check>,
}

/// What the rules say of one field.
#[derive(Debug, Default)]
struct Rules {
    forms: Vec<Form>,
    unique: Option<&'static str>,
}

static CHECKS: LazyLock<Vec<Checks>> =
    LazyLock::new(|| parse(builtin().schema(), RULES).expect("the committed rules are parsed by a test"));

/// The checks of all built-in structs, by index.
pub fn builtin_checks() -> &'static [Checks] {
    &CHECKS
}

impl Checks {
    /// Whether absence of a field is an error, where that is not as the OpenAPI document suggests.
    fn rule(&self, field: &str) -> Option<bool> {
        self.absence.iter().find(|(name, _)| *name == field).map(|(_, demanded)| *demanded)
    }

    /// The fields that must be there, by index, and whether a rule here says so.
    pub fn demanded(&self) -> &[(usize, bool)] {
        &self.demanded
    }

    fn note_demanded(&mut self, record: &Struct) {
        let fields = record.fields.iter().enumerate().filter_map(|(index, field)| {
            let rule = self.rule(&field.name);
            rule.unwrap_or(field.required).then_some((index, rule.is_some()))
        });
        self.demanded = fields.collect();
    }

    fn sort_by_field(&mut self, record: &Struct) {
        let of = |name: &str| Rules {
            forms: self.forms.iter().filter(|(field, _)| *field == name).map(|(_, form)| *form).collect(),
            unique: self.unique.iter().find(|(field, _)| *field == name).map(|(_, key)| *key),
        };
        let ruled = |name: &str| {
            self.forms.iter().any(|(field, _)| *field == name)
                || self.unique.iter().any(|(field, _)| *field == name)
        };
        if record.fields.iter().any(|field| ruled(&field.name)) {
            self.by_field = record.fields.iter().map(|field| of(&field.name)).collect();
        }
    }

    /// Applies forms and uniqueness to a field that is there.
    pub fn field(&self, at: &At<'_>, index: usize, value: &Value, errors: &mut Errors) {
        let Some(rules) = self.by_field.get(index) else { return };
        for form in &rules.forms {
            form.check(&|| at.path(), value, errors);
        }
        if let Some(key) = rules.unique {
            unique(at, value, key, errors);
        }
    }

    /// Applies the type's own function.
    pub fn own(&self, at: &At<'_>, fields: &Fields, errors: &mut Errors) {
        if let Some(check) = self.own {
            check(at, fields, errors);
        }
    }
}

fn unique(at: &At<'_>, list: &Value, key: &str, errors: &mut Errors) {
    let Value::Array(items) = list else { return };
    if items.len() < 2 {
        return;
    }
    let mut seen = Seen::new();
    for (index, item) in items.iter().enumerate() {
        let text = item.get(key).and_then(Value::as_str).unwrap_or_default();
        if !text.is_empty() && !seen.add(text) {
            errors.push(Error::duplicate(&at.path().index(index).child(key), text));
        }
    }
}

/// Reads the rules; `None` when one names what does not exist.
pub fn parse(schema: &Schema, text: &'static str) -> Option<Vec<Checks>> {
    let by_name: HashMap<&str, usize> =
        schema.structs.iter().enumerate().map(|(at, record)| (record.short_name(), at)).collect();
    let mut checks: Vec<Checks> = schema.structs.iter().map(|_| Checks::default()).collect();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        let [rule @ ("optional" | "needed" | "form" | "range" | "unique"), name, rest @ ..] =
            words.as_slice()
        else {
            continue;
        };
        let at = *by_name.get(name)?;
        let fields = if matches!(*rule, "form" | "range") {
            rest.first()?.split(',').collect()
        } else {
            rest.to_vec()
        };
        let named = if *rule == "unique" { fields.get(..1)? } else { &fields };
        named.iter().all(|field| schema.structs[at].field(field).is_some()).then_some(())?;
        add(checks.get_mut(at)?, rule, &fields, rest)?;
    }
    for (name, check) in kinds::all() {
        checks.get_mut(*by_name.get(name)?)?.own = Some(*check);
    }
    for (checks, record) in checks.iter_mut().zip(&schema.structs) {
        checks.note_demanded(record);
        checks.sort_by_field(record);
    }
    Some(checks)
}

fn add(checks: &mut Checks, rule: &str, fields: &[&'static str], rest: &[&'static str]) -> Option<()> {
    match rule {
        "optional" => checks.absence.extend(fields.iter().map(|field| (*field, false))),
        "needed" => checks.absence.extend(fields.iter().map(|field| (*field, true))),
        "unique" => checks.unique.push((fields.first()?, fields.get(1)?)),
        "range" => {
            let max = rest.get(2).map_or(Ok(i64::MAX), |max| max.parse()).ok()?;
            let form = Form::Range(rest.get(1)?.parse().ok()?, max);
            checks.forms.extend(fields.iter().map(|field| (*field, form)));
        }
        _ => {
            let form = Form::of(rest.get(1)?)?;
            checks.forms.extend(fields.iter().map(|field| (*field, form)));
        }
    }
    Some(())
}
