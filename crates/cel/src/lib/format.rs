//! Named formats of texts: what Kubernetes asks of names, labels and other forms.

use std::rc::Rc;

use base64::Engine as _;
use tiphys_api::validate::{dns1035_label, dns1123_label, dns1123_subdomain, label_value, qualified_name};

use super::operators::text;
use super::time;
use super::url::Url;
use crate::error::EvalError;
use crate::value::{Opaque, Result, Value};

/// See the module.
pub const FUNCTIONS: super::Library = &[
    ("format.named", |args| {
        let name = text(args, 0)?;
        let found = FORMATS.iter().find(|format| *format.name == **name);
        Ok(Value::Optional(found.map(|format| Rc::new(made(format)))))
    }),
    ("validate", |args| match args.first() {
        Some(Value::Opaque(Opaque::Format(format))) => {
            let complaints = (format.check)(text(args, 1)?);
            let list = || Value::list(complaints.iter().map(|text| Value::text(&**text)).collect::<Vec<_>>());
            Ok(Value::Optional((!complaints.is_empty()).then(|| Rc::new(list()))))
        }
        _ => Err(EvalError::no_such_overload()),
    }),
    ("format.dns1123Label", |_| named("dns1123Label")),
    ("format.dns1123Subdomain", |_| named("dns1123Subdomain")),
    ("format.dns1035Label", |_| named("dns1035Label")),
    ("format.qualifiedName", |_| named("qualifiedName")),
    ("format.dns1123LabelPrefix", |_| named("dns1123LabelPrefix")),
    ("format.dns1123SubdomainPrefix", |_| named("dns1123SubdomainPrefix")),
    ("format.dns1035LabelPrefix", |_| named("dns1035LabelPrefix")),
    ("format.labelValue", |_| named("labelValue")),
    ("format.uri", |_| named("uri")),
    ("format.uuid", |_| named("uuid")),
    ("format.byte", |_| named("byte")),
    ("format.date", |_| named("date")),
    ("format.datetime", |_| named("datetime")),
];

/// A format: its name, and what it has to complain about in a text.
#[derive(Debug)]
pub struct Format {
    /// As `format.named` knows it.
    pub name: &'static str,
    check: fn(&str) -> Vec<String>,
}

const FORMATS: &[Format] = &[
    Format { name: "dns1123Label", check: dns1123_label },
    Format { name: "dns1123Subdomain", check: dns1123_subdomain },
    Format { name: "dns1035Label", check: dns1035_label },
    Format { name: "qualifiedName", check: qualified_name },
    Format { name: "labelValue", check: label_value },
    Format { name: "dns1123LabelPrefix", check: |text| dns1123_label(&prefix(text)) },
    Format { name: "dns1123SubdomainPrefix", check: |text| dns1123_subdomain(&prefix(text)) },
    Format { name: "dns1035LabelPrefix", check: |text| dns1035_label(&prefix(text)) },
    Format { name: "uri", check: |text| unless(Url::parse(text).is_some(), "invalid URI") },
    Format { name: "uuid", check: |text| unless(is_uuid(text), "does not match the UUID format") },
    Format { name: "byte", check: |text| unless(is_base64(text), "invalid base64") },
    Format { name: "date", check: |text| unless(time::parse_date(text).is_some(), "invalid date") },
    Format {
        name: "datetime",
        check: |text| unless(time::parse_timestamp(text).is_some(), "invalid datetime"),
    },
];

/// What a name's beginning is checked as: a dash at its end is no end.
fn prefix(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(before) => format!("{before}a"),
        None => text.into(),
    }
}

fn unless(fine: bool, complaint: &str) -> Vec<String> {
    if fine { Vec::new() } else { vec![complaint.into()] }
}

fn is_uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() == lengths.len()
        && parts
            .iter()
            .zip(lengths)
            .all(|(part, length)| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_base64(text: &str) -> bool {
    base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

fn made<'a>(format: &'static Format) -> Value<'a> {
    Value::Opaque(Opaque::Format(format))
}

fn named<'a>(name: &str) -> Result<'a> {
    FORMATS.iter().find(|format| format.name == name).map(made).ok_or_else(EvalError::no_such_overload)
}
