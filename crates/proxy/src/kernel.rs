//! Writes one family's [`Tables`] to the kernel.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tiphys_network::command::{self, Family};

use crate::conntrack;
use crate::model::Port;
use crate::rules::{Names, Table};
use crate::saved::Saved;
use crate::status::Status;
use crate::tables::{Tables, removal};

/// Why the kernel is not as it shall be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its rules.
    #[error("cannot write the Services' rules: {0}")]
    Rules(#[from] command::Error),
    /// Its flows. They end by themselves once they are silent.
    #[error("cannot make the kernel forget stale UDP flows: {0}")]
    Flows(io::Error),
}

/// One family's rules, wanted and written.
pub struct Kernel {
    family: Family,
    tables: Tables,
    names: Names,
    /// Whether the kernel is known to hold what was written last: not after a start, nor after a failure.
    known: bool,
    /// Whether the kernel can be asked for this family's rules, once that was tried.
    there: Option<bool>,
    /// Whether UDP flows may go where they should not.
    udp: bool,
    status: Arc<Status>,
}

impl Kernel {
    /// With nothing written.
    pub(crate) fn new(tables: Tables, names: Names, status: Arc<Status>) -> Self {
        Self { family: tables.family(), tables, names, known: false, there: None, udp: true, status }
    }

    /// Which family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Makes a Service have exactly these ports, with the next [`Self::write`].
    pub fn set(&mut self, key: &str, ports: Vec<Port>) {
        self.udp |= self.tables.set(key, ports);
    }

    /// Looks whether somebody took the rules away: then the next [`Self::write`] writes all of them.
    pub async fn look(&mut self) -> Result<(), Error> {
        if self.known && !command::holds(self.family, &self.tables.canary()).await? {
            tracing::warn!(family = ?self.family, "the Services' rules were taken away; writing them anew");
            self.status.queued();
            self.known = false;
        }
        Ok(())
    }

    /// Writes what changed; all of it, if what is there is not known.
    pub async fn write(&mut self) -> Result<(), Error> {
        if !self.is_used().await {
            return Ok(());
        }
        let texts = match self.known {
            true => vec![self.tables.changes()],
            false => self.tables.everything(&saved(self.family, &self.names).await?),
        };
        let all = !std::mem::replace(&mut self.known, false);
        let start = Instant::now();
        for text in texts.iter().filter(|text| !text.is_empty()) {
            let written = command::restore(self.family, text).await;
            written.inspect_err(|_| self.status.failed(self.family))?;
        }
        self.known = true;
        if texts.iter().any(|text| !text.is_empty()) {
            self.status.wrote(self.family, all, start.elapsed());
        }
        if self.udp {
            conntrack::sweep(self.family, self.tables.ports()).await?;
            self.udp = false;
        }
        Ok(())
    }

    /// A kernel without IPv6 shall not trouble those who do not use it: its rules are written for a Service, or when an
    /// earlier process left some.
    async fn is_used(&mut self) -> bool {
        if self.family == Family::V4 || self.known {
            return true;
        }
        if self.there.is_none() {
            let left = saved(self.family, &self.names).await;
            self.there = Some(left.is_ok());
            match left {
                Ok(left) if !left.is_empty() => return true,
                Ok(_) => {}
                Err(error) => tracing::info!(%error, "Services answer at IPv4 addresses only"),
            }
        }
        self.there == Some(true) && !self.tables.is_empty()
    }
}

/// Takes away what an instance has in the kernel.
pub async fn remove(family: Family, names: &Names) -> Result<(), command::Error> {
    let text = removal(&saved(family, names).await?);
    if text.is_empty() { Ok(()) } else { command::restore(family, &text).await }
}

async fn saved(family: Family, names: &Names) -> Result<Saved, command::Error> {
    let mut saved = Saved::default();
    for table in [Table::Filter, Table::Nat] {
        saved.add(table, &command::save(family, table.name()).await?, &names.prefix());
    }
    Ok(saved)
}

#[cfg(test)]
mod tests;
