//! The node's packet rules for pods, as text for `iptables-restore`, and the jumps that lead to them.
//!
//! Chains are ours alone and are replaced whole; the jumps in the host's chains are single rules, put first so that a
//! FORWARD policy of DROP (Docker's) does not reach pods.

use crate::Network;
use crate::command::{self, Jump};

fn forward(network: &Network) -> String {
    format!("TIPHYS-FWD-{}", network.bridge)
}

fn masquerade(network: &Network) -> String {
    format!("TIPHYS-MASQ-{}", network.bridge)
}

/// Every chain of this network, by table.
pub fn chains(network: &Network) -> [(&'static str, String); 2] {
    [("filter", forward(network)), ("nat", masquerade(network))]
}

/// The rules that lead into the chains.
pub fn jumps(network: &Network) -> [Jump; 2] {
    let to = |chain: String| {
        vec!["-m".into(), "comment".into(), "--comment".into(), COMMENT.into(), "-j".into(), chain]
    };
    [
        Jump { table: "filter", chain: "FORWARD", rule: to(forward(network)) },
        Jump { table: "nat", chain: "POSTROUTING", rule: to(masquerade(network)) },
    ]
}

const COMMENT: &str = "tiphys pod network";

/// The text that fills the chains, for `iptables-restore --noflush`.
pub fn install(network: &Network) -> String {
    let Network { cluster_cidr, pod_cidr, bridge, .. } = network;
    let (fwd, masq) = (forward(network), masquerade(network));
    format!(
        "*filter\n:{fwd} - [0:0]\n\
         -A {fwd} -s {cluster_cidr} -j ACCEPT\n\
         -A {fwd} -d {cluster_cidr} -j ACCEPT\n\
         COMMIT\n\
         *nat\n:{masq} - [0:0]\n\
         -A {masq} -s {pod_cidr} -d {cluster_cidr} -j RETURN\n\
         -A {masq} -s {pod_cidr} -d 224.0.0.0/4 -j RETURN\n\
         -A {masq} -s {pod_cidr} ! -o {bridge} -j MASQUERADE\n\
         COMMIT\n"
    )
}

/// The text that asks whether all is there, for [`command::holds`].
pub fn wanted(network: &Network) -> String {
    let (fwd, masq) = (forward(network), masquerade(network));
    format!(
        "*filter\n-C FORWARD -m comment --comment \"{COMMENT}\" -j {fwd}\nCOMMIT\n\
         *nat\n-C POSTROUTING -m comment --comment \"{COMMENT}\" -j {masq}\nCOMMIT\n"
    )
}

impl Jump {
    /// Puts the jump first in its chain unless it is there.
    pub async fn ensure(&self) -> Result<(), command::Error> {
        if self.exists().await? {
            return Ok(());
        }
        self.insert().await
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn network() -> Network {
        Network {
            bridge: "tiphys0".into(),
            pod_cidr: "10.42.0.0/24".into(),
            cluster_cidr: "10.42.0.0/16".into(),
            conf_dir: "conf".into(),
            state_dir: "state".into(),
            own_addresses: vec![],
        }
    }

    #[test]
    fn only_what_leaves_the_cluster_is_masqueraded() {
        let text = install(&network());
        let nat: Vec<&str> = text.lines().filter(|l| l.contains("MASQ-tiphys0 -s")).collect();
        assert!(nat[0].ends_with("-d 10.42.0.0/16 -j RETURN"));
        assert!(nat[2].ends_with("! -o tiphys0 -j MASQUERADE"));
    }

    #[test]
    fn chain_names_fit_iptables_for_the_longest_bridge_name() {
        let longest = Network { bridge: "b".repeat(15), ..network() };
        assert!(chains(&longest).iter().all(|(_, name)| name.len() <= 28));
    }
}
