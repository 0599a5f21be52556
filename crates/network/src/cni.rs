//! The CNI configuration that the runtime reads: bridge, host-local addresses, host ports.

use serde_json::json;

use crate::Network;

/// The network's `.conflist` (CNI 0.4.0, which containerd 1.6 and later speak).
pub fn conflist(network: &Network) -> String {
    let bridge = json!({
        "type": "bridge",
        "bridge": network.bridge,
        "isGateway": true,
        "hairpinMode": true,
        // One rule of ours masquerades for the whole node; see the crate's introduction.
        "ipMasq": false,
        "ipam": {
            "type": "host-local",
            "dataDir": network.state_dir,
            "ranges": [[{ "subnet": network.pod_cidr }]],
            "routes": [{ "dst": "0.0.0.0/0" }],
        },
    });
    let ports = json!({ "type": "portmap", "capabilities": { "portMappings": true }, "snat": true });
    let list = json!({ "cniVersion": "0.4.0", "name": network.bridge, "plugins": [bridge, ports] });
    format!("{list:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridge_and_its_range_are_named() {
        let text = conflist(&crate::rules::tests::network());
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(list["plugins"][0]["bridge"], "tiphys0");
        assert_eq!(list["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.42.0.0/24");
    }
}
