//! Whether a pod's node selector and required node affinity fit a node.

pub(crate) use tiphys_client::placement::fits;
