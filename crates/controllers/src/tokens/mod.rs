//! Tokens that are kept as Secrets: those of service accounts, as people ask for them, and those that nodes join with.

pub(crate) mod bootstrap;
pub(crate) mod legacy;
pub(crate) mod service_account;

use serde::Deserialize;
use std::collections::BTreeMap;

use k8s_openapi::ByteString;

/// A Secret, as far as it decides.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct View {
    metadata: Metadata,
    #[serde(rename = "type")]
    kind: String,
    data: Option<BTreeMap<String, ByteString>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    annotations: Option<BTreeMap<String, String>>,
}

impl View {
    fn annotation(&self, key: &str) -> &str {
        let annotations = self.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(key)).map(String::as_str).unwrap_or_default()
    }

    fn bytes(&self, key: &str) -> &[u8] {
        self.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice()).unwrap_or_default()
    }

    fn text(&self, key: &str) -> &str {
        std::str::from_utf8(self.bytes(key)).unwrap_or_default()
    }
}
