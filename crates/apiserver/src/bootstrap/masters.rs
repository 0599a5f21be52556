//! Which API servers serve this cluster, as each of them keeps it in the store that they share: a key with its address, under
//! a lease that ends with it.
//!
//! - The keys are where kube-apiserver's own reconciler (`--endpoint-reconciler-type=lease`) has its own, with a value that it
//!   reads, so that either may serve beside the other.
//! - Nothing polls. Who comes or goes is an event of the store: at once for one that ends in order, when its lease has run
//!   out for one that died.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use tiphys_api::json;
use tiphys_store::{Error, Event, Key, Op, Range, Store, Txn, WatchFrom};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PREFIX: &str = "/registry/masterleases/";
/// How long an address stands that nobody renews, and how often it is renewed: kube-apiserver's own times.
const TTL: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(5);
/// After a failure of the store.
const AGAIN: Duration = Duration::from_secs(1);

/// Addresses and ports of API servers.
pub(crate) type Addresses = BTreeSet<SocketAddr>;

/// The API servers of a cluster, as they come and go; this one is always among them.
pub(crate) struct Masters {
    pub(crate) known: watch::Receiver<Addresses>,
    /// Ends once this server has taken its address away, after `stop`.
    pub(crate) left: Option<JoinHandle<()>>,
}

impl Masters {
    /// Of a store that is this server's alone.
    pub(crate) fn alone(own: SocketAddr) -> Self {
        Self { known: watch::channel(Addresses::from([own])).1, left: None }
    }

    /// Joins those that share a store, until `stop`.
    pub(crate) async fn join(
        store: Arc<dyn Store>,
        own: SocketAddr,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        let member = Member { store, own, lease: AtomicU64::new(0) };
        member.enter().await?;
        let (all, from) = member.all().await?;
        let (told, known) = watch::channel(all);
        let left = tokio::spawn(async move {
            let serve = async { tokio::join!(member.stay(), member.follow(&told, from)) };
            tokio::select! { _ = serve => {}, () = stop.cancelled() => {} }
            if let Err(error) = member.store.revoke(member.lease.load(Ordering::Relaxed)).await {
                tracing::debug!(%error, "the address of this server goes when its lease has run out");
            }
        });
        Ok(Self { known, left: Some(left) })
    }
}

struct Member {
    store: Arc<dyn Store>,
    own: SocketAddr,
    /// What the address stands by.
    lease: AtomicU64,
}

impl Member {
    fn key(&self) -> Key {
        format!("{PREFIX}{}", self.own).into()
    }

    /// Puts the address in, under a new lease.
    async fn enter(&self) -> Result<(), Error> {
        let value = json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": {},
            "subsets": [{
                "addresses": [{"ip": self.own.ip().to_string()}],
                "ports": [{"name": "https", "port": self.own.port(), "protocol": "TCP"}],
            }],
        });
        let lease = self.store.grant(TTL).await?;
        self.lease.store(lease, Ordering::Relaxed);
        self.store.txn(Txn::new(Op::put_with_lease(self.key(), value.to_string(), lease))).await.map(drop)
    }

    /// Keeps the address in.
    async fn stay(&self) {
        loop {
            tokio::time::sleep(RENEW).await;
            if let Err(error) = self.renew().await {
                tracing::debug!(%error, "the address of this server is not renewed, will retry");
            }
        }
    }

    async fn renew(&self) -> Result<(), Error> {
        match self.store.keep_alive(self.lease.load(Ordering::Relaxed)).await {
            Ok(_) if self.store.get(self.key()).await?.is_some() => Ok(()),
            Ok(_) | Err(Error::LeaseNotFound(_)) => self.enter().await,
            Err(error) => Err(error),
        }
    }

    /// Everyone, and the revision from which changes follow.
    async fn all(&self) -> Result<(Addresses, u64), Error> {
        let found = self.store.range(Range::prefix(PREFIX).keys_only()).await?;
        let mut all: Addresses = found.items.iter().filter_map(|item| self.address(&item.key)).collect();
        all.insert(self.own);
        Ok((all, found.revision + 1))
    }

    /// The address that a key tells; kube-apiserver's keys say no port, for it wants all servers on one.
    fn address(&self, key: &Key) -> Option<SocketAddr> {
        let text = key.as_str()?.strip_prefix(PREFIX)?;
        let of_host = || Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, self.own.port()));
        text.parse().ok().or_else(of_host)
    }

    /// Tells who comes and goes.
    async fn follow(&self, told: &watch::Sender<Addresses>, mut from: u64) {
        loop {
            if let Err(error) = self.tell(told, from).await {
                tracing::debug!(%error, "other servers' coming and going is not told, will retry");
            }
            tokio::time::sleep(AGAIN).await;
            if let Ok((all, next)) = self.all().await {
                from = next;
                told.send_if_modified(|known| {
                    let differs = *known != all;
                    *known = all;
                    differs
                });
            }
        }
    }

    async fn tell(&self, told: &watch::Sender<Addresses>, from: u64) -> Result<(), Error> {
        let mut changes = self.store.watch(WatchFrom::prefix(PREFIX, from)).await?;
        while let Some(batch) = changes.next().await {
            for event in batch?.events {
                let Some(address) = self.address(event.key()) else { continue };
                told.send_if_modified(|known| match event {
                    Event::Put { .. } => known.insert(address),
                    Event::Delete { .. } => address != self.own && known.remove(&address),
                });
            }
        }
        Ok(())
    }
}
