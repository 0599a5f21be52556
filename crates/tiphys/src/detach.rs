//! `up --detach`: the same command once more in a session of its own, and its progress until it is ready.
//!
//! The child speaks systemd's readiness protocol to this parent, as it would to systemd; no state is polled.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};

/// Starts the child and returns once it is ready.
pub async fn up(data_dir: &Path, args: &[OsString]) -> Result<()> {
    let log_path = data_dir.join("log/tiphys.log");
    std::fs::create_dir_all(data_dir.join("log"))
        .with_context(|| format!("cannot make {}", data_dir.display()))?;
    let socket_path = data_dir.join("ready.sock");
    // What a killed start left behind.
    let _ = std::fs::remove_file(&socket_path);
    let socket =
        UnixDatagram::bind(&socket_path).with_context(|| format!("cannot make {}", socket_path.display()))?;
    let mut child = spawn(args, &log_path, &socket_path)?;
    let outcome = tokio::select! {
        ready = follow(&socket) => ready,
        status = child.wait() => Err(anyhow::anyhow!("the cluster did not start ({}):\n{}", status?, tail(&log_path))),
    };
    let _ = std::fs::remove_file(&socket_path);
    outcome?;
    let id = child.id().map_or_else(String::new, |id| format!(" as process {id}"));
    println!("Runs in the background{id}; messages in {}", log_path.display());
    Ok(())
}

fn spawn(args: &[OsString], log_path: &Path, socket: &Path) -> Result<Child> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log_path)
        .with_context(|| format!("cannot write {}", log_path.display()))?;
    let words = args.iter().skip(1).filter(|word| *word != "--detach");
    Command::new(std::env::current_exe()?)
        .args(words)
        .env_remove("TIPHYS_DETACH")
        .env("NOTIFY_SOCKET", socket)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("cannot start the background process")
}

/// Shows the child's steps until it says that it is ready.
async fn follow(socket: &UnixDatagram) -> Result<()> {
    let mut message = [0; 4096];
    loop {
        let read = socket.recv(&mut message).await.context("lost the background process")?;
        let text = String::from_utf8_lossy(message.get(..read).unwrap_or_default());
        if text == "READY=1" {
            return Ok(());
        }
        if let Some(step) = text.strip_prefix("STATUS=") {
            println!("  {step}");
        }
    }
}

/// The last lines of the log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("\n")
}
