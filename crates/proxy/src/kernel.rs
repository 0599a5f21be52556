//! Writes one family's [`Tables`] to the kernel.

use tiphys_network::command::{self, Family};

use crate::conntrack;
use crate::model::Port;
use crate::rules::{Names, Table};
use crate::saved::Saved;
use crate::tables::{Tables, removal};

/// One family's rules, wanted and written.
#[derive(Debug)]
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
}

impl Kernel {
    /// With nothing written.
    pub fn new(tables: Tables, names: Names) -> Self {
        Self { family: tables.family(), tables, names, known: false, there: None, udp: true }
    }

    /// Makes a Service have exactly these ports, with the next [`Self::write`].
    pub fn set(&mut self, key: &str, ports: Vec<Port>) {
        self.udp |= self.tables.set(key, ports);
    }

    /// Writes what changed; all of it, if what is there is not known.
    pub async fn write(&mut self) -> Result<(), command::Error> {
        if !self.is_used().await {
            return Ok(());
        }
        let texts = match self.known {
            true => vec![self.tables.changes()],
            false => self.tables.everything(&saved(self.family, &self.names).await?),
        };
        self.known = false;
        for text in texts.iter().filter(|text| !text.is_empty()) {
            command::restore(self.family, text).await?;
        }
        self.known = true;
        if std::mem::take(&mut self.udp)
            && let Err(error) = conntrack::sweep(self.family, self.tables.ports()).await
        {
            // The rules are right all the same; flows end by themselves once they are silent.
            tracing::warn!(%error, "cannot make the kernel forget stale UDP flows");
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
