//! The schema that server-side apply and field selectors walk: what is a struct, a map, a list and how it merges.
//!
//! Plain values are [`Type::Any`]: they are owned as a whole, whatever they are.

use std::collections::HashMap;

use super::{Additional, Kind, Node};
use crate::schema::{Field, List, ListKind, Patch, Schema, Struct, StructId, Type, builtin};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Makes the schema of a resource's objects: the arena and the object's struct in it. `name`: of the struct, as OpenAPI
/// calls it.
pub fn of(node: &Node, name: &str) -> (Schema, StructId) {
    let mut arena = Arena::default();
    let object = arena.resource(node, name);
    (arena.schema, object)
}

#[derive(Default)]
struct Arena {
    schema: Schema,
    /// Structs of built-in kinds that were copied, and where to.
    copied: HashMap<StructId, StructId>,
}

impl Arena {
    fn resource(&mut self, node: &Node, name: &str) -> StructId {
        let mut fields = self.fields(node, name);
        fields.retain(|field| !matches!(&*field.name, "apiVersion" | "kind" | "metadata"));
        fields.push(plain("apiVersion", Type::String));
        fields.push(plain("kind", Type::String));
        if let Some(meta) = builtin().struct_id(META) {
            fields.push(plain("metadata", Type::Struct(self.copy(meta))));
        }
        self.add(node, name, fields)
    }

    fn fields(&mut self, node: &Node, name: &str) -> Vec<Field> {
        let field = |(of, node): &(Box<str>, Node)| {
            let ty = self.ty(node, &format!("{name}.{of}"));
            Field { default: node.default.clone(), ..plain(of, ty) }
        };
        node.properties.iter().map(field).collect()
    }

    fn add(&mut self, node: &Node, name: &str, fields: Vec<Field>) -> StructId {
        self.push(Struct {
            name: name.into(),
            fields: fields.into(),
            atomic: node.atomic,
            preserve_unknown: node.preserve_unknown,
        })
    }

    fn push(&mut self, of: Struct) -> StructId {
        // A definition is at most a few megabytes.
        let id = StructId(u32::try_from(self.schema.structs.len()).unwrap_or(u32::MAX));
        self.schema.structs.push(of);
        id
    }

    /// A struct of built-in kinds, with those it refers to.
    fn copy(&mut self, id: StructId) -> StructId {
        if let Some(copy) = self.copied.get(&id) {
            return *copy;
        }
        let mut of = builtin().schema().get(id).clone();
        for field in of.fields.iter_mut() {
            self.copy_below(&mut field.ty);
        }
        let copy = self.push(of);
        self.copied.insert(id, copy);
        copy
    }

    fn copy_below(&mut self, ty: &mut Type) {
        match ty {
            Type::Struct(id) => *id = self.copy(*id),
            Type::List(list) => self.copy_below(&mut list.item),
            Type::Map(item) => self.copy_below(item),
            _ => {}
        }
    }

    fn ty(&mut self, node: &Node, name: &str) -> Type {
        match (node.kind, &node.additional) {
            (Some(Kind::Object), _) if node.embedded => Type::Struct(self.resource(node, name)),
            (Some(Kind::Object), Additional::Of(other)) if !node.atomic => {
                Type::Map(Box::new(self.ty(other, name)))
            }
            (Some(Kind::Object), Additional::Any) if !node.atomic => Type::Map(Box::new(Type::Any)),
            (Some(Kind::Object), Additional::None) if node.preserve_unknown && node.properties.is_empty() => {
                Type::Any
            }
            (Some(Kind::Object), _) => {
                let fields = self.fields(node, name);
                Type::Struct(self.add(node, name, fields))
            }
            (Some(Kind::Array), _) => {
                let item = node.items.as_ref().map_or(Type::Any, |items| self.ty(items, name));
                Type::List(Box::new(List { item, kind: node.list.clone().unwrap_or(ListKind::Atomic) }))
            }
            _ => Type::Any,
        }
    }
}

fn plain(name: &str, ty: Type) -> Field {
    Field {
        name: name.into(),
        ty,
        required: false,
        default: None,
        allowed: Box::default(),
        atomic: None,
        patch: Patch::default(),
        proto: None,
    }
}
