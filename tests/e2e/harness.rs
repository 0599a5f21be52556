//! A cluster of its own for tests: own directory, ports, bridge and ranges, all removed at the end.

use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use crate::machine::Machine;

/// How long any one thing may take on a busy machine with two cores.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// How long a command may take that has no bound of its own. What takes longer hangs.
const COMMAND: Duration = Duration::from_secs(600);
/// A namespace's name is a label and has 63 bytes at most; some stand before others' names.
const LABEL_BYTES: usize = 42;
/// The node of a test neither evicts pods nor removes images because the machine's disk is full, which is no fault of
/// the pods: a build from nothing takes tens of gigabytes. Cases about eviction bring their own.
const ANY_DISK: &str = "\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
evictionHard: {memory.available: 100Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%}
imageGCHighThresholdPercent: 100
";

/// A cluster under test.
#[derive(Debug)]
pub struct Cluster {
    dir: tempfile::TempDir,
    slot: u16,
    /// Where it runs, if not on this machine itself.
    machine: Option<Arc<Machine>>,
}

/// One case's namespace in a cluster.
#[derive(Debug)]
pub struct Namespace<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Name of the namespace.
    pub name: String,
}

impl Cluster {
    /// Starts a cluster. Each that runs at the same time needs another slot (0 to 19): ports and ranges follow from it.
    pub fn start(name: &str, slot: u16) -> Result<Self> {
        let cluster = Self::new(name, slot)?;
        cluster.up()?;
        Ok(cluster)
    }

    /// A cluster that was not started yet.
    pub fn new(name: &str, slot: u16) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix(&format!("tiphys-{name}-")).tempdir()?;
        std::fs::write(dir.path().join("any-disk.yaml"), ANY_DISK)?;
        Ok(Self { dir, slot, machine: None })
    }

    /// A cluster in a machine of its own, not yet started. Its slot need differ only from others in there.
    pub fn inside(machine: &Arc<Machine>, name: &str) -> Result<Self> {
        let mut cluster = Self::new(name, 0)?;
        cluster.machine = Some(machine.clone());
        Ok(cluster)
    }

    /// A command on the machine where the cluster runs.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match &self.machine {
            Some(machine) => machine.command(program),
            None => {
                let mut command = Command::new(program);
                command.stdin(Stdio::null());
                command
            }
        }
    }

    /// Starts it, or starts it again; returns when the node is Ready.
    pub fn up(&self) -> Result<()> {
        run(&mut self.up_command(&["--detach"])).map(drop).with_context(|| self.log_tail())
    }

    /// `tiphys up` with this cluster's flags, and more.
    pub fn up_command(&self, more: &[&str]) -> Command {
        let slot = self.slot;
        let mut command = self.command(binary());
        // As a variable, so that a case can take it away.
        command.args(["up", "--log-level", "info"]).env("TIPHYS_NO_MERGE", "true");
        command.env("TIPHYS_KUBELET_CONFIG", self.scratch("any-disk.yaml"));
        command.arg("--data-dir").arg(self.data_dir()).arg("--kubeconfig").arg(self.kubeconfig());
        command.args(["--https-port", &self.https_port().to_string()]);
        command.args(["--kubelet-port", &(16250 + slot).to_string(), "--bridge", &format!("tphtest{slot}")]);
        command.args(self.ranges()).args(more);
        command
    }

    /// `tiphys server` with this cluster's flags.
    pub fn server_command(&self) -> Command {
        let mut command = tiphys();
        command.args(["server", "--no-merge", "--https-port", &self.https_port().to_string()]);
        command.arg("--data-dir").arg(self.data_dir()).arg("--kubeconfig").arg(self.kubeconfig());
        command.args(self.ranges());
        command
    }

    /// Starts a master of it, which ends with the answer; returns when the API is ready.
    pub fn serve(&self, more: &[&str]) -> Result<Running> {
        let log = std::fs::File::create(self.scratch("log"))?;
        let server = Running(self.server_command().args(more).stdout(Stdio::null()).stderr(log).spawn()?);
        let ready = eventually("the API answers", || self.kubectl(&["get", "--raw", "/readyz"]));
        ready.with_context(|| self.log_tail())?;
        Ok(server)
    }

    /// Flags of the address ranges.
    pub fn ranges(&self) -> [String; 4] {
        let range = |part: u16| format!("10.{part}.0.0/16");
        let (pods, services) = (range(100 + self.slot * 2), range(101 + self.slot * 2));
        ["--cluster-cidr".into(), pods, "--service-cidr".into(), services]
    }

    /// Port of the API server.
    pub fn https_port(&self) -> u16 {
        16443 + self.slot
    }

    /// Directory of everything.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A place for a case's own files.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The admin kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("admin.kubeconfig")
    }

    /// The process that runs it.
    pub fn pid(&self) -> Result<i32> {
        let text = std::fs::read_to_string(self.data_dir().join("lock"))?;
        text.trim().parse().context("the lock names no process")
    }

    /// Kills it as a crash would, and waits until the kernel has let it go.
    pub fn kill(&self) -> Result<()> {
        let process = pidfd_open(Pid::from_raw(self.pid()?).context("no process")?, PidfdFlags::empty())?;
        pidfd_send_signal(&process, Signal::KILL)?;
        ensure!(!killed_if_late(&process)?, "a killed process has not ended");
        Ok(())
    }

    /// Ends it in order.
    pub fn stop(&self) -> Result<()> {
        run(self.command(binary()).arg("stop").arg("--data-dir").arg(self.data_dir())).map(drop)
    }

    /// Removes everything it made.
    pub fn remove(&self) -> Result<String> {
        run(self.command(binary()).args(["reset", "--yes", "--data-dir"]).arg(self.data_dir()))
    }

    /// Removes everything it made, and its directory, for a cluster that is never dropped.
    pub fn clear(&self) -> Result<()> {
        self.remove()?;
        Ok(std::fs::remove_dir_all(self.dir.path())?)
    }

    /// kubectl's standard output, or its error.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        run(self.kubectl_command().args(args))
    }

    /// kubectl, pointed at this cluster.
    pub fn kubectl_command(&self) -> Command {
        let mut command = self.command(kubectl());
        command.arg("--kubeconfig").arg(self.kubeconfig());
        // Discovery is cached per host and port; another test's cluster may have had them.
        command.env("HOME", self.dir.path());
        command
    }

    /// A namespace for one case.
    pub fn namespace(&self, case: &str) -> Result<Namespace<'_>> {
        let name = label(case);
        self.kubectl(&["create", "namespace", &name])?;
        Ok(Namespace { cluster: self, name })
    }

    /// The last lines of the log.
    pub fn log_tail(&self) -> String {
        let file = std::fs::read_to_string(self.data_dir().join("log/tiphys.log"));
        let text = file.or_else(|_| std::fs::read_to_string(self.scratch("log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.data_dir().exists()
            && let Err(error) = self.remove()
        {
            eprintln!("e2e: {error:#}");
        }
    }
}

impl Namespace<'_> {
    /// Removes it with all that is in it, in the background.
    pub fn remove(self) -> Result<()> {
        self.cluster
            .kubectl(&["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"])
            .map(drop)
    }

    /// kubectl in this namespace.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        run(self.kubectl_command().args(args))
    }

    /// kubectl in this namespace, not yet run.
    pub fn kubectl_command(&self) -> Command {
        let mut command = self.cluster.kubectl_command();
        command.args(["--namespace", &self.name]);
        command
    }

    /// kubectl that must fail; its standard error.
    pub fn kubectl_fails(&self, args: &[&str]) -> Result<String> {
        let output = output(self.kubectl_command().args(args))?;
        ensure!(!output.status.success(), "kubectl {args:?} succeeded: {}", text(&output.stdout));
        Ok(text(&output.stderr))
    }

    /// An object or list as JSON.
    pub fn get(&self, what: &[&str]) -> Result<Value> {
        let json = self.kubectl(&[&["get", "-o", "json"], what].concat())?;
        serde_json::from_str(&json).context("kubectl printed no JSON")
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.feed(&["apply", "-f", "-"], manifest)
    }

    /// kubectl with a text on its standard input.
    pub fn feed(&self, args: &[&str], input: &str) -> Result<String> {
        feed(self.kubectl_command().args(args), input.as_bytes())
    }

    /// Waits with kubectl until a condition holds.
    pub fn wait(&self, condition: &str, what: &[&str]) -> Result<String> {
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        self.kubectl(&[&["wait", &format!("--for={condition}"), &timeout], what].concat())
    }

    /// Waits until a rollout is done.
    pub fn rolled_out(&self, what: &str) -> Result<String> {
        self.kubectl(&["rollout", "status", what, &format!("--timeout={}s", PATIENCE.as_secs())])
    }

    /// The hello Deployment of the example, Ready.
    pub fn hello(&self, replicas: u32) -> Result<()> {
        self.apply(&hello_manifest(replicas))?;
        self.rolled_out("deployment/hello").map(drop)
    }
}

/// A process that is ended with its case.
#[derive(Debug)]
pub struct Running(pub Child);

impl Running {
    /// Starts one that is killed if it hangs, so that waiting for it and for its output comes to an end.
    pub fn bounded(command: &mut Command) -> Result<Self> {
        let running = Self(command.spawn().with_context(|| format!("{command:?}"))?);
        let process = pidfd_open(Pid::from_child(&running.0), PidfdFlags::empty())?;
        std::thread::spawn(move || killed_if_late(&process));
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A case's name as a namespace's: of a long one the end, which says most, and what tells it from others' ends.
fn label(case: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let words: String = case.chars().map(plain).collect();
    let words: Vec<&str> = words.split('-').filter(|word| !word.is_empty()).collect();
    let name = words.join("-");
    let Some(cut) = name.len().checked_sub(LABEL_BYTES).filter(|cut| *cut > 0) else { return name };
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    format!("{}-{:08x}", name[cut..].trim_start_matches('-'), hasher.finish() as u32)
}

/// A Deployment `hello` with a readiness probe, and its Service.
pub fn hello_manifest(replicas: u32) -> String {
    include_str!("hello.yaml").replace("REPLICAS", &replicas.to_string())
}

/// The binary under test, as a command.
pub fn tiphys() -> Command {
    let mut command = Command::new(binary());
    command.stdin(Stdio::null());
    command
}

/// The binary under test: `TIPHYS_BIN`, or where `make build-test` puts it.
pub fn binary() -> PathBuf {
    std::env::var_os("TIPHYS_BIN").map_or_else(|| repository().join("target/e2e/tiphys"), PathBuf::from)
}

/// Directory of the project.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// kubectl: `TIPHYS_KUBECTL`, or the one in the path.
pub fn kubectl() -> PathBuf {
    std::env::var_os("TIPHYS_KUBECTL").map_or_else(|| "kubectl".into(), PathBuf::from)
}

/// Runs a command; its standard output, or an error that shows everything it said.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    checked(command, &output)
}

/// Runs a command to its end, which comes.
pub fn output(command: &mut Command) -> Result<Output> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command.spawn().with_context(|| format!("{command:?}"))?).with_context(|| format!("{command:?}"))
}

/// What a command says until it ends; it is killed if it hangs.
fn finish(child: Child) -> Result<Output> {
    let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    std::thread::scope(|scope| {
        let late = scope.spawn(|| killed_if_late(&process));
        let output = child.wait_with_output()?;
        let late = late.join().map_err(|_| anyhow!("the watcher of a command panicked"))??;
        ensure!(!late, "has not ended after {} s: {}", COMMAND.as_secs(), text(&output.stderr));
        Ok(output)
    })
}

/// Runs a command with a text on its standard input.
pub fn feed(command: &mut Command, input: &[u8]) -> Result<String> {
    use std::io::Write;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
    child.stdin.take().context("no standard input")?.write_all(input)?;
    let output = finish(child).with_context(|| format!("{command:?}"))?;
    checked(command, &output)
}

/// Waits for a process' end, and kills it if that does not come; says whether it had to.
fn killed_if_late(process: &OwnedFd) -> Result<bool> {
    let mut events = [PollFd::new(process, PollFlags::IN)];
    let late = poll(&mut events, Some(&COMMAND.try_into()?))? == 0;
    if late {
        pidfd_send_signal(process, Signal::KILL)?;
    }
    Ok(late)
}

fn checked(command: &Command, output: &Output) -> Result<String> {
    if !output.status.success() {
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        bail!("{command:?}\n{}\n{out}{err}", output.status);
    }
    Ok(text(&output.stdout))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How often, as a variable of the environment says.
pub fn count(variable: &str, default: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Tries until it succeeds or patience ends. For what kubectl has no watch for.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                return Err(error.context(format!("gave up waiting: {what}")));
            }
            Err(_) => pause(),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a test's bounded wait for what sends no event")]
fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}
