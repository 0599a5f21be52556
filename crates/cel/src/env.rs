//! What an expression may refer to besides its own constants.

use std::collections::BTreeMap;

use crate::types::{Decl, Type};
use crate::value::{Result, Value};

/// Variables by name, with their types, and types that an expression may make values of.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: BTreeMap<Box<str>, Decl>,
    structures: BTreeMap<Box<str>, Type>,
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

    /// With one more type that expressions make values of: `Name{field: value}`.
    #[must_use]
    pub fn with_structure(mut self, name: &str, ty: Type) -> Self {
        self.structures.insert(name.into(), ty);
        self
    }

    /// A variable's type.
    pub fn variable(&self, name: &str) -> Option<&Decl> {
        self.variables.get(name)
    }

    /// A type that expressions make values of.
    pub fn structure(&self, name: &str) -> Option<&Type> {
        self.structures.get(name)
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
