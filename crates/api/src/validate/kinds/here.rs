//! One struct under check: its fields, where it is, and what was found.
//!
//! Fields are named as in paths, `a.b` for one inside another. A path's text and a value's copy are made only for an
//! error, so that a right object costs look-ups and nothing else.

use serde_json::Value;

use super::{At, Fields, under};
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

    pub fn required(&mut self, name: &str, why: &str) {
        self.errors.push(Error::required(&self.path(name), why));
    }

    pub fn forbidden(&mut self, name: &str, why: &str) {
        self.errors.push(Error::forbidden(&self.path(name), why));
    }

    /// Says what is wrong with the field's own value.
    pub fn invalid(&mut self, name: &str, why: &str) {
        let value = self.get(name).cloned().unwrap_or_default();
        self.errors.push(Error::invalid(&self.path(name), value, why));
    }

    /// The same with another value to show.
    pub fn invalid_as(&mut self, name: &str, value: impl Into<Value>, why: &str) {
        self.errors.push(Error::invalid(&self.path(name), value, why));
    }

    /// An item of a list is wrong.
    pub fn invalid_item(&mut self, name: &str, index: usize, value: impl Into<Value>, why: &str) {
        self.errors.push(Error::invalid(&self.path(name).index(index), value, why));
    }

    pub fn unsupported(&mut self, name: &str, supported: &[&str]) {
        let value = self.get(name).cloned().unwrap_or_else(|| "".into());
        self.errors.push(Error::not_supported(&self.path(name), value, supported));
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
            self.errors.push(Error::invalid(&self.path(name), text, &why));
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

    /// No item of a list of texts comes twice.
    pub fn unique(&mut self, name: &str) {
        let items = self.list(name);
        for (index, item) in items.iter().enumerate() {
            if items.iter().take(index).any(|other| other == item) {
                self.errors.push(Error::duplicate(&self.path(name).index(index), item.clone()));
            }
        }
    }
}
