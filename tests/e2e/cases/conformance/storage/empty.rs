//! `emptyDir`s, on disk and in memory.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::super::Table;
use super::{USER, contents, exec, modes, pod, run};
use crate::cases::Run;
use crate::harness::{Namespace, feed};

#[rustfmt::skip]
pub const CASES: Table = &[
    (
        &[
            "[sig-storage] EmptyDir volumes volume on default medium should have the correct mode [LinuxOnly] [NodeConformance]",
            "[sig-storage] EmptyDir volumes volume on tmpfs should have the correct mode [LinuxOnly] [NodeConformance]",
            "[sig-storage] EmptyDir volumes pod should support shared volumes between containers",
            "[sig-storage] EmptyDir volumes should support (root,0644,default) [LinuxOnly] [NodeConformance]",
            "[sig-storage] EmptyDir volumes should support (root,0666,default) [LinuxOnly] [NodeConformance]",
            "[sig-storage] EmptyDir volumes should support (root,0777,default) [LinuxOnly] [NodeConformance]",
            "[sig-storage] EmptyDir volumes should support (root,0644,tmpfs) [LinuxOnly] [NodeConformance]",
            "[sig-storage] EmptyDir volumes should support (root,0666,tmpfs) [LinuxOnly] [NodeConformance]",
            "[sig-storage] EmptyDir volumes should support (root,0777,tmpfs) [LinuxOnly] [NodeConformance]",
            "[sig-storage] EmptyDir volumes should support (non-root,0644,default) [LinuxOnly] [NodeConformance]",
            "[sig-storage] EmptyDir volumes should support (non-root,0666,default) [LinuxOnly] [NodeConformance]",
            "[sig-storage] EmptyDir volumes should support (non-root,0777,default) [LinuxOnly] [NodeConformance]",
            "[sig-storage] EmptyDir volumes should support (non-root,0644,tmpfs) [LinuxOnly] [NodeConformance]",
            "[sig-storage] EmptyDir volumes should support (non-root,0666,tmpfs) [LinuxOnly] [NodeConformance]",
            "[sig-storage] EmptyDir volumes should support (non-root,0777,tmpfs) [LinuxOnly] [NodeConformance]",
        ],
        Run::Shared(shared),
    ),
    (
        &["[sig-storage] EmptyDir wrapper volumes should not cause race condition when used for configmaps [Serial]"],
        Run::Shared(many),
    ),
];

fn shared(ns: &Namespace<'_>) -> Result<()> {
    let media = ["default", "tmpfs"];
    let volumes = [
        ("default".to_owned(), json!({"emptyDir": {}})),
        ("tmpfs".to_owned(), json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})),
    ];
    run(ns, &[], &pod("p", &[("root", 0), ("user", USER)], &volumes))?;
    let found = modes(ns, "user", &media.map(|medium| format!("/v/{medium}")))?;
    // Everyone may write; what is in memory keeps its files from being removed by others, as tmpfs does.
    ensure!(found == ["40777", "41777"], "{found:?}");
    mounted(ns)?;
    for who in ["root", "user"] {
        let file = |mode: &str, medium: &str| format!("/v/{medium}/{who}-{mode}");
        let mut paths = Vec::new();
        for mode in ["644", "666", "777"] {
            let of_mode = media.map(|medium| file(mode, medium));
            exec(ns, who, &["touch", &of_mode[0], &of_mode[1]])?;
            exec(ns, who, &["chmod", mode, &of_mode[0], &of_mode[1]])?;
            paths.extend(of_mode.map(|path| (path, format!("100{mode}"))));
        }
        let (paths, expected): (Vec<String>, Vec<String>) = paths.into_iter().unzip();
        ensure!(modes(ns, who, &paths)? == expected);
    }
    for medium in media {
        let path = format!("/v/{medium}/shared");
        let mut write = ns.kubectl_command();
        feed(write.args(["exec", "-i", "p", "-c", "user", "--", "tee", &path]), b"from the other container")?;
        let found = contents(ns, "root", &[path])?;
        ensure!(found == b"from the other container", "{found:?}");
    }
    Ok(())
}

/// What the kernel says of the mounts.
fn mounted(ns: &Namespace<'_>) -> Result<()> {
    let mounts = String::from_utf8(contents(ns, "root", &["/proc/mounts".to_owned()])?)?;
    let of = |path: &str| mounts.lines().find(|line| line.split(' ').nth(1) == Some(path));
    let memory = of("/v/tmpfs").context("no tmpfs")?;
    ensure!(memory.starts_with("tmpfs ") && memory.contains("size=1024k"), "{memory}");
    let disk = of("/v/default").context("no emptyDir")?;
    ensure!(!disk.starts_with("tmpfs "), "{disk}");
    Ok(())
}

fn many(ns: &Namespace<'_>) -> Result<()> {
    let name = |index: usize| format!("racey-{index}");
    let map = |index| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name(index)}, "data": {"k": "v"}});
    let maps: Vec<Value> = (0..50).map(map).collect();
    let volumes: Vec<(String, Value)> =
        (0..50).map(|index| (name(index), json!({"configMap": {"name": name(index)}}))).collect();
    let mut template = pod("p", &[("c", 0)], &volumes);
    template["metadata"] = json!({"labels": {"name": "racey"}});
    let controller = json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "racey"},
        "spec": {"replicas": 5, "template": {"metadata": template["metadata"], "spec": template["spec"]}}});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": ([maps, vec![controller]].concat())});
    ns.apply(&list.to_string())?;
    ns.wait("jsonpath={.status.readyReplicas}=5", &["rc/racey"]).map(drop)
}
