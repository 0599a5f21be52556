//! `meta.k8s.io` Tables: what `kubectl get` prints, computed by the server.
//!
//! The cells come from [[`tiphys_api::table`]]; this wraps them with the object part that the client asked for
//! (`?includeObject=`) and streams rows as a list streams items.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use tiphys_api::schema::Resource;
use tiphys_api::{Gvk, Object, Status, Value, field, json, table};

use super::answer::{Answer, with_body};
use super::negotiate::{Encoding, MediaType};
use super::query::Query;
use super::{encode, listing};
use crate::registry::List;

/// `?includeObject=`: what of the object stands beside its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TableForm {
    /// Nothing.
    None,
    /// `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl TableForm {
    /// Reads the parameter; 422 for other words.
    pub fn of(query: &Query) -> Result<Self, Status> {
        match query.text("includeObject") {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => {
                let why = "must be 'Metadata', 'Object', 'None', or empty";
                let error = field::Error::invalid(&field::Path::new("includeObject"), other, why);
                Err(Status::invalid(&Gvk::new("meta.k8s.io", "v1", "TableOptions"), "", &[error]))
            }
        }
    }
}

/// Makes the tables of one answer or one watch.
pub struct Tables {
    resource: Arc<Resource>,
    media: MediaType,
    form: TableForm,
    headed: bool,
}

impl Tables {
    /// For objects of a resource.
    pub fn new(resource: &Arc<Resource>, media: MediaType, form: TableForm) -> Self {
        Self { resource: resource.clone(), media, form, headed: false }
    }

    /// A table of one row; only a watch's first has column definitions.
    pub fn of_one(&mut self, object: &Object) -> Result<Value, Status> {
        let columns = if self.headed { Value::Null } else { columns(&self.resource) };
        self.headed = true;
        let meta = json!({"resourceVersion": object.meta().resource_version.to_string()});
        let row: Value =
            serde_json::from_slice(&self.row(object, Timestamp::now())?).map_err(Status::internal)?;
        Ok(filled(self.media, &meta, &columns, &[row]))
    }

    /// The table of a bookmark: no cells, only the revision.
    pub fn bookmark(media: MediaType, meta: &Value) -> Value {
        let object =
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": meta});
        filled(media, meta, &Value::Null, &[json!({"cells": [], "object": object})])
    }

    /// The table of a collection.
    pub fn of_list(self, list: List) -> Result<Answer, Status> {
        let (now, media) = (Timestamp::now(), self.media);
        let empty = filled(media, &listing::list_meta(&list), &columns(&self.resource), &[]);
        let rows = list.items.into_iter().map(move |object| {
            self.row(&object, now).unwrap_or_else(|status| {
                tracing::error!(object = %object.meta().key(), error = %status.message, "only the name can be shown");
                self.name_alone(&object)
            })
        });
        let body = listing::framed(table_head(&empty), rows);
        let body = match media.encoding {
            Encoding::Json => body,
            // For people, and of at most some thousand rows: one tree.
            other => {
                encode::tree(&Value::from_json(&body.gathered()).map_err(Status::internal)?, other)?.into()
            }
        };
        Ok(with_body(StatusCode::OK, media.content_type(), body))
    }

    /// The row of an object whose text cannot be read.
    fn name_alone(&self, object: &Object) -> Bytes {
        let columns = table::columns(&self.resource);
        let mut cells = vec![Value::Null; columns.len()];
        if let Some(at) = columns.iter().position(|column| column.format == "name") {
            cells[at] = (&*object.meta().name).into();
        }
        let cells = Value::Array(cells);
        let object = encode::name_alone(object, self.media.beta);
        let object = Value::from_json(&object).unwrap_or_default();
        json!({"cells": cells, "object": object}).to_string().into()
    }

    /// `{"cells":[...],"object":{...}}`
    fn row(&self, object: &Object, now: Timestamp) -> Result<Bytes, Status> {
        let tree = object.value().map_err(Status::internal)?;
        let cells = Value::Array(table::cells(table::columns(&self.resource), &tree, now));
        let mut row = format!("{{\"cells\":{cells}").into_bytes();
        let conditions = table::row_conditions(&self.resource.gvk, &tree);
        if !conditions.is_empty() {
            row.extend_from_slice(format!(",\"conditions\":{}", Value::Array(conditions)).as_bytes());
        }
        let beside = match self.form {
            TableForm::None => None,
            TableForm::Metadata => Some(encode::partial(object, self.media.beta)?),
            TableForm::Object => Some(object.json().clone()),
        };
        if let Some(json) = beside {
            row.extend_from_slice(b",\"object\":");
            row.extend_from_slice(&json);
        }
        row.push(b'}');
        Ok(row.into())
    }
}

fn filled(media: MediaType, meta: &Value, columns: &Value, rows: &[Value]) -> Value {
    let api_version = if media.beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" };
    json!({
        "apiVersion": api_version, "columnDefinitions": columns, "kind": "Table", "metadata": meta, "rows": rows,
    })
}

/// The text of an empty table up to where its rows begin: `rows` is the last key.
fn table_head(empty: &Value) -> String {
    let mut text = empty.to_string();
    // The text ends in `"rows":[]}`; rows and `]}` follow.
    text.truncate(text.len().saturating_sub(2));
    text
}

fn columns(resource: &Resource) -> Value {
    table::columns(resource).iter().map(table::Column::definition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_cut_before_the_rows() {
        let head = table_head(&filled(MediaType::default(), &json!({}), &json!([]), &[]));
        assert!(head.ends_with("\"rows\":["), "{head}");
        let whole: Value = serde_json::from_str(&format!("{head}1,2]}}")).unwrap();
        assert_eq!((&whole["rows"], &whole["kind"]), (&json!([1, 2]), &json!("Table")));
    }

    #[test]
    fn what_stands_beside_the_cells_is_asked_for() {
        assert_eq!(TableForm::of(&Query::parse("includeObject=Object")).unwrap(), TableForm::Object);
        assert_eq!(TableForm::of(&Query::parse("includeObject=All")).unwrap_err().code, 422);
    }
}
