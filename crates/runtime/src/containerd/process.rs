//! containerd as a child process: started or taken over, watched by pidfd, ended by signal.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixDatagram;

use super::networks::Networks;
use super::{Config, config, shims};

/// How long containerd may take to say that it is ready: longer than it waits for a shim.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long containerd may take to end after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Linux' limit for the path of a unix socket, less its final zero.
const SOCKET_PATH_MAX_BYTES: usize = 107;

/// Why containerd does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of it could not be made.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program could not be started.
    #[error("cannot start containerd: {0}; install the distribution's packages containerd and runc")]
    Start(io::Error),
    /// It ended before it was ready.
    #[error("containerd ended while starting; its messages are in {log}")]
    Ended {
        /// Where its messages are.
        log: PathBuf,
    },
    /// It did not get ready in time.
    #[error("containerd was not ready after {} s; its messages are in {log}", READY_WITHIN.as_secs())]
    NotReady {
        /// Where its messages are.
        log: PathBuf,
    },
    /// Its socket's path is longer than Linux allows.
    #[error("the path {0} is too long for a socket (107 bytes); choose a shorter --data-dir")]
    SocketPath(PathBuf),
    /// The process could not be watched or signalled.
    #[error("cannot watch containerd: {0}")]
    Watch(io::Error),
}

/// A running containerd.
#[derive(Debug)]
pub struct Containerd {
    process: AsyncFd<OwnedFd>,
    pid: i32,
    adopted: bool,
}

impl Containerd {
    /// Starts containerd, or takes over the one that already runs with this configuration. Ready when this returns.
    pub async fn start(config: &Config) -> Result<Self, Error> {
        let running = find(&config.file()).map(|pid| Self::watch(pid, true)).transpose()?;
        let unchanged = prepare(config)?;
        match running {
            Some(running) if unchanged => return Ok(running),
            Some(outdated) => outdated.stop().await?,
            None => {}
        }
        let before = Networks::read(config);
        let notify = Notify::bind(config)?;
        let started = Self::watch(spawn(config, &notify.path)?, false)?;
        tokio::select! {
            ready = notify.ready() => ready.map_err(Error::Watch)?,
            _ = started.ended() => return Err(Error::Ended { log: config.log_file.clone() }),
            () = tokio::time::sleep(READY_WITHIN) => return Err(Error::NotReady { log: config.log_file.clone() }),
        }
        let forgotten = shims::end_forgotten(config);
        if forgotten > 0 {
            tracing::info!(forgotten, "ended shims that a killed containerd left without containers");
        }
        let forgotten = before.end_forgotten(config);
        if forgotten > 0 {
            tracing::info!(
                forgotten,
                "removed network namespaces and addresses that a killed containerd left"
            );
        }
        Ok(started)
    }

    /// The containerd that runs with this configuration, if any.
    pub fn running(config: &Config) -> Result<Option<Self>, Error> {
        find(&config.file()).map(|pid| Self::watch(pid, true)).transpose()
    }

    /// Process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it ran before this process asked for it.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Returns when the process has ended.
    pub async fn ended(&self) -> Result<(), Error> {
        self.process.readable().await.map_err(Error::Watch)?.retain_ready();
        // A child of ours stays a zombie until it is waited for; one taken over has another parent.
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
        }
        Ok(())
    }

    /// Ends the process; containers keep running under their shims.
    pub async fn stop(self) -> Result<(), Error> {
        self.signal(Signal::TERM)?;
        if tokio::time::timeout(STOP_WITHIN, self.ended()).await.is_err() {
            self.signal(Signal::KILL)?;
            self.ended().await?;
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        match pidfd_send_signal(self.process.get_ref(), signal) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(error) => Err(Error::Watch(error.into())),
        }
    }

    #[allow(deprecated, reason = "the safe constructor; the descriptor is owned here and never closed early")]
    fn watch(pid: i32, adopted: bool) -> Result<Self, Error> {
        let gone = || Error::Watch(io::ErrorKind::NotFound.into());
        let process = Pid::from_raw(pid).ok_or_else(gone)?;
        let fd = pidfd_open(process, PidfdFlags::NONBLOCK).map_err(|e| Error::Watch(e.into()))?;
        Ok(Self { process: AsyncFd::new(fd).map_err(Error::Watch)?, pid, adopted })
    }
}

/// Writes what containerd needs; says whether its configuration is the one that was there before.
fn prepare(config: &Config) -> Result<bool, Error> {
    if config.socket().as_os_str().len() > SOCKET_PATH_MAX_BYTES {
        return Err(Error::SocketPath(config.socket()));
    }
    let write_error = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    let log_dir = config.log_file.parent().unwrap_or(&config.dir);
    for dir in [&config.dir, &config.dir.join("certs.d"), log_dir] {
        std::fs::create_dir_all(dir).map_err(write_error(dir))?;
    }
    let (file, text) = (config.file(), config::render(config));
    if std::fs::read_to_string(&file).is_ok_and(|old| old == text) {
        return Ok(true);
    }
    std::fs::write(&file, text).map_err(write_error(&file))?;
    Ok(false)
}

fn spawn(config: &Config, notify: &Path) -> Result<i32, Error> {
    use std::os::unix::process::CommandExt;
    let path = &config.log_file;
    let write_error = |source| Error::Write { path: path.clone(), source };
    let log = OpenOptions::new().create(true).append(true).open(path).map_err(write_error)?;
    let errors = log.try_clone().map_err(write_error)?;
    let child = Command::new("containerd")
        .arg("--config")
        .arg(config.file())
        .env("NOTIFY_SOCKET", notify)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        // A group of its own: Ctrl-C at the terminal is for Tiphys, which then ends containerd in order.
        .process_group(0)
        .spawn()
        .map_err(Error::Start)?;
    i32::try_from(child.id()).map_err(|_| Error::Watch(io::ErrorKind::InvalidData.into()))
}

/// The process that was started as `containerd --config FILE`.
fn find(file: &Path) -> Option<i32> {
    let pids =
        std::fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.into_iter().find(|pid: &i32| is_containerd(*pid, file))
}

fn is_containerd(pid: i32, file: &Path) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
    let [program, flag, path, ..] = words.as_slice() else { return false };
    program.ends_with(b"containerd") && *flag == b"--config" && *path == file.as_os_str().as_encoded_bytes()
}

/// The receiving end of systemd's notify protocol (sd_notify(3)).
struct Notify {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Notify {
    fn bind(config: &Config) -> Result<Self, Error> {
        let path = config.dir.join("notify.sock");
        // What a killed start left behind.
        let _ = std::fs::remove_file(&path);
        let socket =
            UnixDatagram::bind(&path).map_err(|source| Error::Write { path: path.clone(), source })?;
        Ok(Self { socket, path })
    }

    async fn ready(&self) -> io::Result<()> {
        let mut message = [0; 4096];
        loop {
            let read = self.socket.recv(&mut message).await?;
            let lines = message.get(..read).unwrap_or_default();
            if lines.split(|b| *b == b'\n').any(|line| line == b"READY=1") {
                return Ok(());
            }
        }
    }
}

impl Drop for Notify {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
