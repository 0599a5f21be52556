//! The rows: which kind has which rules.

use tiphys_api::Gvr;

use super::{Rules, certificate, config, job, namespace, pod, storage, workload};

const PLAIN: Rules = Rules::DEFAULT;
const COUNTED: Rules = Rules { generation: true, ..PLAIN };
const CONDITIONAL: Rules = Rules { unconditional_update: false, ..PLAIN };
const CONDITIONAL_COUNTED: Rules = Rules { unconditional_update: false, ..COUNTED };

/// The rules of a resource, in any of its versions.
pub fn of(gvr: &Gvr) -> &'static Rules {
    match gvr.group.as_ref() {
        "" => core(&gvr.resource),
        "apps" | "batch" => workloads(&gvr.resource),
        "rbac.authorization.k8s.io" => &Rules { create_on_update: true, ..PLAIN },
        "coordination.k8s.io" => &Rules { create_on_update: true, ..CONDITIONAL },
        "policy" | "admissionregistration.k8s.io" | "apiextensions.k8s.io" => &CONDITIONAL_COUNTED,
        "networking.k8s.io" | "flowcontrol.apiserver.k8s.io" => &COUNTED,
        "discovery.k8s.io" | "scheduling.k8s.io" | "resource.k8s.io" => &COUNTED,
        "certificates.k8s.io" if gvr.resource == "certificatesigningrequests" => &certificate::REQUESTS,
        "apiregistration.k8s.io" | "node.k8s.io" => &CONDITIONAL,
        // Custom resources.
        group if group.contains('.') && !group.ends_with(".k8s.io") => &CONDITIONAL_COUNTED,
        _ => &PLAIN,
    }
}

fn core(resource: &str) -> &'static Rules {
    match resource {
        "pods" => &pod::PODS,
        "configmaps" => &config::CONFIG_MAPS,
        "secrets" => &config::SECRETS,
        "namespaces" => &namespace::NAMESPACES,
        "persistentvolumeclaims" => &storage::CLAIMS,
        "persistentvolumes" => &storage::VOLUMES,
        "replicationcontrollers" => &Rules { orphans: true, ..COUNTED },
        "services" | "endpoints" | "limitranges" | "events" => &Rules { create_on_update: true, ..PLAIN },
        "podtemplates" => &COUNTED,
        "nodes" => &Rules { status_on_create: true, ..PLAIN },
        _ => &PLAIN,
    }
}

fn workloads(resource: &str) -> &'static Rules {
    match resource {
        "statefulsets" => &workload::STATEFUL_SETS,
        "jobs" => &job::JOBS,
        _ => &COUNTED,
    }
}
