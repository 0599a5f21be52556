//! What an expression may refer to besides its own constants.

use std::collections::BTreeMap;

use crate::types::{Decl, Type};
use crate::value::{Result, Value};

/// Variables by name, with their types, and types that an expression may make values of.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: BTreeMap<Box<str>, Decl>,
    structures: BTreeMap<Box<str>, Type>,
    open: Vec<Box<str>>,
}

impl Env {
    /// With no variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more variable; the name may have dots in it.
    #[must_use]
    pub fn with(mut self, name: &str, decl: impl Into<Decl>) -> Self {
        self.variables.insert(name.into(), decl.into());
        self
    }

    /// With the authorizer, and its question about the resource of a request.
    #[must_use]
    pub fn with_authorizer(self) -> Self {
        let of = |name| Type::Opaque(name);
        self.with("authorizer", of("kubernetes.authorization.Authorizer"))
            .with("authorizer.requestResource", of("kubernetes.authorization.ResourceCheck"))
    }

    /// With one more type that expressions make values of: `Name{field: value}`.
    #[must_use]
    pub fn with_structure(mut self, name: &str, ty: Type) -> Self {
        self.structures.insert(name.into(), ty);
        self
    }

    /// With types that are named by the path of a field, as `Name` and `Name.spec.containers`: objects with any fields.
    #[must_use]
    pub fn with_open_structures(mut self, name: &str) -> Self {
        self.open.push(name.into());
        self
    }

    /// A variable's type.
    pub fn variable(&self, name: &str) -> Option<&Decl> {
        self.variables.get(name)
    }

    /// A type that expressions make values of.
    pub fn structure(&self, name: &str) -> Option<Type> {
        let root = name.split('.').next().unwrap_or_default();
        let open = || self.open.iter().any(|known| **known == *root).then(|| Type::open(name));
        self.structures.get(name).cloned().or_else(open)
    }
}

/// The values of variables.
pub trait Bindings<'a> {
    /// A variable's value; `None` if it has none.
    fn get(&self, name: &str) -> Option<Result<'a>>;
}

impl<'a> Bindings<'a> for [(&str, Value<'a>)] {
    fn get(&self, name: &str) -> Option<Result<'a>> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| Ok(value.clone()))
    }
}

impl<'a, const N: usize> Bindings<'a> for [(&str, Value<'a>); N] {
    fn get(&self, name: &str) -> Option<Result<'a>> {
        Bindings::get(self.as_slice(), name)
    }
}

impl<'a> Bindings<'a> for Vec<(&str, Value<'a>)> {
    fn get(&self, name: &str) -> Option<Result<'a>> {
        Bindings::get(self.as_slice(), name)
    }
}
