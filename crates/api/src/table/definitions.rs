//! The columns themselves: headings, types, priorities, and where each cell comes from.

use super::Cell::{Age, Count, Derived, Flag, Number, Text};
use super::access::{NONE, UNSET};
use super::{Cell, Column, network, node, pod, policy, storage, workload};

const fn text(name: &'static str, about: &'static str, cell: Cell) -> Column {
    Column::new(name, ("string", ""), about, cell)
}

const fn number(name: &'static str, about: &'static str, cell: Cell) -> Column {
    Column::new(name, ("integer", ""), about, cell)
}

const fn flag(name: &'static str, about: &'static str, cell: Cell) -> Column {
    Column::new(name, ("boolean", ""), about, cell)
}

const fn name_from(cell: Cell) -> Column {
    Column::new("Name", ("string", "name"), "Name of the object.", cell)
}

const fn name() -> Column {
    name_from(Text("metadata.name", ""))
}

const fn age() -> Column {
    text("Age", "Time since the object was created.", Age("metadata.creationTimestamp"))
}

const fn containers() -> Column {
    text("Containers", "Names of the template's containers.", Derived(workload::containers))
}

const fn images() -> Column {
    text("Images", "Images of the template's containers.", Derived(workload::images))
}

const fn selector() -> Column {
    text("Selector", "Labels of the pods it selects.", Derived(workload::label_selector)).wide()
}

pub(super) static NAME_AGE: &[Column] = &[name(), age()];

pub(super) static CREATED: &[Column] = &[
    name(),
    Column::new(
        "Created At",
        ("date", ""),
        "Time when the object was created.",
        Text("metadata.creationTimestamp", ""),
    ),
];

pub(super) static POD: &[Column] = &[
    name(),
    text("Ready", "Containers that are ready, of all.", Derived(pod::ready)),
    text("Status", "The states of all containers in a word.", Derived(pod::status)),
    text("Restarts", "Restarts of the containers, and when the last was.", Derived(pod::restarts)),
    age(),
    text("IP", "Address of the pod.", Derived(pod::ip)).wide(),
    text("Node", "Node that the pod is bound to.", Text("spec.nodeName", NONE)).wide(),
    text("Nominated Node", "Node that is being cleared for the pod.", Text("status.nominatedNodeName", NONE))
        .wide(),
    text("Readiness Gates", "Further conditions that hold, of all.", Derived(pod::readiness_gates)).wide(),
];

const fn used(name: &'static str, cell: Cell) -> Column {
    Column::new(name, ("string", "quantity"), "", cell)
}

const fn window() -> Column {
    Column::new("Window", ("string", "duration"), "", Text("window", ""))
}

pub(super) static NODE_METRICS: &[Column] =
    &[name(), used("cpu", Text("usage.cpu", "")), used("memory", Text("usage.memory", "")), window()];

pub(super) static POD_METRICS: &[Column] =
    &[name(), used("cpu", Derived(pod::cpu)), used("memory", Derived(pod::memory)), window()];

pub(super) static POD_TEMPLATE: &[Column] = &[
    name(),
    containers(),
    images(),
    text("Pod Labels", "Labels of the pods made from it.", Derived(workload::template_labels)),
];

pub(super) static REPLICATION_CONTROLLER: &[Column] = &[
    name(),
    number("Desired", "Pods wanted.", Number("spec.replicas")),
    number("Current", "Pods that exist.", Number("status.replicas")),
    number("Ready", "Pods that are ready.", Number("status.readyReplicas")),
    age(),
    containers().wide(),
    images().wide(),
    text("Selector", "Labels of the pods it selects.", Derived(workload::map_selector)).wide(),
];

pub(super) static REPLICA_SET: &[Column] = &[
    name(),
    number("Desired", "Pods wanted.", Number("spec.replicas")),
    number("Current", "Pods that exist.", Number("status.replicas")),
    number("Ready", "Pods that are ready.", Number("status.readyReplicas")),
    age(),
    containers().wide(),
    images().wide(),
    selector(),
];

pub(super) static DEPLOYMENT: &[Column] = &[
    name(),
    text("Ready", "Pods that are ready, of those wanted.", Derived(workload::ready_of_desired)),
    text("Up-to-date", "Pods of the newest template.", Number("status.updatedReplicas")),
    text("Available", "Pods that serve.", Number("status.availableReplicas")),
    age(),
    containers().wide(),
    images().wide(),
    selector(),
];

pub(super) static STATEFUL_SET: &[Column] = &[
    name(),
    text("Ready", "Pods that are ready, of those wanted.", Derived(workload::ready_of_desired)),
    age(),
    containers().wide(),
    images().wide(),
];

pub(super) static DAEMON_SET: &[Column] = &[
    name(),
    number("Desired", "Nodes that should run a pod.", Number("status.desiredNumberScheduled")),
    number("Current", "Nodes that run one.", Number("status.currentNumberScheduled")),
    number("Ready", "Nodes whose pod is ready.", Number("status.numberReady")),
    number("Up-to-date", "Nodes that run the newest template.", Number("status.updatedNumberScheduled")),
    number("Available", "Nodes whose pod serves.", Number("status.numberAvailable")),
    text("Node Selector", "Labels of the nodes it is for.", Derived(workload::node_selector)),
    age(),
    containers().wide(),
    images().wide(),
    selector(),
];

pub(super) static CONTROLLER_REVISION: &[Column] = &[
    name(),
    text("Controller", "Workload that the revision belongs to.", Derived(workload::owner)),
    text("Revision", "Number of the revision.", Number("revision")),
    age(),
];

pub(super) static JOB: &[Column] = &[
    name(),
    text("Status", "How the job stands.", Derived(workload::job_status)),
    text("Completions", "Pods that succeeded, of those wanted.", Derived(workload::job_completions)),
    text("Duration", "How long the job took or has been running.", Derived(workload::job_duration)),
    age(),
    containers().wide(),
    images().wide(),
    selector(),
];

pub(super) static CRON_JOB: &[Column] = &[
    name(),
    text("Schedule", "When it runs, in cron's form.", Text("spec.schedule", "")),
    text("Timezone", "Zone of the schedule.", Text("spec.timeZone", NONE)),
    flag("Suspend", "Whether runs are held back.", Derived(workload::suspend)),
    number("Active", "Jobs that run now.", Count(&["status.active"])),
    text("Last Schedule", "Time since the last run was due.", Derived(workload::last_schedule)),
    age(),
    containers().wide(),
    images().wide(),
    text("Selector", "Labels of the pods it selects.", Derived(workload::job_template_selector)).wide(),
];

pub(super) static AUTOSCALER: &[Column] = &[
    name(),
    text("Reference", "What it scales.", Derived(workload::scale_target)),
    text("Targets", "Metrics as they are and as they should be.", Derived(workload::metrics)),
    text("MinPods", "Pods at least.", Derived(workload::min_pods)),
    text("MaxPods", "Pods at most.", Number("spec.maxReplicas")),
    text("Replicas", "Pods that exist.", Number("status.currentReplicas")),
    age(),
];

pub(super) static SCALE: &[Column] = &[
    name(),
    number("Desired", "Pods wanted.", Number("spec.replicas")),
    number("Available", "Pods that exist.", Number("status.replicas")),
    age(),
];

pub(super) static DISRUPTION_BUDGET: &[Column] = &[
    name(),
    text("Min Available", "Pods that must stay.", Derived(workload::min_available)),
    text("Max Unavailable", "Pods that may be missing.", Derived(workload::max_unavailable)),
    number("Allowed Disruptions", "Pods that may be evicted now.", Number("status.disruptionsAllowed")),
    age(),
];

pub(super) static SERVICE: &[Column] = &[
    name(),
    text("Type", "How the service is exposed.", Text("spec.type", "ClusterIP")),
    text("Cluster-IP", "Address inside the cluster.", Derived(network::cluster_ip)),
    text("External-IP", "Addresses outside the cluster.", Derived(network::external_ip)),
    text("Port(s)", "Ports, with the node's ports behind a colon.", Derived(network::ports)),
    age(),
    text("Selector", "Labels of the pods behind it.", Derived(workload::map_selector)).wide(),
];

pub(super) static ENDPOINTS: &[Column] =
    &[name(), text("Endpoints", "Addresses that serve.", Derived(network::endpoints)), age()];

pub(super) static ENDPOINT_SLICE: &[Column] = &[
    name(),
    text("AddressType", "Family of the addresses.", Text("addressType", "")),
    text("Ports", "Ports of the endpoints.", Derived(network::slice_ports)),
    text("Endpoints", "Addresses of the endpoints.", Derived(network::slice_endpoints)),
    age(),
];

pub(super) static INGRESS: &[Column] = &[
    name(),
    text("Class", "Class of controllers that serve it.", Text("spec.ingressClassName", NONE)),
    text("Hosts", "Hosts that it has rules for.", Derived(network::ingress_hosts)),
    text("Address", "Addresses of its load balancer.", Derived(network::ingress_address)),
    text("Ports", "Ports it serves.", Derived(network::ingress_ports)),
    age(),
];

pub(super) static INGRESS_CLASS: &[Column] = &[
    name(),
    text("Controller", "Controller that serves the class.", Text("spec.controller", "")),
    text("Parameters", "Object with further settings.", Derived(network::ingress_class_parameters)),
    age(),
];

pub(super) static NETWORK_POLICY: &[Column] =
    &[name(), text("Pod-Selector", "Pods that it is for.", Derived(network::pod_selector)), age()];

pub(super) static SERVICE_CIDR: &[Column] =
    &[name(), text("CIDRs", "Ranges of service addresses.", Derived(network::cidrs)), age()];

pub(super) static IP_ADDRESS: &[Column] =
    &[name(), text("ParentRef", "Object that the address belongs to.", Derived(network::parent_ref)), age()];

pub(super) static API_SERVICE: &[Column] = &[
    name(),
    text("Service", "Service that answers for the group-version.", Derived(network::api_service)),
    text("Available", "Whether it answers.", Derived(network::api_service_available)),
    age(),
];

pub(super) static EVENT: &[Column] = &[
    text("Last Seen", "Time since it last happened.", Derived(network::event_last_seen)),
    text("Type", "Normal or Warning.", Text("type", "")),
    text("Reason", "What happened, in a word.", Text("reason", "")),
    text("Object", "What it is about.", Derived(network::event_target)),
    text("Subobject", "Part of the object.", Derived(network::event_subobject)).wide(),
    text("Source", "Who reports it.", Derived(network::event_source)).wide(),
    text("Message", "What happened.", Derived(network::event_message)),
    text("First Seen", "Time since it first happened.", Derived(network::event_first_seen)).wide(),
    text("Count", "How often it happened.", Derived(network::event_count)).wide(),
    name().wide(),
];

pub(super) static NODE: &[Column] = &[
    name(),
    text("Status", "Whether the node is ready and takes pods.", Derived(node::status)),
    text("Roles", "Roles from its labels.", Derived(node::roles)),
    age(),
    text("Version", "Version of its kubelet.", Text("status.nodeInfo.kubeletVersion", "")),
    text("Internal-IP", "Address inside the cluster's network.", Derived(node::internal_ip)).wide(),
    text("External-IP", "Address outside.", Derived(node::external_ip)).wide(),
    text("OS-Image", "Its operating system.", Text("status.nodeInfo.osImage", "<unknown>")).wide(),
    text("Kernel-Version", "Its kernel.", Text("status.nodeInfo.kernelVersion", "<unknown>")).wide(),
    text(
        "Container-Runtime",
        "Its container runtime.",
        Text("status.nodeInfo.containerRuntimeVersion", "<unknown>"),
    )
    .wide(),
];

pub(super) static NAMESPACE: &[Column] =
    &[name(), text("Status", "Active or Terminating.", Text("status.phase", "")), age()];

pub(super) static SECRET: &[Column] = &[
    name(),
    text("Type", "What the data is for.", Text("type", "")),
    text("Data", "Number of entries.", Count(&["data"])),
    age(),
];

pub(super) static CONFIG_MAP: &[Column] =
    &[name(), text("Data", "Number of entries.", Count(&["data", "binaryData"])), age()];

pub(super) static SERVICE_ACCOUNT: &[Column] =
    &[name(), text("Secrets", "Number of secrets.", Count(&["secrets"])), age()];

pub(super) static COMPONENT_STATUS: &[Column] = &[
    name(),
    text("Status", "Whether the component is healthy.", Derived(policy::component_health)),
    text("Message", "What its check says.", Derived(policy::component_message)),
    text("Error", "Why its check failed.", Derived(policy::component_error)),
];

pub(super) static RESOURCE_QUOTA: &[Column] = &[
    name(),
    text("Request", "Use and bound of what is requested or counted.", Derived(policy::quota_requests)),
    text("Limit", "Use and bound of limits.", Derived(policy::quota_limits)),
    age(),
];

pub(super) static PERSISTENT_VOLUME: &[Column] = &[
    name(),
    text("Capacity", "Size of the volume.", Derived(storage::capacity)),
    text("Access Modes", "Ways it can be mounted.", Derived(storage::volume_modes)),
    text(
        "Reclaim Policy",
        "What becomes of it after its claim.",
        Text("spec.persistentVolumeReclaimPolicy", ""),
    ),
    text("Status", "Phase of the volume.", Derived(storage::phase)),
    text("Claim", "Claim that it is bound to.", Derived(storage::claim)),
    text("StorageClass", "Class of the volume.", Derived(storage::class)),
    text("VolumeAttributesClass", "Class of its attributes.", Text("spec.volumeAttributesClassName", UNSET)),
    text("Reason", "Why it is in its phase.", Text("status.reason", "")),
    age(),
    text("VolumeMode", "Filesystem or block device.", Text("spec.volumeMode", UNSET)).wide(),
];

pub(super) static PERSISTENT_VOLUME_CLAIM: &[Column] = &[
    name(),
    text("Status", "Phase of the claim.", Derived(storage::phase)),
    text("Volume", "Volume that it is bound to.", Text("spec.volumeName", "")),
    text("Capacity", "Size of the volume.", Derived(storage::claim_capacity)),
    text("Access Modes", "Ways it can be mounted.", Derived(storage::claim_modes)),
    text("StorageClass", "Class of the claim.", Derived(storage::class)),
    text("VolumeAttributesClass", "Class of its attributes.", Text("spec.volumeAttributesClassName", UNSET)),
    age(),
    text("VolumeMode", "Filesystem or block device.", Text("spec.volumeMode", UNSET)).wide(),
];

pub(super) static STORAGE_CLASS: &[Column] = &[
    name_from(Derived(storage::class_name)),
    text("Provisioner", "Who makes the volumes.", Text("provisioner", "")),
    text("ReclaimPolicy", "What becomes of volumes after their claims.", Text("reclaimPolicy", "Delete")),
    text("VolumeBindingMode", "When volumes are made and bound.", Derived(storage::binding_mode)),
    text("AllowVolumeExpansion", "Whether claims may grow.", Derived(storage::expansion)),
    age(),
];

pub(super) static VOLUME_ATTRIBUTES_CLASS: &[Column] = &[
    name_from(Derived(storage::class_name)),
    text("DriverName", "Driver that knows the attributes.", Text("driverName", "")),
    age(),
];

pub(super) static VOLUME_ATTACHMENT: &[Column] = &[
    name(),
    Column::new("Attacher", ("string", "name"), "Driver that attaches.", Text("spec.attacher", "")),
    text("PV", "Volume to attach.", Text("spec.source.persistentVolumeName", "")),
    text("Node", "Node to attach it to.", Text("spec.nodeName", "")),
    flag("Attached", "Whether it is attached.", Flag("status.attached")),
    age(),
];

pub(super) static CSI_NODE: &[Column] =
    &[name(), number("Drivers", "Number of drivers on the node.", Count(&["spec.drivers"])), age()];

pub(super) static CSI_DRIVER: &[Column] = &[
    name(),
    flag("AttachRequired", "Whether volumes must be attached.", Derived(storage::attach_required)),
    flag("PodInfoOnMount", "Whether it wants to know the pod.", Flag("spec.podInfoOnMount")),
    flag("StorageCapacity", "Whether it tells its capacity.", Flag("spec.storageCapacity")),
    text("TokenRequests", "Audiences of the tokens it wants.", Derived(storage::token_requests)),
    flag("RequiresRepublish", "Whether volumes are published again.", Flag("spec.requiresRepublish")),
    text("Modes", "Lifecycles of volumes it knows.", Derived(storage::lifecycle_modes)),
    age(),
];

pub(super) static CSI_STORAGE_CAPACITY: &[Column] = &[
    name(),
    text("StorageClassName", "Class that the capacity is for.", Text("storageClassName", "")),
    text("Capacity", "What is left.", Derived(storage::storage_capacity)),
];

pub(super) static STORAGE_VERSION_MIGRATION: &[Column] =
    &[name(), text("Resource", "Resource that is migrated.", Derived(storage::migrated_resource))];

pub(super) static RESOURCE_CLAIM: &[Column] =
    &[name(), text("State", "Whether it is allocated and reserved.", Derived(storage::claim_state)), age()];

pub(super) static RESOURCE_SLICE: &[Column] = &[
    name(),
    text("Node", "Node that has the devices.", Text("spec.nodeName", "")),
    text("Driver", "Driver of the devices.", Text("spec.driver", "")),
    text("Pool", "Pool that the slice is part of.", Text("spec.pool.name", "")),
    age(),
];

pub(super) static ROLE_BINDING: &[Column] = &[
    name(),
    text("Role", "Role that is granted.", Derived(policy::role)),
    age(),
    text("Users", "Users that get it.", Derived(policy::users)).wide(),
    text("Groups", "Groups that get it.", Derived(policy::groups)).wide(),
    text("ServiceAccounts", "Service accounts that get it.", Derived(policy::service_accounts)).wide(),
];

pub(super) static SIGNING_REQUEST: &[Column] = &[
    name(),
    age(),
    text("SignerName", "Who is asked to sign.", Text("spec.signerName", NONE)),
    text("Requestor", "Who asks.", Text("spec.username", "")),
    text("RequestedDuration", "How long it should be valid.", Derived(workload::requested_duration)),
    text("Condition", "How the request stands.", Derived(policy::request_state)),
];

pub(super) static TRUST_BUNDLE: &[Column] =
    &[name(), text("SignerName", "Signer whose anchors these are.", Text("spec.signerName", NONE))];

pub(super) static WEBHOOKS: &[Column] =
    &[name(), number("Webhooks", "Number of webhooks.", Count(&["webhooks"])), age()];

pub(super) static VALIDATING_POLICY: &[Column] = &[
    name(),
    number("Validations", "Number of rules.", Count(&["spec.validations"])),
    text("ParamKind", "Kind of its parameters.", Derived(policy::param_kind)),
    age(),
];

pub(super) static MUTATING_POLICY: &[Column] = &[
    name(),
    number("Mutations", "Number of rules.", Count(&["spec.mutations"])),
    text("ParamKind", "Kind of its parameters.", Derived(policy::param_kind)),
    age(),
];

pub(super) static POLICY_BINDING: &[Column] = &[
    name(),
    text("PolicyName", "Policy that is put to work.", Text("spec.policyName", "")),
    text("ParamRef", "Object with its parameters.", Derived(policy::param_ref)),
    age(),
];

pub(super) static LEASE: &[Column] =
    &[name(), text("Holder", "Who holds it.", Text("spec.holderIdentity", "")), age()];

pub(super) static LEASE_CANDIDATE: &[Column] = &[
    name(),
    text("LeaseName", "Lease that it is a candidate for.", Text("spec.leaseName", "")),
    text("BinaryVersion", "Version of the candidate.", Text("spec.binaryVersion", "")),
    text("EmulationVersion", "Version that it behaves as.", Text("spec.emulationVersion", "")),
    age(),
];

pub(super) static PRIORITY_CLASS: &[Column] = &[
    name(),
    number("Value", "The priority.", Number("value")),
    flag("Global-Default", "Whether it is for pods that name none.", Flag("globalDefault")),
    age(),
    text("PreemptionPolicy", "Whether it may displace others.", Text("preemptionPolicy", "")),
];

pub(super) static RUNTIME_CLASS: &[Column] =
    &[name(), text("Handler", "Handler in the runtime.", Text("handler", "")), age()];

pub(super) static FLOW_SCHEMA: &[Column] = &[
    name(),
    text("PriorityLevel", "Level of matching requests.", Text("spec.priorityLevelConfiguration.name", "")),
    text("MatchingPrecedence", "Order among schemas.", Number("spec.matchingPrecedence")),
    text("DistinguisherMethod", "How flows are told apart.", Text("spec.distinguisherMethod.type", NONE)),
    age(),
    text("MissingPL", "Whether its level does not exist.", Derived(policy::missing_priority_level)),
];

pub(super) static PRIORITY_LEVEL: &[Column] = &[
    name(),
    text("Type", "Exempt or Limited.", Text("spec.type", "")),
    text("NominalConcurrencyShares", "Share of the server's seats.", Derived(policy::shares)),
    text("Queues", "Number of queues.", Derived(policy::queues)),
    text("HandSize", "Queues that a flow may use.", Derived(policy::hand_size)),
    text("QueueLengthLimit", "Requests that a queue may hold.", Derived(policy::queue_length)),
    age(),
];

pub(super) static STORAGE_VERSION: &[Column] = &[
    name(),
    text(
        "CommonEncodingVersion",
        "Version that all servers store.",
        Text("status.commonEncodingVersion", UNSET),
    ),
    text("StorageVersions", "Version that each server stores.", Derived(policy::encodings)),
    age(),
];
