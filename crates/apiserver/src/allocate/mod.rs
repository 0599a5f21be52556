//! Service addresses and node ports: given inside the write path, freed by deletion, remembered nowhere else.
//!
//! - Who holds what is read from the stored Services, so that no bookkeeping can drift from them.
//! - Between the choice and the moment the Service is seen in the cache a [`pending`] note keeps others off: two creations at
//!   once never get the same address.
//! - Addresses come from the server's own ranges, then from those of further ServiceCIDRs that are Ready.
//! - [`service`] brings the fields of one Service into order, [`pick`] chooses a number; both are pure.

mod cidr;
mod held;
mod pending;
mod pick;
mod service;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use tiphys_api::field::{Error, Path};
use tiphys_api::{Gvr, Object, Status, Value};

use self::held::Held;
use self::pending::{Claim, Pending};
use crate::admission::{Operation, Plugin, Review};
use crate::auth::Lister;

pub use cidr::{Cidr, CidrError};

pub(crate) const SERVICES: Gvr = Gvr::new("", "v1", "services");
const SERVICE_CIDRS: Gvr = Gvr::new("networking.k8s.io", "v1", "servicecidrs");
/// Ports that nodes open for Services.
pub const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;

/// Gives Services their cluster addresses and node ports. An admission plugin: it must see every write of a Service.
pub struct ServiceAddresses {
    lister: Arc<dyn Lister>,
    ranges: Vec<Cidr>,
    held: ArcSwap<Held>,
    pending: Mutex<Pending>,
}

/// What one Service asks for.
struct Asker<'a> {
    /// `namespace/name`.
    key: &'a str,
    /// Keeps no note.
    dry_run: bool,
    /// When.
    now: Instant,
}

/// Why something is not given.
enum Refusal {
    /// The Service asks for what it cannot have.
    Field(Error),
    /// Nothing is left.
    Full(&'static str),
}

impl ServiceAddresses {
    /// `ranges`: one per address family, the primary family first.
    pub fn new(lister: Arc<dyn Lister>, ranges: Vec<Cidr>) -> Self {
        Self { lister, ranges, held: ArcSwap::default(), pending: Mutex::default() }
    }

    fn held(&self) -> Arc<Held> {
        let held = self.held.load_full();
        if held.is_current(self.lister.as_ref()) {
            return held;
        }
        let fresh = Arc::new(Held::build(self.lister.as_ref(), &held));
        self.held.store(fresh.clone());
        fresh
    }

    /// The server's own ranges, then those that people added.
    fn all_ranges(&self) -> Vec<Cidr> {
        let mut all = self.ranges.clone();
        for range in self.lister.list(&SERVICE_CIDRS, "").iter().flat_map(usable) {
            if !all.contains(&range) {
                all.push(range);
            }
        }
        all
    }

    /// Gives all that is missing, or nothing.
    fn give(&self, service: &mut Value, old: Option<&Value>, asker: &Asker<'_>) -> Result<(), Refusal> {
        // One at a time: the choice and its note are one step.
        let mut pending = self.pending.lock();
        let held = self.held();
        pending.forget(&held, asker.now);
        let mut claim = Claim::new(&held, &pending, asker.key);
        self.addresses(service, old, &mut claim)?;
        node_ports(service, old, &mut claim)?;
        let taken = claim.taken();
        if !asker.dry_run {
            pending.note(asker.key, taken, asker.now);
        }
        Ok(())
    }

    fn addresses(
        &self,
        service: &mut Value,
        old: Option<&Value>,
        claim: &mut Claim<'_>,
    ) -> Result<(), Refusal> {
        if !service::needs_address(service) {
            return Ok(());
        }
        let families = service::families(service);
        let asked = service::addresses(service);
        let had = old.map(service::addresses).unwrap_or_default();
        let all = self.all_ranges();
        let mut given = Vec::new();
        for (i, family) in families.iter().enumerate() {
            let v6 = *family == service::V6;
            let ranges: Vec<Cidr> = all.iter().filter(|range| range.is_v6() == v6).copied().collect();
            if ranges.is_empty() {
                continue;
            }
            let address = match asked.get(i) {
                Some(same) if had.get(i) == Some(same) => same.clone(),
                Some(text) => requested(text, &ranges, &asked, claim)?,
                None => free(&ranges, claim)?.to_string(),
            };
            given.push(address);
        }
        service::set_addresses(service, given);
        Ok(())
    }
}

/// The ranges of a ServiceCIDR, if it can be used.
fn usable(object: &Object) -> Vec<Cidr> {
    let Ok(value) = object.value() else { return Vec::new() };
    let conditions = value["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
    let cidrs = value["spec"]["cidrs"].as_array().filter(|_| ready && object.meta().deleted.is_none());
    cidrs.into_iter().flatten().filter_map(|text| text.as_str()?.parse().ok()).collect()
}

fn requested(
    text: &str,
    ranges: &[Cidr],
    asked: &[String],
    claim: &mut Claim<'_>,
) -> Result<String, Refusal> {
    let refuse = |why: String| {
        let detail = format!("failed to allocate IP {text}: {why}");
        Refusal::Field(Error::invalid(&Path::new("spec").child("clusterIPs"), asked.to_vec(), &detail))
    };
    // What is no address at all is for validation to tell.
    let Ok(address) = text.parse::<IpAddr>() else { return Ok(text.to_owned()) };
    if !ranges.iter().any(|range| range.gives(address)) {
        let valid: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        let valid = valid.join(",");
        let why =
            format!("the provided IP ({text}) is not in the valid range. The range of valid IPs is {valid}");
        return Err(refuse(why));
    }
    match claim.take_address(address) {
        true => Ok(address.to_string()),
        false => Err(refuse("provided IP is already allocated".to_owned())),
    }
}

fn free(ranges: &[Cidr], claim: &mut Claim<'_>) -> Result<IpAddr, Refusal> {
    let of_range = |range: &Cidr| {
        let band = pick::address_band(range.size());
        let number = pick::pick(1..range.end(), band, random(), |n| claim.holds_address(range.address(n)))?;
        Some(range.address(number))
    };
    let address = ranges.iter().find_map(of_range);
    let address = address.ok_or(Refusal::Full("failed to allocate a serviceIP: range is full"))?;
    claim.take_address(address);
    Ok(address)
}

fn node_ports(service: &mut Value, old: Option<&Value>, claim: &mut Claim<'_>) -> Result<(), Refusal> {
    let had = old.map(service::all_node_ports).unwrap_or_default();
    let gives = service::gives_node_ports(service);
    // By port number: TCP and UDP of the same port share a node port.
    let mut given: Vec<(i64, u16)> = Vec::new();
    for i in 0..service::port_count(service) {
        let Some(port) = service::port(service, i) else { continue };
        let shared = given.iter().find(|(number, _)| *number == port.number).map(|(_, node)| *node);
        let node = match (port.node_port, shared) {
            (Some(asked), _) if had.contains(&asked) || given.iter().any(|(_, n)| *n == asked) => Some(asked),
            (Some(asked), _) => Some(requested_port(asked, i, claim)?),
            (None, _) if !gives => None,
            (None, Some(node)) => Some(node),
            (None, None) => Some(free_port(claim)?),
        };
        if let Some(node) = node {
            service::set_node_port(service, i, node);
            given.push((port.number, node));
        }
    }
    health_port(service, &had, claim)
}

fn health_port(service: &mut Value, had: &[u16], claim: &mut Claim<'_>) -> Result<(), Refusal> {
    if !service::needs_health_port(service) {
        return Ok(());
    }
    match service::health_port(service) {
        Some(asked) if had.contains(&asked) => Ok(()),
        Some(asked) if claim.take_port(asked) => Ok(()),
        Some(asked) => {
            let why = format!(
                "failed to allocate requested HealthCheck NodePort {asked}: provided port is already allocated"
            );
            let path = Path::new("spec").child("healthCheckNodePort");
            Err(Refusal::Field(Error::invalid(&path, asked, &why)))
        }
        None => {
            let port = free_port(claim)?;
            service["spec"]["healthCheckNodePort"] = port.into();
            Ok(())
        }
    }
}

fn requested_port(asked: u16, i: usize, claim: &mut Claim<'_>) -> Result<u16, Refusal> {
    let path = Path::new("spec").child("ports").index(i).child("nodePort");
    let refuse = |why: &str| Err(Refusal::Field(Error::invalid(&path, asked, why)));
    if !NODE_PORTS.contains(&asked) {
        let (first, last) = (NODE_PORTS.start(), NODE_PORTS.end());
        return refuse(&format!(
            "provided port is not in the valid range. The range of valid ports is {first}-{last}"
        ));
    }
    match claim.take_port(asked) {
        true => Ok(asked),
        false => refuse("provided port is already allocated"),
    }
}

fn free_port(claim: &mut Claim<'_>) -> Result<u16, Refusal> {
    let (first, last) = (u32::from(*NODE_PORTS.start()), u32::from(*NODE_PORTS.end()));
    let taken = |n: u32| u16::try_from(n).map_or(true, |port| claim.holds_port(port));
    let number = pick::pick(first..last + 1, pick::port_band(last + 1 - first), random(), taken);
    let port = number.and_then(|number| u16::try_from(number).ok());
    let port = port.ok_or(Refusal::Full("failed to allocate a nodePort: range is full"))?;
    claim.take_port(port);
    Ok(port)
}

fn random() -> u32 {
    let [a, b, c, d, ..] = uuid::Uuid::new_v4().into_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[async_trait]
impl Plugin for ServiceAddresses {
    fn name(&self) -> &'static str {
        "ServiceAddresses"
    }

    fn completes(&self) -> bool {
        true
    }

    async fn mutate(&self, review: &mut Review<'_>) -> Result<(), Status> {
        let writes = matches!(review.operation, Operation::Create | Operation::Update);
        if !writes || !review.is("", "services") {
            return Ok(());
        }
        let old = review.old.map(|old| old.value()).transpose().map_err(Status::internal)?;
        let invalid = |errors: &[Error]| Status::invalid(review.gvk, review.name, errors);
        service::arrange(review.object, old.as_ref(), &self.ranges).map_err(|errors| invalid(&errors))?;
        let key = format!("{}/{}", review.namespace, review.name);
        let ask = |object: &mut Value| {
            let asker = Asker { key: &key, dry_run: review.dry_run, now: Instant::now() };
            self.give(object, old.as_ref(), &asker)
        };
        let mut result = ask(review.object);
        if matches!(result, Err(Refusal::Field(_))) {
            // The holder may have been deleted a moment ago.
            self.lister.refresh().await;
            result = ask(review.object);
        }
        result.map_err(|refusal| match refusal {
            Refusal::Field(error) => invalid(&[error]),
            Refusal::Full(why) => Status::internal(why),
        })
    }
}
