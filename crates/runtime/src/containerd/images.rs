//! Images given to containerd as files: OCI layouts and `docker save` archives, through containerd's own `ctr`.
//!
//! The CRI cannot import; `ctr` comes with containerd in every distribution and speaks its native API.

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::process::Command;

/// Why an archive was not imported, or a name not removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `ctr` could not be started or fed.
    #[error("cannot run ctr: {0}; it comes with the distribution's containerd package")]
    Run(io::Error),
    /// The archive could not be read.
    #[error("cannot read the archive: {0}")]
    Read(io::Error),
    /// `ctr` refused.
    #[error("containerd refused: {0}")]
    Refused(String),
}

/// Imports an archive into the images of Kubernetes' namespace. Returns the names that it held.
pub async fn import(socket: &Path, archive: impl AsyncRead) -> Result<Vec<String>, Error> {
    let mut child = Command::new("ctr")
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io", "images", "import", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::Run)?;
    let stdin = child.stdin.take();
    let feed = async {
        let Some(mut stdin) = stdin else { return Ok(()) };
        let mut archive = std::pin::pin!(archive);
        match tokio::io::copy(&mut archive, &mut stdin).await {
            // ctr stopped reading: what it says on standard error tells why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(Error::Read(error)),
            Ok(_) => stdin.shutdown().await.map_err(Error::Run),
        }
    };
    let (fed, output) = tokio::join!(feed, child.wait_with_output());
    let output = output.map_err(Error::Run)?;
    if !output.status.success() {
        return Err(Error::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    fed?;
    Ok(names(&String::from_utf8_lossy(&output.stdout)))
}

/// Removes one name of an image; the image itself goes with its last name.
pub async fn remove(socket: &Path, name: &str) -> Result<(), Error> {
    ctr(socket, &["remove", "--sync", name]).await
}

/// Mounts an image's files on a directory, read-only. What containerd keeps for that it removes after a day; the mount
/// stays as long as the image does.
pub(crate) async fn mount(socket: &Path, image: &str, at: &Path) -> Result<(), Error> {
    ctr(socket, &["mount", image, &at.display().to_string()]).await
}

async fn ctr(socket: &Path, command: &[&str]) -> Result<(), Error> {
    let mut ctr = Command::new("ctr");
    ctr.arg("--address").arg(socket).args(["--namespace", "k8s.io", "images"]).args(command);
    let output = ctr.stdin(Stdio::null()).kill_on_drop(true).output().await.map_err(Error::Run)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Reads `unpacking NAME (sha256:…)...done` lines.
fn names(output: &str) -> Vec<String> {
    let name = |line: &str| Some(line.strip_prefix("unpacking ")?.split(' ').next()?.to_owned());
    output.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_read_from_what_ctr_prints() {
        let output =
            "unpacking tiphys.local/pause:1 (sha256:ab)...done\nunpacking x/y:2 (sha256:cd)...done\n";
        assert_eq!(names(output), ["tiphys.local/pause:1", "x/y:2"]);
    }
}
