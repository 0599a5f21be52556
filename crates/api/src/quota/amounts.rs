//! Amounts by name, as `pods`, `requests.cpu`, `count/deployments.apps`, and arithmetic on them.

use std::collections::BTreeMap;

use crate::{Map, Text, Value};

use crate::quantity::Quantity;

/// Amounts by name, in order of the names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts(pub BTreeMap<String, Quantity>);

impl Amounts {
    /// Reads a map of quantities; what is none is left out (validation has told of it).
    pub fn read(value: &Value) -> Self {
        let entries = value.as_object().into_iter().flatten();
        let read = |(name, value): (&Text, &Value)| {
            let amount = match value {
                Value::String(text) => text.parse().ok()?,
                other => other.to_string().parse().ok()?,
            };
            Some((name.to_string(), amount))
        };
        Self(entries.filter_map(read).collect())
    }

    /// As objects hold it.
    pub fn to_value(&self) -> Value {
        let entries = self.0.iter().map(|(name, amount)| (name.clone(), Value::from(amount.to_string())));
        Value::Object(entries.collect::<Map>())
    }

    /// The amount of this name, if there is one.
    pub fn get(&self, name: &str) -> Option<Quantity> {
        self.0.get(name).copied()
    }

    /// Puts an amount to what is there.
    pub fn add(&mut self, name: &str, amount: Quantity) {
        match self.0.get_mut(name) {
            Some(sum) => *sum = *sum + amount,
            None => drop(self.0.insert(name.to_owned(), amount)),
        }
    }

    /// Puts all amounts to what is there.
    pub fn add_all(&mut self, other: &Self) {
        other.0.iter().for_each(|(name, amount)| self.add(name, *amount));
    }

    /// Each name gets the larger amount of both.
    pub fn raise(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let most = self.get(name).map_or(*amount, |own| own.max(*amount));
            self.0.insert(name.clone(), most);
        }
    }

    /// What is more here than in `before`; the rest is left out.
    #[must_use]
    pub fn beyond(&self, before: &Self) -> Self {
        let more = self.0.iter().filter_map(|(name, amount)| {
            let more = *amount - before.get(name).unwrap_or_default();
            (more.sign() > 0).then(|| (name.clone(), more))
        });
        Self(more.collect())
    }

    /// Only the names that a predicate picks.
    #[must_use]
    pub fn only(&self, pick: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(name, _)| pick(name)).map(|(n, a)| (n.clone(), *a)).collect())
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `cpu=1,pods=3`, as Kubernetes prints it in refusals.
    pub fn text(&self) -> String {
        let parts: Vec<String> = self.0.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        parts.join(",")
    }
}
