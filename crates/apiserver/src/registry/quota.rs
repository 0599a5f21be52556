//! Resource quotas on the write path: what an object takes of its namespace's quotas is noted in them by the very
//! transaction that writes the object.
//!
//! - So a quota is never exceeded, whoever writes at the same time and wherever a write fails: there is no moment at which
//!   an object is stored and not counted, or counted and not stored. (kube-apiserver notes the usage first, and a
//!   write that fails afterwards leaves it behind.)
//! - Releases are the controller's: it counts what is there and compares-and-swaps the quota, which a charge in between
//!   defeats. `used` is never less than what is there.
//! - Writers of one namespace with quotas take turns, for each needs the quota as the one before left it. Namespaces
//!   without quotas pay one look-up.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use tiphys_api::quota::{self, Quota, Usage};
use tiphys_api::{Gvr, Object, Status, Value};
use tiphys_store::{Op, Txn, TxnResult};

use super::commit::{self, Commit};
use super::request::Request;
use super::{Registry, tree};
use crate::auth::Lister;
use crate::cache::{Cache, Prepared};

const QUOTAS: Gvr = Gvr::new("", "v1", "resourcequotas");
/// How often a write whose quota others changed is tried anew.
const RETRIES_MAX: usize = 100;

/// What a write takes of quotas.
pub(super) struct Bill {
    gvr: Gvr,
    namespace: String,
    name: String,
    /// What the object takes in its new form, as scopes see it.
    usage: Usage,
    /// Why a new pod may not be judged by a quota that needs to know more, by the quota's name.
    unsaid: Vec<(String, String)>,
}

/// Whose turn it is, by namespace.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<Box<str>, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    fn of(&self, namespace: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock();
        // Who is on turn or waits holds a clone.
        turns.retain(|name, turn| **name == *namespace || Arc::strong_count(turn) > 1);
        turns.entry(namespace.into()).or_default().clone()
    }
}

impl Registry {
    /// What a write takes of its namespace's quotas: a new object, or what it takes more than the stored one did.
    /// `None`: nothing that any quota limits.
    pub(super) fn bill(
        &self,
        request: &Request<'_>,
        name: &str,
        object: &Value,
        old: Option<&Value>,
    ) -> Option<Bill> {
        let (gvr, namespace) = (&request.resource.gvr, request.namespace);
        if namespace.is_empty() || (old.is_some() && !quota::is_measured(&gvr.group, &gvr.resource)) {
            return None;
        }
        let quotas = self.caches().list(&QUOTAS, namespace);
        if quotas.is_empty() {
            return None;
        }
        let now = Timestamp::now();
        let mut usage = quota::usage(&gvr.group, &gvr.resource, object, now);
        if let Some(old) = old {
            usage.amounts = usage.amounts.beyond(&quota::usage(&gvr.group, &gvr.resource, old, now).amounts);
        }
        let mut unsaid = Vec::new();
        let mut limited = false;
        for quota in &quotas {
            let Ok(value) = quota.value() else { continue };
            let read = Quota::read(&value);
            if read.share(&usage).is_empty() {
                continue;
            }
            limited = true;
            if old.is_none() && gvr.group.is_empty() && gvr.resource == "pods" {
                unsaid.extend(read.unsaid(object).map(|why| (quota.meta().name.to_string(), why)));
            }
        }
        let (gvr, namespace) = (gvr.clone(), namespace.to_owned());
        limited.then(|| Bill { gvr, namespace, name: name.to_owned(), usage, unsaid })
    }

    /// Whether the quotas have room for a bill, for a write that is only tried.
    pub(super) async fn try_bill(&self, bill: Option<&Bill>) -> Result<(), Status> {
        let Some(bill) = bill else { return Ok(()) };
        self.caches().catch_up().await?;
        self.charges(bill).map(drop)
    }

    /// Writes an object whose stored version must be `expected`, together with what it takes of quotas.
    pub(super) async fn put_billed(
        &self,
        cache: &Cache,
        object: (&str, &str),
        next: Prepared<'_>,
        expected: u64,
        bill: Option<&Bill>,
    ) -> Result<Commit<Object>, Status> {
        let Some(bill) = bill else { return self.put(cache, object, next, expected).await };
        let quotas = self.caches().of(&QUOTAS).ok_or_else(Status::method_not_allowed)?;
        let turn = self.turns.of(&bill.namespace);
        let _turn = turn.lock().await;
        for _ in 0..RETRIES_MAX {
            self.caches().catch_up().await?;
            let key = tiphys_store::Key::from(cache.key(object.0, object.1));
            let mut txn = Txn::new(self.put_op(cache, key.clone(), next.bytes()).await?).when(key, expected);
            let mut prepared = Vec::new();
            for (quota, tree) in self.charges(bill)? {
                let after = commit::prepare(&quotas, tree, None, false)?;
                let key = tiphys_store::Key::from(quotas.key(&bill.namespace, &quota.meta().name));
                let put = Op::put(key.clone(), after.bytes());
                txn = txn.and(put).when(key, quota.meta().resource_version);
                prepared.push(after);
            }
            match self.submit(txn).await? {
                TxnResult::Committed { revision } => {
                    prepared.into_iter().for_each(|after| drop(after.committed(revision)));
                    return Ok(Commit::Done(next.committed(revision)));
                }
                TxnResult::Conflict { revision, found } if found.first() != Some(&expected) => {
                    return Ok(Commit::Conflict(revision));
                }
                // A quota changed; with it, perhaps, the answer.
                TxnResult::Conflict { revision, .. } => self.caches().reach(revision).await?,
            }
        }
        Err(Status::conflict(&QUOTAS, "", "too many concurrent changes of this namespace's quotas"))
    }

    /// The quotas that hold a bill's object, and each as it is after the charge; or the refusal.
    fn charges(&self, bill: &Bill) -> Result<Vec<(Object, Value)>, Status> {
        let refuse = |why: &str| Err(Status::forbidden(&bill.gvr, &bill.name, why));
        if let Some((quota, why)) = bill.unsaid.first() {
            return refuse(&format!("failed quota: {quota}: {why}"));
        }
        let mut charges = Vec::new();
        for quota in self.caches().list(&QUOTAS, &bill.namespace) {
            let mut value = quota.value().map_err(Status::internal)?;
            let read = Quota::read(&value);
            let share = read.share(&bill.usage);
            if share.is_empty() {
                continue;
            }
            match read.charge(&quota.meta().name, &share) {
                Ok(used) => {
                    let used = used.to_value();
                    // Written even when nothing is counted yet: whoever counts must see that it missed something.
                    tree::set(&mut value, &["status", "used"], used);
                    charges.push((quota, value));
                }
                Err(why) => return refuse(&why),
            }
        }
        Ok(charges)
    }
}
