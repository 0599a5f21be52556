//! The host's commands: `iptables` and `ip6tables` with their `-save` and `-restore`, and `ip`. Those that change rules wait
//! for the lock of others (`-w`).

use std::io;
use std::net::IpAddr;
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

/// Which of the two sets of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `iptables`
    V4,
    /// `ip6tables`
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn save(self) -> &'static str {
        match self {
            Self::V4 => "iptables-save",
            Self::V6 => "ip6tables-save",
        }
    }

    fn restore(self) -> &'static str {
        match self {
            Self::V4 => "iptables-restore",
            Self::V6 => "ip6tables-restore",
        }
    }
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
pub async fn restore(family: Family, rules: &str) -> Result<(), Error> {
    let output = feed(family, rules).await?;
    check(&format!("{} --noflush", family.restore()), &output)
}

/// Whether all the rules are there that a text asks for, `-C INPUT ...`. It must say nothing else: this is no `--test`, which
/// the nf_tables variant takes to mean that nothing need be looked for.
pub async fn holds(family: Family, rules: &str) -> Result<bool, Error> {
    let output = feed(family, rules).await?;
    match output.status.code() {
        // The first is said of a rule, the second of a chain.
        Some(1 | 2) => Ok(false),
        _ => check(family.restore(), &output).map(|()| true),
    }
}

/// Runs `iptables-restore` with a text.
async fn feed(family: Family, rules: &str) -> Result<Output, Error> {
    let command = family.restore();
    let start = |source| Error::Start { command: command.into(), source };
    let mut child = Command::new(command)
        .args(["-w", "--noflush"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let mut stdin = child.stdin.take();
    let feed = async {
        if let Some(stdin) = &mut stdin {
            // What it says when it stops reading is worth more than that it did.
            let _ = stdin.write_all(rules.as_bytes()).await;
        }
        drop(stdin);
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    output.map_err(start)
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

/// All chains and rules of a table (`filter`, `nat`).
pub async fn save(family: Family, table: &str) -> Result<String, Error> {
    let output = output(family.save(), &["-t", table]).await?;
    check(family.save(), &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// This node's addresses, on whatever interface.
pub async fn local_addresses() -> Result<Vec<IpAddr>, Error> {
    let listed = output("ip", &["-o", "address", "show"]).await?;
    check("ip address show", &listed)?;
    let text = String::from_utf8_lossy(&listed.stdout);
    // `2: eth0    inet 192.0.2.1/24 brd ...`
    let address = |line: &str| line.split_whitespace().nth(3)?.split('/').next()?.parse().ok();
    Ok(text.lines().filter_map(address).collect())
}
