//! Carries out one action of a plan: all the I/O of a pod, none of its decisions.

mod start;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use k8s_openapi::api::node::v1::RuntimeClass;
use tiphys_api::Status;
use tiphys_client::typed::Kind;
use tiphys_client::{Api, DeleteOptions, Target};
use tiphys_runtime::{Container, ContainerState, Sandbox};
use tokio::sync::mpsc;

use crate::allocation::{self, Sizes};
use crate::context::Context;
use crate::images::{self, Refused};
use crate::plan::Task;
use crate::pod::Qos;
use crate::volumes::{self, Failed, Prepared};
use crate::{cgroups, container, dns, hooks, pod, probe, resources, sandbox, security};

/// What an action tells its actor.
pub(crate) enum News {
    /// It is done.
    Done(Task, Outcome),
    /// A container as it is now, in the middle of its start.
    Seen(Box<Container>),
    /// The postStart hook of this container ended well.
    Hooked(String),
    /// The preStop hook of this container is over; it is sent its stop signal.
    Signalled(String),
    /// The size that a container was made with, or that it has now.
    Sized(String, ResourceRequirements),
    /// What a container left as its last message.
    Words(String, String),
    /// The node runs short: the pod is to end, with this message, in so many seconds.
    Evict(String, i64),
    /// The machine goes down: the pod is to end within so many seconds.
    ShutDown(i64),
    /// The API's answer to a new status.
    Reported(Result<tiphys_api::Object, Status>),
}

/// Why a container did not start: reason and message of its waiting state.
#[derive(Debug)]
pub(crate) struct NotStarted {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

pub(crate) enum Outcome {
    Volumes(Result<Prepared, Failed>),
    /// The message to evict the pod with, if a volume holds too much.
    Measured(Option<String>),
    /// What is written down.
    Remembered(Result<Sizes, String>),
    Sandbox(Result<Sandbox, String>),
    Image(Result<String, Refused>),
    Start(Result<(), NotStarted>),
    Probe(Result<(), probe::run::Fault>),
    Deleted(Result<(), Status>),
    Plain(Result<(), String>),
}

/// What an action is done with.
pub(crate) struct Job {
    pub(crate) ctx: Arc<Context>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) news: mpsc::Sender<News>,
    /// Identifier and addresses of the sandbox, where there is one.
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) mounts: volumes::Places,
    /// A container of the same number that was made but never started, to be replaced.
    pub(crate) stale: Option<String>,
    /// The container whose processes an ephemeral one is to see: its identifier, or its name where it does not run.
    pub(crate) target: Option<Result<String, String>>,
}

impl Job {
    /// Does it and tells.
    pub(crate) async fn run(self, task: Task) {
        let outcome = self.outcome(&task).await;
        // The actor may have ended meanwhile: then nobody wants to know.
        let _ = self.news.send(News::Done(task, outcome)).await;
    }

    async fn outcome(&self, task: &Task) -> Outcome {
        match task {
            Task::Volumes => Outcome::Volumes(volumes::prepare(&self.ctx, &self.pod, &self.ips()).await),
            Task::Measure => Outcome::Measured(volumes::usage::exceeded(&self.pod, &self.mounts).await),
            Task::Remember => Outcome::Remembered(self.remember().await),
            Task::Sandbox { attempt } => Outcome::Sandbox(self.run_sandbox(*attempt).await),
            Task::Image { container } => Outcome::Image(self.image(container).await),
            Task::Start { container, attempt, image } => {
                Outcome::Start(Box::pin(self.start(container, *attempt, image)).await)
            }
            Task::Kill { id, container, deadline, why } => {
                Outcome::Plain(Box::pin(self.kill(id, container, *deadline, why)).await)
            }
            Task::Resize { id, container } => Outcome::Plain(self.resize(id, container).await),
            Task::Probe { id, container, kind } => {
                Outcome::Probe(Box::pin(self.probe(id, container, *kind)).await)
            }
            Task::Delete => Outcome::Deleted(self.delete().await),
            Task::StopSandbox { id } => Outcome::Plain(text(self.ctx.runtime.stop_sandbox(id).await)),
            Task::RemoveSandbox { id } => {
                let _turn = self.ctx.removals.acquire().await;
                Outcome::Plain(text(self.ctx.runtime.remove_sandbox(id).await))
            }
            Task::RemoveContainer { id } => Outcome::Plain(self.remove_container(id).await),
            Task::CleanUp => Outcome::Plain(self.clean_up().await),
            Task::Purge => Outcome::Plain(self.purge().await),
        }
    }

    /// The pod's addresses.
    fn ips(&self) -> Vec<String> {
        if pod::host_network(&self.pod) {
            return vec![self.ctx.node.ip.to_string()];
        }
        self.sandbox.as_ref().map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
    }

    /// Where probes and hooks reach the pod.
    fn ip(&self) -> IpAddr {
        let first = self.ips().first().and_then(|ip| ip.parse().ok());
        first.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    fn sandbox_config(&self, attempt: u32, handler: &str) -> tiphys_runtime::SandboxConfig {
        let config = &self.ctx.config;
        let seccomp = config.root_dir.join("seccomp");
        let node = sandbox::Node {
            names: &self.ctx.names,
            log_dir: &config.log_dir,
            own: (&config.node_name, &config.root_dir),
            cgroups: (config.settings.cgroup_driver, &config.cgroup_root),
            seccomp: &seccomp,
            handler,
        };
        sandbox::config(&self.pod, attempt, &node)
    }

    /// Writes down the sizes in the pod's spec, which are those that are promised to it.
    async fn remember(&self) -> Result<Sizes, String> {
        let sizes = allocation::sizes(&mut Pod::clone(&self.pod));
        let (dir, written) = (self.ctx.pod_dir(pod::uid(&self.pod)), sizes.clone());
        blocking(move || allocation::keep(&dir, &written)).await?;
        Ok(sizes)
    }

    async fn run_sandbox(&self, attempt: u32) -> Result<Sandbox, String> {
        if attempt > 0 {
            let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            self.ctx.event(&self.pod, None, "Normal", "SandboxChanged", message);
        }
        let made = async {
            security::check_users(&self.pod)?;
            dns::check_hostname(&self.pod, &self.ctx.names)?;
            for omitted in dns::resolver(&self.pod, &self.ctx.names).1 {
                self.ctx.event(&self.pod, None, "Warning", "DNSConfigForming", omitted);
            }
            let handler = self.handler().await?;
            let config = self.sandbox_config(attempt, &handler);
            tokio::fs::create_dir_all(&config.log_directory).await.map_err(|e| e.to_string())?;
            self.weigh().await;
            let id = text(self.ctx.runtime.run_sandbox(&config).await)?;
            self.ctx.own(&id, pod::uid(&self.pod));
            self.bound().await;
            text(self.ctx.runtime.sandbox_status(&id).await)
        };
        made.await.inspect_err(|error| {
            if error.contains(BEING_MADE) {
                return;
            }
            let message = format!("Failed to create pod sandbox: {error}");
            self.ctx.event(&self.pod, None, "Warning", "FailedCreatePodSandBox", message);
        })
    }

    /// Makes the pod's control group. Where this process may not, the runtime makes it, with a weight of its own.
    async fn weigh(&self) {
        let (ctx, pod) = (self.ctx.clone(), self.pod.clone());
        if let Err(error) = blocking(move || ctx.weights.prepare(&pod)).await {
            tracing::debug!(pod = pod::full_name(&self.pod), error, "cannot make a pod's control group");
        }
    }

    /// Sets the bounds of a control group that was made with the sandbox.
    async fn bound(&self) {
        if self.ctx.config.settings.cgroup_driver == cgroups::Driver::Cgroupfs {
            return;
        }
        let (ctx, pod) = (self.ctx.clone(), self.pod.clone());
        if let Err(error) = blocking(move || ctx.weights.bound_made(&pod)).await {
            tracing::warn!(pod = pod::full_name(&self.pod), error, "cannot bound a pod's control group");
        }
    }

    /// The runtime's name for the pod's runtime class.
    async fn handler(&self) -> Result<String, String> {
        let Some(name) = pod::spec(&self.pod).runtime_class_name.as_deref().filter(|name| !name.is_empty())
        else {
            return Ok(String::new());
        };
        let class = Api::<RuntimeClass>::new(self.ctx.client.clone(), "").get(name).await;
        class.map(|class| class.handler).map_err(|status| match status.is("NotFound") {
            true => status.message,
            false => format!("failed to get RuntimeClass {name}: {}", status.message),
        })
    }

    async fn image(&self, name: &str) -> Result<String, Refused> {
        match pod::container(&self.pod, name) {
            Some(container) => images::ensure(&self.ctx, &self.pod, &container).await,
            None => Err(Refused { reason: "InvalidImageName", message: "the container is gone".into() }),
        }
    }

    async fn kill(&self, id: &str, name: &str, deadline: Timestamp, why: &str) -> Result<(), String> {
        self.ctx.event(&self.pod, Some(name), "Normal", "Killing", why.to_owned());
        let container = pod::container(&self.pod, name);
        let lifecycle = container.as_ref().and_then(|c| Some((c, c.lifecycle.as_ref()?)));
        let hook = lifecycle.and_then(|(c, lifecycle)| Some((c, lifecycle.pre_stop.as_ref()?)));
        if let Some((container, hook)) = hook {
            let run = hooks::run(self.ctx.runtime.as_ref(), id, container, self.ip(), hook);
            let failed = match tokio::time::timeout(left(deadline), run).await {
                Ok(result) => result.err(),
                Err(_) => Some("the grace period ended before the hook".into()),
            };
            if let Some(error) = failed {
                // Events are read by more people than what a hook says is for.
                tracing::debug!(pod = pod::full_name(&self.pod), name, error, "a preStop hook failed");
                let message = "PreStopHook failed".to_owned();
                self.ctx.event(&self.pod, Some(name), "Warning", "FailedPreStopHook", message);
            }
        }
        let _ = self.news.send(News::Signalled(id.to_owned())).await;
        // A hook that took all the time there was leaves the process a moment for its own end.
        let least = if hook.is_some() { AFTER_HOOK } else { Duration::ZERO };
        let signal = lifecycle.and_then(|(_, lifecycle)| lifecycle.stop_signal.as_deref());
        text(self.ctx.runtime.stop_container(id, signal, left(deadline).max(least)).await)?;
        // The event of its end may be late or lost; the runtime's answer is not.
        self.look(id).await.map(drop)
    }

    /// Reads a container's state from the runtime and tells it.
    async fn look(&self, id: &str) -> Result<ContainerState, String> {
        let seen = text(self.ctx.runtime.container_status(id).await)?;
        let state = seen.state;
        if state == ContainerState::Exited
            && let Some(words) = last_words(&self.ctx, &self.pod, &seen).await
        {
            let _ = self.news.send(News::Words(id.to_owned(), words)).await;
        }
        let _ = self.news.send(News::Seen(Box::new(seen))).await;
        Ok(state)
    }

    async fn probe(&self, id: &str, name: &str, kind: probe::Probing) -> Result<(), probe::run::Fault> {
        let gone = || probe::run::Fault::Errored("the container is gone".into());
        let container = pod::container(&self.pod, name).ok_or_else(gone)?;
        let probe = kind.of(&container).ok_or_else(gone)?;
        let runtime = self.ctx.runtime.as_ref();
        let target = probe::run::Target { runtime, id, container: &container, ip: self.ip() };
        let result = probe::run::run(&target, probe).await;
        self.ctx.stats.probes.count(&self.pod, name, kind.name(), result.is_ok());
        result
    }

    async fn resize(&self, id: &str, name: &str) -> Result<(), String> {
        let container = pod::container(&self.pod, name).ok_or("the container is gone")?;
        let limits = resources::of_container(&self.pod, &container, self.ctx.memory, self.ctx.unified);
        self.weigh().await;
        text(self.ctx.runtime.update_resources(id, &limits).await)?;
        let size = container.resources.clone().unwrap_or_default();
        let _ = self.news.send(News::Sized(id.to_owned(), size)).await;
        Ok(())
    }

    async fn delete(&self) -> Result<(), Status> {
        let target = Target::new(&Pod::GVR, pod::namespace(&self.pod), pod::name(&self.pod));
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            uid: Some(pod::uid(&self.pod).to_owned()),
            ..DeleteOptions::default()
        };
        match self.ctx.client.delete(&target, &options).await {
            // Gone, or another pod has the name: either way ours exists no more.
            Err(status) if matches!(status.code, 404 | 409) => Ok(()),
            other => other.map(drop),
        }
    }

    async fn remove_container(&self, id: &str) -> Result<(), String> {
        let log = self.ctx.runtime.container_status(id).await.map(|seen| seen.log_path).unwrap_or_default();
        text(self.ctx.runtime.remove_container(id).await)?;
        if Path::new(&log).starts_with(&self.ctx.config.log_dir) {
            blocking(move || crate::gc::logs::remove(Path::new(&log))).await?;
        }
        Ok(())
    }

    async fn clean_up(&self) -> Result<(), String> {
        let dir = self.ctx.pod_dir(pod::uid(&self.pod));
        self.ctx.sources.subscribe(pod::uid(&self.pod), Default::default(), &Arc::default());
        self.ctx.shown_images.lock().remove(pod::uid(&self.pod));
        blocking(move || volumes::take_down(&dir)).await
    }

    async fn purge(&self) -> Result<(), String> {
        let uid = pod::uid(&self.pod);
        let dir = self.ctx.pod_dir(uid);
        let logs = sandbox::log_directory(&self.ctx.config.log_dir, &self.pod);
        let config = &self.ctx.config;
        // Of one that ended while we were away nobody tells the class any more.
        let group = |qos| config.settings.cgroup_driver.path(&config.cgroup_root, qos, uid);
        let groups = [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort].map(group);
        self.ctx.tokens.forget(uid);
        self.ctx.stats.probes.forget(uid);
        let _ = self.ctx.weights.forget(uid);
        let _turn = self.ctx.removals.acquire().await;
        blocking(move || {
            // Slow in the kernel, so after everyone has been told that the pod is gone. A group that stays keeps nothing else.
            let groups = groups.iter().try_for_each(cgroups::remove);
            volumes::take_down(&dir)?;
            remove_dir(&logs)?;
            groups?;
            // Last, as whoever was killed before this finds by it that something is left.
            remove_dir(&dir)
        })
        .await
    }
}

const AFTER_HOOK: Duration = Duration::from_secs(2);

/// How containerd refuses to make what is being made already, for a kubelet that was killed meanwhile. Not an error: it
/// will appear in the next list.
pub(crate) const BEING_MADE: &str = "is reserved for";

fn left(deadline: Timestamp) -> Duration {
    Duration::try_from(deadline.duration_since(Timestamp::now())).unwrap_or_default()
}

fn text<T>(result: tiphys_runtime::Result<T>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

async fn blocking(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> Result<(), String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn remove_dir(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The longest last message kept, in bytes.
const WORDS_MAX: u64 = 4096;
/// How much of a log stands in for a missing message, in bytes and lines.
const LOG_TAIL_MAX: u64 = 2048;
const LOG_LINES_MAX: usize = 80;

/// What a container left in its message file; where the policy says so and it failed, the end of its log.
pub(crate) async fn last_words(ctx: &Context, pod: &Pod, seen: &Container) -> Option<String> {
    let file = container::message_file(&ctx.pod_dir(pod::uid(pod)), &seen.name, seen.attempt);
    let left = crate::logs::tail(&file, WORDS_MAX).await.unwrap_or_default();
    if !left.is_empty() {
        return Some(String::from_utf8_lossy(&left).into_owned());
    }
    let policy = seen.annotations.get(container::MESSAGE_POLICY).map(String::as_str);
    if policy != Some("FallbackToLogsOnError") || seen.exit_code == 0 {
        return None;
    }
    let log =
        sandbox::log_directory(&ctx.config.log_dir, pod).join(container::log_path(&seen.name, seen.attempt));
    let raw = crate::logs::tail(&log, LOG_TAIL_MAX * 4).await.ok()?;
    let text = crate::logs::plain(&raw, LOG_LINES_MAX);
    let from = text.len().saturating_sub(usize::try_from(LOG_TAIL_MAX).unwrap_or(usize::MAX));
    Some(String::from_utf8_lossy(&text[from..]).into_owned())
}
