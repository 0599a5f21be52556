//! What a container is and may: users, groups, capabilities, namespaces, kernel parameters, as the kernel itself tells.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::{Run, Table};
use crate::harness::{Namespace, eventually};

pub const CASES: Table = &[
    ("containers-run-as-their-security-context-says", Run::Shared(contexts)),
    ("root-is-refused-where-a-pod-must-not-be-root", Run::Shared(non_root)),
    ("namespaces-are-shared-as-asked", Run::Shared(namespaces)),
    ("sysctls-are-set-or-refused", Run::Shared(sysctls)),
    ("seccomp-profiles-of-the-node-are-used", Run::Shared(seccomp)),
    ("what-the-node-cannot-give-is-refused", Run::Shared(refused)),
];

/// A pod that sleeps; `spec` and `container` go into its spec and its container.
fn pod(name: &str, spec: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n{}  \
         containers:\n  - name: c\n    image: tiphys.local/hello:1\n    command: [sleep, '3600']\n{}---\n",
        indented(spec, 2),
        indented(container, 4)
    )
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

/// What the kernel tells of a container's processes, by its own names.
fn status(ns: &Namespace<'_>, pod: &str) -> Result<BTreeMap<String, String>> {
    let text = ns.kubectl(&["exec", pod, "--", "cat", "/proc/self/status"])?;
    let field = |line: &str| line.split_once(":\t").map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(text.lines().filter_map(field).collect())
}

const CAP_NET_BIND_SERVICE: u64 = 1 << 10;
const CAP_NET_ADMIN: u64 = 1 << 12;
const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_MKNOD: u64 = 1 << 27;

fn capabilities(status: &BTreeMap<String, String>) -> Result<u64> {
    Ok(u64::from_str_radix(status.get("CapEff").context("no capabilities")?, 16)?)
}

fn contexts(ns: &Namespace<'_>) -> Result<()> {
    let limited = "securityContext: {runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000, supplementalGroups: [4000], \
                   runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}\nvolumes: [{name: v, emptyDir: {}}]";
    let own = "securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, \
               capabilities: {drop: [ALL]}}\nvolumeMounts: [{name: v, mountPath: /data}]";
    let adding = "securityContext: {runAsGroup: 3000, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}";
    let more = "securityContext: {capabilities: {add: [NET_ADMIN], drop: [MKNOD]}}";
    let pods = [
        pod("limited", limited, own),
        pod("plain", "", ""),
        pod("adding", "", adding),
        pod("more", "", more),
        pod("privileged", "", "securityContext: {privileged: true}"),
    ];
    ns.apply(&pods.concat())?;
    ns.wait("condition=Ready", &["pod", "--all"])?;
    limited_pod(ns)?;
    let plain = status(ns, "plain")?;
    let normal = capabilities(&plain)?;
    ensure!(plain["Seccomp"] == "0" && plain["NoNewPrivs"] == "0", "{plain:?}");
    ensure!(normal & CAP_MKNOD != 0 && normal & (CAP_NET_ADMIN | CAP_SYS_ADMIN) == 0, "{normal:x}");
    ensure!(capabilities(&status(ns, "adding")?)? == CAP_NET_BIND_SERVICE);
    let id = ns.kubectl(&["exec", "adding", "--", "id"])?;
    ensure!(id.starts_with("uid=0 gid=3000 "), "{id}");
    let more = capabilities(&status(ns, "more")?)?;
    ensure!(more == (normal | CAP_NET_ADMIN) & !CAP_MKNOD, "{more:x}, and {normal:x} without asking");
    let privileged = capabilities(&status(ns, "privileged")?)?;
    ensure!(privileged & CAP_SYS_ADMIN != 0, "{privileged:x}");
    // The node's own devices are there, and its kernel's parameters can be written.
    ns.kubectl(&["exec", "privileged", "--", "ls", "/dev/kmsg"])?;
    ns.kubectl(&["exec", "privileged", "--", "touch", "/proc/sys/net/ipv4/ip_forward"])?;
    ns.kubectl_fails(&["exec", "plain", "--", "touch", "/proc/sys/net/ipv4/ip_forward"]).map(drop)
}

fn limited_pod(ns: &Namespace<'_>) -> Result<()> {
    let exec = |command: &[&str]| ns.kubectl(&[&["exec", "limited", "--"], command].concat());
    let id = exec(&["id"])?;
    ensure!(id.starts_with("uid=1000 gid=3000 groups="), "{id}");
    let groups: Vec<&str> = id.trim().split_once("groups=").context("no groups")?.1.split(',').collect();
    ensure!(groups.contains(&"2000") && groups.contains(&"4000") && !groups.contains(&"0"), "{id}");
    let seen = status(ns, "limited")?;
    ensure!(capabilities(&seen)? == 0, "{seen:?}");
    ensure!(seen["NoNewPrivs"] == "1" && seen["Seccomp"] == "2", "{seen:?}");
    exec(&["touch", "/data/file"])?;
    let listed = exec(&["ls", "/data"])?;
    ensure!(listed == "42777 0 2000 /data\n100644 1000 2000 file\n", "{listed}");
    let refused = ns.kubectl_fails(&["exec", "limited", "--", "touch", "/file"])?;
    ensure!(refused.contains("Read-only file system"), "{refused}");
    Ok(())
}

fn non_root(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(
        &[
            pod("image", "securityContext: {runAsNonRoot: true}", ""),
            pod("user", "securityContext: {runAsNonRoot: true, runAsUser: 0}", ""),
        ]
        .concat(),
    )?;
    for (name, why) in [
        ("image", "container has runAsNonRoot and image will run as root"),
        ("user", "container's runAsUser breaks non-root policy"),
    ] {
        eventually("the status says why", || {
            let pod = ns.get(&["pod", name])?;
            let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
            ensure!(waiting["reason"] == "CreateContainerConfigError", "{}", pod["status"]);
            ensure!(waiting["message"].as_str().is_some_and(|m| m.starts_with(why)), "{waiting}");
            Ok(())
        })?;
    }
    Ok(())
}

/// The namespace of a container's processes, as the kernel names it.
fn namespace_of(ns: &Namespace<'_>, pod: &str, container: &str, kind: &str) -> Result<String> {
    let path = format!("/proc/self/ns/{kind}");
    let name = ns.kubectl(&["exec", pod, "-c", container, "--", "readlink", &path])?;
    Ok(name.trim().to_owned())
}

fn namespaces(ns: &Namespace<'_>) -> Result<()> {
    // A second container in each, to compare the two.
    let second = "- {name: d, image: 'tiphys.local/hello:1', command: [sleep, '3600']}\n";
    let two = |name: &str, spec: &str| pod(name, spec, "").replace("---\n", &format!("  {second}---\n"));
    let pods = [
        two("own", ""),
        two("shared", "shareProcessNamespace: true"),
        two("host", "hostPID: true\nhostIPC: true\nhostNetwork: true"),
    ];
    ns.apply(&pods.concat())?;
    ns.wait("condition=Ready", &["pod", "--all"])?;
    for (pod, kind, of_host, of_pod) in [
        ("own", "pid", false, false),
        ("own", "ipc", false, true),
        ("own", "net", false, true),
        ("shared", "pid", false, true),
        ("host", "pid", true, true),
        ("host", "ipc", true, true),
        ("host", "net", true, true),
    ] {
        let node = std::fs::read_link(format!("/proc/self/ns/{kind}"))?.display().to_string();
        let (one, two) = (namespace_of(ns, pod, "c", kind)?, namespace_of(ns, pod, "d", kind)?);
        ensure!((one == node) == of_host, "{pod}: {kind} namespace {one}, and the node's {node}");
        ensure!((one == two) == of_pod, "{pod}: {kind} namespaces {one} and {two}");
    }
    let first = ns.kubectl(&["exec", "shared", "-c", "c", "--", "cat", "/proc/1/cmdline"])?;
    ensure!(first.contains("pause"), "the first process of a shared pod is {first:?}");
    let first = ns.kubectl(&["exec", "own", "-c", "c", "--", "cat", "/proc/1/cmdline"])?;
    ensure!(first.starts_with("sleep"), "the first process of a container is {first:?}");
    let name = ns.kubectl(&["exec", "host", "-c", "c", "--", "cat", "/proc/sys/kernel/hostname"])?;
    let node = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    ensure!(name == node, "a pod on the node's network is called {name}");
    Ok(())
}

fn sysctls(ns: &Namespace<'_>) -> Result<()> {
    let with = |name: &str, list: &str| pod(name, &format!("securityContext: {{sysctls: [{list}]}}"), "");
    let safe = "{name: net.ipv4.ip_local_port_range, value: 40000 50000}, {name: kernel/shm_rmid_forced, value: '1'}";
    ns.apply(&[with("safe", safe), with("unsafe", "{name: kernel.msgmax, value: '65536'}")].concat())?;
    ns.wait("condition=Ready", &["pod/safe"])?;
    for (file, value) in
        [("net/ipv4/ip_local_port_range", "40000\t50000\n"), ("kernel/shm_rmid_forced", "1\n")]
    {
        let set = ns.kubectl(&["exec", "safe", "--", "cat", &format!("/proc/sys/{file}")])?;
        ensure!(set == value, "{file} is {set:?}");
    }
    ns.wait("jsonpath={.status.phase}=Failed", &["pod/unsafe"])?;
    let status = &ns.get(&["pod", "unsafe"])?["status"];
    ensure!(status["reason"] == "SysctlForbidden", "{status}");
    let message = r#"Pod was rejected: forbidden sysctl: "kernel.msgmax" not allowlisted"#;
    ensure!(status["message"] == message, "{status}");
    Ok(())
}

fn seccomp(ns: &Namespace<'_>) -> Result<()> {
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["readlink", "readlinkat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let dir = ns.cluster.data_dir().join("kubelet/seccomp");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("no-links.json"), profile)?;
    let own = "securityContext: {seccompProfile: {type: Localhost, localhostProfile: no-links.json}}";
    ns.apply(&[pod("limited", "", own), pod("free", "", "")].concat())?;
    ns.wait("condition=Ready", &["pod", "--all"])?;
    let read = ["--", "readlink", "/proc/self/exe"];
    ensure!(ns.kubectl(&[&["exec", "free"][..], &read].concat())? == "/tiphys\n");
    let refused = ns.kubectl_fails(&[&["exec", "limited"][..], &read].concat())?;
    ensure!(refused.contains("Operation not permitted"), "{refused}");
    Ok(())
}

fn refused(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(
        &[
            pod("users", "hostUsers: false", ""),
            pod("groups", "securityContext: {supplementalGroupsPolicy: Strict}", ""),
        ]
        .concat(),
    )?;
    ns.wait("jsonpath={.status.reason}=SupplementalGroupsPolicyNotSupported", &["pod/groups"])?;
    eventually("the event says why", || {
        let events = ns.kubectl(&["get", "events", "--field-selector=reason=FailedCreatePodSandBox"])?;
        ensure!(events.contains("runtime does not support user namespaces"), "{events}");
        Ok(())
    })
}
