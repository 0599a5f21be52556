//! The rows: which kind has which rules.

use tiphys_api::Gvr;
use tiphys_api::schema::Resource;

use super::{
    Rules, certificate, classes, conditions, config, definition, job, namespace, node, pod, quota, service,
    storage, workload,
};

const PLAIN: Rules = Rules::DEFAULT;
const COUNTED: Rules = Rules { generation: true, ..PLAIN };
const CONDITIONAL: Rules = Rules { unconditional_update: false, ..PLAIN };
/// Custom resources; without the subresource their status is like any other part.
const CUSTOM: Rules = Rules { unconditional_update: false, ..COUNTED };
const CUSTOM_WHOLE: Rules = Rules { status_apart: false, ..CUSTOM };

/// The rules of a resource, in any of its versions.
pub fn of(resource: &Resource) -> &'static Rules {
    match (&resource.custom, resource.subresource("status")) {
        (None, _) => own(&resource.gvr),
        (Some(_), Some(_)) => &CUSTOM,
        (Some(_), None) => &CUSTOM_WHOLE,
    }
}

pub(super) fn own(gvr: &Gvr) -> &'static Rules {
    match gvr.group.as_ref() {
        "" => core(&gvr.resource),
        "apps" | "batch" => workloads(&gvr.resource),
        "rbac.authorization.k8s.io" if gvr.resource.ends_with("bindings") => &classes::BINDINGS,
        "rbac.authorization.k8s.io" => &Rules { create_on_update: true, ..PLAIN },
        "coordination.k8s.io" => &Rules { create_on_update: true, ..CONDITIONAL },
        "policy" => &conditions::BUDGETS,
        "autoscaling" => &classes::AUTOSCALERS,
        "storage.k8s.io" => storage_classes(&gvr.resource),
        "scheduling.k8s.io" if gvr.resource == "priorityclasses" => &classes::PRIORITIES,
        "networking.k8s.io" if gvr.resource == "servicecidrs" => &classes::SERVICE_CIDRS,
        "admissionregistration.k8s.io" => &conditions::POLICIES,
        "apiextensions.k8s.io" => &definition::DEFINITIONS,
        "networking.k8s.io" if gvr.resource == "ingresses" => &conditions::INGRESSES,
        "networking.k8s.io" => &COUNTED,
        "flowcontrol.apiserver.k8s.io" => &conditions::FLOW_CONTROL,
        "discovery.k8s.io" | "scheduling.k8s.io" | "resource.k8s.io" => &COUNTED,
        "certificates.k8s.io" if gvr.resource == "certificatesigningrequests" => &certificate::REQUESTS,
        "apiregistration.k8s.io" => &conditions::API_SERVICES,
        "node.k8s.io" => &CONDITIONAL,
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
        "resourcequotas" => &quota::QUOTAS,
        "services" => &service::SERVICES,
        "endpoints" | "limitranges" | "events" => &Rules { create_on_update: true, ..PLAIN },
        "podtemplates" => &COUNTED,
        "nodes" => &node::NODES,
        _ => &PLAIN,
    }
}

fn workloads(resource: &str) -> &'static Rules {
    match resource {
        "statefulsets" => &workload::STATEFUL_SETS,
        "deployments" => &workload::DEPLOYMENTS,
        "replicasets" => &workload::REPLICA_SETS,
        "daemonsets" => &workload::DAEMON_SETS,
        "jobs" => &job::JOBS,
        "cronjobs" => &job::CRON_JOBS,
        _ => &COUNTED,
    }
}

fn storage_classes(resource: &str) -> &'static Rules {
    match resource {
        "storageclasses" => &classes::STORAGE,
        "volumeattributesclasses" => &classes::VOLUME_ATTRIBUTES,
        "csinodes" => &classes::CSI_NODES,
        _ => &PLAIN,
    }
}
