//! Parameters: the objects of a policy's `paramKind` that a binding's `paramRef` names or selects.

use tiphys_api::Value;
use tiphys_api::selector::LabelSelector;

use super::super::Review;
use super::bound::{Bound, Policies, Rules};
use crate::registry::tree;

impl<R: Rules> Policies<R> {
    /// The parameters of a binding; `null` for a policy without.
    pub(super) fn params(&self, bound: &Bound<R>, review: &Review<'_>) -> Result<Vec<Value>, String> {
        let (Some(kind), Some(wanted)) = (&bound.policy.params, &bound.params) else {
            return Ok(vec![Value::Null]);
        };
        let resource = self
            .kinds
            .of_kind(kind)
            .ok_or_else(|| format!("failed to find resource referenced by paramKind: '{kind}'"))?;
        let namespace = namespace(resource.namespaced, tree::text(wanted, &["namespace"]), review)?;
        let found = match tree::text(wanted, &["name"]) {
            "" => {
                let selector = LabelSelector::from_value(tree::at(wanted, &["selector"]))
                    .map_err(|error| error.to_string())?;
                let mut all = self.lister.list(&resource.gvr, namespace);
                all.retain(|object| selector.matches(&object.meta().labels));
                all.sort_by(|a, b| {
                    (&a.meta().namespace, &a.meta().name).cmp(&(&b.meta().namespace, &b.meta().name))
                });
                all
            }
            name => self.lister.get(&resource.gvr, namespace, name).into_iter().collect(),
        };
        let denies = tree::text(wanted, &["parameterNotFoundAction"]) != "Allow";
        if found.is_empty() && denies {
            return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
        }
        found.iter().map(|object| object.value().map_err(|error| error.to_string())).collect()
    }
}

/// Where parameters are.
fn namespace<'n>(namespaced: bool, given: &'n str, review: &Review<'n>) -> Result<&'n str, String> {
    match (namespaced, given, review.namespace) {
        (false, "", _) => Ok(""),
        (false, _, _) => {
            Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned())
        }
        (true, "", "") => {
            let why =
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            Err(why.to_owned())
        }
        (true, "", own) => Ok(own),
        (true, given, _) => Ok(given),
    }
}
