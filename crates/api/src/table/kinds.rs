//! Which columns each kind has.
//!
//! Headings, types and priorities are kube-apiserver's; clients and scripts rely on them. Kinds that it gives no
//! columns show their name and when they were created; custom resources, their name and age.

use super::Column;
use super::definitions::*;

/// The columns of a kind.
pub(super) fn columns(group: &str, kind: &str) -> &'static [Column] {
    match group {
        "" => core(kind),
        "apps" | "batch" | "autoscaling" | "policy" => workloads(kind),
        "networking.k8s.io" | "discovery.k8s.io" | "events.k8s.io" | "apiregistration.k8s.io" => {
            networking(kind)
        }
        "storage.k8s.io" | "storagemigration.k8s.io" | "resource.k8s.io" => storage_kinds(kind),
        "rbac.authorization.k8s.io" | "certificates.k8s.io" | "admissionregistration.k8s.io" => access(kind),
        "apiextensions.k8s.io" => CREATED,
        "metrics.k8s.io" => match kind {
            "PodMetrics" => POD_METRICS,
            _ => NODE_METRICS,
        },
        _ => others(kind),
    }
}

fn core(kind: &str) -> &'static [Column] {
    match kind {
        "Pod" => POD,
        "PodTemplate" => POD_TEMPLATE,
        "ReplicationController" => REPLICATION_CONTROLLER,
        "Service" => SERVICE,
        "Endpoints" => ENDPOINTS,
        "Node" => NODE,
        "Event" => EVENT,
        "Namespace" => NAMESPACE,
        "Secret" => SECRET,
        "ConfigMap" => CONFIG_MAP,
        "ServiceAccount" => SERVICE_ACCOUNT,
        "PersistentVolume" => PERSISTENT_VOLUME,
        "PersistentVolumeClaim" => PERSISTENT_VOLUME_CLAIM,
        "ComponentStatus" => COMPONENT_STATUS,
        "ResourceQuota" => RESOURCE_QUOTA,
        "LimitRange" => CREATED,
        _ => NAME_AGE,
    }
}

fn workloads(kind: &str) -> &'static [Column] {
    match kind {
        "Deployment" => DEPLOYMENT,
        "ReplicaSet" => REPLICA_SET,
        "StatefulSet" => STATEFUL_SET,
        "DaemonSet" => DAEMON_SET,
        "ControllerRevision" => CONTROLLER_REVISION,
        "Job" => JOB,
        "CronJob" => CRON_JOB,
        "HorizontalPodAutoscaler" => AUTOSCALER,
        "Scale" => SCALE,
        "PodDisruptionBudget" => DISRUPTION_BUDGET,
        _ => NAME_AGE,
    }
}

fn networking(kind: &str) -> &'static [Column] {
    match kind {
        "Ingress" => INGRESS,
        "IngressClass" => INGRESS_CLASS,
        "NetworkPolicy" => NETWORK_POLICY,
        "ServiceCIDR" => SERVICE_CIDR,
        "IPAddress" => IP_ADDRESS,
        "EndpointSlice" => ENDPOINT_SLICE,
        "Event" => EVENT,
        "APIService" => API_SERVICE,
        _ => NAME_AGE,
    }
}

fn storage_kinds(kind: &str) -> &'static [Column] {
    match kind {
        "StorageClass" => STORAGE_CLASS,
        "VolumeAttributesClass" => VOLUME_ATTRIBUTES_CLASS,
        "VolumeAttachment" => VOLUME_ATTACHMENT,
        "CSINode" => CSI_NODE,
        "CSIDriver" => CSI_DRIVER,
        "CSIStorageCapacity" => CSI_STORAGE_CAPACITY,
        "StorageVersionMigration" => STORAGE_VERSION_MIGRATION,
        "ResourceClaim" => RESOURCE_CLAIM,
        "ResourceSlice" => RESOURCE_SLICE,
        _ => NAME_AGE,
    }
}

fn access(kind: &str) -> &'static [Column] {
    match kind {
        "RoleBinding" | "ClusterRoleBinding" => ROLE_BINDING,
        "Role" | "ClusterRole" => CREATED,
        "CertificateSigningRequest" => SIGNING_REQUEST,
        "ClusterTrustBundle" => TRUST_BUNDLE,
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => WEBHOOKS,
        "ValidatingAdmissionPolicy" => VALIDATING_POLICY,
        "MutatingAdmissionPolicy" => MUTATING_POLICY,
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => POLICY_BINDING,
        _ => NAME_AGE,
    }
}

/// Kinds whose names are theirs alone among the remaining built-in groups.
fn others(kind: &str) -> &'static [Column] {
    match kind {
        "Lease" => LEASE,
        "LeaseCandidate" => LEASE_CANDIDATE,
        "PriorityClass" => PRIORITY_CLASS,
        "RuntimeClass" => RUNTIME_CLASS,
        "FlowSchema" => FLOW_SCHEMA,
        "PriorityLevelConfiguration" => PRIORITY_LEVEL,
        "StorageVersion" => STORAGE_VERSION,
        _ => NAME_AGE,
    }
}
