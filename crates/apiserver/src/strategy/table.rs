//! The rows: which kind has which rules.

use tiphys_api::Gvr;

use super::{NameForm, Rules};

/// The rules of a resource, in any of its versions.
pub fn of(gvr: &Gvr) -> Rules {
    let rules = Rules { generation: has_generation(gvr), ..Rules::DEFAULT };
    match (gvr.group.as_ref(), gvr.resource.as_ref()) {
        ("", "services" | "endpoints" | "limitranges" | "events") => Rules { create_on_update: true, ..rules },
        ("rbac.authorization.k8s.io", _) => {
            Rules { create_on_update: true, name: NameForm::PathSegment, ..rules }
        }
        ("coordination.k8s.io", "leases") => {
            Rules { create_on_update: true, unconditional_update: false, ..rules }
        }
        ("policy", _) | ("admissionregistration.k8s.io", _) => Rules { unconditional_update: false, ..rules },
        _ => rules,
    }
}

fn has_generation(gvr: &Gvr) -> bool {
    match gvr.group.as_ref() {
        "apps" | "batch" | "policy" | "networking.k8s.io" | "admissionregistration.k8s.io" => true,
        "flowcontrol.apiserver.k8s.io" | "apiextensions.k8s.io" | "discovery.k8s.io" => true,
        "scheduling.k8s.io" | "resource.k8s.io" => true,
        "" => matches!(gvr.resource.as_ref(), "pods" | "replicationcontrollers" | "podtemplates"),
        group => group.contains('.') && !group.ends_with(".k8s.io"),
    }
}
