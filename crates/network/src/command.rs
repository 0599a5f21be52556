//! The host's commands this crate runs: `iptables`, `iptables-restore`, `ip`. Each waits for the lock of others (`-w`).

use std::io;
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A command that could not run or did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started; most often it is not installed.
    #[error(
        "cannot run {command}: {source}; install the distribution's package that holds it (iptables, iproute2)"
    )]
    Start {
        /// Name of the program.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It ran and refused.
    #[error("{command} failed: {message}")]
    Failed {
        /// The command line.
        command: String,
        /// What it wrote to standard error.
        message: String,
    },
}

/// One rule in a chain that others own, leading to a chain of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jump {
    /// Table of both chains.
    pub table: &'static str,
    /// The host's chain.
    pub chain: &'static str,
    /// The rule's words.
    pub rule: Vec<String>,
}

impl Jump {
    /// Whether the rule is there.
    pub async fn exists(&self) -> Result<bool, Error> {
        Ok(self.run("-C").await?.status.success())
    }

    /// Puts the rule first.
    pub async fn insert(&self) -> Result<(), Error> {
        let output = self.run("-I").await?;
        check(&format!("iptables -t {} -I {}", self.table, self.chain), &output)
    }

    /// Takes the rule away as often as it is there.
    pub async fn remove(&self) -> Result<(), Error> {
        while self.run("-D").await?.status.success() {}
        Ok(())
    }

    async fn run(&self, action: &str) -> Result<Output, Error> {
        let mut args = vec!["-w", "-t", self.table, action, self.chain];
        args.extend(self.rule.iter().map(String::as_str));
        output("iptables", &args).await
    }
}

/// Applies rules in one atomic step per table, leaving all other chains alone.
pub async fn iptables_restore(rules: &str) -> Result<(), Error> {
    let start = |source| Error::Start { command: "iptables-restore".into(), source };
    let mut child = Command::new("iptables-restore")
        .args(["-w", "--noflush"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(rules.as_bytes()).await.map_err(start)?;
    }
    let output = child.wait_with_output().await.map_err(start)?;
    check("iptables-restore --noflush", &output)
}

/// Empties and deletes a chain of ours; an absent one is fine.
pub async fn remove_chain(table: &str, chain: &str) -> Result<(), Error> {
    if output("iptables", &["-w", "-t", table, "-F", chain]).await?.status.success() {
        let out = output("iptables", &["-w", "-t", table, "-X", chain]).await?;
        check(&format!("iptables -t {table} -X {chain}"), &out)?;
    }
    Ok(())
}

/// Deletes a network interface; an absent one is fine.
pub async fn delete_link(name: &str) -> Result<(), Error> {
    if !has_link(name) {
        return Ok(());
    }
    let out = output("ip", &["link", "delete", name]).await?;
    check(&format!("ip link delete {name}"), &out)
}

/// Asks the kernel, as /sys may be that of another network namespace.
fn has_link(name: &str) -> bool {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    match socket(AddressFamily::INET, SocketType::DGRAM, None) {
        Ok(socket) => netdevice::name_to_index(socket, name).is_ok(),
        Err(_) => true,
    }
}

/// Gives an interface an address, unless it has it.
pub async fn ensure_address(address: std::net::Ipv4Addr, link: &str) -> Result<(), Error> {
    change_address("replace", address, link).await
}

/// Takes an address from an interface; an absent one is fine.
pub async fn remove_address(address: std::net::Ipv4Addr, link: &str) -> Result<(), Error> {
    let listed = output("ip", &["-o", "address", "show", "dev", link]).await?;
    if String::from_utf8_lossy(&listed.stdout).contains(&format!(" {address}/32 ")) {
        change_address("delete", address, link).await?;
    }
    Ok(())
}

async fn change_address(verb: &str, address: std::net::Ipv4Addr, link: &str) -> Result<(), Error> {
    let out = output("ip", &["address", verb, &format!("{address}/32"), "dev", link]).await?;
    check(&format!("ip address {verb} {address}/32 dev {link}"), &out)
}

async fn output(command: &str, args: &[&str]) -> Result<Output, Error> {
    Command::new(command)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|source| Error::Start { command: command.into(), source })
}

fn check(command: &str, output: &Output) -> Result<(), Error> {
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Failed { command: command.to_owned(), message })
}

/// All chains and rules of the filter and nat tables.
pub async fn iptables_save() -> Result<String, Error> {
    let output = output("iptables-save", &[]).await?;
    check("iptables-save", &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
