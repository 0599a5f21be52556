//! The fields that a value has: of a configuration that is applied, or of what a write has just added.
//!
//! There is nothing to compare with, so one walk over the value writes the set down as it goes.

use crate::{Map, Value};

use super::compare::is_ownable;
use super::fields::FieldSet;
use super::shape::{Form, Items, Shape};
use super::text::{Member, Writer};

/// The fields that a configuration names. Top-level fields of `ignored` are left out.
pub(super) fn named_fields(root: Shape<'_>, config: &Value, ignored: &[&str]) -> FieldSet {
    let mut set = Writer::with_capacity(256);
    let mut walk = Walk { set: &mut set, named: Member::IfEmpty };
    for (name, value) in config.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        if name == "apiVersion" || name == "kind" || ignored.contains(&name.as_str()) {
            continue;
        }
        let metadata = name == "metadata";
        let place = walk.set.open_field(name, if metadata { Member::Never } else { Member::IfEmpty });
        walk.inside(root.child(name), value, if metadata { is_ownable } else { |_| true });
        walk.set.close(place);
    }
    set.finish()
}

/// Writes a named field, or the entry of a map, that was not there before: each place in it is a member.
pub(super) fn added_field(shape: Shape<'_>, name: &str, value: &Value, set: &mut Writer) {
    Walk { set, named: Member::Always }.field(shape, name, true, value);
}

/// Writes an item of a list that was not there before.
pub(super) fn added_item(shape: Shape<'_>, element: &str, item: &Value, set: &mut Writer) {
    Walk { set, named: Member::Always }.item(shape, element, item);
}

struct Walk<'w> {
    set: &'w mut Writer,
    /// Whether a field that the schema names is a member by itself or by what is below it. All other places are members.
    named: Member,
}

impl Walk<'_> {
    fn field(&mut self, shape: Shape<'_>, name: &str, named: bool, value: &Value) {
        match shape.resolve(None, Some(value)) {
            Form::Leaf => self.set.leaf_field(name),
            form => {
                let place = self.set.open_field(name, if named { self.named } else { Member::Always });
                self.form(form, value, |_| true);
                self.set.close(place);
            }
        }
    }

    fn item(&mut self, shape: Shape<'_>, element: &str, item: &Value) {
        let place = self.set.open(element, Member::Always);
        self.inside(shape, item, |_| true);
        self.set.close(place);
    }

    fn inside(&mut self, shape: Shape<'_>, value: &Value, counts: fn(&str) -> bool) {
        self.form(shape.resolve(None, Some(value)), value, counts);
    }

    fn form(&mut self, form: Form<'_>, value: &Value, counts: fn(&str) -> bool) {
        match (form, value) {
            (Form::Object(shape), Value::Object(fields)) => self.fields(shape, fields, counts),
            (Form::List(items), Value::Array(list)) => self.items(items, list),
            _ => {}
        }
    }

    fn fields(&mut self, shape: Shape<'_>, fields: &Map, counts: fn(&str) -> bool) {
        for (name, value) in fields.iter().filter(|(name, value)| !value.is_null() && counts(name)) {
            let look = shape.look(name);
            self.field(look.shape, name, look.named, value);
        }
    }

    fn items(&mut self, items: Items<'_>, list: &[Value]) {
        for (element, item) in items.index(list) {
            self.item(items.shape(), &element, item);
        }
    }
}
