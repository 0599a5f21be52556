//! A machine inside the machine: its own network, mounts and processes.
//!
//! What a case does there to packet rules, default directories and other programs' daemons is nobody else's, and it is
//! all gone when the machine is dropped, however the case ended: everything in it dies with its first process, which is
//! `tiphys pause`. The kernel, the files of the distribution and `/tmp` are the outer machine's.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::harness::binary;

/// Address of the machine's only link outwards, which leads nowhere (RFC 2544's range for tests).
pub const ADDRESS: &str = "198.18.0.2";

/// Makes the machine: $1 becomes its first process, $2 takes what is written below /var/lib and /etc.
const SETUP: &str = r"
ip link set lo up
ip link add uplink type veth peer name far
ip address add 198.18.0.2/24 dev uplink
ip link set far up
ip link set uplink up
ip route add default via 198.18.0.1
for dir in /run/netns /run/containerd; do
    mkdir -p $dir
    mount -t tmpfs tmpfs $dir
done
mkdir -p $2/lib $2/etc $2/work
mount --bind $2/lib /var/lib
mount -t overlay -o lowerdir=/etc,upperdir=$2/etc,workdir=$2/work overlay /etc
echo ready
exec $1 pause
";

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    /// `unshare`, whose child is the machine's first process and dies with it.
    outer: Child,
    dir: tempfile::TempDir,
}

impl Machine {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("tiphys-machine-").tempdir()?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["sh", "-euc", SETUP, "setup"]).arg(binary()).arg(dir.path());
        let said = dir.path().join("stderr");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&said)?);
        let mut outer = command.spawn()?;
        let output = outer.stdout.take().context("no output")?;
        let machine = Self { outer, dir };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line == "ready\n", "no inner machine: {}", std::fs::read_to_string(said)?);
        Ok(machine)
    }

    /// A command that runs in it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        for (flag, file) in [("net", "net"), ("mount", "mnt"), ("pid", "pid_for_children")] {
            command.arg(format!("--{flag}=/proc/{}/ns/{file}", self.outer.id()));
        }
        command.arg("--").arg(program).stdin(Stdio::null());
        command
    }

    /// A place for files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The first process, so that `unshare` ends when the kernel has ended all the others, too.
        let inner = Command::new("pkill").args(["-KILL", "-P", &self.outer.id().to_string()]).status();
        if !inner.is_ok_and(|status| status.success()) {
            let _ = self.outer.kill();
        }
        let _ = self.outer.wait();
    }
}
