//! containerd's configuration file (version 2, read by containerd 1.6 to 2.x).

use super::Config;

/// Plugins that no pod here needs; without them containerd starts faster and complains less.
const DISABLED: &[&str] = &[
    "io.containerd.internal.v1.opt",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.internal.v1.tracing",
];

/// The file's text.
pub fn render(config: &Config) -> String {
    let disabled: Vec<String> = DISABLED.iter().map(|name| quote(name)).collect();
    let path = |sub: &str| quote(&config.dir.join(sub).display().to_string());
    format!(
        r#"# Written by tiphys at each start; changes are lost.
version = 2
root = {root}
state = {state}
disabled_plugins = [{disabled}]

[grpc]
  address = {socket}

[debug]
  level = "warn"

# A busy machine may take longer than the usual 5 and 2 seconds to answer for what runs. A containerd that has just been
# started takes what does not answer for dead, and ends it.
[timeouts]
  "io.containerd.timeout.shim.load" = "30s"
  "io.containerd.timeout.task.state" = "30s"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {sandbox}
  restrict_oom_score_adj = {restrict}
  netns_mounts_under_state_dir = true
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {cni_bin}
    conf_dir = {cni_conf}

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = {certs}

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = {runc}
"#,
        root = path("root"),
        state = path("state"),
        socket = quote(&config.socket().display().to_string()),
        disabled = disabled.join(", "),
        sandbox = quote(&config.sandbox_image),
        restrict = config.restrict_oom_score,
        cni_bin = quote(&config.cni_bin_dir.display().to_string()),
        cni_conf = quote(&config.cni_conf_dir.display().to_string()),
        certs = path("certs.d"),
        runc = path("runc"),
    )
}

/// A TOML basic string.
fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_lies_under_the_directory() {
        let config = Config {
            dir: "/data/containerd".into(),
            cni_bin_dir: "/usr/lib/cni".into(),
            cni_conf_dir: "/data/cni".into(),
            cni_state_dir: "/data/addresses".into(),
            sandbox_image: "tiphys.local/pause:1".into(),
            log_file: "/data/log".into(),
            restrict_oom_score: true,
        };
        let text = render(&config);
        for line in ["root = \"/data/containerd/root\"", "address = \"/data/containerd/containerd.sock\""] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.contains("restrict_oom_score_adj = true"));
    }

    #[test]
    fn quotes_cannot_end_a_string() {
        assert_eq!(quote("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000A\"");
    }
}
