//! A cluster of its own for each measurement: own directory, ports, ranges and bridge; removed at the end, also after
//! an error.
//!
//! Its start is followed by what it says itself (systemd's readiness protocol), each message with the time it came.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long any one thing may take; only against a hang.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Port of the API servers that are measured.
pub const HTTPS_PORT: u16 = 17443;
/// Messages of one start are few; the reader takes them at once.
const MESSAGES: usize = 256;

/// What is measured, and where.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The binary.
    pub bin: PathBuf,
    /// Directory that the clusters' directories are made in.
    pub dir: PathBuf,
}

/// The place of one cluster. Dropping it removes everything the cluster made.
#[derive(Debug)]
pub struct Site {
    bin: PathBuf,
    dir: TempDir,
}

impl Site {
    /// An empty place.
    pub fn new(ground: &Ground) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("tiphys-bench-").tempdir_in(&ground.dir)?;
        Ok(Self { bin: ground.bin.clone(), dir })
    }

    /// Starts the cluster, or starts it again, without waiting for anything.
    pub fn start(&self) -> Result<Running> {
        self.start_with(&[])
    }

    /// The same with more flags.
    pub fn start_with(&self, more: &[&str]) -> Result<Running> {
        let mut command = Command::new(&self.bin);
        command.args(["up", "--no-merge"]).arg("--data-dir").arg(self.data_dir());
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command.args(["--https-port", &HTTPS_PORT.to_string(), "--kubelet-port", "17250"]);
        command.args([
            "--bridge",
            "tphbench0",
            "--cluster-cidr",
            "10.140.0.0/16",
            "--service-cidr",
            "10.141.0.0/16",
        ]);
        self.run(command.args(more), "cluster")
    }

    /// Starts another command of the binary, with the kubeconfig of an identity (as `admin` or `controller-manager`).
    pub fn beside(&self, words: &[&str], identity: &str) -> Result<Running> {
        let kubeconfig = match identity {
            "admin" => self.kubeconfig(),
            other => self.data_dir().join("kubeconfig").join(format!("{other}.kubeconfig")),
        };
        self.run(Command::new(&self.bin).args(words).arg("--kubeconfig").arg(kubeconfig), identity)
    }

    fn run(&self, command: &mut Command, name: &str) -> Result<Running> {
        let socket = self.dir.path().join(format!("{name}.sock"));
        let _ = std::fs::remove_file(&socket);
        let notes = listen(UnixDatagram::bind(&socket)?);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        command.env("NOTIFY_SOCKET", &socket).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A signal to the bench's terminal shall not end it before it is told to.
        command.process_group(0).kill_on_drop(true);
        let exec = Instant::now();
        let child = command.spawn().with_context(|| self.bin.display().to_string())?;
        Ok(Running { exec, child, notes, log: self.log() })
    }

    /// Starts the cluster and waits until it says that it is ready.
    pub async fn start_ready(&self) -> Result<Running> {
        self.start()?.ready().await
    }

    /// Ends the cluster and its pods.
    pub async fn stop(&self, mut running: Running) -> Result<()> {
        let stop = self.tool(&["stop", "--stop-pods"]).status().await?;
        timeout(PATIENCE, running.child.wait()).await.context("the cluster does not end")??;
        anyhow::ensure!(stop.success(), "tiphys stop: {stop}");
        Ok(())
    }

    /// Directory of everything.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The admin kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("admin.kubeconfig")
    }

    /// Socket of the cluster's own containerd.
    pub fn containerd(&self) -> PathBuf {
        self.data_dir().join("containerd/containerd.sock")
    }

    /// A directory for logs of containers that are not the cluster's.
    pub fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("tiphys.log")
    }

    fn tool(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.bin);
        command.args(words).arg("--data-dir").arg(self.data_dir());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if !self.data_dir().exists() {
            return;
        }
        let mut reset = self.tool(&["reset", "--yes"]).into_std();
        match reset.status() {
            Ok(status) if status.success() => {}
            outcome => eprintln!("tiphys-bench: tiphys reset: {outcome:?}"),
        }
    }
}

/// A started cluster. Dropping it kills the process.
#[derive(Debug)]
pub struct Running {
    /// When it was executed.
    pub exec: Instant,
    child: Child,
    notes: mpsc::Receiver<Note>,
    log: PathBuf,
}

/// One message of a start.
#[derive(Clone, Debug)]
pub struct Note {
    /// When it came.
    pub at: Instant,
    /// What it says, as `STATUS=…` or `READY=1`.
    pub text: String,
}

impl Note {
    /// Whether the start is over.
    pub fn is_ready(&self) -> bool {
        self.text == "READY=1"
    }
}

impl Running {
    /// Waits until it says that it is ready.
    pub async fn ready(mut self) -> Result<Self> {
        while !self.note().await?.is_ready() {}
        Ok(self)
    }

    /// The next message.
    pub async fn note(&mut self) -> Result<Note> {
        let next = async {
            tokio::select! {
                note = self.notes.recv() => note.context("the messages ended"),
                status = self.child.wait() => Err(anyhow::anyhow!("the cluster ended: {}", status?)),
            }
        };
        match timeout(PATIENCE, next).await {
            Ok(Ok(note)) => Ok(note),
            Ok(Err(error)) => Err(error.context(tail(&self.log))),
            Err(_) => bail!("nothing new for {PATIENCE:?}; its last messages:\n{}", tail(&self.log)),
        }
    }

    /// Its process.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("the cluster ended")
    }
}

/// Takes messages as they come, so that times are true and the sender never waits.
fn listen(socket: UnixDatagram) -> mpsc::Receiver<Note> {
    let (sender, receiver) = mpsc::channel(MESSAGES);
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok(length) = socket.recv(&mut buffer).await {
            let at = Instant::now();
            let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
            if sender.send(Note { at, text }).await.is_err() {
                return;
            }
        }
    });
    receiver
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
}
