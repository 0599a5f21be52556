//! Beside a real Docker daemon, which has set the FORWARD policy to DROP: both work, and a reset leaves Docker's own alone.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::{Run, Table};
use crate::harness::{Cluster, Namespace, binary, eventually, repository, run};
use crate::machine::{ADDRESS, Machine};

pub const CASES: Table = &[("works-beside-docker", Run::If(missing, beside))];

/// Where programs are, those first that `scripts/packages` has unpacked without installing them.
fn path() -> OsString {
    let unpacked = repository().join("target/distribution-docker/usr");
    let own = [unpacked.join("sbin"), unpacked.join("bin")];
    let all = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = own.into_iter().chain(std::env::split_paths(&all)).collect();
    std::env::join_paths(dirs).unwrap_or(all)
}

/// Why there is no Docker to try.
fn missing() -> Option<String> {
    let path = path();
    let lacks = |name: &&str| !std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    let program = ["dockerd", "docker"].into_iter().find(lacks)?;
    Some(format!("{program} is missing; `make test-packages` unpacks it where it can reach the packages"))
}

/// A daemon with everything of its own.
struct Docker {
    machine: Arc<Machine>,
    daemon: Child,
}

impl Docker {
    fn start(machine: &Arc<Machine>) -> Result<Self> {
        let dir = machine.dir().join("docker");
        std::fs::create_dir(&dir)?;
        std::fs::write(dir.join("config.json"), "{}")?;
        // dockerd sets the policy only when it is the one who turns forwarding on.
        run(machine.command("sh").args(["-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]))?;
        let log = File::create(dir.join("log"))?;
        let mut command = machine.command("dockerd");
        for (flag, file) in [
            ("--config-file", "config.json"),
            ("--data-root", "root"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
        ] {
            command.arg(flag).arg(dir.join(file));
        }
        command.arg("--cgroup-parent").arg(group());
        // Lowering its own score needs a privilege that root lacks in some containers.
        command.args(["--oom-score-adjust", "0"]).env("PATH", path());
        command.arg("--host").arg(socket(machine)).stdout(log.try_clone()?).stderr(log);
        let docker = Self { machine: machine.clone(), daemon: command.spawn()? };
        let answers = eventually("dockerd answers", || docker.run(&["version"]));
        answers.with_context(|| std::fs::read_to_string(dir.join("log")).unwrap_or_default())?;
        Ok(docker)
    }

    fn command(&self) -> Command {
        let mut command = self.machine.command("docker");
        command.env("PATH", path()).arg("--host").arg(socket(&self.machine));
        command
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        run(self.command().args(args))
    }

    /// Runs the container `web`, which answers on port 18080 of the machine. Its image is the binary and a tool.
    fn web(&self) -> Result<()> {
        let tree = self.machine.dir().join("tree");
        std::fs::create_dir_all(tree.join("bin"))?;
        std::fs::copy(binary(), tree.join("tiphys"))?;
        std::os::unix::fs::symlink("/tiphys", tree.join("bin/get"))?;
        let mut tar =
            Command::new("tar").arg("-c").arg("-C").arg(&tree).arg(".").stdout(Stdio::piped()).spawn()?;
        let mut import = self.command();
        import.args(["import", "-", "web:1"]).stdin(tar.stdout.take().context("no output")?);
        run(&mut import)?;
        ensure!(tar.wait()?.success(), "tar failed");
        let start =
            ["run", "--detach", "--name", "web", "--publish", "18080:8080", "web:1", "/tiphys", "hello"];
        self.run(&start).map(drop)
    }

    /// What the container gets from a URL.
    fn get(&self, url: &str) -> Result<String> {
        self.run(&["exec", "web", "/bin/get", url])
    }

    /// Everything of Docker's that could be broken.
    fn state(&self) -> Result<String> {
        let format =
            "{{.Id}} {{.State.StartedAt}} {{.State.Pid}} {{.RestartCount}} {{.NetworkSettings.IPAddress}}";
        let container = self.run(&["inspect", "--format", format, "web"])?;
        let networks = self.run(&["network", "inspect", "bridge", "host", "none"])?;
        let links = run(self.machine.command("ip").args(["-4", "-o", "address"]))?;
        Ok(format!("{container}{networks}{links}{}", rules(&self.machine)?))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "--force", "web"]);
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        // Control groups are the outer machine's. Of v1 there is one tree per controller.
        let trees = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|dir| dir.path());
        for tree in trees.chain([PathBuf::from("/sys/fs/cgroup")]) {
            let _ = std::fs::remove_dir(tree.join(group()));
        }
    }
}

/// The control group above the containers.
fn group() -> String {
    format!("tiphys-test-docker-{}", std::process::id())
}

fn socket(machine: &Machine) -> String {
    format!("unix://{}/docker.sock", machine.dir().join("docker").display())
}

/// All chains with their policies, and all rules, by table; without counters, and without what an empty table has.
fn rules(machine: &Machine) -> Result<String> {
    let saved = run(&mut machine.command("iptables-save"))?;
    let (mut table, mut text) = ("", String::new());
    for line in saved.lines() {
        match line.split_at_checked(1) {
            Some(("*", name)) => table = name,
            Some(("-" | ":", _)) if !line.contains(" ACCEPT [") => {
                let line = line.split(" [").next().unwrap_or(line);
                text.push_str(&format!("{table} {line}\n"));
            }
            _ => {}
        }
    }
    Ok(text)
}

fn beside() -> Result<()> {
    let machine = Arc::new(Machine::start()?);
    let docker = Docker::start(&machine)?;
    docker.web()?;
    let before = docker.state()?;
    ensure!(before.contains("filter :FORWARD DROP"), "Docker has not set the policy:\n{before}");
    let cluster = Cluster::inside(&machine, "docker")?;
    cluster.up()?;
    let ns = cluster.namespace("docker")?;
    ns.hello(2)?;
    everyone_answers(&ns, &docker)?;
    saved_image_runs(&ns, &docker)?;
    ensure!(rules(&machine)?.contains("filter :FORWARD DROP"), "the policy was changed");
    cluster.remove()?;
    let after = docker.state()?;
    ensure!(after == before, "Docker's state before:\n{before}\nand after:\n{after}");
    let answer = docker.get(&format!("http://{ADDRESS}:18080/"))?;
    ensure!(answer.starts_with("Hello from pod"), "{answer}");
    Ok(())
}

/// An image that Docker has made and saved runs in a pod.
fn saved_image_runs(ns: &Namespace<'_>, docker: &Docker) -> Result<()> {
    let archive = docker.machine.dir().join("web.tar");
    docker.run(&["save", "--output", &archive.display().to_string(), "web:1"])?;
    let mut import = docker.machine.command(binary());
    import.args(["image", "import"]).arg(&archive).arg("--data-dir").arg(ns.cluster.data_dir());
    run(&mut import)?;
    let image = ["run", "web", "--image=web:1", "--image-pull-policy=Never"];
    ns.kubectl(&[&image[..], &["--command", "--", "/tiphys", "hello"]].concat())?;
    ns.wait("condition=Ready", &["pod/web"]).map(drop)
}

/// Pods reach each other, their Service and Docker's container; that one reaches the Service's node port.
fn everyone_answers(ns: &Namespace<'_>, docker: &Docker) -> Result<()> {
    let pods = ns.get(&["pods"])?;
    let (one, two) = (&pods["items"][0], &pods["items"][1]);
    let from = one["metadata"]["name"].as_str().context("no pod")?;
    let to = two["status"]["podIP"].as_str().context("no address")?;
    let service = ns.get(&["service", "hello"])?;
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().context("no node port")?;
    let node_port = format!("http://{ADDRESS}:{port}/");
    let published = format!("http://{ADDRESS}:18080/");
    for url in [&format!("http://{to}:8080/"), "http://hello/", &node_port, &published] {
        let answer = eventually(url, || ns.kubectl(&["exec", from, "--", "get", url]))?;
        ensure!(answer.starts_with("Hello from pod "), "{url}: {answer}");
    }
    for url in [&node_port, &published] {
        let answer = eventually(url, || docker.get(url))?;
        ensure!(answer.starts_with("Hello from pod "), "{url}: {answer}");
    }
    Ok(())
}
