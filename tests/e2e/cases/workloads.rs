//! Deployments and pods: made, scaled, updated, rolled back, deleted; their volumes, environment, probes and ends.

use anyhow::{Context, Result, ensure};

use super::{Run, Table};
use crate::harness::{Namespace, eventually};

pub const CASES: Table = &[
    ("deployment-created-scaled-deleted", Run::Shared(deployment)),
    ("rolling-update-and-undo", Run::Shared(rolling_update)),
    ("pod-volumes-and-environment", Run::Shared(volumes)),
    ("init-containers-run-in-order", Run::Shared(init_containers)),
    ("crash-loop-backs-off", Run::Shared(crash_loop)),
    ("liveness-restarts", Run::Shared(liveness)),
    ("unschedulable-pod-says-why", Run::Shared(unschedulable)),
    ("job-like-pod-succeeds", Run::Shared(succeeds)),
    ("expose-as-the-documentation-does", Run::Shared(expose)),
    ("static-pod-has-its-mirror", Run::Shared(static_pod)),
];

fn deployment(ns: &Namespace<'_>) -> Result<()> {
    let image = "--image=tiphys.local/hello:1";
    ns.kubectl(&["create", "deployment", "hello", image, "--replicas=3", "--port=8080"])?;
    ns.rolled_out("deployment/hello")?;
    let pods = ns.get(&["pods", "-l", "app=hello"])?;
    let pods = pods["items"].as_array().context("no pods")?;
    let mut addresses: Vec<&str> = pods.iter().filter_map(|p| p["status"]["podIP"].as_str()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    ensure!(pods.len() == 3 && addresses.len() == 3, "{addresses:?}");
    ns.kubectl(&["scale", "deployment", "hello", "--replicas=1"])?;
    eventually("one pod is left", || {
        let pods = ns.kubectl(&["get", "pods", "-o", "name"])?;
        ensure!(pods.lines().count() == 1, "{pods}");
        Ok(())
    })?;
    ns.kubectl(&["delete", "deployment", "hello"])?;
    eventually("owner's deletion cascades", || {
        let left = ns.kubectl(&["get", "pods,replicasets", "-o", "name"])?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
}

fn rolling_update(ns: &Namespace<'_>) -> Result<()> {
    ns.hello(2)?;
    ns.kubectl(&["set", "image", "deployment/hello", "hello=tiphys.local/hello:2"])?;
    ns.rolled_out("deployment/hello")?;
    let image = || -> Result<String> {
        let pods = ns.get(&["pods", "-l", "app=hello", "--field-selector=status.phase=Running"])?;
        let pods = pods["items"].as_array().context("no pods")?.clone();
        let alive = pods.iter().filter(|p| p["metadata"]["deletionTimestamp"].is_null());
        let mut images: Vec<String> = alive
            .map(|p| p["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned())
            .collect();
        images.dedup();
        Ok(images.join(","))
    };
    ensure!(image()? == "tiphys.local/hello:2", "{}", image()?);
    let history = ns.kubectl(&["rollout", "history", "deployment/hello"])?;
    ensure!(history.lines().filter(|l| l.starts_with(['1', '2'])).count() == 2, "{history}");
    ns.kubectl(&["rollout", "undo", "deployment/hello"])?;
    ns.rolled_out("deployment/hello")?;
    ensure!(image()? == "tiphys.local/hello:1", "{}", image()?);
    Ok(())
}

fn volumes(ns: &Namespace<'_>) -> Result<()> {
    ns.kubectl(&["create", "configmap", "cm", "--from-literal=file=from-config"])?;
    ns.kubectl(&["create", "secret", "generic", "sec", "--from-literal=key=from-secret"])?;
    ns.apply(VOLUMES)?;
    ns.wait("condition=Ready", &["pod/v"])?;
    let cat = |path: &str| ns.kubectl(&["exec", "v", "--", "cat", path]);
    ensure!(cat("/config/file")? == "from-config");
    ensure!(cat("/secret/key")? == "from-secret");
    ensure!(cat("/down/labels")?.contains("colour=\"blue\""));
    ensure!(cat("/var/run/secrets/kubernetes.io/serviceaccount/namespace")? == ns.name);
    ensure!(cat("/var/run/secrets/kubernetes.io/serviceaccount/token")?.split('.').count() == 3);
    let env = ns.kubectl(&["exec", "v", "--", "env"])?;
    for line in ["PLAIN=1-$x", "FROM_CONFIG=from-config", "POD_NAME=v", "KUBERNETES_SERVICE_PORT=443"] {
        ensure!(env.lines().any(|l| l == line), "{line} is missing in\n{env}");
    }
    ensure!(env.lines().any(|l| l == "key=from-secret"), "{env}");
    ns.kubectl(&["patch", "configmap", "cm", "-p", r#"{"data":{"file":"changed"}}"#])?;
    eventually("the mounted file follows the ConfigMap", || {
        let now = cat("/config/file")?;
        ensure!(now == "changed", "{now}");
        Ok(())
    })
}

const VOLUMES: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: v, labels: {colour: blue}}
spec:
  containers:
  - name: c
    image: tiphys.local/hello:1
    env:
    - {name: X, value: "1"}
    - {name: PLAIN, value: "$(X)-$$x"}
    - name: FROM_CONFIG
      valueFrom: {configMapKeyRef: {name: cm, key: file}}
    - name: POD_NAME
      valueFrom: {fieldRef: {fieldPath: metadata.name}}
    envFrom:
    - secretRef: {name: sec}
    volumeMounts:
    - {name: config, mountPath: /config}
    - {name: secret, mountPath: /secret}
    - {name: down, mountPath: /down}
    - {name: empty, mountPath: /empty}
  volumes:
  - {name: config, configMap: {name: cm}}
  - {name: secret, secret: {secretName: sec}}
  - name: down
    downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
  - {name: empty, emptyDir: {medium: Memory}}
"#;

fn init_containers(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(INIT)?;
    ns.wait("condition=Ready", &["pod/i"])?;
    let pod = ns.get(&["pod", "i"])?;
    let inits = pod["status"]["initContainerStatuses"].as_array().context("no init statuses")?;
    let ended: Vec<&str> =
        inits.iter().filter_map(|c| c["state"]["terminated"]["finishedAt"].as_str()).collect();
    ensure!(ended.len() == 2 && ended.is_sorted(), "{inits:?}");
    Ok(())
}

const INIT: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: i}
spec:
  initContainers:
  - {name: one, image: "tiphys.local/hello:1", command: ["/bin/true"]}
  - {name: two, image: "tiphys.local/hello:1", command: ["/bin/true"]}
  containers:
  - {name: c, image: "tiphys.local/hello:1"}
"#;

fn crash_loop(ns: &Namespace<'_>) -> Result<()> {
    ns.kubectl(&["run", "crash", "--image=tiphys.local/hello:1", "--command", "--", "/bin/false"])?;
    eventually("the container restarts and backs off", || {
        let pod = ns.get(&["pod", "crash"])?;
        let status = &pod["status"]["containerStatuses"][0];
        ensure!(status["state"]["waiting"]["reason"] == "CrashLoopBackOff", "{status}");
        ensure!(status["lastState"]["terminated"]["exitCode"] == 1, "{status}");
        ensure!(status["restartCount"].as_i64().is_some_and(|n| n >= 1), "{status}");
        Ok(())
    })?;
    let shown = ns.kubectl(&["get", "pod", "crash"])?;
    ensure!(shown.contains("CrashLoopBackOff"), "{shown}");
    eventually("the event is recorded", || {
        let events = ns.kubectl(&["get", "events", "--field-selector=reason=BackOff"])?;
        ensure!(events.contains("Back-off restarting failed container"), "{events}");
        Ok(())
    })
}

fn liveness(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(LIVENESS)?;
    eventually("the failing container is restarted", || {
        let pod = ns.get(&["pod", "l"])?;
        ensure!(
            pod["status"]["containerStatuses"][0]["restartCount"].as_i64() >= Some(1),
            "{}",
            pod["status"]
        );
        Ok(())
    })?;
    eventually("the event is recorded", || {
        let events = ns.kubectl(&["get", "events", "--field-selector=reason=Unhealthy"])?;
        ensure!(events.contains("Liveness probe failed"), "{events}");
        Ok(())
    })
}

const LIVENESS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: l}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: tiphys.local/hello:1
    livenessProbe:
      httpGet: {path: /nothing, port: 8080}
      periodSeconds: 1
      failureThreshold: 1
"#;

fn unschedulable(ns: &Namespace<'_>) -> Result<()> {
    ns.kubectl(&[
        "run",
        "big",
        "--image=tiphys.local/hello:1",
        r#"--overrides={"spec":{"containers":[{"name":"big","image":"tiphys.local/hello:1","resources":{"requests":{"cpu":"9000"}}}]}}"#,
    ])?;
    eventually("the scheduler says why", || {
        let pod = ns.get(&["pod", "big"])?;
        let message = pod["status"]["conditions"][0]["message"].as_str().unwrap_or_default().to_owned();
        ensure!(message.starts_with("0/1 nodes are available: 1 Insufficient cpu."), "{message}");
        Ok(())
    })?;
    let shown = ns.kubectl(&["describe", "pod", "big"])?;
    ensure!(shown.contains("FailedScheduling"), "{shown}");
    Ok(())
}

fn succeeds(ns: &Namespace<'_>) -> Result<()> {
    let args =
        ["run", "once", "--image=tiphys.local/hello:1", "--restart=Never", "--command", "--", "/bin/env"];
    ns.kubectl(&args)?;
    ns.wait("jsonpath={.status.phase}=Succeeded", &["pod/once"])?;
    ensure!(ns.kubectl(&["logs", "once"])?.contains("HOSTNAME=once"));
    Ok(())
}

fn expose(ns: &Namespace<'_>) -> Result<()> {
    let image = "--image=tiphys.local/hello:1";
    ns.kubectl(&["create", "deployment", "hello", image, "--replicas=2", "--port=8080"])?;
    ns.kubectl(&["expose", "deployment", "hello", "--port=80", "--type=NodePort"])?;
    ns.rolled_out("deployment/hello")?;
    ns.kubectl(&["run", "client", image])?;
    ns.wait("condition=Ready", &["pod/client"])?;
    let answer = eventually("the Service answers by name", || {
        ns.kubectl(&["exec", "client", "--", "get", "http://hello"])
    })?;
    ensure!(answer.starts_with("Hello from pod hello-"), "{answer}");
    Ok(())
}

fn static_pod(ns: &Namespace<'_>) -> Result<()> {
    let file = ns.cluster.data_dir().join("manifests/still.yaml");
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: still, namespace: {}}}\nspec:\n  containers:\n  \
         - {{name: c, image: 'tiphys.local/hello:1'}}\n",
        ns.name
    );
    std::fs::create_dir_all(file.parent().context("no directory")?)?;
    std::fs::write(&file, manifest)?;
    let nodes = ns.get(&["nodes"])?;
    let mirror = format!("pod/still-{}", nodes["items"][0]["metadata"]["name"].as_str().context("no node")?);
    eventually("the mirror pod is there", || ns.kubectl(&["get", &mirror]))?;
    ns.wait("condition=Ready", &[&mirror])?;
    std::fs::remove_file(&file)?;
    eventually("it goes with its file", || {
        ensure!(ns.kubectl(&["get", "pods", "-o", "name"])?.is_empty());
        Ok(())
    })
}
