//! Whether a pod tolerates a taint; used by several plugins.

use k8s_openapi::api::core::v1::Taint;
use tiphys_client::placement;

use crate::pod::Pod;

/// Whether one of the pod's tolerations covers the taint.
pub fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    pod.wishes.iter().flat_map(|w| &w.tolerations).any(|t| placement::tolerates(t, taint))
}
