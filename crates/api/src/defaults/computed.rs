//! Defaults that depend on other fields, one function per type, named as `schema/defaults.txt` names types.
//!
//! Each gets the fields of its struct after the constants of that struct, and before anything inside it is filled in.

use crate::{Map, Text, Value, json};

type Fields = Map;

/// Fills in one struct.
pub type Compute = fn(&mut Fields);

/// All of them.
pub const ALL: &[(&str, Compute)] = &[
    ("apiextensions.v1.CustomResourceDefinitionNames", resource_names),
    ("autoscaling.v2.HPAScalingRules", scaling_rules),
    ("autoscaling.v2.HorizontalPodAutoscalerBehavior", scaling_behavior),
    ("autoscaling.v2.HorizontalPodAutoscalerSpec", scaling_metrics),
    ("batch.v1.Job", job),
    ("core.v1.Container", pull_policy),
    ("core.v1.EphemeralContainer", pull_policy),
    ("core.v1.ImageVolumeSource", image_volume),
    ("core.v1.LimitRangeItem", limit_range_item),
    ("core.v1.LoadBalancerIngress", balancer_ingress),
    ("core.v1.Namespace", namespace),
    ("core.v1.NodeStatus", node_status),
    ("core.v1.PersistentVolumeClaimSpec", claim_source),
    ("core.v1.Pod", pod),
    ("core.v1.PodSpec", host_ports),
    ("core.v1.ReplicationController", replication_controller),
    ("core.v1.ServiceSpec", service),
    ("core.v1.Volume", volume),
    ("networking.v1.NetworkPolicySpec", policy_types),
];

fn text<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn object<'a>(fields: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    fields.get_mut(name)?.as_object_mut()
}

fn objects<'a>(fields: &'a mut Fields, name: &str) -> impl Iterator<Item = &'a mut Fields> {
    let items = fields.get_mut(name).and_then(Value::as_array_mut);
    items.into_iter().flatten().filter_map(Value::as_object_mut)
}

fn set_default(fields: &mut Fields, name: &str, value: impl FnOnce() -> Value) {
    if !fields.contains_key(name) {
        fields.insert(name.into(), value());
    }
}

/// Without a policy, a moving tag is pulled always and any other once.
fn pull_policy(container: &mut Fields) {
    if container.contains_key("imagePullPolicy") {
        return;
    }
    let policy = pull_policy_of(text(container, "image"));
    container.insert("imagePullPolicy".into(), policy.into());
}

fn image_volume(source: &mut Fields) {
    if !source.contains_key("pullPolicy") {
        let policy = pull_policy_of(text(source, "reference"));
        source.insert("pullPolicy".into(), policy.into());
    }
}

fn pull_policy_of(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let last = name.rsplit('/').next().unwrap_or(name);
    let tag = last.split_once(':').map(|(_, tag)| tag);
    match (tag, digest) {
        (Some("latest"), _) | (None, None) => "Always",
        _ => "IfNotPresent",
    }
}

fn volume(volume: &mut Fields) {
    if volume.keys().all(|key| key == "name") {
        volume.insert("emptyDir".into(), json!({}));
    }
}

/// On the host's network a container's port is the host's.
fn host_ports(spec: &mut Fields) {
    if spec.get("hostNetwork") != Some(&Value::Bool(true)) {
        return;
    }
    for list in ["containers", "initContainers"] {
        for container in objects(spec, list) {
            for port in objects(container, "ports") {
                let unset = port.get("hostPort").is_none_or(|p| p == 0);
                if let (true, Some(number)) = (unset, port.get("containerPort").cloned()) {
                    port.insert("hostPort".into(), number);
                }
            }
        }
    }
}

/// What a container is limited to, it also asks for, unless it says otherwise.
fn pod(pod: &mut Fields) {
    const LISTS: [&str; 2] = ["containers", "initContainers"];
    let lists = LISTS.iter().filter_map(|list| pod.get("spec")?.get(list)?.as_array());
    if !lists.flatten().any(lacks_requests) {
        return;
    }
    let Some(spec) = object(pod, "spec") else { return };
    for list in LISTS {
        for container in objects(spec, list) {
            if let Some(resources) = object(container, "resources") {
                requests_from_limits(resources);
            }
        }
    }
}

fn lacks_requests(container: &Value) -> bool {
    let of = |kind| container.get("resources").and_then(|r| r.get(kind)).and_then(Value::as_object);
    let has = |name: &Text| of("requests").is_some_and(|requests| requests.contains_key(name));
    of("limits").is_some_and(|limits| !limits.keys().all(has))
}

fn requests_from_limits(resources: &mut Fields) {
    let Some(Value::Object(limits)) = resources.get("limits") else { return };
    let limits = limits.clone();
    set_default(resources, "requests", || json!({}));
    let Some(requests) = object(resources, "requests") else { return };
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

fn replication_controller(controller: &mut Fields) {
    let labels = controller.get("spec").and_then(|s| s.pointer("/template/metadata/labels")).cloned();
    let Some(labels @ Value::Object(_)) = labels else { return };
    if let Some(spec) = object(controller, "spec") {
        set_default(spec, "selector", || labels.clone());
    }
    set_default(controller, "metadata", || json!({}));
    if let Some(meta) = object(controller, "metadata") {
        set_default(meta, "labels", || labels);
    }
}

fn service(spec: &mut Fields) {
    if text(spec, "sessionAffinity") == "None" {
        spec.remove("sessionAffinityConfig");
    }
    let has_addresses = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    if text(spec, "type") == "ClusterIP" && has_addresses {
        set_default(spec, "externalTrafficPolicy", || "Cluster".into());
    }
    for port in objects(spec, "ports") {
        let unset = port.get("targetPort").is_none_or(|target| target == 0 || target == "");
        if let (true, Some(number)) = (unset, port.get("port").cloned()) {
            port.insert("targetPort".into(), number);
        }
    }
}

/// An address of a balancer is taken by the nodes, unless it says otherwise.
fn balancer_ingress(ingress: &mut Fields) {
    if !text(ingress, "ip").is_empty() {
        set_default(ingress, "ipMode", || "VIP".into());
    }
}

/// Namespaces can be selected by name through this label.
fn namespace(namespace: &mut Fields) {
    let Some(meta) = object(namespace, "metadata") else { return };
    let name = text(meta, "name").to_owned();
    if name.is_empty() {
        return;
    }
    set_default(meta, "labels", || json!({}));
    if let Some(labels) = object(meta, "labels") {
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
    }
}

fn node_status(status: &mut Fields) {
    if let Some(capacity) = status.get("capacity").cloned() {
        set_default(status, "allocatable", || capacity);
    }
}

/// The old and the new name of a claim's source stand for each other, within one namespace.
fn claim_source(spec: &mut Fields) {
    if let Some(source) = spec.get("dataSource").cloned() {
        set_default(spec, "dataSourceRef", || source);
    } else if let Some(source @ Value::Object(fields)) = spec.get("dataSourceRef")
        && !fields.contains_key("namespace")
    {
        let source = source.clone();
        spec.insert("dataSource".into(), source);
    }
}

fn limit_range_item(item: &mut Fields) {
    if text(item, "type") != "Container" {
        return;
    }
    for (to, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
        let Some(Value::Object(source)) = item.get(from).cloned() else { continue };
        set_default(item, to, || json!({}));
        if let Some(target) = object(item, to) {
            for (name, amount) in source {
                target.entry(name).or_insert(amount);
            }
        }
    }
}

/// One completion after another, unless parallelism is asked for; labels are those of the pods.
fn job(job: &mut Fields) {
    let labels = job.get("spec").and_then(|s| s.pointer("/template/metadata/labels")).cloned();
    if let Some(spec) = object(job, "spec") {
        if !spec.contains_key("parallelism") {
            set_default(spec, "completions", || 1.into());
        }
        set_default(spec, "parallelism", || 1.into());
    }
    if let Some(labels @ Value::Object(_)) = labels {
        set_default(job, "metadata", || json!({}));
        if let Some(meta) = object(job, "metadata") {
            set_default(meta, "labels", || labels);
        }
    }
}

fn policy_types(spec: &mut Fields) {
    let has_egress = spec.get("egress").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
    let types = if has_egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    set_default(spec, "policyTypes", || types);
}

fn scaling_metrics(spec: &mut Fields) {
    set_default(spec, "metrics", || {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}])
    });
}

fn scaling_behavior(behavior: &mut Fields) {
    set_default(behavior, "scaleUp", || {
        let policies = json!([
            {"type": "Pods", "value": 4, "periodSeconds": 15},
            {"type": "Percent", "value": 100, "periodSeconds": 15},
        ]);
        json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": policies})
    });
    set_default(
        behavior,
        "scaleDown",
        || json!({"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}),
    );
    if let Some(up) = object(behavior, "scaleUp") {
        set_default(up, "stabilizationWindowSeconds", || 0.into());
        set_default(up, "policies", || {
            json!([
                {"type": "Pods", "value": 4, "periodSeconds": 15},
                {"type": "Percent", "value": 100, "periodSeconds": 15},
            ])
        });
    }
    if let Some(down) = object(behavior, "scaleDown") {
        set_default(down, "policies", || json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]));
    }
}

fn scaling_rules(rules: &mut Fields) {
    set_default(rules, "selectPolicy", || "Max".into());
}

fn resource_names(names: &mut Fields) {
    let kind = text(names, "kind").to_owned();
    if !kind.is_empty() {
        set_default(names, "singular", || kind.to_lowercase().into());
        set_default(names, "listKind", || format!("{kind}List").into());
    }
}
