//! The claims of a StatefulSet's pods: made with them, and kept or let go as `persistentVolumeClaimRetentionPolicy` says.
//!
//! A claim goes with its owners, by the garbage collector: with the set, or with the pod once that is beyond the set's size.
//! Nothing else deletes claims.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tiphys_api::{Object, OwnerRef, Status};
use tiphys_client::Api;
use tiphys_client::typed::{Kind, decode};

use super::{Controller, identity};
use crate::context::ignore_not_found;
use crate::pods::{Facts, Phase};

/// When claims go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Retention {
    with_set: bool,
    when_scaled: bool,
}

impl Retention {
    fn of(set: &StatefulSet) -> Self {
        let policy =
            set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
        let deletes = |what: Option<&String>| what.is_some_and(|what| what == "Delete");
        Self {
            with_set: deletes(policy.and_then(|policy| policy.when_deleted.as_ref())),
            when_scaled: deletes(policy.and_then(|policy| policy.when_scaled.as_ref())),
        }
    }
}

fn pod_reference(pod: &Facts) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: pod.meta().name.to_string(),
        uid: pod.meta().uid.to_string(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn same(owner: &OwnerRef) -> OwnerReference {
    OwnerReference {
        api_version: owner.api_version.to_string(),
        kind: owner.kind.to_string(),
        name: owner.name.to_string(),
        uid: owner.uid.to_string(),
        controller: Some(owner.controller).filter(|set| *set),
        block_owner_deletion: Some(owner.block_owner_deletion).filter(|set| *set),
    }
}

/// The owners that a pod's claim should have; `None` if it has them, or if a stranger controls it.
fn owners(set: &StatefulSet, pod: &Facts, claim: &Object) -> Option<Vec<OwnerReference>> {
    let ours = |uid: &str| *uid == *set.uid() || *uid == *pod.meta().uid;
    let (known, others): (Vec<_>, Vec<_>) = claim.meta().owners.iter().partition(|owner| ours(&owner.uid));
    if others.iter().any(|owner| owner.controller) {
        return None;
    }
    let retention = Retention::of(set);
    let leaves = identity::ordinal(set, pod).is_some_and(|at| !identity::range(set).contains(&at));
    let owner = match (retention.when_scaled && leaves, retention.with_set) {
        (true, _) => Some(pod_reference(pod)),
        (false, true) => Some(set.controller_reference()),
        (false, false) => None,
    };
    let right = match (&owner, known.as_slice()) {
        (None, []) => true,
        (Some(owner), [one]) => *one.uid == *owner.uid,
        _ => false,
    };
    (!right).then(|| others.into_iter().map(same).chain(owner).collect())
}

impl Controller {
    /// Gives the claims of all pods the owners that the policy asks for.
    pub(super) async fn fix_claims(&self, set: &StatefulSet, pods: &[Arc<Facts>]) -> Result<(), Status> {
        let api = Api::<PersistentVolumeClaim>::new(self.control.client.clone(), set.namespace());
        for pod in pods {
            let Some(ordinal) = identity::ordinal(set, pod) else { continue };
            for name in identity::claim_names(set, ordinal) {
                let Some(claim) = self.claims.get(set.namespace(), &name) else { continue };
                let Some(owners) = owners(set, pod, &claim) else { continue };
                let mut claim: PersistentVolumeClaim = decode(&claim).map_err(Status::internal)?;
                claim.metadata.owner_references = Some(owners);
                ignore_not_found(api.update(&claim).await.map(drop))?;
            }
        }
        Ok(())
    }

    /// Ordinals without a pod whose claims are about to go with the pod that was there: a new one must not take them.
    pub(super) fn stale(&self, set: &StatefulSet, pods: &[Arc<Facts>]) -> BTreeSet<i32> {
        if !Retention::of(set).when_scaled {
            return BTreeSet::new();
        }
        let there: BTreeSet<i32> = pods.iter().filter_map(|pod| identity::ordinal(set, pod)).collect();
        let leaves = |ordinal: &i32| {
            let pod = identity::name(set, *ordinal);
            let claims = identity::claim_names(set, *ordinal);
            let mut claims = claims.filter_map(|name| self.claims.get(set.namespace(), &name));
            claims.any(|claim| {
                claim.meta().owners.iter().any(|owner| *owner.kind == *"Pod" && *owner.name == *pod)
            })
        };
        identity::range(set).filter(|at| !there.contains(at)).filter(leaves).collect()
    }

    /// Makes the claims that pods wait for and that somebody removed.
    pub(super) async fn replace_claims(&self, set: &StatefulSet, pods: &[Arc<Facts>]) -> Result<(), Status> {
        for pod in pods.iter().filter(|pod| pod.phase == Phase::Pending && !pod.deleting()) {
            let wanted = identity::ordinal(set, pod).filter(|at| identity::range(set).contains(at));
            if let Some(ordinal) = wanted {
                self.create_claims(set, ordinal).await?;
            }
        }
        Ok(())
    }

    /// Makes the claims of an ordinal, as far as they are not there.
    pub(super) async fn create_claims(&self, set: &StatefulSet, ordinal: i32) -> Result<(), Status> {
        let pod = identity::name(set, ordinal);
        for claim in identity::claims(set, ordinal) {
            match self.claims.get(set.namespace(), claim.name()) {
                Some(known) if known.meta().deleted.is_some() => {
                    let why = format!("pvc {} is being deleted", claim.name());
                    return Err(Status::conflict(&PersistentVolumeClaim::GVR, claim.name(), &why));
                }
                Some(_) => {}
                None => self.create_claim(set, &pod, &claim).await?,
            }
        }
        Ok(())
    }

    async fn create_claim(
        &self,
        set: &StatefulSet,
        pod: &str,
        claim: &PersistentVolumeClaim,
    ) -> Result<(), Status> {
        let api = Api::<PersistentVolumeClaim>::new(self.control.client.clone(), set.namespace());
        let outcome = match api.create(claim).await {
            Err(status) if status.is("AlreadyExists") => return Ok(()),
            outcome => outcome.map(drop),
        };
        let (name, of) = (claim.name(), set.name());
        match &outcome {
            Ok(()) => {
                let message = format!("create Claim {name} Pod {pod} in StatefulSet {of} success");
                self.control.tell(set, "Normal", "SuccessfulCreate", message);
            }
            Err(status) => {
                let message =
                    format!("create Claim {name} for Pod {pod} in StatefulSet {of} failed error: {status}");
                self.control.tell(set, "Warning", "FailedCreate", message);
            }
        }
        outcome
    }
}
