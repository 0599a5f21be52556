//! What is done to pods while they run: other sizes, containers to look into them, signals, restarts by rules.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Run, Table};
use crate::harness::{Namespace, eventually, feed};

pub const CASES: Table = &[
    ("containers-are-resized-in-place", Run::Shared(resized)),
    ("sizes-that-do-not-fit-wait-or-are-refused", Run::Shared(unfit)),
    ("kubectl-debug-looks-into-a-pod", Run::Shared(debugged)),
    ("rules-decide-on-restarts", Run::Shared(rules)),
    ("containers-end-by-the-signal-they-choose", Run::Shared(signals)),
    ("bad-pods-say-what-is-wrong", Run::Shared(bad)),
    ("what-a-pod-lacks-has-its-events", Run::Shared(lacking)),
    ("a-container-with-too-little-memory-is-killed", Run::Shared(greedy)),
    ("a-pods-own-limits-bound-all-its-containers", Run::Shared(bounded)),
    ("a-runtime-class-names-its-handler", Run::Shared(runtime_class)),
];

fn pod(name: &str, spec: &str, containers: &[&str]) -> String {
    let start = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n"
    );
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    let container = |more: &&str| format!("  - {{image: 'tiphys.local/hello:1', {more}}}\n");
    let containers: String = containers.iter().map(container).collect();
    format!("{start}{spec}  containers:\n{containers}---\n")
}

fn condition(pod: &Value, kind: &str) -> Option<Value> {
    pod["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind).cloned()
}

fn resize(ns: &Namespace<'_>, pod: &str, resources: &str) -> Result<()> {
    let patch = format!(r#"{{"spec":{{"containers":[{{"name":"c","resources":{resources}}}]}}}}"#);
    ns.kubectl(&["patch", "pod", pod, "--subresource=resize", "-p", &patch]).map(drop)
}

/// Values of a control group's file of a pod's containers; whichever version of control groups there is.
fn cgroup(pod: &Value, files: &[&str]) -> Result<Vec<String>> {
    let uid = pod["metadata"]["uid"].as_str().context("no uid")?;
    let mut dirs = vec![PathBuf::from("/sys/fs/cgroup")];
    let mut values = Vec::new();
    while let Some(dir) = dirs.pop() {
        let inside = dir.to_string_lossy().contains(uid);
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.is_symlink() {
                dirs.push(path);
            } else if inside && files.iter().any(|file| path.ends_with(file)) {
                values.extend(std::fs::read_to_string(&path).ok().map(|text| text.trim().to_owned()));
            }
        }
    }
    Ok(values)
}

fn resized(ns: &Namespace<'_>) -> Result<()> {
    let size = "resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 200m, memory: 64Mi}}";
    let restart = "resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]";
    ns.apply(&pod("p", "", &[&format!("name: c, {size}, {restart}")]))?;
    ns.wait("condition=Ready", &["pod/p"])?;
    resize(ns, "p", r#"{"requests":{"cpu":"150m"},"limits":{"cpu":"300m"}}"#)?;
    let status = |pod: &Value| pod["status"]["containerStatuses"][0].clone();
    let pod = eventually("the processor's share has changed", || {
        let pod = ns.get(&["pod", "p"])?;
        ensure!(status(&pod)["resources"]["limits"]["cpu"] == "300m", "{}", pod["status"]);
        ensure!(condition(&pod, "PodResizeInProgress").is_none(), "{}", pod["status"]);
        Ok(pod)
    })?;
    ensure!(status(&pod)["allocatedResources"]["cpu"] == "150m", "{}", pod["status"]);
    ensure!(status(&pod)["restartCount"] == 0, "{}", pod["status"]);
    let quotas = cgroup(&pod, &["cpu.cfs_quota_us", "cpu.max"])?;
    ensure!(quotas.iter().any(|quota| quota.split(' ').next() == Some("30000")), "{quotas:?}");
    resize(ns, "p", r#"{"requests":{"memory":"96Mi"},"limits":{"memory":"96Mi"}}"#)?;
    let pod = eventually("the container is started again with more memory", || {
        let pod = ns.get(&["pod", "p"])?;
        ensure!(status(&pod)["restartCount"] == 1 && status(&pod)["ready"] == true, "{}", pod["status"]);
        ensure!(status(&pod)["resources"]["limits"]["memory"] == "96Mi", "{}", pod["status"]);
        Ok(pod)
    })?;
    let limits = cgroup(&pod, &["memory.limit_in_bytes", "memory.max"])?;
    ensure!(limits.contains(&(96 << 20).to_string()), "{limits:?}");
    Ok(())
}

fn unfit(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(&pod("p", "", &["name: c, resources: {requests: {cpu: 10m}}"]))?;
    ns.wait("condition=Ready", &["pod/p"])?;
    resize(ns, "p", r#"{"requests":{"cpu":"1000"}}"#)?;
    let pod_now = eventually("it is told that this can never be", || {
        let pod = ns.get(&["pod", "p"])?;
        let pending = condition(&pod, "PodResizePending").context("not pending")?;
        ensure!(pending["status"] == "True" && pending["reason"] == "Infeasible", "{pending}");
        let why = "Node didn't have enough capacity: cpu, requested: 1000000, capacity:";
        ensure!(pending["message"].as_str().is_some_and(|text| text.starts_with(why)), "{pending}");
        Ok(pod)
    })?;
    ensure!(pod_now["status"]["containerStatuses"][0]["allocatedResources"]["cpu"] == "10m", "{pod_now}");
    resize(ns, "p", r#"{"requests":{"cpu":"10m"}}"#)?;
    eventually("nothing is pending any more", || {
        let pod = ns.get(&["pod", "p"])?;
        ensure!(condition(&pod, "PodResizePending").is_none(), "{}", pod["status"]);
        Ok(())
    })?;
    // A pod that was sent here by somebody who has not counted.
    let node = pod_now["spec"]["nodeName"].as_str().context("no node")?.to_owned();
    let large = "name: c, resources: {requests: {memory: 900Gi}}";
    ns.apply(&pod("large", &format!("nodeName: {node}"), &[large]))?;
    eventually("it is refused", || {
        let told = ns.get(&["pod", "large"])?["status"].clone();
        ensure!(told["phase"] == "Failed" && told["reason"] == "OutOfmemory", "{told}");
        let why =
            "Pod was rejected: Node didn't have enough resource: memory, requested: 966367641600, used: ";
        ensure!(told["message"].as_str().is_some_and(|text| text.starts_with(why)), "{told}");
        Ok(())
    })
}

fn debugged(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(&pod("p", "", &["name: c"]))?;
    ns.wait("condition=Ready", &["pod/p"])?;
    let image = "--image=tiphys.local/hello:1";
    ns.kubectl(&["debug", "p", image, "-c", "look", "--target=c", "--", "cat", "/proc/1/cmdline"])?;
    let ended = eventually("the debug container has ended", || {
        let pod = ns.get(&["pod", "p"])?;
        let status = pod["status"]["ephemeralContainerStatuses"][0].clone();
        ensure!(!status["state"]["terminated"].is_null(), "{status}");
        Ok(status)
    })?;
    ensure!(ended["name"] == "look" && ended["state"]["terminated"]["exitCode"] == 0, "{ended}");
    // It has seen the other's processes.
    let said = ns.kubectl(&["logs", "p", "-c", "look"])?;
    ensure!(said.starts_with("/tiphys\0hello"), "{said:?}");
    ns.kubectl(&["debug", "p", image, "-c", "stays", "--", "sleep", "3600"])?;
    eventually("it runs", || ns.kubectl(&["exec", "p", "-c", "stays", "--", "true"]))?;
    let pod = ns.get(&["pod", "p"])?;
    ensure!(condition(&pod, "Ready").is_some_and(|ready| ready["status"] == "True"), "{}", pod["status"]);
    Ok(())
}

fn rules(ns: &Namespace<'_>) -> Result<()> {
    let rule = |action: &str| {
        format!("restartPolicyRules: [{{action: {action}, exitCodes: {{operator: In, values: [42]}}}}]")
    };
    let once = |name: &str, code: u32| {
        let container =
            format!("name: c, command: [exit, '{code}'], restartPolicy: Never, {}", rule("Restart"));
        pod(name, "restartPolicy: Never", &[&container])
    };
    let all = pod(
        "all",
        "restartPolicy: Never\ninitContainers: [{name: i, image: 'tiphys.local/hello:1', command: ['true']}]",
        &[
            "name: b, command: [sleep, '3600']",
            &format!(
                "name: c, command: [exit, '42', '1'], restartPolicy: Never, {}",
                rule("RestartAllContainers")
            ),
        ],
    );
    ns.apply(&[once("fits", 42), once("does-not", 1), all].concat())?;
    eventually("the rule has started it again", || {
        let pod = ns.get(&["pod", "fits"])?;
        let count = &pod["status"]["containerStatuses"][0]["restartCount"];
        ensure!(count.as_i64() >= Some(1) && pod["status"]["phase"] == "Running", "{}", pod["status"]);
        Ok(())
    })?;
    eventually("no rule fits", || {
        let pod = ns.get(&["pod", "does-not"])?;
        ensure!(pod["status"]["phase"] == "Failed", "{}", pod["status"]);
        ensure!(pod["status"]["containerStatuses"][0]["restartCount"] == 0, "{}", pod["status"]);
        Ok(())
    })?;
    eventually("all have started again", || {
        let status = ns.get(&["pod", "all"])?["status"].clone();
        let count = |list: &str, index: usize| status[list][index]["restartCount"].as_i64();
        ensure!(count("initContainerStatuses", 0) >= Some(1), "{status}");
        ensure!(
            count("containerStatuses", 0) >= Some(1) && count("containerStatuses", 1) >= Some(1),
            "{status}"
        );
        Ok(())
    })
}

/// A process that is process 1 of its container gets only the signals that it asked for: `hello` has asked for SIGTERM.
fn signals(ns: &Namespace<'_>) -> Result<()> {
    let chosen = "name: c, lifecycle: {stopSignal: SIGTERM}";
    let other = "name: c, lifecycle: {stopSignal: SIGUSR1}";
    let linux = "os: {name: linux}\nshareProcessNamespace: true";
    ns.apply(&[pod("term", linux, &[chosen]), pod("usr", linux, &[other])].concat())?;
    ns.wait("condition=Ready", &["pod/term", "pod/usr"])?;
    let told = ns.get(&["pod", "usr"])?["status"]["containerStatuses"][0]["stopSignal"].clone();
    ensure!(told == "SIGUSR1", "{told}");
    // With the pause process as process 1, SIGUSR1 ends the other as it would anywhere.
    ns.kubectl(&["patch", "pod", "usr", "-p", r#"{"spec":{"activeDeadlineSeconds":1}}"#])?;
    ns.kubectl(&["patch", "pod", "term", "-p", r#"{"spec":{"activeDeadlineSeconds":1}}"#])?;
    for (name, codes) in [("usr", [138, 138]), ("term", [0, 137])] {
        eventually("it has ended by its signal", || {
            let status = ns.get(&["pod", name])?["status"]["containerStatuses"][0].clone();
            let code = status["state"]["terminated"]["exitCode"].as_i64();
            ensure!(code.is_some_and(|code| codes.contains(&code)), "{status}");
            Ok(())
        })?;
    }
    Ok(())
}

fn bad(ns: &Namespace<'_>) -> Result<()> {
    let cases = [
        (
            "image",
            "image: 'tiphys.local/nothing:1', imagePullPolicy: Never",
            "ErrImageNeverPull",
            "is not present with pull policy of Never",
        ),
        (
            "name",
            "image: 'Bad Name'",
            "InvalidImageName",
            "Failed to apply default image tag \"Bad Name\": couldn't parse image name",
        ),
        (
            "config",
            "env: [{name: A, valueFrom: {configMapKeyRef: {name: absent, key: k}}}]",
            "CreateContainerConfigError",
            "configmap \"absent\" not found",
        ),
        ("command", "command: [/no/such/program]", "CrashLoopBackOff", "restarting failed container=c"),
    ];
    for (name, field, ..) in &cases {
        let own = format!("name: c, {field}");
        let text = pod(name, "", &[&own]);
        let text = if field.starts_with("image:") {
            text.replace("image: 'tiphys.local/hello:1', ", "")
        } else {
            text
        };
        ns.apply(&text)?;
    }
    for (name, _, reason, words) in &cases {
        eventually("the status says what is wrong", || {
            let pod = ns.get(&["pod", name])?;
            let waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
            ensure!(waiting["reason"] == *reason, "{}", pod["status"]);
            ensure!(waiting["message"].as_str().is_some_and(|text| text.contains(words)), "{waiting}");
            Ok(())
        })?;
    }
    for (name, words) in [
        ("image", "Error: ErrImageNeverPull"),
        ("name", "Error: InvalidImageName"),
        ("command", "no such file"),
    ] {
        let of = format!("--field-selector=reason=Failed,involvedObject.name={name}");
        eventually("the event says so, too", || {
            let events = ns.kubectl(&["get", "events", &of])?;
            ensure!(events.contains(words), "{events}");
            Ok(())
        })?;
    }
    let ended =
        ns.get(&["pod", "command"])?["status"]["containerStatuses"][0]["lastState"]["terminated"].clone();
    ensure!(ended["exitCode"] == 128 && ended["reason"] == "StartError", "{ended}");
    Ok(())
}

fn lacking(ns: &Namespace<'_>) -> Result<()> {
    let absent_image =
        pod("pull", "", &["name: c"]).replace("tiphys.local/hello:1", "tiphys.local/nothing:1");
    let key = |name: &str, kind: &str, of: &str| {
        let env = format!("env: [{{name: A, valueFrom: {{{kind}KeyRef: {{name: {of}, key: absent}}}}}}]");
        pod(name, "", &[&format!("name: c, {env}")])
    };
    let mount = "name: c, volumeMounts: [{name: v, mountPath: /v}]";
    let volume = "volumes: [{name: v, secret: {secretName: nobody}}]";
    ns.kubectl(&["create", "secret", "generic", "empty"])?;
    ns.apply(
        &[
            absent_image,
            key("key", "configMap", "kube-root-ca.crt"),
            key("secret-key", "secret", "empty"),
            pod("crash", "", &["name: c, command: [exit, '1']"]),
            pod("mount", volume, &[mount]),
        ]
        .concat(),
    )?;
    let name = &ns.name;
    let [map, secret] = [("ConfigMap", "kube-root-ca.crt"), ("Secret", "empty")]
        .map(|(kind, of)| format!("couldn't find key absent in {kind} {name}/{of}"));
    let restarting = format!("Back-off restarting failed container c in pod crash_{name}(");
    let events = [
        ("pull", "Failed", "Failed to pull image \"tiphys.local/nothing:1\""),
        ("pull", "Failed", "Error: ErrImagePull"),
        ("pull", "BackOff", "Back-off pulling image \"tiphys.local/nothing:1\""),
        ("key", "Failed", map.as_str()),
        ("secret-key", "Failed", secret.as_str()),
        ("crash", "BackOff", restarting.as_str()),
        ("mount", "FailedMount", "MountVolume.SetUp failed for volume \"v\" : secret \"nobody\" not found"),
    ];
    for (pod, reason, words) in events {
        let of = format!("--field-selector=reason={reason},involvedObject.name={pod}");
        eventually("the event says what is lacking", || {
            let events = ns.kubectl(&["get", "events", &of])?;
            ensure!(events.contains(words), "no {words:?}: {events}");
            Ok(())
        })?;
    }
    for (pod, reason) in [
        ("pull", "ImagePullBackOff"),
        ("key", "CreateContainerConfigError"),
        ("secret-key", "CreateContainerConfigError"),
        ("crash", "CrashLoopBackOff"),
        ("mount", "ContainerCreating"),
    ] {
        eventually("the status says why it waits", || {
            let pod = ns.get(&["pod", pod])?;
            let waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"].clone();
            ensure!(waiting["reason"] == reason, "{}", pod["status"]);
            let ready = condition(&pod, "Ready").context("no condition")?;
            ensure!(ready["status"] == "False" && ready["reason"] == "ContainersNotReady", "{ready}");
            ensure!(ready["message"] == "containers with unready status: [c]", "{ready}");
            Ok(())
        })?;
    }
    Ok(())
}

/// `tee` reads all that it is told before it writes.
fn greedy(ns: &Namespace<'_>) -> Result<()> {
    let container =
        "name: c, command: [tee, /x], stdin: true, stdinOnce: true, resources: {limits: {memory: 16Mi}}";
    ns.apply(&pod("p", "restartPolicy: Never", &[container]))?;
    ns.wait("condition=Ready", &["pod/p"])?;
    let mut attach = ns.kubectl_command();
    // It is cut off in the middle: what counts is what the pod says.
    let _ = feed(attach.args(["attach", "-i", "--quiet", "p"]), &vec![b'x'; 32 << 20]);
    ns.wait("jsonpath={.status.phase}=Failed", &["pod/p"])?;
    let ended = ns.get(&["pod", "p"])?["status"]["containerStatuses"][0]["state"]["terminated"].clone();
    ensure!(ended["reason"] == "OOMKilled" && ended["exitCode"] == 137, "{ended}");
    Ok(())
}

fn bounded(ns: &Namespace<'_>) -> Result<()> {
    let own = "resources: {requests: {cpu: 30m}, limits: {cpu: 700m, memory: 96Mi}}";
    ns.apply(&pod("p", own, &["name: c", "name: d, command: [sleep, '3600']"]))?;
    ns.wait("condition=Ready", &["pod/p"])?;
    let pod = ns.get(&["pod", "p"])?;
    ensure!(pod["status"]["qosClass"] == "Burstable", "{}", pod["status"]);
    let quotas = cgroup(&pod, &["cpu.cfs_quota_us", "cpu.max"])?;
    ensure!(quotas.iter().any(|quota| quota.split(' ').next() == Some("70000")), "{quotas:?}");
    let limits = cgroup(&pod, &["memory.limit_in_bytes", "memory.max"])?;
    ensure!(limits.contains(&(96 << 20).to_string()), "{limits:?}");
    Ok(())
}

fn runtime_class(ns: &Namespace<'_>) -> Result<()> {
    let class = |name: &str, handler: &str| {
        format!(
            "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {{name: {name}}}\nhandler: {handler}\n\
             overhead: {{podFixed: {{cpu: 20m}}}}\n---\n"
        )
    };
    ns.apply(&[class("e2e-known", "runc"), class("e2e-unknown", "nobody")].concat())?;
    let of = |name: &str| pod(name, &format!("runtimeClassName: e2e-{name}"), &["name: c"]);
    ns.apply(&[of("known"), of("unknown")].concat())?;
    ns.wait("condition=Ready", &["pod/known"])?;
    ensure!(ns.get(&["pod", "known"])?["spec"]["overhead"]["cpu"] == "20m");
    let fields = "--field-selector=reason=FailedCreatePodSandBox,involvedObject.name=unknown";
    eventually("the runtime does not know the handler", || {
        let events = ns.kubectl(&["get", "events", fields])?;
        ensure!(events.contains("no runtime for \"nobody\" is configured"), "{events}");
        Ok(())
    })?;
    ns.kubectl(&["delete", "runtimeclass", "e2e-known", "e2e-unknown"]).map(drop)
}
