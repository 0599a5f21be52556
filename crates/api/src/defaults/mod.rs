//! What absent fields mean: fills an object in as kube-apiserver does when it decodes one.
//!
//! - Constant defaults are data: declared ones in the generated table, the rest in `schema/defaults.txt`.
//! - Those that depend on other fields are small functions in [`computed`], each named by its type.
//! - The rules of a type run before those of the types inside it. Only subtrees that hold a rule are visited: the
//!   plan for each struct is made once.
//! - A custom resource has the declared defaults of its schema and no others.
//!
//! Applying twice changes nothing more.

mod computed;
mod rules;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use crate::Value;

use crate::schema::{Resource, StructId, Type, builtin};
use crate::structural;
use rules::Plan;

static PLANS: LazyLock<Vec<Plan>> = LazyLock::new(|| {
    rules::plans(builtin().schema(), rules::TEXT).expect("the committed defaults are parsed by a test")
});

/// Fills in the defaults of a tree that fits its kind.
pub fn apply(resource: &Resource, value: &mut Value) {
    changed(resource, value, None);
}

/// The same of a tree that was made from one with its defaults: what they share is not looked at.
pub fn changed(resource: &Resource, value: &mut Value, old: Option<&Value>) {
    match &resource.custom {
        Some(custom) => structural::fill(&custom.node, value),
        None => planned(resource.object, value, old),
    }
}

fn planned(id: StructId, value: &mut Value, old: Option<&Value>) {
    let (Some(plan), Value::Object(fields)) = (PLANS.get(id.0 as usize), value) else { return };
    if old.and_then(Value::as_object).is_some_and(|old| old.same(fields)) {
        return;
    }
    plan.rules.iter().for_each(|rule| rule.apply(fields));
    if let Some(compute) = plan.computed {
        compute(fields);
    }
    for (name, ty) in &plan.inner {
        if let Some(value) = fields.get_mut(name.as_ref()) {
            planned_type(ty, value, old.and_then(|old| old.get(name)));
        }
    }
}

fn planned_type(ty: &Type, value: &mut Value, old: Option<&Value>) {
    match (ty, value) {
        (Type::Struct(id), value) => planned(*id, value, old),
        (Type::List(list), Value::Array(items)) => {
            for (index, item) in items.iter_mut().enumerate() {
                planned_type(&list.item, item, old.and_then(|old| old.get(index)));
            }
        }
        (Type::Map(item), Value::Object(entries)) => {
            for (key, value) in entries {
                planned_type(item, value, old.and_then(|old| old.get(key)));
            }
        }
        _ => {}
    }
}
