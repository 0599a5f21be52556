//! `x-kubernetes-validations`: rules of custom resources in CEL, compiled with the schema that they stand in.
//!
//! - `self` is the value under the rule's schema, `oldSelf` what was there before; a rule that reads `oldSelf` judges changes
//!   alone, unless it asks for an optional one.
//! - What did not change is not judged again (KEP-4008), but by rules about changes.
//! - All rules of an object share one budget; each has one of its own.

use std::collections::HashMap;
use std::sync::Arc;

use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::structural::Expressions;
use tiphys_api::{Value, json};
use tiphys_cel::value::from_tree;
use tiphys_cel::{Budget, Decl, Env, EvalError, Program, Type, Value as Cel, cost, types};

use crate::registry::tree;

const RULES: &str = "x-kubernetes-validations";

/// Compiles the rules of a schema; `None` if it has none. One that does not compile was refused with its definition, and
/// is left out.
pub fn compile(schema: &Value) -> Option<Arc<dyn Expressions>> {
    let part = Part::new(schema, true);
    (!part.is_empty()).then(|| Arc::new(Ruled(part)) as Arc<dyn Expressions>)
}

/// What is wrong with the rules of a schema that stands at a path.
pub fn judge(at: &Path, schema: &Value, errors: &mut Errors) {
    let mut walk = Judge { spent: 0, errors };
    walk.part(at, schema, true, 1);
    if walk.spent > cost::ESTIMATED_CRD {
        let why = over(
            "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema",
            walk.spent,
            cost::ESTIMATED_CRD,
        );
        walk.errors.push(Error::forbidden(at, &why));
    }
}

fn over(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 { "more than 100x".to_owned() } else { format!("{factor:.1}x") };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

/// What expressions at a schema may read.
fn env(decl: &Decl, optional: bool) -> Env {
    let old = match optional {
        true => Decl::of(Type::optional(decl.ty.clone())),
        false => decl.clone(),
    };
    Env::new().with("self", decl.clone()).with("oldSelf", old)
}

fn below(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let named =
        schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|fields| fields.iter());
    named.map(|(name, schema)| (name.as_str(), schema))
}

struct Judge<'e> {
    spent: u64,
    errors: &'e mut Errors,
}

impl Judge<'_> {
    /// `times`: how often a schema's value may be there.
    fn part(&mut self, at: &Path, schema: &Value, root: bool, times: u64) {
        let rules = tree::items(schema, &[RULES]);
        if !rules.is_empty() {
            match types::openapi::decl(schema, root) {
                Some(decl) => {
                    for (index, rule) in rules.iter().enumerate() {
                        self.rule(&at.child(RULES).index(index), rule, &decl, times);
                    }
                }
                None => self.errors.push(Error::invalid(
                    &at.child(RULES),
                    rules.to_vec(),
                    "must not be used where expressions cannot see the value",
                )),
            }
        }
        let many = |schema: &Value| types::openapi::decl(schema, false).map_or(1, |decl| decl.max).max(1);
        for (name, child) in below(schema) {
            self.part(&at.child("properties").key(name), child, false, times);
        }
        for name in ["items", "additionalProperties"] {
            if let Some(child) = schema.get(name).filter(|child| child.is_object()) {
                self.part(&at.child(name), child, false, times.saturating_mul(many(schema)));
            }
        }
    }

    fn rule(&mut self, at: &Path, rule: &Value, decl: &Decl, times: u64) {
        let optional = rule["optionalOldSelf"] == true;
        let env = env(decl, optional);
        for (name, wanted) in [("rule", Type::Bool), ("messageExpression", Type::String)] {
            let text = tree::text(rule, &[name]).trim();
            if text.is_empty() {
                if name == "rule" {
                    self.errors.push(Error::required(&at.child(name), "rule is not specified"));
                }
                continue;
            }
            let here = at.child(name);
            match Program::compile(text, &env) {
                Err(error) => {
                    let why = format!("compilation failed: {error}");
                    self.errors.push(Error::invalid(&here, rule.clone(), &why));
                }
                Ok(program) if *program.result() != wanted && *program.result() != Type::Dyn => {
                    let what = if name == "rule" {
                        "cel expression must evaluate to a bool"
                    } else {
                        "messageExpression must evaluate to a string"
                    };
                    self.errors.push(Error::invalid(&here, rule.clone(), what));
                }
                Ok(program) => self.estimate(&here, &program, &env, times),
            }
        }
    }

    fn estimate(&mut self, at: &Path, program: &Program, env: &Env, times: u64) {
        let cost = program.estimate(env).max.saturating_mul(times);
        self.spent = self.spent.saturating_add(cost);
        if cost > cost::ESTIMATED_RULE {
            self.errors.push(Error::forbidden(at, &over("estimated rule cost", cost, cost::ESTIMATED_RULE)));
        }
    }
}

#[derive(Debug)]
struct Ruled(Part);

impl Expressions for Ruled {
    fn check(&self, object: &Value, old: Option<&Value>) -> Errors {
        let mut walk = Walk { budget: cost::PER_OBJECT, errors: Errors::new() };
        walk.part(&Path::default(), &self.0, object, old);
        walk.errors
    }
}

/// A schema with rules in it or below.
#[derive(Debug)]
struct Part {
    ty: Type,
    /// As messages name it.
    kind: Box<str>,
    rules: Box<[Rule]>,
    properties: HashMap<Box<str>, Part>,
    /// Of any other name.
    others: Option<Box<Part>>,
    items: Option<Box<Part>>,
    /// What makes an item the same as before.
    keys: Box<[Box<str>]>,
}

#[derive(Debug)]
struct Rule {
    program: Program,
    message: Option<Program>,
    text: Box<str>,
    reason: Box<str>,
    field: Box<str>,
    optional: bool,
    /// It judges changes.
    transition: bool,
}

impl Part {
    fn new(schema: &Value, root: bool) -> Self {
        let decl = types::openapi::decl(schema, root).unwrap_or_else(|| Decl::of(Type::Dyn));
        let child = |name: &str| {
            let child =
                schema.get(name).filter(|child| child.is_object()).map(|child| Self::new(child, false));
            child.filter(|child| !child.is_empty()).map(Box::new)
        };
        let properties = below(schema).map(|(name, schema)| (Box::from(name), Self::new(schema, false)));
        let keys = tree::items(schema, &["x-kubernetes-list-map-keys"]).iter().filter_map(Value::as_str);
        Self {
            kind: tree::text(schema, &["type"]).into(),
            rules: tree::items(schema, &[RULES]).iter().filter_map(|rule| Rule::new(rule, &decl)).collect(),
            properties: properties.filter(|(_, part)| !part.is_empty()).collect(),
            others: child("additionalProperties"),
            items: child("items"),
            keys: keys.map(Into::into).collect(),
            ty: decl.ty,
        }
    }

    fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.properties.is_empty() && self.others.is_none() && self.items.is_none()
    }
}

impl Rule {
    fn new(rule: &Value, decl: &Decl) -> Option<Self> {
        let optional = rule["optionalOldSelf"] == true;
        let env = env(decl, optional);
        let text = |name: &str| tree::text(rule, &[name]).trim();
        let program = Program::compile(text("rule"), &env).ok()?;
        let given = match text("message") {
            "" => format!("failed rule: {}", text("rule")),
            message => message.to_owned(),
        };
        Some(Self {
            transition: program.reads("oldSelf"),
            message: Program::compile(text("messageExpression"), &env).ok(),
            text: given.into(),
            reason: text("reason").into(),
            field: text("fieldPath").into(),
            program,
            optional,
        })
    }
}

struct Walk {
    budget: u64,
    errors: Errors,
}

impl Walk {
    fn part(&mut self, at: &Path, part: &Part, value: &Value, old: Option<&Value>) {
        if value.is_null() || self.budget == 0 || self.errors.is_full() {
            return;
        }
        let unchanged = old == Some(value);
        for rule in part.rules.iter().filter(|rule| rule.transition || !unchanged) {
            self.rule(at, part, rule, (value, old));
        }
        match value {
            Value::Object(fields) => {
                for (name, field) in fields.iter() {
                    let of = part.properties.get(name.as_str()).or(part.others.as_deref());
                    if let Some(of) = of {
                        self.part(&at.child(name), of, field, old.and_then(|old| old.get(name.as_str())));
                    }
                }
            }
            Value::Array(items) => {
                let Some(of) = part.items.as_deref() else { return };
                let before = Before::new(&part.keys, old);
                for (index, item) in items.iter().enumerate() {
                    self.part(&at.index(index), of, item, before.item(&part.keys, item));
                }
            }
            _ => {}
        }
    }

    fn rule(&mut self, at: &Path, part: &Part, rule: &Rule, (value, old): (&Value, Option<&Value>)) {
        if rule.transition && old.is_none() && !rule.optional {
            return;
        }
        let outcome = self.evaluate(&rule.program, part, rule, (value, old));
        let why = match outcome {
            Ok(Cel::Bool(true)) => return,
            Ok(_) => self.message(part, rule, (value, old)),
            Err(EvalError::CostLimit) => {
                self.budget = 0;
                "validation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned()
            }
            Err(error) => format!("{error} evaluating rule: {}", rule.text),
        };
        let at =
            rule.field.split('.').filter(|name| !name.is_empty()).fold(at.clone(), |at, name| at.child(name));
        let kind = &*part.kind;
        self.errors.push(match &*rule.reason {
            "FieldValueRequired" => Error::required(&at, &why),
            "FieldValueForbidden" => Error::forbidden(&at, &why),
            "FieldValueDuplicate" => Error::duplicate(&at, kind),
            _ => Error::invalid(&at, kind, &why),
        });
    }

    fn message(&mut self, part: &Part, rule: &Rule, values: (&Value, Option<&Value>)) -> String {
        let told = rule.message.as_ref().map(|message| self.evaluate(message, part, rule, values));
        match told {
            Some(Ok(Cel::String(text))) if !text.trim().is_empty() && !text.contains('\n') => {
                text.trim().to_owned()
            }
            _ => rule.text.to_string(),
        }
    }

    fn evaluate<'a>(
        &mut self,
        program: &Program,
        part: &Part,
        rule: &Rule,
        (value, old): (&'a Value, Option<&'a Value>),
    ) -> Result<Cel<'a>, EvalError> {
        let budget = Budget::new(self.budget.min(cost::PER_CALL));
        let before = old.map(|old| from_tree(old, &part.ty)).transpose()?;
        let before = match (rule.optional, before) {
            (true, before) => Cel::Optional(before.map(std::rc::Rc::new)),
            (false, before) => before.unwrap_or(Cel::Null),
        };
        let outcome =
            program.evaluate(&[("self", from_tree(value, &part.ty)?), ("oldSelf", before)], &budget);
        self.budget = self.budget.saturating_sub(budget.spent());
        outcome
    }
}

/// The items of a list before a change, by their keys.
struct Before<'o>(HashMap<String, &'o Value>);

impl<'o> Before<'o> {
    fn new(keys: &[Box<str>], old: Option<&'o Value>) -> Self {
        let old = old.and_then(Value::as_array).filter(|_| !keys.is_empty());
        Self(old.into_iter().flatten().map(|item| (identity(keys, item), item)).collect())
    }

    fn item(&self, keys: &[Box<str>], item: &Value) -> Option<&'o Value> {
        if self.0.is_empty() { None } else { self.0.get(&identity(keys, item)).copied() }
    }
}

fn identity(keys: &[Box<str>], item: &Value) -> String {
    json!(keys.iter().map(|key| item.get(&**key).cloned().unwrap_or_default()).collect::<Vec<_>>())
        .to_string()
}
