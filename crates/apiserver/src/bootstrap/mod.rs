//! What a cluster holds before anyone uses it, made and kept at every start.
//!
//! - Idempotent: one list per resource, and a write only for what is missing or lacks something. A second start writes
//!   nothing.
//! - People's changes stay: roles and bindings only gain, and an object annotated `autoupdate: "false"` is left alone.
//! - Writes go side by side through the one write path, so that the store commits them in few batches.

mod flow_control;
pub(crate) mod masters;
mod objects;
pub mod policy;
mod reconcile;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tiphys_api::{Gvr, Object, Status, Value};
use tiphys_client::{Client, DeleteOptions, Informer, Informers, ListOptions, Target, WriteOptions};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::masters::Addresses;
use self::reconcile::{How, Write, plan};
use crate::allocate::Cidr;
use crate::auth::rbac;

/// What [`run`] and the start of aggregation have done when they return, in the words of kube-apiserver's health checks.
pub const HOOKS: &[&str] = &[
    "autoregister-completion",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-kubernetes-service-cidr-controller",
    "poststarthook/start-cluster-authentication-info-controller",
];

/// Writes under way at once.
const WRITES: usize = 64;
/// How often objects are looked at anew that others change at the same time; each change of theirs is progress.
const LOOKS: u32 = 20;
/// After a refusal, what is missing is made anew after this.
const KEEP_AGAIN: Duration = Duration::from_secs(1);

/// What the objects must say about this cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// Ranges of Service addresses, the primary family first.
    pub service_cidrs: Vec<Cidr>,
    /// Port of this API server.
    pub port: u16,
    /// Its URL, for nodes that join.
    pub server: String,
    /// Certificate of the cluster CA, PEM.
    pub ca_pem: String,
    /// Certificate of the front proxy's CA, PEM.
    pub front_proxy_ca_pem: String,
}

/// Why the cluster could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API refused something.
    #[error("{action} {what}: {status}")]
    Api {
        /// What was tried, as `create`.
        action: &'static str,
        /// On what.
        what: String,
        /// The refusal.
        status: Box<Status>,
    },
    /// The built-in roles are broken.
    #[error(transparent)]
    Policy(#[from] policy::Malformed),
}

/// An object the cluster shall hold.
struct Item {
    gvr: Gvr,
    how: How,
    object: Value,
}

/// Makes and repairs what must be there; `client` acts as the API server itself. Returns how many objects it wrote.
pub(crate) async fn run(client: &dyn Client, config: &Config, masters: &Addresses) -> Result<usize, Error> {
    let namespaces = apply(client, objects::namespaces()).await?;
    let mut items = objects::all(config, masters);
    items.extend(flow_control::all());
    items.extend(roles()?);
    Ok(namespaces + apply(client, items).await?)
}

/// Makes the Service `kubernetes`, its endpoints and its range of addresses again when somebody removes them, and lets the
/// endpoints say which servers there are, until `stop`. What else they say is left alone: it may be another server's word.
pub(crate) async fn keep(
    client: Arc<dyn Client>,
    config: Config,
    mut masters: watch::Receiver<Addresses>,
    stop: CancellationToken,
) {
    let informers = Informers::new(client.clone());
    let missing = Arc::new(Notify::new());
    let own = objects::own(&config, &masters.borrow_and_update());
    let _followed: Vec<Arc<Informer>> = own.iter().map(|item| follow(&informers, item, &missing)).collect();
    let again = async {
        loop {
            tokio::select! { () = missing.notified() => {}, () = come_or_gone(&mut masters) => {} }
            let known = masters.borrow_and_update().clone();
            if let Err(error) = lead(client.as_ref(), &config, &known).await {
                tracing::warn!(%error, "the Service kubernetes could not be put right");
                tokio::time::sleep(KEEP_AGAIN).await;
                missing.notify_one();
            }
        }
    };
    tokio::select! { () = again => {}, () = stop.cancelled() => {} }
}

/// Notices when an object is removed.
fn follow(informers: &Arc<Informers>, item: &Item, missing: &Arc<Notify>) -> Arc<Informer> {
    let Target { namespace, name, .. } = target(item);
    let informer = informers.scoped(&item.gvr, &namespace, &format!("metadata.name={name}"));
    let missing = missing.clone();
    informer.on_change(Box::new(move |_, new| {
        if new.is_none() {
            missing.notify_one();
        }
    }));
    informer
}

/// Waits until another API server comes or goes; for ever where none can.
async fn come_or_gone(masters: &mut watch::Receiver<Addresses>) {
    if masters.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Lets the Service `kubernetes` lead to all API servers.
async fn lead(client: &dyn Client, config: &Config, masters: &Addresses) -> Result<(), Error> {
    let own = objects::own(config, masters);
    let names: Vec<String> = own.iter().map(|item| target(item).path()).collect();
    let exists =
        |item: Item| Item { how: if item.how == How::Service { How::Exists } else { item.how }, ..item };
    apply(client, own.into_iter().map(exists).collect()).await?;
    let options = ListOptions { labels: objects::further_slices(), ..ListOptions::default() };
    let slices = client.list(&objects::ENDPOINT_SLICES, "default", &options).await;
    let slices = slices.map_err(|status| refused("list", "endpointslices".into(), status))?.items;
    for slice in slices {
        let target = Target::new(&objects::ENDPOINT_SLICES, "default", &slice.meta().name);
        if names.contains(&target.path()) {
            continue;
        }
        match client.delete(&target, &DeleteOptions::of(slice.meta())).await {
            // Another API server was faster.
            Err(status) if status.is("NotFound") || status.is("Conflict") => {}
            other => drop(other.map_err(|status| refused("delete", target.path(), status))?),
        }
    }
    Ok(())
}

fn roles() -> Result<Vec<Item>, Error> {
    let policy = policy::default_policy()?;
    let sets = [
        (rbac::CLUSTER_ROLES, How::Role, policy.cluster_roles),
        (rbac::CLUSTER_ROLE_BINDINGS, How::Binding, policy.cluster_role_bindings),
        (rbac::ROLES, How::Role, policy.roles),
        (rbac::ROLE_BINDINGS, How::Binding, policy.role_bindings),
    ];
    let items = sets.into_iter().flat_map(|(gvr, how, objects)| {
        objects.into_iter().map(move |object| Item { gvr: gvr.clone(), how, object })
    });
    Ok(items.collect())
}

/// Makes and repairs objects. Another API server, which starts at the same time, may write the same between our look
/// and our write: then we look again.
async fn apply(client: &dyn Client, items: Vec<Item>) -> Result<usize, Error> {
    let mut by_resource: BTreeMap<&Gvr, Vec<&Item>> = BTreeMap::new();
    for item in &items {
        by_resource.entry(&item.gvr).or_default().push(item);
    }
    let mut looks = 1;
    loop {
        match apply_once(client, &by_resource).await {
            Err(Error::Api { status, .. }) if looks < LOOKS && overtaken(&status) => looks += 1,
            other => return other,
        }
    }
}

/// Whether somebody else changed, removed or made the object meanwhile.
fn overtaken(status: &Status) -> bool {
    ["Conflict", "NotFound", "AlreadyExists"].iter().any(|reason| status.is(reason))
}

async fn apply_once(client: &dyn Client, by_resource: &BTreeMap<&Gvr, Vec<&Item>>) -> Result<usize, Error> {
    let mut writes = Vec::new();
    for (gvr, items) in by_resource {
        let list = client.list(gvr, "", &ListOptions::default()).await;
        let present = list.map_err(|status| refused("list", gvr.group_resource(), status))?.items;
        let present: HashMap<(&str, &str), &Object> =
            present.iter().map(|o| ((o.meta().namespace.as_ref(), o.meta().name.as_ref()), o)).collect();
        for item in items {
            let target = target(item);
            let have = present.get(&(target.namespace.as_str(), target.name.as_str()));
            let have = have.map(|object| object.value()).transpose();
            let have = have.map_err(|error| refused("read", target.path(), Status::internal(error)))?;
            writes.extend(plan(item.how, &item.object, have.as_ref()).map(|write| (target, write)));
        }
    }
    let count = writes.len();
    let writes = writes.into_iter().map(|(target, one)| write(client, target, one));
    stream::iter(writes).buffer_unordered(WRITES).try_collect::<()>().await?;
    Ok(count)
}

fn target(item: &Item) -> Target {
    let text = |key: &str| item.object["metadata"][key].as_str().unwrap_or_default();
    Target::new(&item.gvr, text("namespace"), text("name"))
}

async fn write(client: &dyn Client, target: Target, write: Write) -> Result<(), Error> {
    let options = WriteOptions::default();
    let body = |value: &Value| value.to_string().into();
    match write {
        Write::Create(object) => match client.create(&target, body(&object), &options).await {
            // Another API server was faster.
            Err(status) if status.is("AlreadyExists") => Ok(()),
            other => other.map(drop).map_err(|status| refused("create", target.path(), status)),
        },
        Write::Update(object) => {
            let updated = client.update(&target, body(&object), &options).await;
            updated.map(drop).map_err(|status| refused("update", target.path(), status))
        }
        Write::Replace(object) => {
            let deleted = client.delete(&target, &DeleteOptions::default()).await;
            deleted.map_err(|status| refused("delete", target.path(), status))?;
            let created = client.create(&target, body(&object), &options).await;
            created.map(drop).map_err(|status| refused("create", target.path(), status))
        }
    }
}

fn refused(action: &'static str, what: String, status: Status) -> Error {
    Error::Api { action, what, status: Box::new(status) }
}
