//! What is told of containers that ended, of init containers, and what a container may do.

use anyhow::{Result, ensure};

use super::{Run, Table, logs, phase, pod, status};
use crate::harness::{Namespace, eventually};

pub const CASES: Table = &[
    (
        &[
            "[sig-node] Container Runtime blackbox test on terminated container should report termination message [LinuxOnly] if TerminationMessagePath is set as non-root user and at a non-default path [NodeConformance]",
            "[sig-node] Container Runtime blackbox test on terminated container should report termination message as empty when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set [Excluded:WindowsDocker] [NodeConformance]",
            "[sig-node] Container Runtime blackbox test on terminated container should report termination message from file when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set [Excluded:WindowsDocker] [NodeConformance]",
            "[sig-node] Container Runtime blackbox test on terminated container should report termination message from log output if TerminationMessagePolicy FallbackToLogsOnError is set [Excluded:WindowsDocker] [NodeConformance]",
            "[sig-node] Kubelet when scheduling a busybox command in a pod should print the output to logs [NodeConformance]",
            "[sig-node] Kubelet when scheduling a busybox command that always fails in a pod should have an terminated reason [NodeConformance]",
            "[sig-node] Kubelet when scheduling a busybox command that always fails in a pod should be possible to delete [NodeConformance]",
        ],
        Run::Shared(last_words),
    ),
    (
        &[
            "[sig-node] Container Runtime blackbox test when starting a container that exits should run with the expected status [NodeConformance]",
        ],
        Run::Shared(restarts),
    ),
    (
        &[
            "[sig-node] InitContainer [NodeConformance] should invoke init containers on a RestartAlways pod",
            "[sig-node] InitContainer [NodeConformance] should invoke init containers on a RestartNever pod",
            "[sig-node] InitContainer [NodeConformance] should not start app containers and fail the pod if init containers fail on a RestartNever pod",
            "[sig-node] InitContainer [NodeConformance] should not start app containers if init containers fail on a RestartAlways pod",
        ],
        Run::Shared(init),
    ),
    (
        &[
            "[sig-node] Kubelet when scheduling a busybox Pod with hostAliases should write entries to /etc/hosts [LinuxOnly] [NodeConformance]",
            "[sig-node] KubeletManagedEtcHosts should test kubelet managed /etc/hosts file [LinuxOnly] [NodeConformance]",
        ],
        Run::Shared(hosts),
    ),
    (
        &[
            "[sig-node] Kubelet when scheduling a read only busybox container should not write to root filesystem [LinuxOnly] [NodeConformance]",
            "[sig-node] Security Context When creating a pod with readOnlyRootFilesystem should run the container with writable rootfs when readOnlyRootFilesystem=false [NodeConformance]",
            "[sig-node] Security Context When creating a container with runAsUser should run the container with uid 65534 [LinuxOnly] [NodeConformance]",
            "[sig-node] Security Context When creating a pod with privileged should run the container as unprivileged when false [LinuxOnly] [NodeConformance]",
            "[sig-node] Security Context should support container.SecurityContext.RunAsUser And container.SecurityContext.RunAsGroup [LinuxOnly]",
            "[sig-node] Security Context should support pod.Spec.SecurityContext.RunAsUser And pod.Spec.SecurityContext.RunAsGroup [LinuxOnly]",
            "[sig-node] Security Context when creating containers with AllowPrivilegeEscalation should not allow privilege escalation when false [LinuxOnly] [NodeConformance]",
        ],
        Run::Shared(security),
    ),
    (
        &[
            "[sig-node] Sysctls [LinuxOnly] [NodeConformance] should support sysctls [MinimumKubeletVersion:1.21]",
            "[sig-node] Sysctls [LinuxOnly] [NodeConformance] should reject invalid sysctls [MinimumKubeletVersion:1.21]",
        ],
        Run::Shared(sysctls),
    ),
];

fn last_words(ns: &Namespace<'_>) -> Result<()> {
    let fallback = "terminationMessagePolicy: FallbackToLogsOnError";
    ns.apply(&pod(
        "words",
        "restartPolicy: Never",
        &[
            "name: path, command: [write, /dev/termination-custom-log, DONE], securityContext: {runAsUser: 1000}, \
             terminationMessagePath: /dev/termination-custom-log",
            &format!("name: empty, command: [cat, /etc/hostname], {fallback}"),
            &format!("name: file, command: [write, /dev/termination-log, OK], {fallback}"),
            &format!("name: log, command: [cat, /nowhere], {fallback}"),
        ],
    ))?;
    phase(ns, "words", "Failed")?;
    let told = eventually("the last words are told", || {
        let pod = ns.get(&["pod", "words"])?;
        ensure!(!status(&pod, "log")?["state"]["terminated"]["message"].is_null(), "{}", pod["status"]);
        Ok(pod)
    })?;
    let ended =
        |container: &str| Ok::<_, anyhow::Error>(status(&told, container)?["state"]["terminated"].clone());
    for (container, words) in [("path", "DONE\n"), ("file", "OK\n")] {
        ensure!(ended(container)?["message"] == words, "{container}: {}", ended(container)?);
    }
    ensure!(ended("empty")?["message"].is_null(), "{}", ended("empty")?);
    let log = ended("log")?;
    ensure!(log["message"].as_str().is_some_and(|text| text.contains("/nowhere")), "{log}");
    ensure!(log["reason"] == "Error" && log["exitCode"] == 1, "{log}");
    ensure!(logs(ns, "words", "empty")?.trim() == "words");
    ns.kubectl(&["delete", "pod", "words"])?;
    ns.kubectl_fails(&["get", "pod", "words"]).map(drop)
}

fn restarts(ns: &Namespace<'_>) -> Result<()> {
    let of = |name: &str, policy: &str, command: &str| {
        pod(name, &format!("restartPolicy: {policy}"), &[&format!("name: c, command: [{command}]")])
    };
    let pods = [
        of("always", "Always", "'true'"),
        of("failure", "OnFailure", "'false'"),
        of("never", "Never", "exit, '7'"),
    ];
    ns.apply(&pods.concat())?;
    let never = phase(ns, "never", "Failed")?;
    let seen = status(&never, "c")?;
    ensure!(seen["restartCount"] == 0 && seen["state"]["terminated"]["exitCode"] == 7, "{seen}");
    for name in ["always", "failure"] {
        eventually("it is started again, and then held back", || {
            let pod = ns.get(&["pod", name])?;
            let seen = status(&pod, "c")?;
            ensure!(
                seen["restartCount"].as_i64() >= Some(1) && pod["status"]["phase"] == "Running",
                "{seen}"
            );
            ensure!(
                seen["ready"] == false && seen["state"]["waiting"]["reason"] == "CrashLoopBackOff",
                "{seen}"
            );
            let code = if name == "always" { 0 } else { 1 };
            ensure!(seen["lastState"]["terminated"]["exitCode"] == code, "{seen}");
            Ok(())
        })?;
        super::event(ns, name, "BackOff", "Back-off restarting failed container c in pod")?;
    }
    ensure!(ns.get(&["pod", "never"])?["status"]["phase"] == "Failed");
    Ok(())
}

fn init(ns: &Namespace<'_>) -> Result<()> {
    let hello = "image: 'tiphys.local/hello:1'";
    let of = |name: &str, policy: &str, first: &str, command: &str| {
        let spec = format!(
            "restartPolicy: {policy}\ninitContainers:\n- {{{hello}, name: init1, command: [{first}]}}\n\
             - {{{hello}, name: init2, command: ['true']}}"
        );
        pod(name, &spec, &[&format!("name: c, command: [{command}]")])
    };
    let pods = [
        of("always", "Always", "'true'", "sleep, '3600'"),
        of("never", "Never", "'true'", "'true'"),
        of("never-fails", "Never", "'false'", "'true'"),
        of("always-fails", "Always", "'false'", "'true'"),
    ];
    ns.apply(&pods.concat())?;
    ns.wait("condition=Ready", &["pod/always"])?;
    phase(ns, "never", "Succeeded")?;
    for name in ["always", "never"] {
        let pod = ns.get(&["pod", name])?;
        for container in ["init1", "init2"] {
            let seen = status(&pod, container)?;
            ensure!(seen["ready"] == true && seen["state"]["terminated"]["exitCode"] == 0, "{seen}");
        }
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let initialized = conditions.iter().find(|c| c["type"] == "Initialized").cloned().unwrap_or_default();
        ensure!(initialized["status"] == "True", "{initialized}");
    }
    let failed = phase(ns, "never-fails", "Failed")?;
    ensure!(status(&failed, "init1")?["state"]["terminated"]["exitCode"] == 1);
    for container in ["init2", "c"] {
        ensure!(status(&failed, container)?["containerID"].is_null(), "{container} was started: {failed}");
    }
    eventually("the failing one is tried again", || {
        let pod = ns.get(&["pod", "always-fails"])?;
        ensure!(status(&pod, "init1")?["restartCount"].as_i64() >= Some(1), "{}", pod["status"]);
        ensure!(pod["status"]["phase"] == "Pending", "{}", pod["status"]);
        for container in ["init2", "c"] {
            let waiting = &status(&pod, container)?["state"]["waiting"];
            ensure!(waiting["reason"] == "PodInitializing", "{container}: {}", pod["status"]);
        }
        Ok(())
    })
}

fn hosts(ns: &Namespace<'_>) -> Result<()> {
    let cat = |name: &str| format!("name: {name}, command: [cat, /etc/hosts]");
    let own = format!("{}, volumeMounts: [{{name: host, mountPath: /etc/hosts}}]", cat("own"));
    let spec = "restartPolicy: Never\nhostAliases: [{ip: 123.45.67.89, hostnames: [foo, bar]}]\n\
                volumes: [{name: host, hostPath: {path: /etc/hosts, type: File}}]";
    ns.apply(&pod("hosts", spec, &[&cat("managed"), &own]))?;
    ns.apply(&pod("node", "restartPolicy: Never\nhostNetwork: true", &[&cat("node")]))?;
    let pod = phase(ns, "hosts", "Succeeded")?;
    phase(ns, "node", "Succeeded")?;
    let managed = logs(ns, "hosts", "managed")?;
    ensure!(managed.starts_with("# Kubernetes-managed hosts file.\n"), "{managed}");
    ensure!(managed.lines().any(|line| line == "123.45.67.89\tfoo\tbar"), "{managed}");
    let ip = pod["status"]["podIP"].as_str().unwrap_or("no address");
    ensure!(managed.lines().any(|line| line == format!("{ip}\thosts")), "{managed}");
    for (pod, container) in [("hosts", "own"), ("node", "node")] {
        let text = logs(ns, pod, container)?;
        ensure!(!text.contains("# Kubernetes-managed hosts file.\n"), "{pod}: {text}");
    }
    Ok(())
}

fn security(ns: &Namespace<'_>) -> Result<()> {
    let context = |context: &str| format!("securityContext: {{{context}}}");
    ns.apply(&pod(
        "contexts",
        "restartPolicy: Never\nsecurityContext: {runAsUser: 1001, runAsGroup: 2002}",
        &[
            "name: pod, command: [id]",
            &format!("name: own, command: [id], {}", context("runAsUser: 1002, runAsGroup: 2003")),
            &format!("name: nobody, command: [id], {}", context("runAsUser: 65534")),
            &format!(
                "name: held, command: [cat, /proc/self/status], {}",
                context("allowPrivilegeEscalation: false")
            ),
            &format!(
                "name: read-only, command: [touch, /file], {}",
                context("readOnlyRootFilesystem: true, runAsUser: 0")
            ),
            &format!(
                "name: writable, command: [touch, /file], {}",
                context("readOnlyRootFilesystem: false, runAsUser: 0")
            ),
            &format!(
                "name: unprivileged, command: [touch, /proc/sys/net/ipv4/ip_forward], {}",
                context("privileged: false, runAsUser: 0")
            ),
        ],
    ))?;
    let pod = phase(ns, "contexts", "Failed")?;
    for (container, id) in
        [("pod", "uid=1001 gid=2002 "), ("own", "uid=1002 gid=2003 "), ("nobody", "uid=65534 gid=2002 ")]
    {
        let said = logs(ns, "contexts", container)?;
        ensure!(said.starts_with(id), "{container}: {said}");
    }
    let held = logs(ns, "contexts", "held")?;
    ensure!(held.contains("NoNewPrivs:\t1") && held.contains("Uid:\t1001\t1001"), "{held}");
    for (container, code) in [("read-only", 1), ("writable", 0), ("unprivileged", 1)] {
        let ended = status(&pod, container)?["state"]["terminated"]["exitCode"].clone();
        ensure!(ended == code, "{container} ended with {ended}");
    }
    for container in ["read-only", "unprivileged"] {
        let said = logs(ns, "contexts", container)?;
        ensure!(said.contains("Read-only file system"), "{container}: {said}");
    }
    Ok(())
}

fn sysctls(ns: &Namespace<'_>) -> Result<()> {
    let context = |sysctls: &str| format!("restartPolicy: Never\nsecurityContext: {{sysctls: [{sysctls}]}}");
    let file = "name: c, command: [cat, /proc/sys/kernel/shm_rmid_forced]";
    ns.apply(&pod("set", &context("{name: kernel.shm_rmid_forced, value: '1'}"), &[file]))?;
    phase(ns, "set", "Succeeded")?;
    ensure!(logs(ns, "set", "c")?.trim() == "1");
    let invalid = "{name: foo-, value: bar}, {name: kernel.shmmax, value: '1'}, {name: bar.., value: '42'}";
    let refused = ns.feed(&["create", "-f", "-"], &pod("invalid", &context(invalid), &[file]));
    let why = refused.err().map(|error| error.to_string()).unwrap_or_default();
    for name in ["foo-", "bar.."] {
        ensure!(why.contains(&format!("Invalid value: \"{name}\"")), "{name} is not refused: {why}");
    }
    ensure!(!why.contains("kernel.shmmax"), "{why}");
    Ok(())
}
