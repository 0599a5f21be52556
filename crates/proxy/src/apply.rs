//! From the chains that shall be and those that are to one text for `iptables-restore`: only what differs is written.

use std::collections::{BTreeMap, BTreeSet};

use crate::rules::{Chains, Table};

/// The text that makes `have` into `want`; empty when nothing differs.
///
/// Changed and new chains are filled anew; those that nobody wants are emptied first and deleted last, when no rule leads to
/// them any more. Each table changes in one atomic step.
pub fn difference(have: &Chains, want: &Chains) -> String {
    let mut text = String::new();
    for table in [Table::Filter, Table::Nat] {
        let of = |chains: &Chains| -> BTreeMap<String, Vec<String>> {
            chains
                .iter()
                .filter(|((t, _), _)| *t == table)
                .map(|((_, n), rules)| (n.clone(), rules.clone()))
                .collect()
        };
        text.push_str(&table_difference(table, &of(have), &of(want)));
    }
    text
}

fn table_difference(
    table: Table,
    have: &BTreeMap<String, Vec<String>>,
    want: &BTreeMap<String, Vec<String>>,
) -> String {
    let changed: Vec<_> = want.iter().filter(|(name, rules)| have.get(*name) != Some(rules)).collect();
    let gone: Vec<&String> = have.keys().filter(|name| !want.contains_key(*name)).collect();
    if changed.is_empty() && gone.is_empty() {
        return String::new();
    }
    let mut lines = vec![format!("*{}", table.name())];
    lines.extend(changed.iter().map(|(name, _)| format!(":{name} - [0:0]")));
    lines.extend(gone.iter().map(|name| format!(":{name} - [0:0]")));
    for (name, rules) in changed {
        lines.extend(rules.iter().map(|rule| format!("-A {name} {rule}")));
    }
    lines.extend(gone.iter().map(|name| format!("-X {name}")));
    lines.push("COMMIT\n".to_owned());
    lines.join("\n")
}

/// Names of our chains in the output of `iptables-save`, by table.
pub fn present(saved: &str, prefix: &str) -> BTreeSet<(Table, String)> {
    let mut table = None;
    let mut found = BTreeSet::new();
    for line in saved.lines() {
        match line.split_at_checked(1) {
            Some(("*", "filter")) => table = Some(Table::Filter),
            Some(("*", "nat")) => table = Some(Table::Nat),
            Some(("*", _)) => table = None,
            Some((":", rest)) => {
                let name = rest.split(' ').next().unwrap_or_default();
                found.extend(table.filter(|_| name.starts_with(prefix)).map(|t| (t, name.to_owned())));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chains(pairs: &[(&str, &str)]) -> Chains {
        pairs
            .iter()
            .map(|(name, rule)| ((Table::Nat, (*name).to_owned()), vec![(*rule).to_owned()]))
            .collect()
    }

    #[test]
    fn only_what_differs_is_written() {
        let have = chains(&[("A", "-j B"), ("B", "-j ACCEPT"), ("C", "-j DROP")]);
        let want = chains(&[("A", "-j D"), ("C", "-j DROP"), ("D", "-j ACCEPT")]);
        let text = difference(&have, &want);
        assert_eq!(
            text,
            "*nat\n:A - [0:0]\n:D - [0:0]\n:B - [0:0]\n-A A -j D\n-A D -j ACCEPT\n-X B\nCOMMIT\n"
        );
        assert_eq!(difference(&want, &want), "");
    }

    #[test]
    fn own_chains_are_found_by_table() {
        let saved = "*filter\n:INPUT ACCEPT [0:0]\n:T-A - [0:0]\nCOMMIT\n*mangle\n:T-M - [0:0]\n*nat\n:T-B - [0:0]\n:U-B - [0:0]\n";
        let expected = [(Table::Filter, "T-A".to_owned()), (Table::Nat, "T-B".to_owned())];
        assert_eq!(present(saved, "T-"), expected.into());
    }
}
