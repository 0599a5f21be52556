//! Which types go where: unknown types are numbered and take the first type that is put into them.

use crate::functions::Overload;
use crate::types::{List, Map, Type};
use std::sync::Arc;

/// What is known of the unknown types.
#[derive(Default)]
pub struct Unifier {
    known: Vec<Option<Type>>,
}

impl Unifier {
    /// A type yet unknown.
    pub fn fresh(&mut self) -> Type {
        self.known.push(None);
        Type::Param(u32::try_from(self.known.len() - 1).unwrap_or(u32::MAX))
    }

    fn slot(&self, number: u32) -> Option<&Type> {
        self.known.get(number as usize)?.as_ref()
    }

    /// The type, if it is a name of a known one.
    pub fn resolved(&self, ty: &Type) -> Type {
        let mut ty = ty;
        while let Type::Param(number) = ty {
            match self.slot(*number) {
                Some(known) => ty = known,
                None => break,
            }
        }
        ty.clone()
    }

    /// The type with all that is known; what is not is dynamic.
    pub fn settled(&self, ty: &Type) -> Type {
        self.replaced(ty, true)
    }

    /// The type with all that is known.
    pub fn settled_partly(&self, ty: &Type) -> Type {
        self.replaced(ty, false)
    }

    fn replaced(&self, ty: &Type, all: bool) -> Type {
        let inner = |ty: &Type| self.replaced(ty, all);
        match self.resolved(ty) {
            Type::Param(_) if all => Type::Dyn,
            Type::List(list) if has_params(&list.item.ty) => {
                let item = crate::types::Decl { ty: inner(&list.item.ty), ..list.item.clone() };
                Type::List(Arc::new(List { item, kind: list.kind.clone() }))
            }
            Type::Map(map) if has_params(&map.key.ty) || has_params(&map.value.ty) => {
                let key = crate::types::Decl { ty: inner(&map.key.ty), ..map.key.clone() };
                let value = crate::types::Decl { ty: inner(&map.value.ty), ..map.value.clone() };
                Type::Map(Arc::new(Map { key, value }))
            }
            Type::Optional(of) => Type::optional(inner(&of)),
            Type::Type(of) => inner(&of).as_type(),
            other => other,
        }
    }

    /// `(int, string)`, or `string.(int)` for a method.
    pub fn applied(&self, args: &[Type], receiver: bool) -> String {
        let shown: Vec<String> = args.iter().map(|arg| self.settled(arg).to_string()).collect();
        match shown.split_first() {
            Some((target, rest)) if receiver => format!("{target}.({})", rest.join(", ")),
            _ => format!("({})", shown.join(", ")),
        }
    }

    /// The result of an overload for arguments; `None`, and nothing learned, if they do not fit.
    pub fn apply(&mut self, overload: &Overload, args: &[Type]) -> Option<Type> {
        let before = self.known.clone();
        let params = [self.fresh(), self.fresh()];
        let fits = overload
            .args
            .iter()
            .zip(args)
            .all(|(wanted, found)| self.assign(&instance(wanted, &params), found));
        if !fits {
            self.known = before;
            return None;
        }
        Some(self.settled_partly(&instance(&overload.result, &params)))
    }

    /// Whether a value of type `found` may stand where `wanted` is asked for.
    pub fn assign(&mut self, wanted: &Type, found: &Type) -> bool {
        let (wanted, found) = (self.resolved(wanted), self.resolved(found));
        match (&wanted, &found) {
            (Type::Param(a), Type::Param(b)) if a == b => true,
            (Type::Param(number), other) | (other, Type::Param(number)) => self.learn(*number, other),
            (Type::Dyn | Type::Error, _) | (_, Type::Dyn | Type::Error) => true,
            (Type::Null, other) | (other, Type::Null) => is_nullable(other),
            (Type::List(a), Type::List(b)) => self.assign(&a.item.ty, &b.item.ty),
            (Type::Map(a), Type::Map(b)) => {
                self.assign(&a.key.ty, &b.key.ty) && self.assign(&a.value.ty, &b.value.ty)
            }
            (Type::Optional(a), Type::Optional(b)) => self.assign(a, b),
            // All types are values of one type.
            (Type::Type(_), Type::Type(_)) => true,
            (a, b) => a == b,
        }
    }

    fn learn(&mut self, number: u32, ty: &Type) -> bool {
        if self.contains(ty, number) {
            return false;
        }
        if let Some(slot) = self.known.get_mut(number as usize) {
            *slot = Some(ty.clone());
        }
        true
    }

    fn contains(&self, ty: &Type, number: u32) -> bool {
        match self.resolved(ty) {
            Type::Param(other) => other == number,
            Type::List(list) => self.contains(&list.item.ty, number),
            Type::Map(map) => self.contains(&map.key.ty, number) || self.contains(&map.value.ty, number),
            Type::Optional(of) | Type::Type(of) => self.contains(&of, number),
            _ => false,
        }
    }

    /// Of two types that fit each other, the one that says less.
    pub fn more_general(&self, a: &Type, b: &Type) -> Type {
        match (self.resolved(a), self.resolved(b)) {
            (Type::Null, other) => other,
            (_, Type::Dyn) => Type::Dyn,
            (a, _) => a,
        }
    }
}

fn has_params(ty: &Type) -> bool {
    match ty {
        Type::Param(_) => true,
        Type::List(list) => has_params(&list.item.ty),
        Type::Map(map) => has_params(&map.key.ty) || has_params(&map.value.ty),
        Type::Optional(of) | Type::Type(of) => has_params(of),
        _ => false,
    }
}

/// What may be `null` besides null itself.
fn is_nullable(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Null | Type::Object(_) | Type::Struct(_) | Type::Timestamp | Type::Duration | Type::Opaque(_)
    )
}

/// A type of the table with a call's own unknowns for `A` and `B`.
fn instance(ty: &Type, params: &[Type; 2]) -> Type {
    match ty {
        Type::Param(number) => params.get(*number as usize).cloned().unwrap_or(Type::Dyn),
        Type::List(list) => Type::list(instance(&list.item.ty, params)),
        Type::Map(map) => Type::map(instance(&map.key.ty, params), instance(&map.value.ty, params)),
        Type::Optional(of) => Type::optional(instance(of, params)),
        Type::Type(of) => instance(of, params).as_type(),
        other => other.clone(),
    }
}
