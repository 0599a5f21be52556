//! Ranges of Service addresses, and an object for each address that is given.
//!
//! - A ServiceCIDR is Ready while it can be used, and is not removed while an address of it is in use that no other range
//!   holds.
//! - An IPAddress says which Service has an address. The Services themselves decide (the API server reads them when it
//!   gives an address): what is missing here is made, what nobody has any more is removed, so that nothing can drift.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use serde::Deserialize;
use tiphys_api::{Object, Status, Value, json};
use tiphys_client::typed::Kind;
use tiphys_client::{Client, DeleteOptions, Informer, PatchKind, Target, WorkQueue, WriteOptions};

use crate::context::{Context, Key, Outcome, enqueue_all, ignore_not_found};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
/// Who makes these objects in Kubernetes: its tools look for this name.
const MANAGER: &str = "ipallocator.k8s.io";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServiceView {
    spec: ServiceSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServiceSpec {
    #[serde(rename = "clusterIPs")]
    addresses: Option<Vec<String>>,
}

/// The addresses of a Service.
pub(crate) fn addresses(service: &Object) -> Vec<IpAddr> {
    let view: ServiceView = service.decode().unwrap_or_default();
    view.spec.addresses.iter().flatten().filter_map(|text| text.parse().ok()).collect()
}

/// The name of an address's object: its text in the one form, IPv6 in lower case and shortened.
fn name(address: &IpAddr) -> String {
    address.to_string()
}

struct Addresses {
    client: Arc<dyn Client>,
    services: Arc<Informer>,
    addresses: Arc<Informer>,
}

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Service(Key),
    Address(Box<str>),
}

/// Keeps the IPAddress objects until the context stops.
pub(crate) async fn run_addresses(context: Arc<Context>) {
    let keeper = Arc::new(Addresses {
        // kube-apiserver does this itself; of the controllers only the manager may write these objects.
        client: context.client("service-cidrs-controller"),
        services: context.informer(&Service::GVR),
        addresses: context.informer(&IPAddress::GVR),
    });
    let queue = Arc::new(WorkQueue::new());
    let to = queue.clone();
    keeper.services.on_change(Box::new(move |old, new| {
        let before = old.map(addresses).unwrap_or_default();
        let now = new.map(addresses).unwrap_or_default();
        if let Some(service) = new.filter(|_| before != now) {
            to.add(Work::Service(Key::of(service)));
        }
        before
            .iter()
            .filter(|address| !now.contains(address))
            .for_each(|gone| to.add(Work::Address(name(gone).into())));
    }));
    let to = queue.clone();
    keeper.addresses.on_change(Box::new(move |old, new| {
        if let Some(address) = new.or(old) {
            to.add(Work::Address(address.meta().name.clone()));
        }
    }));
    let informers = [keeper.services.clone(), keeper.addresses.clone()];
    let reconcile = move |work| {
        let keeper = keeper.clone();
        async move { keeper.reconcile(work).await }
    };
    context.work(queue, 2, &informers.each_ref(), reconcile).await;
}

impl Addresses {
    async fn reconcile(&self, work: Work) -> Outcome {
        match work {
            Work::Service(key) => {
                let Some(service) = self.services.get(&key.namespace, &key.name) else { return Ok(None) };
                for address in addresses(&service) {
                    self.ensure(&service, &address).await?;
                }
                Ok(None)
            }
            Work::Address(name) => self.check(&name).await,
        }
    }

    async fn ensure(&self, service: &Object, address: &IpAddr) -> Result<(), Status> {
        let meta = service.meta();
        if let Some(object) = self.addresses.get("", &name(address)) {
            // It may be for another Service, which has it no more: once it is gone, it is made for this one.
            return self.release(&object, address).await;
        }
        let object = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
            "metadata": {
                "name": name(address),
                "labels": {(MANAGED_BY): MANAGER, (FAMILY): if address.is_ipv6() { "IPv6" } else { "IPv4" }},
            },
            "spec": {"parentRef": {
                "group": "", "resource": "services", "namespace": meta.namespace, "name": meta.name,
            }},
        });
        let target = Target::new(&IPAddress::GVR, "", &name(address));
        match self.client.create(&target, object.to_string().into(), &WriteOptions::default()).await {
            Err(status) if status.is("AlreadyExists") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Removes an address that its Service does not have, and makes one anew that it has.
    async fn check(&self, name: &str) -> Outcome {
        let Ok(address) = name.parse::<IpAddr>() else { return Ok(None) };
        let Some(object) = self.addresses.get("", name) else {
            let has = |service: &Object| addresses(service).contains(&address);
            let holders = self.services.filter("", has);
            return match holders.first() {
                Some(service) => self.ensure(service, &address).await.map(|()| None),
                None => Ok(None),
            };
        };
        self.release(&object, &address).await.map(|()| None)
    }

    /// Removes an address that its Service does not have.
    async fn release(&self, object: &Object, address: &IpAddr) -> Result<(), Status> {
        let value = object.value().map_err(Status::internal)?;
        let parent = &value["spec"]["parentRef"];
        let text = |key: &str| parent[key].as_str().unwrap_or_default();
        // Others may hold addresses, too.
        if text("resource") != "services" || value["metadata"]["labels"][MANAGED_BY] != MANAGER {
            return Ok(());
        }
        let service = self.services.get(text("namespace"), text("name"));
        if service.is_some_and(|service| addresses(&service).contains(address)) {
            return Ok(());
        }
        // The cache of Services may be late: the API server knows.
        let target = Target::new(&Service::GVR, text("namespace"), text("name"));
        let service = ignore_not_found(self.client.get(&target).await.map(Some))?;
        if service.is_some_and(|service| addresses(&service).contains(address)) {
            return Ok(());
        }
        let options = DeleteOptions::of(object.meta());
        let target = Target::new(&IPAddress::GVR, "", &object.meta().name);
        ignore_not_found(self.client.delete(&target, &options).await.map(drop))
    }
}

struct Ranges {
    client: Arc<dyn Client>,
    ranges: Arc<Informer>,
    addresses: Arc<Informer>,
}

/// Keeps the ranges' conditions and finalizers until the context stops.
pub(crate) async fn run_ranges(context: Arc<Context>) {
    let keeper = Arc::new(Ranges {
        client: context.client("service-cidrs-controller"),
        ranges: context.informer(&ServiceCIDR::GVR),
        addresses: context.informer(&IPAddress::GVR),
    });
    let queue = Arc::new(WorkQueue::new());
    enqueue_all(&keeper.ranges, &queue);
    // A range that goes, or an address that does, may let others go.
    for informer in [&keeper.ranges, &keeper.addresses] {
        let (weak, to) = (Arc::downgrade(&keeper.ranges), queue.clone());
        informer.on_change(Box::new(move |old, new| {
            let (Some(ranges), true) = (weak.upgrade(), old.is_none() || new.is_none()) else { return };
            let going = ranges.filter("", |range| range.meta().deleted.is_some());
            going.iter().for_each(|range| to.add(Key::of(range)));
        }));
    }
    let informers = [keeper.ranges.clone(), keeper.addresses.clone()];
    let reconcile = move |key: Key| {
        let keeper = keeper.clone();
        async move { keeper.reconcile(&key.name).await.map(|()| None) as Outcome }
    };
    context.work(queue, 1, &informers.each_ref(), reconcile).await;
}

/// What is to be done about a range.
#[derive(Debug, PartialEq)]
enum Step {
    Nothing,
    Hold,
    LetGo,
    /// Status, reason and message of its condition.
    Say(&'static str, &'static str, &'static str),
}

fn plan(range: &Value, in_use: bool) -> Step {
    let metadata = &range["metadata"];
    let deleted = !metadata["deletionTimestamp"].is_null();
    let held = metadata["finalizers"].as_array().is_some_and(|list| list.iter().any(|f| f == FINALIZER));
    let conditions = range["status"]["conditions"].as_array();
    let ready = conditions.and_then(|list| list.iter().find(|condition| condition["type"] == "Ready"));
    let says = |status: &str| ready.is_some_and(|condition| condition["status"] == status);
    match (deleted, held) {
        (true, false) => Step::Nothing,
        (true, true) if !in_use => Step::LetGo,
        (true, true) if says("False") => Step::Nothing,
        (true, true) => {
            let why = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
            Step::Say("False", "Terminating", why)
        }
        (false, false) => Step::Hold,
        (false, true) if says("True") => Step::Nothing,
        (false, true) => Step::Say("True", "", "Kubernetes Service CIDR is ready"),
    }
}

/// The ranges that a ServiceCIDR names.
pub(crate) fn cidrs(range: &Value) -> Vec<Cidr> {
    range["spec"]["cidrs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|text| Cidr::read(text.as_str()?))
        .collect()
}

/// A range of addresses: its first bits, and how many they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cidr {
    first: IpAddr,
    bits: u32,
}

impl Cidr {
    fn read(text: &str) -> Option<Self> {
        let (first, bits) = text.split_once('/')?;
        Some(Self { first: first.parse().ok()?, bits: bits.parse().ok()? })
    }

    pub(crate) fn holds(&self, address: &IpAddr) -> bool {
        let (one, other, all) = match (self.first, address) {
            (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits().into(), other.to_bits().into(), 32),
            (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
            _ => return false,
        };
        let rest = all - self.bits.min(all);
        let cut = |bits: u128| bits.checked_shr(rest).unwrap_or(0);
        cut(one) == cut(other)
    }
}

impl Ranges {
    async fn reconcile(&self, name: &str) -> Result<(), Status> {
        let Some(object) = self.ranges.get("", name) else { return Ok(()) };
        let range = object.value().map_err(Status::internal)?;
        let in_use = object.meta().deleted.is_some() && self.in_use(name, &range);
        match plan(&range, in_use) {
            Step::Nothing => Ok(()),
            Step::Hold => self.finalizers(&object, &range, true).await,
            Step::LetGo => self.finalizers(&object, &range, false).await,
            Step::Say(status, reason, message) => self.say(name, status, reason, message).await,
        }
    }

    /// Whether an address needs this range: it is in it, and in no other that stays.
    fn in_use(&self, name: &str, range: &Value) -> bool {
        let own = cidrs(range);
        let stays = |other: &Object| *other.meta().name != *name && other.meta().deleted.is_none();
        let others: Vec<Cidr> = self
            .ranges
            .filter("", stays)
            .iter()
            .filter_map(|o| o.value().ok())
            .flat_map(|o| cidrs(&o))
            .collect();
        let within = |cidrs: &[Cidr], address: &IpAddr| cidrs.iter().any(|cidr| cidr.holds(address));
        let all = self.addresses.list("");
        let mut all = all.iter().filter_map(|object| object.meta().name.parse::<IpAddr>().ok());
        all.any(|address| within(&own, &address) && !within(&others, &address))
    }

    async fn finalizers(&self, object: &Object, range: &Value, held: bool) -> Result<(), Status> {
        let known = range["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        let mut list: Vec<Value> = known.into_iter().filter(|one| one != FINALIZER).collect();
        if held {
            list.push(FINALIZER.into());
        }
        let meta = object.meta();
        let patch = json!({"metadata": {
            "uid": meta.uid, "resourceVersion": meta.resource_version.to_string(), "finalizers": list,
        }});
        self.patch(Target::new(&ServiceCIDR::GVR, "", &meta.name), &patch).await
    }

    async fn say(&self, name: &str, status: &str, reason: &str, message: &str) -> Result<(), Status> {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({
            "type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": now,
        });
        let target = Target::new(&ServiceCIDR::GVR, "", name).sub("status");
        self.patch(target, &json!({"status": {"conditions": [condition]}})).await
    }

    async fn patch(&self, target: Target, patch: &Value) -> Result<(), Status> {
        let body = patch.to_string().into();
        let patched = self.client.patch(&target, PatchKind::Merge, body, &WriteOptions::default()).await;
        ignore_not_found(patched.map(drop))
    }
}

#[cfg(test)]
mod tests {
    use tiphys_client::fake::FakeClient;

    use super::*;
    use crate::testing::{Cluster, typed};

    fn service(name: &str, address: &str) -> Service {
        typed(json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"clusterIPs": [address]}}))
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_follow_services_and_hold_their_range() {
        let client = FakeClient::new();
        let range = json!({"metadata": {"name": "r"}, "spec": {"cidrs": ["10.9.0.0/24", "fd09::/112"]}});
        client.put(&typed::<ServiceCIDR>(range));
        client.put(&service("a", "10.9.0.7"));
        client.put(&service("b", "fd09::7"));
        client.put(&service("headless", "None"));
        let cluster = Cluster::start(client.clone());
        cluster.settle().await;
        let names = || -> Vec<String> {
            client.all::<IPAddress>("").into_iter().map(|address| address.metadata.name.unwrap()).collect()
        };
        assert_eq!(names(), ["10.9.0.7", "fd09::7"]);
        let ready = || {
            let range = client.find::<ServiceCIDR>("", "r")?;
            Some(range.status?.conditions?.first()?.status.clone())
        };
        assert_eq!(ready().unwrap(), "True");
        cluster.api::<ServiceCIDR>("").delete("r", &DeleteOptions::default()).await.unwrap();
        cluster.settle().await;
        assert_eq!(ready().unwrap(), "False");
        client.remove(&IPAddress::GVR, "", "10.9.0.7");
        cluster.settle().await;
        assert_eq!(names().len(), 2, "what a Service has is made anew");
        client.remove(&Service::GVR, "n", "a");
        client.remove(&Service::GVR, "n", "b");
        cluster.settle().await;
        assert_eq!((names().len(), ready()), (0, None));
    }

    #[test]
    fn ranges_hold_their_addresses() {
        let holds = |range: &str, address: &str| Cidr::read(range).unwrap().holds(&address.parse().unwrap());
        assert!(holds("10.9.0.0/24", "10.9.0.255") && !holds("10.9.0.0/24", "10.9.1.0"));
        assert!(holds("fd09::/112", "fd09::ffff") && !holds("fd09::/112", "fd09::1:0"));
        assert!(holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "::1"));
    }
}
