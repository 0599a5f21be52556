//! What an instance has in the kernel, read from `iptables-save`. Pure.

use std::collections::BTreeSet;

use crate::rules::Table;

/// Our chains, and the rules of others' chains that lead to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// By table.
    pub chains: BTreeSet<(Table, String)>,
    /// As the lines tell them, `-A FORWARD ...`.
    pub jumps: Vec<(Table, String)>,
}

impl Saved {
    /// Adds what one table's text tells about chains with this prefix.
    pub fn add(&mut self, table: Table, text: &str, prefix: &str) {
        let ours = |name: &str| name.starts_with(prefix);
        for line in text.lines() {
            let mut words = line.split(' ');
            let first = words.next().unwrap_or_default();
            if let Some(name) = first.strip_prefix(':') {
                self.chains.extend(ours(name).then(|| (table, name.to_owned())));
            } else if first == "-A" && !words.next().is_some_and(ours) && words.next_back().is_some_and(ours)
            {
                self.jumps.push((table, line.to_owned()));
            }
        }
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.jumps.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_chains_and_what_leads_to_them_are_found() {
        let text = "*nat\n:INPUT ACCEPT [0:0]\n:T-A - [0:0]\n:U-B - [0:0]\n-A INPUT -m comment --comment \"x y\" -j T-A\n\
                    -A INPUT -j U-B\n-A T-A -j T-B\nCOMMIT\n";
        let mut saved = Saved::default();
        saved.add(Table::Nat, text, "T-");
        assert_eq!(saved.chains, BTreeSet::from([(Table::Nat, "T-A".to_owned())]));
        let jump = "-A INPUT -m comment --comment \"x y\" -j T-A";
        assert_eq!(saved.jumps, [(Table::Nat, jump.to_owned())]);
    }
}
