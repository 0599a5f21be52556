//! What the API is loaded with: objects of everyday size and shape.

use bytes::Bytes;
use serde_json::{Value, json};

/// A ConfigMap with a kilobyte of data.
pub fn config_map(name: &str) -> Bytes {
    let data = "abcdefghij".repeat(102);
    let meta = json!({"name": name, "labels": {"app": "bench"}});
    bytes(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"value": data}}))
}

/// A web server with a sidecar, 2.6 KB, as a Deployment would make it; no scheduler takes it, so that nothing but the API
/// is loaded.
pub fn parked_pod(name: &str) -> Bytes {
    let meta = json!({
        "name": name,
        "labels": {
            "app": "bench", "tier": "parked", "pod-template-hash": "5f6d7c8b9d",
            "app.kubernetes.io/name": "shop", "app.kubernetes.io/component": "front",
            "app.kubernetes.io/version": "1.2.3",
        },
        "annotations": {
            "prometheus.io/scrape": "true", "prometheus.io/port": "9100", "prometheus.io/path": "/metrics",
            "checksum/config": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
        },
    });
    let config = json!({"name": "config", "configMap": {"name": "shop"}});
    let scratch = json!({"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}});
    let spec = json!({
        "schedulerName": "tiphys-bench",
        "automountServiceAccountToken": false,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 1000},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "front", "effect": "NoSchedule"}],
        "containers": [server(), sidecar()],
        "volumes": [config, scratch],
    });
    bytes(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}))
}

fn server() -> Value {
    let from_secret = json!({"secretKeyRef": {"name": "shop-db", "key": "password"}});
    let from_pod = |path: &str| json!({"fieldRef": {"apiVersion": "v1", "fieldPath": path}});
    json!({
        "name": "server",
        "image": "registry.example/shop/front:1.2.3",
        "imagePullPolicy": "IfNotPresent",
        "command": ["/usr/local/bin/front"],
        "args": ["--listen=:8080", "--config=/etc/shop/config.yaml"],
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "env": [
            {"name": "LOG_LEVEL", "value": "info"},
            {"name": "REGION", "value": "north"},
            {"name": "DATABASE_HOST", "value": "db.data.svc.cluster.local"},
            {"name": "DATABASE_PASSWORD", "valueFrom": from_secret},
            {"name": "POD_NAME", "valueFrom": from_pod("metadata.name")},
            {"name": "POD_IP", "valueFrom": from_pod("status.podIP")},
        ],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "500m", "memory": "256Mi"}},
        "livenessProbe": probe("/healthz", 10),
        "readinessProbe": probe("/ready", 5),
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/shop", "readOnly": true},
            {"name": "scratch", "mountPath": "/var/cache/shop"},
        ],
    })
}

fn probe(path: &str, period: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period, "timeoutSeconds": 2, "successThreshold": 1, "failureThreshold": 3,
    })
}

fn sidecar() -> Value {
    json!({
        "name": "logs",
        "image": "registry.example/tools/logs:4.5",
        "args": ["--follow", "/var/cache/shop/access.log"],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
        "volumeMounts": [{"name": "scratch", "mountPath": "/var/cache/shop"}],
    })
}

fn bytes(value: &Value) -> Bytes {
    value.to_string().into()
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_as_documented() {
        let (map, pod) = (super::config_map("map-0").len(), super::parked_pod("pod-0").len());
        assert!((1_000..1_300).contains(&map), "{map}");
        assert!((2_300..2_800).contains(&pod), "{pod}");
    }
}
