//! One struct under check: its fields, where it is, and what was found.
//!
//! Fields are named as in paths, `a.b` for one inside another. A path's text and a value's copy are made only for an
//! error, so that a right object costs look-ups and nothing else.

use crate::Value;

use super::{At, Fields, Seen, under};
use crate::field::{Error, Errors, Path};
use crate::quantity::Quantity;

pub(super) struct Here<'f, 'h> {
    pub at: &'h At<'h>,
    pub fields: &'f Fields,
    pub errors: &'h mut Errors,
}

impl<'f, 'h> Here<'f, 'h> {
    pub fn new(at: &'h At<'h>, fields: &'f Fields, errors: &'h mut Errors) -> Self {
        Self { at, fields, errors }
    }

    /// The path of a field; the struct's own for the empty name.
    pub fn path(&self, name: &str) -> Path {
        if name.is_empty() { self.at.path() } else { under(self.at, name) }
    }

    pub fn get(&self, name: &str) -> Option<&'f Value> {
        let mut names = name.split('.');
        let first = self.fields.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A text; empty when absent.
    pub fn text(&self, name: &str) -> &'f str {
        self.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(Value::as_i64)
    }

    /// A boolean; false when absent.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    pub fn object(&self, name: &str) -> Option<&'f Fields> {
        self.get(name).and_then(Value::as_object)
    }

    /// The items of a list; none when absent.
    pub fn list(&self, name: &str) -> &'f [Value] {
        self.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    /// The texts of a list with their places.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = (usize, &'f str)> + use<'f> {
        self.list(name).iter().enumerate().filter_map(|(index, item)| Some((index, item.as_str()?)))
    }

    /// Adds an error, which is made only while there is room for it.
    fn add(&mut self, make: impl FnOnce(&Self) -> Error) {
        if !self.errors.is_full() {
            let error = make(self);
            self.errors.push(error);
        }
    }

    pub fn required(&mut self, name: &str, why: &str) {
        self.add(|here| Error::required(&here.path(name), why));
    }

    pub fn forbidden(&mut self, name: &str, why: &str) {
        self.add(|here| Error::forbidden(&here.path(name), why));
    }

    /// Says what is wrong with the field's own value.
    pub fn invalid(&mut self, name: &str, why: &str) {
        self.add(|here| Error::invalid(&here.path(name), here.get(name).cloned().unwrap_or_default(), why));
    }

    /// The same with another value to show.
    pub fn invalid_as(&mut self, name: &str, value: impl Into<Value>, why: &str) {
        self.add(|here| Error::invalid(&here.path(name), value, why));
    }

    /// An item of a list is wrong.
    pub fn invalid_item(&mut self, name: &str, index: usize, value: impl Into<Value>, why: &str) {
        self.add(|here| Error::invalid(&here.path(name).index(index), value, why));
    }

    /// An item of a list has what another has too: in a field, or, without the field's name, as a whole.
    pub fn duplicate(&mut self, name: &str, index: usize, field: &str, value: impl Into<Value>) {
        self.add(|here| {
            let path = here.path(name).index(index);
            let path = if field.is_empty() { path } else { path.child(field) };
            Error::duplicate(&path, value)
        });
    }

    pub fn unsupported(&mut self, name: &str, supported: &[&str]) {
        self.add(|here| {
            let value = here.get(name).cloned().unwrap_or_else(|| "".into());
            Error::not_supported(&here.path(name), value, supported)
        });
    }

    /// A text, where given, has a form.
    pub fn form(&mut self, name: &str, form: fn(&str) -> Vec<String>) {
        let text = self.text(name);
        if !text.is_empty() {
            self.wrong(name, text, form(text));
        }
    }

    /// What a form found wrong with a text of this field.
    pub fn wrong(&mut self, name: &str, text: &str, found: Vec<String>) {
        for why in found {
            self.add(|here| Error::invalid(&here.path(name), text, &why));
        }
    }

    /// A list has at most so many items; whether it does.
    pub fn most(&mut self, name: &str, max: usize) -> bool {
        let count = self.list(name).len();
        if count > max {
            self.errors.push(Error::too_many(&self.path(name), count, max));
        }
        count <= max
    }

    /// A number, where given, is not negative.
    pub fn not_negative(&mut self, name: &str) {
        if self.number(name).is_some_and(|number| number < 0) {
            self.invalid(name, "must be greater than or equal to 0");
        }
    }

    /// A quantity that can be read.
    pub fn quantity(&self, name: &str) -> Option<Quantity> {
        self.text(name).parse().ok()
    }

    /// No item of a list comes twice.
    pub fn unique(&mut self, name: &str) {
        let mut seen = Seen::new();
        for (index, item) in self.list(name).iter().enumerate() {
            if !seen.add(item) {
                self.duplicate(name, index, "", item.clone());
            }
        }
    }

    /// No two objects of a list have the same name, which may be missing. The error is at the field `place` of the
    /// second, or at all of it.
    pub fn unique_names(&mut self, list: &str, place: &str) {
        let mut seen = Seen::new();
        for (index, item) in self.list(list).iter().enumerate() {
            let name = item.get("name").and_then(Value::as_str).unwrap_or_default();
            if !name.is_empty() && !seen.add(name) {
                self.duplicate(list, index, place, name);
            }
        }
    }
}
