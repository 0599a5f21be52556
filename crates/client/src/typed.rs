//! Objects as `k8s-openapi` structs, for code that needs many fields of one object for a moment.
//!
//! - [`Kind`] is implemented here, by macro, for the kinds in use. Its decode and encode functions are not generic, so
//!   each type is compiled for one deserialiser once, in this crate.
//! - [`Api`] is the [`Client`] of one such kind in one namespace.
//! - Typed values are ten times the size of the bytes: keep [`Object`]s, decode where you decide.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;
use tiphys_api::{Gvk, Gvr, Object, Status};

use crate::{Client, DeleteOptions, ListOptions, PatchKind, Target, WriteOptions};

/// A kind with a Rust struct.
pub trait Kind: Clone + Send + Sync + Sized + 'static {
    /// The resource it is served as.
    const GVR: Gvr;
    /// Its name with group and version.
    const GVK: Gvk;
    /// Reads one object.
    fn from_json(json: &[u8]) -> Result<Self, serde_json::Error>;
    /// Writes it, with `apiVersion` and `kind`.
    fn to_json(&self) -> Result<Vec<u8>, serde_json::Error>;
    /// Its metadata.
    fn meta(&self) -> &ObjectMeta;
    /// Its metadata, to be changed.
    fn meta_mut(&mut self) -> &mut ObjectMeta;

    /// Its name; empty when it has none yet.
    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }

    /// Its namespace; empty when cluster-scoped.
    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or_default()
    }

    /// Its identity; empty when it was not created yet.
    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }

    /// How events name it.
    fn reference(&self) -> ObjectReference {
        let meta = self.meta();
        ObjectReference {
            api_version: Some(Self::GVK.api_version()),
            kind: Some(Self::GVK.kind.into_owned()),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            resource_version: meta.resource_version.clone(),
            uid: meta.uid.clone(),
            field_path: None,
        }
    }

    /// How objects that it controls name it.
    fn controller_reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: Self::GVK.api_version(),
            block_owner_deletion: Some(true),
            controller: Some(true),
            kind: Self::GVK.kind.into_owned(),
            name: self.name().to_owned(),
            uid: self.uid().to_owned(),
        }
    }
}

macro_rules! kinds {
    ($($module:ident :: $version:ident { $($kind:ident = $group:literal, $plural:literal;)+ })+) => { $($(
        impl Kind for k8s_openapi::api::$module::$version::$kind {
            const GVR: Gvr = Gvr::new($group, stringify!($version), $plural);
            const GVK: Gvk = Gvk::new($group, stringify!($version), stringify!($kind));
            fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
                serde_json::from_slice(json)
            }
            fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
                serde_json::to_vec(self)
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    )+)+ };
}

kinds! {
    admissionregistration::v1 {
        ValidatingAdmissionPolicy = "admissionregistration.k8s.io", "validatingadmissionpolicies";
    }
    core::v1 {
        ConfigMap = "", "configmaps";
        Endpoints = "", "endpoints";
        Event = "", "events";
        Namespace = "", "namespaces";
        Node = "", "nodes";
        PersistentVolume = "", "persistentvolumes";
        PersistentVolumeClaim = "", "persistentvolumeclaims";
        Pod = "", "pods";
        ReplicationController = "", "replicationcontrollers";
        ResourceQuota = "", "resourcequotas";
        Secret = "", "secrets";
        Service = "", "services";
        ServiceAccount = "", "serviceaccounts";
    }
    apps::v1 {
        ControllerRevision = "apps", "controllerrevisions";
        DaemonSet = "apps", "daemonsets";
        Deployment = "apps", "deployments";
        ReplicaSet = "apps", "replicasets";
        StatefulSet = "apps", "statefulsets";
    }
    batch::v1 {
        CronJob = "batch", "cronjobs";
        Job = "batch", "jobs";
    }
    autoscaling::v2 { HorizontalPodAutoscaler = "autoscaling", "horizontalpodautoscalers"; }
    coordination::v1 { Lease = "coordination.k8s.io", "leases"; }
    discovery::v1 { EndpointSlice = "discovery.k8s.io", "endpointslices"; }
    node::v1 { RuntimeClass = "node.k8s.io", "runtimeclasses"; }
    rbac::v1 { ClusterRole = "rbac.authorization.k8s.io", "clusterroles"; }
    storage::v1 {
        CSIDriver = "storage.k8s.io", "csidrivers";
        StorageClass = "storage.k8s.io", "storageclasses";
        VolumeAttachment = "storage.k8s.io", "volumeattachments";
    }
    networking::v1 {
        IPAddress = "networking.k8s.io", "ipaddresses";
        ServiceCIDR = "networking.k8s.io", "servicecidrs";
    }
    policy::v1 { PodDisruptionBudget = "policy", "poddisruptionbudgets"; }
}

/// Reads a typed value out of an object's bytes.
pub fn decode<T: Kind>(object: &Object) -> Result<T, serde_json::Error> {
    T::from_json(object.json())
}

/// Writes a typed value as a request body.
pub fn encode<T: Kind>(value: &T) -> Result<Bytes, serde_json::Error> {
    value.to_json().map(Bytes::from)
}

/// How events name an object of which only the header is at hand.
pub fn reference(gvk: &Gvk, object: &Object) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(gvk.api_version()),
        kind: Some(gvk.kind.to_string()),
        name: Some(meta.name.to_string()),
        namespace: Some(meta.namespace.to_string()).filter(|n| !n.is_empty()),
        resource_version: Some(meta.resource_version.to_string()),
        uid: Some(meta.uid.to_string()),
        field_path: None,
    }
}

/// The [`Client`] of one kind in one namespace.
pub struct Api<T> {
    client: Arc<dyn Client>,
    namespace: String,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Api<T> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), namespace: self.namespace.clone(), kind: PhantomData }
    }
}

impl<T: Kind> Api<T> {
    /// Access to a namespace's objects; the namespace is empty for cluster-scoped kinds, and for lists over all.
    pub fn new(client: Arc<dyn Client>, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), kind: PhantomData }
    }

    /// Reads one object.
    pub async fn get(&self, name: &str) -> Result<T, Status> {
        typed(&self.client.get(&self.target(name)).await?)
    }

    /// Reads the selected objects, all pages.
    pub async fn list(&self, options: &ListOptions) -> Result<Vec<T>, Status> {
        let mut options = options.clone();
        let mut items = Vec::new();
        loop {
            let page = self.client.list(&T::GVR, &self.namespace, &options).await?;
            for object in &page.items {
                items.push(typed(object)?);
            }
            if page.continue_token.is_empty() {
                return Ok(items);
            }
            options.continue_token = page.continue_token;
        }
    }

    /// Creates an object.
    pub async fn create(&self, value: &T) -> Result<T, Status> {
        let target = self.target(value.name());
        typed(&self.client.create(&target, body(value)?, &WriteOptions::default()).await?)
    }

    /// Replaces an object.
    pub async fn update(&self, value: &T) -> Result<T, Status> {
        self.replace(&self.target(value.name()), value).await
    }

    /// Replaces an object's status.
    pub async fn update_status(&self, value: &T) -> Result<T, Status> {
        self.replace(&self.target(value.name()).sub("status"), value).await
    }

    async fn replace(&self, target: &Target, value: &T) -> Result<T, Status> {
        typed(&self.client.update(target, body(value)?, &WriteOptions::default()).await?)
    }

    /// Changes an object.
    pub async fn patch(&self, name: &str, kind: PatchKind, patch: &impl Serialize) -> Result<T, Status> {
        self.change(&self.target(name), kind, patch).await
    }

    /// Changes an object's status.
    pub async fn patch_status(
        &self,
        name: &str,
        kind: PatchKind,
        patch: &impl Serialize,
    ) -> Result<T, Status> {
        self.change(&self.target(name).sub("status"), kind, patch).await
    }

    async fn change(&self, target: &Target, kind: PatchKind, patch: &impl Serialize) -> Result<T, Status> {
        let body = serde_json::to_vec(patch).map(Bytes::from).map_err(Status::internal)?;
        typed(&self.client.patch(target, kind, body, &WriteOptions::default()).await?)
    }

    /// Asks for an object's deletion.
    pub async fn delete(&self, name: &str, options: &DeleteOptions) -> Result<(), Status> {
        self.client.delete(&self.target(name), options).await.map(drop)
    }

    fn target(&self, name: &str) -> Target {
        Target::new(&T::GVR, &self.namespace, name)
    }
}

fn typed<T: Kind>(object: &Object) -> Result<T, Status> {
    decode(object).map_err(|e| Status::internal(format!("cannot decode {}: {e}", T::GVK)))
}

fn body<T: Kind>(value: &T) -> Result<Bytes, Status> {
    encode(value).map_err(|e| Status::internal(format!("cannot encode {}: {e}", T::GVK)))
}
