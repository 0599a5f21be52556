//! Starts one container: everything it is made from is gathered, it is made, started, and its postStart hook run.

use std::os::unix::fs::PermissionsExt;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use tiphys_runtime::model::Mount;
use tiphys_runtime::{ContainerConfig, ContainerState};

use super::{Job, News, NotStarted, blocking, text};
use crate::container::{self, Parts};
use crate::env::{self, Inputs};
use crate::{dns, hooks, pod, resources, security, volumes};

fn not_started(reason: &'static str) -> impl Fn(String) -> NotStarted {
    move |message| NotStarted { reason, message }
}

impl Job {
    pub(super) async fn start(&self, name: &str, attempt: u32, image: &str) -> Result<(), NotStarted> {
        let Some(container) = pod::container(&self.pod, name) else {
            return Err(not_started("CreateContainerConfigError")("the container is gone".into()));
        };
        let result = self.start_container(&container, attempt, image).await;
        result.inspect_err(|failure| {
            if failure.message.contains(super::BEING_MADE) {
                return;
            }
            let message = format!("Error: {}", failure.message);
            self.ctx.event(&self.pod, Some(name), "Warning", "Failed", message);
        })
    }

    async fn start_container(
        &self,
        container: &Container,
        attempt: u32,
        image: &str,
    ) -> Result<(), NotStarted> {
        let config = self.container_config(container, attempt, image).await;
        let config = config.map_err(not_started("CreateContainerConfigError"))?;
        let id = self.create(&config).await.map_err(not_started("CreateContainerError"))?;
        let size = container.resources.clone().unwrap_or_default();
        let _ = self.news.send(News::Sized(id.clone(), size)).await;
        let name = Some(container.name.as_str());
        self.ctx.event(&self.pod, name, "Normal", "Created", "Container created".into());
        let started = text(self.ctx.runtime.start_container(&id).await);
        let seen = self.look(&id).await;
        // A runtime that was killed meanwhile may have started it without an answer. Else it keeps it as one that ended:
        // told, it is a crash like any other.
        if seen != Ok(ContainerState::Running) {
            started.and(seen).map_err(not_started("RunContainerError"))?;
        }
        self.ctx.event(&self.pod, name, "Normal", "Started", "Container started".into());
        self.post_start(container, &id).await
    }

    async fn create(&self, config: &ContainerConfig) -> Result<String, String> {
        let sandbox = self.sandbox.as_ref().ok_or("the pod's sandbox is gone")?;
        if let Some(stale) = &self.stale {
            text(self.ctx.runtime.remove_container(stale).await)?;
        }
        let sandbox_config = self.sandbox_config(sandbox.attempt, "");
        let id = text(self.ctx.runtime.create_container(&sandbox.id, config, &sandbox_config).await)?;
        // Before it runs, so that the event of its end finds the pod.
        self.ctx.own(&id, pod::uid(&self.pod));
        let seen = tiphys_runtime::Container {
            id: id.clone(),
            sandbox: sandbox.id.clone(),
            name: config.name.clone(),
            attempt: config.attempt,
            state: ContainerState::Created,
            created_at: i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            ..tiphys_runtime::Container::default()
        };
        let _ = self.news.send(News::Seen(Box::new(seen))).await;
        Ok(id)
    }

    async fn post_start(&self, container: &Container, id: &str) -> Result<(), NotStarted> {
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        if let Some(hook) = hook {
            let ran = hooks::run(self.ctx.runtime.as_ref(), id, container, self.ip(), hook).await;
            if let Err(error) = ran {
                let (pod, name) = (pod::full_name(&self.pod), &container.name);
                tracing::debug!(pod, name, error, "a postStart hook failed");
                let message = "PostStartHook failed".to_owned();
                self.ctx.event(&self.pod, Some(name), "Warning", "FailedPostStartHook", message.clone());
                return Err(not_started("PostStartHookError")(message));
            }
        }
        let _ = self.news.send(News::Hooked(id.to_owned())).await;
        Ok(())
    }

    async fn container_config(
        &self,
        container: &Container,
        attempt: u32,
        image: &str,
    ) -> Result<ContainerConfig, String> {
        let namespace = pod::namespace(&self.pod);
        let lookup = self.ctx.lookup(namespace, env::references(container)).await?;
        let facts = self.ctx.facts(&self.ips());
        let services = self.ctx.services_for(&self.pod);
        let inputs = Inputs { pod: &self.pod, facts: &facts, lookup: &lookup, services: &services };
        let mut env = env::environment(container, &inputs)?;
        if !env.iter().any(|(name, _)| name == "HOSTNAME") {
            env.insert(0, ("HOSTNAME".into(), dns::kernel_hostname(&self.pod, &self.ctx.names)));
        }
        let details = text(self.ctx.runtime.image_status(image).await)?.unwrap_or_default();
        let seccomp = self.ctx.config.root_dir.join("seccomp");
        let mut security = security::of_container(&self.pod, container, &details, &seccomp)?;
        if let Some(target) = &self.target {
            let target = target.clone().map_err(|name| format!("unable to find target container {name}"))?;
            security::share(&mut security.namespaces, target);
        }
        let dir = self.ctx.pod_dir(pod::uid(&self.pod));
        let (mut mounts, parts) = container::mounts(container, &self.mounts, &env, &dir)?;
        volumes::bind(&container.name, parts).await?;
        let devices = container::devices(container, &self.mounts)?;
        mounts.extend(self.own_mounts(container, attempt, &mounts).await?);
        let resources = resources::of_container(&self.pod, container, self.ctx.memory, self.ctx.unified);
        let parts = Parts { attempt, image, env, mounts, devices, resources, security };
        Ok(container::config(&self.pod, container, parts))
    }

    /// `/etc/hosts` and the message file, which every container has unless it mounts something else there.
    async fn own_mounts(
        &self,
        container: &Container,
        attempt: u32,
        given: &[Mount],
    ) -> Result<Vec<Mount>, String> {
        let dir = self.ctx.pod_dir(pod::uid(&self.pod));
        let hosts = (!given.iter().any(|mount| mount.container_path == "/etc/hosts"))
            .then(|| (dir.join("etc-hosts"), self.hosts()));
        let message = container::message_file(&dir, &container.name, attempt);
        let mut mounts = vec![plain_mount(container::message_path(container), message.clone())];
        if let Some((path, _)) = &hosts {
            mounts.push(plain_mount("/etc/hosts", path.clone()));
        }
        blocking(move || {
            if let Some(parent) = message.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(&message, "")?;
            // Whatever user the container runs as may write it.
            std::fs::set_permissions(&message, std::fs::Permissions::from_mode(0o666))?;
            hosts.map_or(Ok(()), |(path, text)| std::fs::write(path, text))
        })
        .await?;
        Ok(mounts)
    }

    fn hosts(&self) -> String {
        let node = match pod::host_network(&self.pod) {
            true => std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
            false => String::new(),
        };
        dns::hosts_file(&self.pod, &self.ctx.names, &self.ips(), &node)
    }
}

fn plain_mount(container_path: &str, host_path: std::path::PathBuf) -> Mount {
    Mount { container_path: container_path.to_owned(), host_path, ..Mount::default() }
}
