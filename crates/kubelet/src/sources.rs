//! ConfigMaps and Secrets that pods on this node show in volumes: read when needed, watched while shown.
//!
//! Only the objects referenced are watched, each by its name and once for all pods, as the node's permissions demand.
//! A change wakes the pods that show the object; nothing is polled.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use tiphys_api::{Gvr, Object, Status};
use tiphys_client::{Client, Target, WatchEvent, WatchOptions};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// Which object: resource, namespace, name.
pub(crate) type Key = (Gvr, String, String);

const RETRY: Duration = Duration::from_secs(1);

/// The watched objects.
pub(crate) struct Sources {
    client: Arc<dyn Client>,
    watched: Arc<Mutex<HashMap<Key, Watched>>>,
}

struct Watched {
    /// By the pod's uid: the version it shows, and how to wake it.
    pods: HashMap<String, (u64, Arc<Notify>)>,
    _task: AbortOnDropHandle<()>,
}

impl Sources {
    pub(crate) fn new(client: Arc<dyn Client>) -> Self {
        Self { client, watched: Arc::default() }
    }

    /// The object as it is now; `None` when it does not exist.
    pub(crate) async fn get(&self, (gvr, namespace, name): &Key) -> Result<Option<Object>, Status> {
        match self.client.get(&Target::new(gvr, namespace, name)).await {
            Ok(object) => Ok(Some(object)),
            Err(status) if status.is("NotFound") => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// From now on the pod shows exactly these objects, in these versions (0: absent), and is woken by changes.
    pub(crate) fn subscribe(&self, uid: &str, shown: BTreeMap<Key, u64>, wake: &Arc<Notify>) {
        let mut watched = self.watched.lock();
        for entry in watched.values_mut() {
            entry.pods.remove(uid);
        }
        for (key, version) in shown {
            let entry = watched.entry(key.clone()).or_insert_with(|| self.start(key));
            entry.pods.insert(uid.to_owned(), (version, wake.clone()));
        }
        watched.retain(|_, entry| !entry.pods.is_empty());
    }

    fn start(&self, key: Key) -> Watched {
        let task = follow(self.client.clone(), key, self.watched.clone());
        Watched { pods: HashMap::new(), _task: AbortOnDropHandle::new(tokio::spawn(task)) }
    }
}

async fn follow(client: Arc<dyn Client>, key: Key, watched: Arc<Mutex<HashMap<Key, Watched>>>) {
    let options = WatchOptions {
        fields: format!("metadata.name={}", key.2),
        bookmarks: true,
        ..WatchOptions::default()
    };
    loop {
        if let Ok(mut events) = client.watch(&key.0, &key.1, &options).await {
            while let Some(Ok(event)) = events.next().await {
                match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        tell(&watched, &key, object.meta().resource_version);
                    }
                    WatchEvent::Deleted(_) => tell(&watched, &key, 0),
                    WatchEvent::Bookmark(_) => {}
                }
            }
        }
        // The connection is lost or refused; the next watch begins with the present state.
        tokio::time::sleep(RETRY).await;
    }
}

fn tell(watched: &Mutex<HashMap<Key, Watched>>, key: &Key, version: u64) {
    let watched = watched.lock();
    let Some(entry) = watched.get(key) else { return };
    for (shown, wake) in entry.pods.values() {
        if *shown != version {
            wake.notify_one();
        }
    }
}
