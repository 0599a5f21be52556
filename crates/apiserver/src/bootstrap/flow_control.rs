//! The suggested flow schemas and priority levels: who shares the server's attention with whom.

use tiphys_api::{Gvr, Value, json};

use super::Item;
use super::reconcile::How;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const FLOW_SCHEMAS: Gvr = Gvr::new(GROUP, "v1", "flowschemas");
const PRIORITY_LEVELS: Gvr = Gvr::new(GROUP, "v1", "prioritylevelconfigurations");

const KCM: &str = "user:system:kube-controller-manager";
const SCHEDULER: &str = "user:system:kube-scheduler";
const SYSTEM_ACCOUNTS: &str = "sa:*";
const EVERYBODY: &[&str] = &["group:system:authenticated", "group:system:unauthenticated"];

/// All of them.
pub(super) fn all() -> Vec<Item> {
    let levels = levels().map(|object| Item { gvr: PRIORITY_LEVELS, how: How::Says, object });
    let schemas = schemas().into_iter().map(|object| Item { gvr: FLOW_SCHEMAS, how: How::Says, object });
    levels.into_iter().chain(schemas).collect()
}

fn levels() -> [Value; 8] {
    let level = |name: &str, spec: Value| object("PriorityLevelConfiguration", name, &spec);
    // Shares, per cent that may be lent, and: queues, hand size, queue length.
    let queued = |name: &str, shares: u32, lent: u32, [queues, hand, length]: [u32; 3]| {
        let queuing = json!({ "queues": queues, "handSize": hand, "queueLengthLimit": length });
        let response = json!({ "type": "Queue", "queuing": queuing });
        level(name, limited(shares, lent, &response))
    };
    [
        level(
            "exempt",
            json!({
                "type": "Exempt",
                "exempt": { "nominalConcurrencyShares": 0, "lendablePercent": 0 },
            }),
        ),
        level("catch-all", limited(5, 0, &json!({ "type": "Reject" }))),
        queued("system", 30, 33, [64, 6, 50]),
        queued("node-high", 40, 25, [64, 6, 50]),
        queued("leader-election", 10, 0, [16, 4, 50]),
        queued("workload-high", 40, 50, [128, 6, 50]),
        queued("workload-low", 100, 90, [128, 6, 50]),
        queued("global-default", 20, 50, [128, 6, 50]),
    ]
}

fn limited(shares: u32, lent: u32, response: &Value) -> Value {
    json!({
        "type": "Limited",
        "limited": { "nominalConcurrencyShares": shares, "lendablePercent": lent, "limitResponse": response },
    })
}

fn schemas() -> Vec<Value> {
    let leases =
        || (vec![resources(&["get", "create", "update"], &["coordination.k8s.io"], &["leases"])], vec![]);
    let endpoints = (vec![resources(&["get", "create", "update"], &[""], &["endpoints"])], vec![]);
    let probes = (vec![], vec![paths(&["get"], &["/healthz", "/readyz", "/livez"])]);
    let mut node_objects = resources(&["*"], &[""], &["nodes", "nodes/status"]);
    node_objects["clusterScope"] = true.into();
    let node_work = (vec![node_objects, resources(&["*"], &["coordination.k8s.io"], &["leases"])], vec![]);
    let endpoint_controllers = [KCM, "sa:endpoint-controller", "sa:endpointslicemirroring-controller"];
    vec![
        schema("exempt", 1, "exempt", "", &["group:system:masters"], everything()),
        schema("probes", 2, "exempt", "", EVERYBODY, probes),
        schema("system-leader-election", 100, "leader-election", "ByUser", &[KCM, SCHEDULER], leases()),
        schema("endpoint-controller", 150, "workload-high", "ByUser", &endpoint_controllers, endpoints),
        schema("workload-leader-election", 200, "leader-election", "ByUser", &[SYSTEM_ACCOUNTS], leases()),
        schema("system-node-high", 400, "node-high", "ByUser", &["group:system:nodes"], node_work),
        schema("system-nodes", 500, "system", "ByUser", &["group:system:nodes"], everything()),
        schema("kube-controller-manager", 800, "workload-high", "ByNamespace", &[KCM], everything()),
        schema("kube-scheduler", 800, "workload-high", "ByNamespace", &[SCHEDULER], everything()),
        schema(
            "kube-system-service-accounts",
            900,
            "workload-high",
            "ByNamespace",
            &[SYSTEM_ACCOUNTS],
            everything(),
        ),
        schema(
            "service-accounts",
            9000,
            "workload-low",
            "ByUser",
            &["group:system:serviceaccounts"],
            everything(),
        ),
        schema("global-default", 9900, "global-default", "ByUser", EVERYBODY, everything()),
        schema("catch-all", 10_000, "catch-all", "ByUser", EVERYBODY, everything()),
    ]
}

/// Rules about resources, and rules about paths.
type Rules = (Vec<Value>, Vec<Value>);

fn everything() -> Rules {
    let mut all = resources(&["*"], &["*"], &["*"]);
    all["clusterScope"] = true.into();
    (vec![all], vec![paths(&["*"], &["*"])])
}

fn resources(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Value {
    json!({ "verbs": verbs, "apiGroups": groups, "resources": resources, "namespaces": ["*"] })
}

fn paths(verbs: &[&str], paths: &[&str]) -> Value {
    json!({ "verbs": verbs, "nonResourceURLs": paths })
}

fn schema(
    name: &str,
    precedence: u32,
    level: &str,
    by: &str,
    who: &[&str],
    (resources, paths): Rules,
) -> Value {
    let subjects: Vec<Value> = who.iter().map(|text| subject(text)).collect();
    let mut rule = json!({ "subjects": subjects });
    for (key, rules) in [("resourceRules", resources), ("nonResourceRules", paths)] {
        if !rules.is_empty() {
            rule[key] = rules.into();
        }
    }
    let mut spec = json!({
        "matchingPrecedence": precedence,
        "priorityLevelConfiguration": { "name": level },
        "rules": [rule],
    });
    if !by.is_empty() {
        spec["distinguisherMethod"] = json!({ "type": by });
    }
    object("FlowSchema", name, &spec)
}

/// `user:`, `group:`, or `sa:` in kube-system.
fn subject(text: &str) -> Value {
    match text.split_once(':') {
        Some(("user", name)) => json!({ "kind": "User", "user": { "name": name } }),
        Some(("sa", name)) => {
            json!({ "kind": "ServiceAccount", "serviceAccount": { "name": name, "namespace": "kube-system" } })
        }
        Some((_, name)) => json!({ "kind": "Group", "group": { "name": name } }),
        None => Value::Null,
    }
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": { "name": name, "annotations": { "apf.kubernetes.io/autoupdate-spec": "true" } },
        "spec": spec,
    })
}
