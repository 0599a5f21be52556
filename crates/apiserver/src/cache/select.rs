//! Which objects a list or watch wants: decided on headers alone, without a parse.

use tiphys_api::schema::Resource;
use tiphys_api::selector::{FieldSelector, LabelSelector};
use tiphys_api::{Meta, Status};

/// A compiled selection.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only this namespace; empty for all.
    pub namespace: Box<str>,
    /// Only this name (in the namespace, if one is given); empty for all.
    pub name: Box<str>,
    labels: LabelSelector,
    terms: Box<[Term]>,
}

#[derive(Clone, Debug)]
struct Term {
    field: Field,
    equal: bool,
    value: Box<str>,
}

#[derive(Clone, Copy, Debug)]
enum Field {
    Name,
    Namespace,
    /// Index into `Meta::fields`.
    At(usize),
}

impl Selection {
    /// Reads the texts of a request; what cannot be understood is a 400.
    pub fn parse(
        resource: &Resource,
        namespace: &str,
        name: &str,
        labels: &str,
        fields: &str,
    ) -> Result<Self, Status> {
        let bad = |e: tiphys_api::selector::SelectorError| Status::bad_request(e.to_string());
        let labels = LabelSelector::parse(labels).map_err(bad)?;
        let fields = FieldSelector::parse(fields).map_err(bad)?;
        let terms = fields.terms().iter().map(|t| {
            let field = field(resource, &t.path)?;
            Ok(Term { field, equal: t.equal, value: t.value.clone() })
        });
        let name = match name {
            "" => fields.exact("metadata.name").unwrap_or_default(),
            name => name,
        };
        let namespace = match namespace {
            "" => fields.exact("metadata.namespace").unwrap_or_default(),
            namespace => namespace,
        };
        let (namespace, name) = (namespace.into(), name.into());
        Ok(Self { labels, terms: terms.collect::<Result<_, Status>>()?, namespace, name })
    }

    /// Whether only namespace and name decide.
    pub fn is_plain(&self) -> bool {
        self.labels.is_everything() && self.terms.is_empty()
    }

    /// Whether the object of this header is selected.
    pub fn matches(&self, meta: &Meta) -> bool {
        (self.namespace.is_empty() || self.namespace == meta.namespace)
            && (self.name.is_empty() || self.name == meta.name)
            && self.terms.iter().all(|t| t.matches(meta))
            && self.labels.matches(&meta.labels)
    }
}

impl Term {
    fn matches(&self, meta: &Meta) -> bool {
        let value = match self.field {
            Field::Name => meta.name.as_ref(),
            Field::Namespace => meta.namespace.as_ref(),
            Field::At(slot) => meta.fields.get(slot).map(AsRef::as_ref).unwrap_or_default(),
        };
        (value == self.value.as_ref()) == self.equal
    }
}

fn field(resource: &Resource, path: &str) -> Result<Field, Status> {
    match path {
        "metadata.name" => return Ok(Field::Name),
        "metadata.namespace" => return Ok(Field::Namespace),
        _ => {}
    }
    let slot = resource.field_labels.iter().position(|label| label.as_ref() == path);
    slot.map(Field::At).ok_or_else(|| Status::bad_request(unsupported(resource, path)))
}

fn unsupported(resource: &Resource, path: &str) -> String {
    match resource.field_labels.is_empty() {
        true => {
            format!("{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
        false => format!("field label not supported: {path}"),
    }
}
