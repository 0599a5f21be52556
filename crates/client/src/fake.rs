//! A cluster in memory, for tests of components: objects, revisions, watches, and the rules that controllers lean on.
//!
//! - It keeps the API's meaning where components can tell: uid, resourceVersion, generation, conflicts, `status` apart
//!   from the rest, graceful deletion of bound pods, finalizers, `generateName`, selectors, merge and JSON patches.
//! - It does not validate, default, admit or authorise.
//! - [`FakeClient::hold_watches`] delays events, so that a test can act on stale caches. [`FakeClient::fail`] refuses chosen
//!   requests, [`FakeClient::lose`] does chosen writes and loses their answers, [`FakeClient::answer_after`] lets answers
//!   take their time: whoever is killed meanwhile has written and does not know. [`FakeClient::arrive_after`] lets the
//!   writes themselves take it: whoever is killed meanwhile has not written.
//! - [`FakeClient::apart`] is the same cluster as another process sees it, with troubles of its own.

mod store;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use serde::Serialize;
use tiphys_api::{Gvr, Object, Status, Value};
use tokio::sync::watch;

use crate::typed::Kind;
use crate::{
    Client, DeleteOptions, ListOptions, ObjectList, PatchKind, Target, WatchEvent, WatchOptions, WatchStream,
    WriteOptions,
};
use store::{Selector, State};

/// Looks at a request (verb and target) and may refuse it.
pub type Reaction = Box<dyn Fn(&str, &Target) -> Option<Status> + Send + Sync>;

/// A [`Client`] with its own little cluster. Clones share it, and its troubles.
#[derive(Clone)]
pub struct FakeClient {
    inner: Arc<Inner>,
    troubles: Arc<Troubles>,
}

/// What befalls requests.
#[derive(Default)]
struct Troubles {
    refuse: Mutex<Option<Reaction>>,
    lose: Mutex<Option<Reaction>>,
    answer_after: Mutex<Duration>,
    arrive_after: Mutex<Duration>,
}

struct Inner {
    state: Mutex<State>,
    /// How many entries of the history watches may deliver: all, but for a hold.
    visible: watch::Sender<usize>,
    held: Mutex<bool>,
}

impl Default for FakeClient {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeClient {
    /// An empty cluster.
    pub fn new() -> Self {
        let visible = watch::channel(0).0;
        let inner = Inner { state: Mutex::default(), visible, held: Mutex::new(false) };
        Self { inner: Arc::new(inner), troubles: Arc::default() }
    }

    /// The same cluster, without the troubles of this client.
    pub fn apart(&self) -> Self {
        Self { inner: self.inner.clone(), troubles: Arc::default() }
    }

    /// Puts an object in as it is, with its status, creating or replacing it. Identity and revision are filled in.
    pub fn put<T: Kind>(&self, value: &T) -> Object {
        let json = value.to_json().expect("a typed value encodes");
        self.put_value(&T::GVR, &Value::from_json(&json).expect("what was encoded decodes"))
    }

    /// As [`Self::put`], for any resource.
    pub fn put_value(&self, gvr: &Gvr, value: &impl Serialize) -> Object {
        let tree = Value::of(value).expect("a test's object is JSON");
        let object = self.inner.state.lock().put(gvr, tree);
        self.publish();
        object
    }

    /// Removes an object at once, whatever finalizers it has.
    pub fn remove(&self, gvr: &Gvr, namespace: &str, name: &str) {
        self.inner.state.lock().remove(&Target::new(gvr, namespace, name));
        self.publish();
    }

    /// All objects of a kind in a namespace (empty: all), in key order.
    pub fn all<T: Kind>(&self, namespace: &str) -> Vec<T> {
        let objects = self.inner.state.lock().list(&T::GVR, namespace, &Selector::default());
        objects.iter().map(|object| T::from_json(object.json()).expect("stored objects decode")).collect()
    }

    /// One object of a kind.
    pub fn find<T: Kind>(&self, namespace: &str, name: &str) -> Option<T> {
        let object = self.inner.state.lock().get(&Target::new(&T::GVR, namespace, name)).ok()?;
        T::from_json(object.json()).ok()
    }

    /// Withholds watch events (true), or delivers what was withheld and all that follows (false).
    pub fn hold_watches(&self, hold: bool) {
        *self.inner.held.lock() = hold;
        self.publish();
    }

    /// Lets a function refuse requests from now on.
    pub fn fail(&self, reaction: Reaction) {
        *self.troubles.refuse.lock() = Some(reaction);
    }

    /// Lets a function take the answers of writes that are done, and give another in their place, from now on.
    pub fn lose(&self, reaction: Reaction) {
        *self.troubles.lose.lock() = Some(reaction);
    }

    /// From now on, a write is answered so long after it was done.
    pub fn answer_after(&self, pause: Duration) {
        *self.troubles.answer_after.lock() = pause;
    }

    /// From now on, a write is done so long after it was asked for.
    pub fn arrive_after(&self, pause: Duration) {
        *self.troubles.arrive_after.lock() = pause;
    }

    /// Serves a document at a path, as discovery.
    pub fn serve_path(&self, path: &str, body: &impl Serialize) {
        let json = serde_json::to_vec(body).expect("a test's document is JSON");
        self.inner.state.lock().paths.insert(path.to_owned(), json.into());
    }

    /// Number of accepted writes so far: to tell that nothing is written without need.
    pub fn writes(&self) -> usize {
        self.inner.state.lock().history.len()
    }

    fn publish(&self) {
        if !*self.inner.held.lock() {
            let all = self.inner.state.lock().history.len();
            self.inner.visible.send_replace(all);
        }
    }

    fn admit(&self, verb: &str, target: &Target) -> Result<(), Status> {
        asked(&self.troubles.refuse, verb, target)
    }

    async fn write<T>(
        &self,
        verb: &str,
        target: &Target,
        change: impl FnOnce(&mut State) -> Result<T, Status>,
    ) -> Result<T, Status> {
        self.admit(verb, target)?;
        rest(&self.troubles.arrive_after).await;
        let done = change(&mut self.inner.state.lock());
        self.publish();
        let answer = done.and_then(|done| asked(&self.troubles.lose, verb, target).map(|()| done));
        rest(&self.troubles.answer_after).await;
        answer
    }
}

async fn rest(pause: &Mutex<Duration>) {
    let pause = *pause.lock();
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

/// What a reaction, if there is one, says about a request.
fn asked(reaction: &Mutex<Option<Reaction>>, verb: &str, target: &Target) -> Result<(), Status> {
    match reaction.lock().as_ref().and_then(|reaction| reaction(verb, target)) {
        Some(status) => Err(status),
        None => Ok(()),
    }
}

#[async_trait]
impl Client for FakeClient {
    async fn get(&self, target: &Target) -> Result<Object, Status> {
        self.admit("get", target)?;
        self.inner.state.lock().get(target)
    }

    async fn list(&self, gvr: &Gvr, namespace: &str, options: &ListOptions) -> Result<ObjectList, Status> {
        self.admit("list", &Target::new(gvr, namespace, ""))?;
        let selector = Selector::parse(&options.labels, &options.fields)?;
        let state = self.inner.state.lock();
        let items = state.list(gvr, namespace, &selector);
        Ok(ObjectList { items, resource_version: state.history.len() as u64, continue_token: String::new() })
    }

    async fn watch(&self, gvr: &Gvr, namespace: &str, options: &WatchOptions) -> Result<WatchStream, Status> {
        self.admit("watch", &Target::new(gvr, namespace, ""))?;
        let follower = Follower {
            inner: self.inner.clone(),
            visible: self.inner.visible.subscribe(),
            at: options.resource_version.parse().unwrap_or(0),
            gvr: gvr.clone(),
            namespace: namespace.to_owned(),
            selector: Selector::parse(&options.labels, &options.fields)?,
        };
        let stream = futures::stream::unfold(follower, |mut follower| async move {
            let event = follower.next().await?;
            Some((Ok(event), follower))
        });
        Ok(stream.boxed())
    }

    async fn create(&self, target: &Target, body: Bytes, _: &WriteOptions) -> Result<Object, Status> {
        let body = parse(&body)?;
        self.write("create", target, |state| state.create(target, body)).await
    }

    async fn update(&self, target: &Target, body: Bytes, _: &WriteOptions) -> Result<Object, Status> {
        let body = parse(&body)?;
        self.write("update", target, |state| state.update(target, body)).await
    }

    async fn patch(
        &self,
        target: &Target,
        kind: PatchKind,
        body: Bytes,
        _: &WriteOptions,
    ) -> Result<Object, Status> {
        let body = parse(&body)?;
        self.write("patch", target, |state| state.patch(target, kind, &body)).await
    }

    async fn delete(&self, target: &Target, options: &DeleteOptions) -> Result<Option<Object>, Status> {
        self.write("delete", target, |state| state.delete(target, options)).await
    }

    async fn get_path(&self, path: &str) -> Result<Bytes, Status> {
        self.inner.state.lock().paths.get(path).cloned().ok_or_else(Status::no_such_path)
    }
}

fn parse(body: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(body).map_err(|e| Status::bad_request(e.to_string()))
}

/// One watch: a place in the history.
struct Follower {
    inner: Arc<Inner>,
    visible: watch::Receiver<usize>,
    at: usize,
    gvr: Gvr,
    namespace: String,
    selector: Selector,
}

impl Follower {
    async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            let visible = *self.visible.borrow_and_update();
            while self.at < visible {
                let change = self.inner.state.lock().history.get(self.at).cloned()?;
                self.at += 1;
                let ours = change.gvr == self.gvr
                    && (self.namespace.is_empty() || change.namespace() == self.namespace);
                if let Some(event) = ours.then(|| change.seen_by(&self.selector)).flatten() {
                    return Some(event);
                }
            }
            self.visible.changed().await.ok()?;
        }
    }
}
