//! Objects as rows: the `Table` that kubectl prints, with the columns and cells of kube-apiserver.
//!
//! - [`columns`] are data: most cells are a field, an age or a count; a few kinds bring a small function.
//! - Every column is always filled. The client shows those of priority 0, and the others when asked for wide output.
//! - A custom resource's `additionalPrinterColumns` are the same data, made at run time ([`Column::custom`]).

mod access;
mod definitions;
mod duration;
mod kinds;
mod network;
mod node;
mod pod;
mod policy;
mod storage;
#[cfg(test)]
mod tests;
mod workload;

use std::borrow::Cow;

use crate::{Value, json};
use jiff::Timestamp;

use crate::gvr::Gvk;
use crate::jsonpath::JsonPath;
use crate::schema::Resource;

pub use access::quantity_text;
pub use duration::human_duration;

/// One column of a kind's table.
#[derive(Clone, Debug)]
pub struct Column {
    /// Heading, as `Up-to-date`.
    pub name: Cow<'static, str>,
    /// OpenAPI type of the cells: `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: Cow<'static, str>,
    /// `name` for the column that identifies the object; else mostly empty.
    pub format: Cow<'static, str>,
    /// What the column tells.
    pub description: Cow<'static, str>,
    /// 0 is always shown, more only in wide output.
    pub priority: i32,
    cell: Cell,
}

/// Where a cell's value comes from.
#[derive(Clone, Debug)]
enum Cell {
    /// The text of a field, or a fixed text where there is none.
    Text(&'static str, &'static str),
    /// A number, 0 where there is none.
    Number(&'static str),
    /// A truth value, false where there is none.
    Flag(&'static str),
    /// Time since a field.
    Age(&'static str),
    /// How many entries some lists or maps have together.
    Count(&'static [&'static str]),
    /// What a function makes of the object.
    Derived(fn(&Value, Timestamp) -> Value),
    /// A custom resource's path.
    Path(JsonPath),
}

/// The columns of a resource's objects.
pub fn columns(resource: &Resource) -> &[Column] {
    match &resource.custom {
        Some(custom) => &custom.columns,
        None => kinds::columns(&resource.gvk.group, &resource.gvk.kind),
    }
}

/// The name and a custom resource's own columns; its age, if it has none.
pub fn with_name(own: impl IntoIterator<Item = Column>) -> Box<[Column]> {
    let mut own = own.into_iter().peekable();
    let plain = if own.peek().is_none() { definitions::NAME_AGE } else { &definitions::NAME_AGE[..1] };
    plain.iter().cloned().chain(own).collect()
}

/// The cells of one object under any columns.
pub fn cells(columns: &[Column], object: &Value, now: Timestamp) -> Vec<Value> {
    columns.iter().map(|column| column.cell(object, now)).collect()
}

/// `conditions` of an object's row: whether it has run to its end.
pub fn row_conditions(gvk: &Gvk, object: &Value) -> Vec<Value> {
    let phase = access::text(object, "status.phase");
    let message = match (gvk.group.as_ref(), gvk.kind.as_ref(), phase) {
        ("", "Pod", "Succeeded") => "The pod has completed successfully.",
        ("", "Pod", "Failed") => "The pod failed.",
        _ => return Vec::new(),
    };
    vec![json!({"type": "Completed", "status": "True", "reason": phase, "message": message})]
}

impl Column {
    const fn new(
        name: &'static str,
        (kind, format): (&'static str, &'static str),
        description: &'static str,
        cell: Cell,
    ) -> Self {
        Self {
            name: Cow::Borrowed(name),
            kind: Cow::Borrowed(kind),
            format: Cow::Borrowed(format),
            description: Cow::Borrowed(description),
            priority: 0,
            cell,
        }
    }

    /// The same, shown only in wide output.
    const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    /// A column of a custom resource. `date` columns show the time since the field; text of other types is shown
    /// as it is.
    pub fn custom(
        name: &str,
        kind: &str,
        format: &str,
        description: &str,
        priority: i32,
        path: JsonPath,
    ) -> Self {
        Self {
            name: name.to_owned().into(),
            kind: kind.to_owned().into(),
            format: format.to_owned().into(),
            description: description.to_owned().into(),
            priority,
            cell: Cell::Path(path),
        }
    }

    /// The entry in a Table's `columnDefinitions`.
    pub fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format,
            "description": self.description, "priority": self.priority,
        })
    }

    fn cell(&self, object: &Value, now: Timestamp) -> Value {
        match &self.cell {
            Cell::Text(path, absent) => match access::text(object, path) {
                "" => Value::from(*absent),
                text => Value::from(text),
            },
            Cell::Number(path) => access::number(object, path).into(),
            Cell::Flag(path) => access::flag(object, path).into(),
            Cell::Age(path) => access::age(object, path, now).into(),
            Cell::Count(paths) => paths.iter().map(|path| access::count(object, path)).sum::<usize>().into(),
            Cell::Derived(make) => make(object, now),
            Cell::Path(path) => self.custom_cell(path, object, now),
        }
    }

    /// As apiextensions-apiserver fills a custom column: the first value found, by the column's type.
    fn custom_cell(&self, path: &JsonPath, object: &Value, now: Timestamp) -> Value {
        let found = path.find(object);
        match (self.kind.as_ref(), found.as_slice()) {
            (_, []) => Value::Null,
            ("date", [first, ..]) => match first.as_str().map(|text| text.parse::<Timestamp>()) {
                Some(Ok(time)) => human_duration(now, time).into(),
                Some(Err(_)) => "<invalid>".into(),
                None => Value::Null,
            },
            ("string", [Value::String(text)]) => text.as_str().into(),
            ("string", many) => JsonPath::join(many).into(),
            ("integer", [Value::Number(n), ..]) => {
                n.as_f64().map_or(Value::Null, |f| json!(f.trunc() as i64))
            }
            ("number", [n @ Value::Number(_), ..]) => (*n).clone(),
            ("boolean", [flag @ Value::Bool(_), ..]) => (*flag).clone(),
            _ => Value::Null,
        }
    }
}
