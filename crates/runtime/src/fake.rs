//! A runtime in memory: records every call, keeps sandboxes and containers as a real one does, fails on demand.
//!
//! - Containers run until [`Fake::exit`] ends them or they are stopped; no test waits for a grace period.
//! - [`Fake::fail`] makes the next call of a method fail.
//! - Time is a counter: each thing made or ended is one second later than the last.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::model::{
    Auth, Condition, Container, ContainerConfig, ContainerState, Event, ExecOutput, ExecRequest, Filter,
    FsUsage, Image, Map, Resources, Sandbox, SandboxConfig, Stats, Version,
};
use crate::{Error, EventStream, Result, Runtime};

/// Events kept for a subscriber that is slow; a test that needs more is wrong.
const EVENTS: usize = 1024;

/// The simulated runtime.
pub struct Fake {
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
}

#[derive(Default)]
struct State {
    calls: Vec<String>,
    failures: BTreeMap<&'static str, VecDeque<Error>>,
    /// Whether the answer to the next start of a container is lost.
    start_lost: bool,
    sandboxes: BTreeMap<String, Sandbox>,
    containers: BTreeMap<String, Container>,
    configs: BTreeMap<String, ContainerConfig>,
    images: BTreeMap<String, Image>,
    execs: BTreeMap<String, ExecOutput>,
    seconds: i64,
    ids: u32,
}

impl Default for Fake {
    fn default() -> Self {
        Self { state: Mutex::default(), events: broadcast::channel(EVENTS).0 }
    }
}

impl State {
    fn called(&mut self, method: &'static str, text: &str) -> Result<()> {
        self.calls.push(format!("{method} {text}").trim_end().to_owned());
        match self.failures.get_mut(method).and_then(VecDeque::pop_front) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn tick(&mut self) -> i64 {
        self.seconds += 1;
        self.seconds * 1_000_000_000
    }

    fn next_id(&mut self, prefix: &str) -> String {
        self.ids += 1;
        format!("{prefix}-{}", self.ids)
    }

    fn end(&mut self, id: &str, code: i32) -> Option<Event> {
        let at = self.tick();
        let container = self.containers.get_mut(id).filter(|c| c.state == ContainerState::Running)?;
        container.state = ContainerState::Exited;
        container.exit_code = code;
        container.finished_at = at;
        container.reason = if code == 0 { "Completed".into() } else { "Error".into() };
        Some(Event::Exited { id: id.into(), code, at })
    }
}

impl Fake {
    /// An empty runtime with these images present.
    pub fn new(images: &[&str]) -> Self {
        let fake = Self::default();
        for image in images {
            fake.add_image(image);
        }
        fake
    }

    /// Puts an image on the node.
    pub fn add_image(&self, image: &str) {
        let id = format!("sha256:{image}");
        let image_of = Image { id: id.clone(), tags: vec![image.into()], size: 1000, ..Image::default() };
        self.state.lock().images.insert(image.into(), image_of);
    }

    /// Lets the next start of a container succeed without an answer, as when the runtime is killed and started again.
    pub fn lose_start(&self) {
        self.state.lock().start_lost = true;
    }

    /// Makes the next call of `method` (as the trait names it) fail.
    pub fn fail(&self, method: &'static str, error: Error) {
        self.state.lock().failures.entry(method).or_default().push_back(error);
    }

    /// Sets what a command, joined by spaces, answers when run in any container.
    pub fn on_exec(&self, command: &str, output: ExecOutput) {
        self.state.lock().execs.insert(command.into(), output);
    }

    /// All calls so far, as `create_container web 0`.
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    /// Calls of one method so far.
    pub fn calls_of(&self, method: &str) -> Vec<String> {
        let of_method = |call: &String| call.split(' ').next() == Some(method);
        self.state.lock().calls.iter().filter(|call| of_method(call)).cloned().collect()
    }

    /// What a container was made from.
    pub fn config(&self, id: &str) -> Option<ContainerConfig> {
        self.state.lock().configs.get(id).cloned()
    }

    /// All containers.
    pub fn containers(&self) -> Vec<Container> {
        self.state.lock().containers.values().cloned().collect()
    }

    /// All sandboxes.
    pub fn sandboxes(&self) -> Vec<Sandbox> {
        self.state.lock().sandboxes.values().cloned().collect()
    }

    /// Ends the running container of this name, as its process would.
    pub fn exit(&self, name: &str, code: i32) {
        let event = {
            let mut state = self.state.lock();
            let running = |c: &&Container| c.name == name && c.state == ContainerState::Running;
            let id = state.containers.values().find(running).map(|c| c.id.clone());
            id.and_then(|id| state.end(&id, code))
        };
        self.publish(event);
    }

    fn publish(&self, event: Option<Event>) {
        if let Some(event) = event {
            // Nobody listening is fine: events are only for those who subscribed.
            let _ = self.events.send(event);
        }
    }
}

fn selected(labels: &Map, filter: &Filter) -> bool {
    filter.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn missing(what: &str, id: &str) -> Error {
    Error::NotFound(format!("rpc error: code = NotFound desc = {what} {id:?} not found"))
}

#[async_trait]
impl Runtime for Fake {
    async fn version(&self) -> Result<Version> {
        Ok(Version { name: "fake".into(), version: "1.0.0".into(), api_version: "v1".into() })
    }

    async fn status(&self) -> Result<Vec<Condition>> {
        let ok = |kind: &str| Condition { kind: kind.into(), ok: true, ..Condition::default() };
        Ok(vec![ok("RuntimeReady"), ok("NetworkReady")])
    }

    async fn set_pod_cidr(&self, cidr: &str) -> Result<()> {
        self.state.lock().called("set_pod_cidr", cidr)
    }

    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<String> {
        let mut state = self.state.lock();
        state.called("run_sandbox", &format!("{} {}", config.name, config.attempt))?;
        let id = state.next_id("sandbox");
        let ip = format!("10.0.0.{}", state.ids);
        let sandbox = Sandbox {
            id: id.clone(),
            name: config.name.clone(),
            namespace: config.namespace.clone(),
            uid: config.uid.clone(),
            attempt: config.attempt,
            ready: true,
            created_at: state.tick(),
            ips: vec![ip],
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        };
        state.sandboxes.insert(id.clone(), sandbox);
        Ok(id)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let events: Vec<_> = {
            let mut state = self.state.lock();
            state.called("stop_sandbox", id)?;
            if let Some(sandbox) = state.sandboxes.get_mut(id) {
                sandbox.ready = false;
            }
            let inside = state.containers.values().filter(|c| c.sandbox == id).map(|c| c.id.clone());
            let inside: Vec<String> = inside.collect();
            inside.iter().map(|id| state.end(id, 137)).collect()
        };
        events.into_iter().for_each(|event| self.publish(event));
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let mut state = self.state.lock();
        state.called("remove_sandbox", id)?;
        state.sandboxes.remove(id);
        state.containers.retain(|_, container| container.sandbox != id);
        Ok(())
    }

    async fn sandbox_status(&self, id: &str) -> Result<Sandbox> {
        self.state.lock().sandboxes.get(id).cloned().ok_or_else(|| missing("sandbox", id))
    }

    async fn list_sandboxes(&self, filter: &Filter) -> Result<Vec<Sandbox>> {
        let state = self.state.lock();
        Ok(state.sandboxes.values().filter(|s| selected(&s.labels, filter)).cloned().collect())
    }

    async fn create_container(
        &self,
        sandbox: &str,
        config: &ContainerConfig,
        sandbox_config: &SandboxConfig,
    ) -> Result<String> {
        let mut state = self.state.lock();
        state.called("create_container", &format!("{} {}", config.name, config.attempt))?;
        let id = state.next_id(&config.name);
        let container = Container {
            id: id.clone(),
            sandbox: sandbox.into(),
            name: config.name.clone(),
            attempt: config.attempt,
            state: ContainerState::Created,
            created_at: state.tick(),
            image: config.user_image.clone(),
            image_ref: config.image.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            log_path: sandbox_config.log_directory.join(&config.log_path).display().to_string(),
            ..Container::default()
        };
        state.containers.insert(id.clone(), container);
        state.configs.insert(id.clone(), config.clone());
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let event = {
            let mut state = self.state.lock();
            let name = state.containers.get(id).map(|c| c.name.clone()).unwrap_or_default();
            state.called("start_container", &name)?;
            let at = state.tick();
            let container = state.containers.get_mut(id).ok_or_else(|| missing("container", id))?;
            container.state = ContainerState::Running;
            container.started_at = at;
            Event::Started { id: id.into() }
        };
        self.publish(Some(event));
        match std::mem::take(&mut self.state.lock().start_lost) {
            true => Err(Error::Unavailable("connection reset".into())),
            false => Ok(()),
        }
    }

    async fn stop_container(&self, id: &str, signal: Option<&str>, grace: Duration) -> Result<()> {
        let event = {
            let mut state = self.state.lock();
            let name = state.containers.get(id).map(|c| c.name.clone()).unwrap_or_default();
            let (seconds, signal) = (grace.as_secs_f64().ceil(), signal.unwrap_or_default());
            state.called("stop_container", &format!("{name} {seconds} {signal}"))?;
            state.end(id, if grace.is_zero() { 137 } else { 143 })
        };
        self.publish(event);
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        let mut state = self.state.lock();
        state.called("remove_container", id)?;
        state.containers.remove(id);
        Ok(())
    }

    async fn container_status(&self, id: &str) -> Result<Container> {
        self.state.lock().containers.get(id).cloned().ok_or_else(|| missing("container", id))
    }

    async fn list_containers(&self, filter: &Filter) -> Result<Vec<Container>> {
        let state = self.state.lock();
        let wanted = |c: &&Container| {
            selected(&c.labels, filter) && (filter.sandbox.is_empty() || filter.sandbox == c.sandbox)
        };
        Ok(state.containers.values().filter(wanted).cloned().collect())
    }

    async fn update_resources(&self, id: &str, _resources: &Resources) -> Result<()> {
        self.state.lock().called("update_resources", id)
    }

    async fn reopen_log(&self, id: &str) -> Result<()> {
        self.state.lock().called("reopen_log", id)
    }

    async fn exec_sync(&self, _id: &str, command: &[String], _timeout: Duration) -> Result<ExecOutput> {
        let mut state = self.state.lock();
        let command = command.join(" ");
        state.called("exec_sync", &command)?;
        Ok(state.execs.get(&command).cloned().unwrap_or_default())
    }

    async fn exec_url(&self, request: &ExecRequest) -> Result<String> {
        Ok(format!("http://127.0.0.1:1/exec/{}", request.container))
    }

    async fn attach_url(&self, request: &ExecRequest) -> Result<String> {
        Ok(format!("http://127.0.0.1:1/attach/{}", request.container))
    }

    async fn port_forward_url(&self, sandbox: &str, _ports: &[u16]) -> Result<String> {
        Ok(format!("http://127.0.0.1:1/portforward/{sandbox}"))
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>> {
        let state = self.state.lock();
        Ok(state.images.values().find(|i| i.id == image || i.tags.iter().any(|t| t == image)).cloned())
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(self.state.lock().images.values().cloned().collect())
    }

    async fn pull_image(
        &self,
        image: &str,
        auth: Option<&Auth>,
        _: Option<&SandboxConfig>,
    ) -> Result<String> {
        let user = auth.map(|auth| auth.username.clone()).unwrap_or_default();
        self.state.lock().called("pull_image", &format!("{image} {user}"))?;
        self.add_image(image);
        Ok(format!("sha256:{image}"))
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        let mut state = self.state.lock();
        state.called("remove_image", image)?;
        state.images.retain(|_, i| i.id != image && i.tags.iter().all(|t| t != image));
        Ok(())
    }

    async fn mount_image(&self, _image: &str, _at: &Path) -> Result<()> {
        Err(Error::Unimplemented("containers mount images themselves".into()))
    }

    async fn image_fs(&self) -> Result<Vec<FsUsage>> {
        Ok(Vec::new())
    }

    async fn list_stats(&self) -> Result<Vec<Stats>> {
        Ok(Vec::new())
    }

    async fn events(&self) -> Result<EventStream> {
        let receiver = self.events.subscribe();
        let next = |mut receiver: broadcast::Receiver<Event>| async move {
            match receiver.recv().await {
                Ok(event) => Some((Ok(event), receiver)),
                Err(broadcast::error::RecvError::Closed) => None,
                Err(lagged) => Some((Err(Error::Failed(lagged.to_string())), receiver)),
            }
        };
        Ok(futures::stream::unfold(receiver, next).boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_container_lives_and_its_end_is_told() {
        let fake = Fake::new(&["web:1"]);
        let mut events = fake.events().await.unwrap();
        let sandbox = fake.run_sandbox(&SandboxConfig::default()).await.unwrap();
        let config = ContainerConfig { name: "web".into(), ..ContainerConfig::default() };
        let id = fake.create_container(&sandbox, &config, &SandboxConfig::default()).await.unwrap();
        fake.start_container(&id).await.unwrap();
        fake.exit("web", 3);
        assert_eq!(events.next().await, Some(Ok(Event::Started { id: id.clone() })));
        assert!(matches!(events.next().await, Some(Ok(Event::Exited { code: 3, .. }))));
        assert_eq!(fake.container_status(&id).await.unwrap().exit_code, 3);
        fake.fail("start_container", Error::Failed("no".into()));
        assert!(fake.start_container(&id).await.is_err());
    }
}
