//! Images: loaded from files, and pulled from a real registry with and without a password, by tag and by digest.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{Run, Table};
use crate::harness::{Namespace, eventually, run, tiphys};

pub const CASES: Table = &[
    ("image-import-list-remove", Run::Shared(import)),
    ("image-pull-from-a-registry", Run::Shared(pull)),
    ("missing-image-is-reported", Run::Shared(missing)),
];

/// containerd's own client on the cluster's socket.
fn ctr(ns: &Namespace<'_>) -> Command {
    let mut command = Command::new("ctr");
    command.arg("--address").arg(ns.cluster.data_dir().join("containerd/containerd.sock"));
    command.args(["--namespace", "k8s.io", "images"]);
    command
}

fn image(ns: &Namespace<'_>, args: &[&str]) -> Result<String> {
    run(tiphys().arg("image").args(args).arg("--data-dir").arg(ns.cluster.data_dir()))
}

fn import(ns: &Namespace<'_>) -> Result<()> {
    let archive = ns.cluster.scratch("import.tar").display().to_string();
    run(ctr(ns).args(["tag", "tiphys.local/hello:1", "example.test/imported:1"]))?;
    run(ctr(ns).args(["export", &archive, "example.test/imported:1"]))?;
    image(ns, &["remove", "example.test/imported:1"])?;
    ensure!(!image(ns, &["list"])?.contains("example.test/imported:1"));
    ensure!(image(ns, &["import", &archive])?.contains("imported example.test/imported:1"));
    ensure!(image(ns, &["list"])?.contains("example.test/imported:1"));
    ns.kubectl(&["run", "imported", "--image=example.test/imported:1"])?;
    ns.wait("condition=Ready", &["pod/imported"]).map(drop)
}

/// A registry on loopback, ended when dropped.
struct Registry {
    process: Child,
    port: u16,
}

impl Registry {
    fn start(ns: &Namespace<'_>, port: u16, password: bool) -> Result<Self> {
        let dir = ns.cluster.scratch(&format!("registry-{port}"));
        std::fs::create_dir_all(&dir)?;
        let shown = dir.display();
        let auth = if password {
            // user:secret
            std::fs::write(dir.join("htpasswd"), HTPASSWD)?;
            format!("auth: {{htpasswd: {{realm: test, path: {shown}/htpasswd}}}}\n")
        } else {
            String::new()
        };
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {shown}/data}}}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\n{auth}"
        );
        std::fs::write(dir.join("config.yml"), config)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(dir.join("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        let process =
            command.spawn().context("docker-registry is missing: `make test-packages` installs it")?;
        eventually("the registry listens", || Ok(std::net::TcpStream::connect(("127.0.0.1", port))?))?;
        Ok(Self { process, port })
    }

    /// Pushes the hello image; its name in this registry.
    fn push(&self, ns: &Namespace<'_>, name: &str, user: &[&str]) -> Result<String> {
        let target = format!("127.0.0.1:{}/{name}:1", self.port);
        run(ctr(ns).args(["tag", "tiphys.local/hello:1", &target]))?;
        run(ctr(ns).args(["push", "--plain-http"]).args(user).arg(&target))?;
        run(ctr(ns).args(["remove", &target]))?;
        Ok(target)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// bcrypt of `secret` for `user`.
const HTPASSWD: &str = "user:$2b$12$GiQmSm0Ye8SXsf7CNEBw4.kuYKDDbZ1IJ37ZX21L/7F1h28bqIzYO\n";

fn pull(ns: &Namespace<'_>) -> Result<()> {
    let open = Registry::start(ns, 15000, false)?;
    let target = open.push(ns, "hello", &[])?;
    ns.kubectl(&["run", "by-tag", &format!("--image={target}")])?;
    ns.wait("condition=Ready", &["pod/by-tag"])?;
    let id =
        ns.kubectl(&["get", "pod", "by-tag", "-o", "jsonpath={.status.containerStatuses[0].imageID}"])?;
    let digest = id.split('@').nth(1).context(id.clone())?;
    let by_digest = format!("{}@{digest}", target.trim_end_matches(":1"));
    ns.kubectl(&["run", "by-digest", &format!("--image={by_digest}")])?;
    ns.wait("condition=Ready", &["pod/by-digest"])?;

    let closed = Registry::start(ns, 15001, true)?;
    let target = closed.push(ns, "private", &["--user", "user:secret"])?;
    let image = format!("--image={target}");
    ns.kubectl(&["run", "refused", &image])?;
    eventually("a pull without the password fails", || {
        let pod = ns.get(&["pod", "refused"])?;
        let reason = pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
        ensure!(reason == "ErrImagePull" || reason == "ImagePullBackOff", "{reason}");
        Ok(())
    })?;
    let server = format!("--docker-server=127.0.0.1:{}", closed.port);
    let secret = ["create", "secret", "docker-registry", "pull", &server];
    ns.kubectl(&[&secret[..], &["--docker-username=user", "--docker-password=secret"]].concat())?;
    let with_secret = r#"--overrides={"spec":{"imagePullSecrets":[{"name":"pull"}]}}"#;
    ns.kubectl(&["run", "allowed", &image, with_secret])?;
    ns.wait("condition=Ready", &["pod/allowed"]).map(drop)
}

fn missing(ns: &Namespace<'_>) -> Result<()> {
    ns.kubectl(&["run", "m", "--image=127.0.0.1:1/none:1"])?;
    eventually("the status and the event say so", || {
        let pod = ns.get(&["pod", "m"])?;
        let reason = pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
        ensure!(reason == "ErrImagePull" || reason == "ImagePullBackOff", "{reason}");
        let events = ns.kubectl(&["get", "events", "--field-selector=reason=Failed"])?;
        ensure!(events.contains("Failed to pull image \"127.0.0.1:1/none:1\""), "{events}");
        Ok(())
    })
}
