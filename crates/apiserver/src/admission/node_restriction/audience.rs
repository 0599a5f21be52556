//! For whom a node may ask tokens to be: for the audiences that its pod's volumes name, those that the drivers of these
//! volumes want, and those it is allowed by its roles (the verb `request-serviceaccounts-token-audience` on a resource
//! named as the audience).

use tiphys_api::{Gvr, Status, Value};

use super::super::Review;
use super::super::tree::{items, text};
use crate::auth::{Attributes, Authorizer, Decision, Lister};

const CLAIMS: Gvr = Gvr::new("", "v1", "persistentvolumeclaims");
const VOLUMES: Gvr = Gvr::new("", "v1", "persistentvolumes");
const DRIVERS: Gvr = Gvr::new("storage.k8s.io", "v1", "csidrivers");

/// Judges a token request that is right in all else. `pod` is whom the token is bound to.
pub(super) async fn judge(
    lister: &dyn Lister,
    authorizer: &dyn Authorizer,
    review: &Review<'_>,
    pod: &Value,
) -> Result<(), Status> {
    let audience = match items(review.object, "/spec/audiences") {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return Err(review.forbidden("node may only request 0 or 1 audiences")),
    };
    let cluster = Cluster { lister, namespace: review.namespace };
    if items(pod, "/spec/volumes").iter().any(|volume| cluster.names(pod, volume, audience)) {
        return Ok(());
    }
    match authorizer.authorize(&attributes(review, audience)).await {
        Decision::Allow => Ok(()),
        Decision::NoOpinion(_) => Err(review.forbidden(&format!(
            "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            review.user.name
        ))),
    }
}

fn attributes<'a>(review: &'a Review<'_>, audience: &'a str) -> Attributes<'a> {
    Attributes {
        user: review.user,
        verb: "request-serviceaccounts-token-audience",
        group: "",
        version: "v1",
        resource: audience,
        subresource: "",
        namespace: review.namespace,
        name: review.name,
        path: "",
    }
}

/// Where drivers of volumes are looked up.
struct Cluster<'a> {
    lister: &'a dyn Lister,
    namespace: &'a str,
}

impl Cluster<'_> {
    /// Whether a volume has a use for a token for this audience.
    fn names(&self, pod: &Value, volume: &Value, audience: &str) -> bool {
        let meant = |token: &Value| text(token, "/audience") == audience;
        let projected = items(volume, "/projected/sources");
        if projected.iter().filter_map(|source| source.get("serviceAccountToken")).any(meant) {
            return true;
        }
        let driver = self.driver(pod, volume);
        driver.is_some_and(|driver| items(&driver, "/spec/tokenRequests").iter().any(meant))
    }

    /// The driver behind a volume: its own, or that of what it claims.
    fn driver(&self, pod: &Value, volume: &Value) -> Option<Value> {
        let claim = text(volume, "/persistentVolumeClaim/claimName");
        let name = if volume.pointer("/ephemeral/volumeClaimTemplate").is_some() {
            self.claimed(&format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name")))?
        } else if !claim.is_empty() {
            self.claimed(claim)?
        } else {
            text(volume, "/csi/driver").to_owned()
        };
        self.lister.get(&DRIVERS, "", &name)?.value().ok()
    }

    /// The name of the driver of the volume that a claim is bound to.
    fn claimed(&self, claim: &str) -> Option<String> {
        let claim = self.lister.get(&CLAIMS, self.namespace, claim)?.value().ok()?;
        let volume = self.lister.get(&VOLUMES, "", text(&claim, "/spec/volumeName"))?.value().ok()?;
        Some(text(&volume, "/spec/csi/driver").to_owned())
    }
}
