//! Volumes that show ConfigMaps and Secrets.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::super::Table;
use super::{USER, contents, modes, pod, run};
use crate::cases::Run;
use crate::harness::Namespace;

pub const CASES: Table = &[
    (&NAMES, Run::Shared(shown)),
    (
        &[
            "[sig-storage] Secrets should be consumable from pods in volume as non-root with defaultMode and fsGroup set [LinuxOnly] [NodeConformance]",
            "[sig-storage] Projected secret should be consumable from pods in volume as non-root with defaultMode and fsGroup set [LinuxOnly] [NodeConformance]",
        ],
        Run::Shared(of_the_pods_group),
    ),
    (
        &[
            "[sig-storage] Subpath Atomic writer volumes should support subpaths with configmap pod [Excluded:WindowsDocker]",
            "[sig-storage] Subpath Atomic writer volumes should support subpaths with configmap pod with mountPath of existing file [Excluded:WindowsDocker]",
            "[sig-storage] Subpath Atomic writer volumes should support subpaths with downward pod [Excluded:WindowsDocker]",
            "[sig-storage] Subpath Atomic writer volumes should support subpaths with projected pod [Excluded:WindowsDocker]",
            "[sig-storage] Subpath Atomic writer volumes should support subpaths with secret pod [Excluded:WindowsDocker]",
        ],
        Run::Shared(parts),
    ),
];

/// One behaviour: the volume, who looks, at what, and the mode that it must have.
struct Row {
    name: &'static str,
    of: Of,
    how: How,
    by: &'static str,
}

#[derive(Clone, Copy)]
enum Of {
    ConfigMap,
    Secret,
    ProjectedConfigMap,
    ProjectedSecret,
}

/// How keys become files.
#[derive(Clone, Copy)]
enum How {
    Plain,
    Binary,
    DefaultMode,
    Mapped,
    MappedWithMode,
}

macro_rules! rows {
    ($($name:literal $of:ident $how:ident $by:literal,)*) => {
        &[$(Row { name: concat!("[sig-storage] ", $name), of: Of::$of, how: How::$how, by: $by }),*]
    };
}

#[rustfmt::skip]
const ROWS: &[Row] = rows![
    "ConfigMap should be consumable from pods in volume [NodeConformance]" ConfigMap Plain "root",
    "ConfigMap should be consumable from pods in volume as non-root [NodeConformance]" ConfigMap Plain "user",
    "ConfigMap should be consumable from pods in volume with defaultMode set [LinuxOnly] [NodeConformance]" ConfigMap DefaultMode "root",
    "ConfigMap should be consumable from pods in volume with mappings [NodeConformance]" ConfigMap Mapped "root",
    "ConfigMap should be consumable from pods in volume with mappings and Item mode set [LinuxOnly] [NodeConformance]" ConfigMap MappedWithMode "root",
    "ConfigMap should be consumable from pods in volume with mappings as non-root [NodeConformance]" ConfigMap Mapped "user",
    "ConfigMap should be consumable in multiple volumes in the same pod [NodeConformance]" ConfigMap Plain "root",
    "ConfigMap binary data should be reflected in volume [NodeConformance]" ConfigMap Binary "root",
    "Secrets should be consumable from pods in volume [NodeConformance]" Secret Plain "root",
    "Secrets should be consumable from pods in volume with defaultMode set [LinuxOnly] [NodeConformance]" Secret DefaultMode "root",
    "Secrets should be consumable from pods in volume with mappings [NodeConformance]" Secret Mapped "root",
    "Secrets should be consumable from pods in volume with mappings and Item Mode set [LinuxOnly] [NodeConformance]" Secret MappedWithMode "root",
    "Secrets should be consumable in multiple volumes in a pod [NodeConformance]" Secret Plain "user",
    "Secrets should be able to mount in a volume regardless of a different secret existing with same name in different namespace [NodeConformance]" Secret Plain "root",
    "EmptyDir wrapper volumes should not conflict" Secret Plain "root",
    "Projected configMap should be consumable from pods in volume [NodeConformance]" ProjectedConfigMap Plain "root",
    "Projected configMap should be consumable from pods in volume as non-root [NodeConformance]" ProjectedConfigMap Plain "user",
    "Projected configMap should be consumable from pods in volume with defaultMode set [LinuxOnly] [NodeConformance]" ProjectedConfigMap DefaultMode "root",
    "Projected configMap should be consumable from pods in volume with mappings [NodeConformance]" ProjectedConfigMap Mapped "root",
    "Projected configMap should be consumable from pods in volume with mappings and Item mode set [LinuxOnly] [NodeConformance]" ProjectedConfigMap MappedWithMode "root",
    "Projected configMap should be consumable from pods in volume with mappings as non-root [NodeConformance]" ProjectedConfigMap Mapped "user",
    "Projected configMap should be consumable in multiple volumes in the same pod [NodeConformance]" ProjectedConfigMap Plain "root",
    "Projected secret should be consumable from pods in volume [NodeConformance]" ProjectedSecret Plain "root",
    "Projected secret should be consumable from pods in volume with defaultMode set [LinuxOnly] [NodeConformance]" ProjectedSecret DefaultMode "root",
    "Projected secret should be consumable from pods in volume with mappings [NodeConformance]" ProjectedSecret Mapped "root",
    "Projected secret should be consumable from pods in volume with mappings and Item Mode set [LinuxOnly] [NodeConformance]" ProjectedSecret MappedWithMode "root",
    "Projected secret should be consumable in multiple volumes in a pod [NodeConformance]" ProjectedSecret Plain "user",
];

/// The names of the table.
const NAMES: [&str; ROWS.len()] = {
    let mut names = [""; ROWS.len()];
    let mut row = 0;
    while row < names.len() {
        names[row] = ROWS[row].name;
        row += 1;
    }
    names
};

const BYTES: &[u8] = &[0xde, 0xad, 0xbe, 0xef, 0x00, b'\n'];

impl Row {
    fn volume(&self) -> Value {
        let (items, mode) = match self.how {
            How::Plain | How::Binary => (Value::Null, Value::Null),
            How::DefaultMode => (Value::Null, json!(0o400)),
            How::Mapped => (json!([{"key": "data-2", "path": "path/to/data-2"}]), Value::Null),
            How::MappedWithMode => {
                (json!([{"key": "data-2", "path": "path/to/data-2", "mode": 0o400}]), Value::Null)
            }
        };
        let projected = |source| json!({"projected": {"sources": [source], "defaultMode": mode}});
        match self.of {
            Of::ConfigMap => json!({"configMap": {"name": "data", "items": items, "defaultMode": mode}}),
            Of::Secret => json!({"secret": {"secretName": "data", "items": items, "defaultMode": mode}}),
            Of::ProjectedConfigMap => projected(json!({"configMap": {"name": "data", "items": items}})),
            Of::ProjectedSecret => projected(json!({"secret": {"name": "data", "items": items}})),
        }
    }

    fn file(&self) -> &'static str {
        match self.how {
            How::Plain | How::DefaultMode => "data-1",
            How::Binary => "dump.bin",
            How::Mapped | How::MappedWithMode => "path/to/data-2",
        }
    }

    fn mode(&self) -> &'static str {
        match self.how {
            How::DefaultMode | How::MappedWithMode => "100400",
            _ => "100644",
        }
    }

    fn content(&self) -> &'static [u8] {
        match self.how {
            How::Plain | How::DefaultMode => b"value-1\n",
            How::Binary => BYTES,
            How::Mapped | How::MappedWithMode => b"value-2\n",
        }
    }
}

/// A ConfigMap and a Secret with the same keys.
fn data() -> [Value; 2] {
    let data = json!({"data-1": "value-1\n", "data-2": "value-2\n", "data-3": "value-3\n"});
    let meta = json!({"name": "data"});
    [
        // The binary data are `BYTES`.
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data,
            "binaryData": {"dump.bin": "3q2+7wAK"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": data}),
    ]
}

fn shown(ns: &Namespace<'_>) -> Result<()> {
    let other = format!("{}-other", ns.name);
    ns.cluster.kubectl(&["create", "namespace", &other])?;
    ns.cluster.kubectl(&[
        "-n",
        &other,
        "create",
        "secret",
        "generic",
        "data",
        "--from-literal=data-1=other",
    ])?;
    let volumes: Vec<(String, Value)> =
        ROWS.iter().enumerate().map(|(index, row)| (format!("v{index}"), row.volume())).collect();
    run(ns, &data(), &pod("p", &[("root", 0), ("user", USER)], &volumes))?;
    for who in ["root", "user"] {
        let rows: Vec<(usize, &Row)> = ROWS.iter().enumerate().filter(|(_, row)| row.by == who).collect();
        // Links are followed on the way, and told of themselves at the end: `..data` leads to the file.
        let paths: Vec<String> =
            rows.iter().map(|(index, row)| format!("/v/v{index}/..data/{}", row.file())).collect();
        for ((_, row), mode) in rows.iter().zip(modes(ns, who, &paths)?) {
            ensure!(mode == row.mode(), "{}: mode {mode}", row.name);
        }
        let paths: Vec<String> =
            rows.iter().map(|(index, row)| format!("/v/v{index}/{}", row.file())).collect();
        let expected: Vec<u8> = rows.iter().flat_map(|(_, row)| row.content()).copied().collect();
        let found = contents(ns, who, &paths)?;
        ensure!(found == expected, "{who}: {:?}", String::from_utf8_lossy(&found));
    }
    let refused = ns.kubectl_fails(&["exec", "p", "-c", "root", "--", "touch", "/v/v0/new"])?;
    ensure!(refused.contains("Read-only file system"), "{refused}");
    ns.cluster.kubectl(&["delete", "namespace", &other, "--wait=false"]).map(drop)
}

fn of_the_pods_group(ns: &Namespace<'_>) -> Result<()> {
    let projected = json!({"projected": {"sources": [{"secret": {"name": "data"}}], "defaultMode": 0o440}});
    let secret = |mode: u32| json!({"secret": {"secretName": "data", "defaultMode": mode}});
    let volumes = [
        ("plain".to_owned(), secret(0o440)),
        ("projected".to_owned(), projected),
        // Only the owner could read it, and that is root: the group gets what it needs.
        ("narrow".to_owned(), secret(0o400)),
    ];
    let mut pod = pod("p", &[("user", USER)], &volumes);
    pod["spec"]["securityContext"] = json!({"fsGroup": 1001});
    run(ns, &data(), &pod)?;
    let paths = ["plain", "projected", "narrow"].map(|name| format!("/v/{name}/..data/data-1"));
    let modes = modes(ns, "user", &paths)?;
    ensure!(modes == ["100440"; 3], "{modes:?}");
    let found = contents(ns, "user", &paths)?;
    ensure!(found == b"value-1\n".repeat(3), "{found:?}");
    Ok(())
}

fn parts(ns: &Namespace<'_>) -> Result<()> {
    let name = json!({"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]});
    let volumes = [
        ("config".to_owned(), json!({"configMap": {"name": "data"}})),
        ("secret".to_owned(), json!({"secret": {"secretName": "data"}})),
        ("downward".to_owned(), json!({"downwardAPI": name})),
        ("projected".to_owned(), json!({"projected": {"sources": [{"configMap": {"name": "data"}}]}})),
    ];
    let mut pod = pod("p", &[("root", 0)], &volumes);
    let mount = |name: &str, part: &str, at: &str| json!({"name": name, "subPath": part, "mountPath": at});
    pod["spec"]["containers"][0]["volumeMounts"] = json!([
        mount("config", "data-1", "/part/config"),
        mount("config", "data-2", "/etc/resolv.conf"),
        mount("secret", "data-1", "/part/secret"),
        mount("downward", "name", "/part/downward"),
        mount("projected", "data-3", "/part/projected"),
    ]);
    run(ns, &data(), &pod)?;
    let paths = ["/part/config", "/etc/resolv.conf", "/part/secret", "/part/projected", "/part/downward"];
    let found = contents(ns, "root", &paths.map(str::to_owned))?;
    ensure!(found == b"value-1\nvalue-2\nvalue-1\nvalue-3\np", "{:?}", String::from_utf8_lossy(&found));
    Ok(())
}
