//! The CRI v1 driver: gRPC over a unix socket with hand-written messages.
//!
//! - One HTTP/2 connection, shared by all calls; it is dialled on first use and again after it broke.
//! - Calls that may take long by their nature (pulls, stops with a grace period, runs of a sandbox) have deadlines
//!   that fit them; all others end after [`DEADLINE`].
//! - Events come from CRI's `GetContainerEvents` where the runtime has it, else from containerd's own event service
//!   on the same socket ([`events`]).

mod container_messages;
mod convert;
mod events;
mod messages;
mod signal;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::model::{
    Auth, Condition, Container, ContainerConfig, ExecOutput, ExecRequest, Filter, FsUsage, Image, Resources,
    Sandbox, SandboxConfig, Stats, Version,
};
use crate::{Error, EventStream, Result, Runtime};
use container_messages as c;
use messages as m;

/// How long a call may take that has no reason to be slow.
const DEADLINE: Duration = Duration::from_secs(120);
/// Making a sandbox includes the network's set-up.
const SANDBOX_DEADLINE: Duration = Duration::from_secs(240);
/// Pulls end by their own progress in the runtime; this is only against a hang.
const PULL_DEADLINE: Duration = Duration::from_secs(3600);
/// Lists of many containers are larger than gRPC's default of 4 MiB.
const MAX_MESSAGE: usize = 64 << 20;

const RUNTIME: &str = "/runtime.v1.RuntimeService/";
const IMAGES: &str = "/runtime.v1.ImageService/";

/// A connection to a CRI runtime.
#[derive(Clone, Debug)]
pub struct Cri {
    channel: Channel,
    socket: PathBuf,
}

impl Cri {
    /// Addresses the socket at `path`; dials on first use, and again whenever the connection broke.
    pub fn new(path: &Path) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", path.display()))
            .map_err(|e| Error::Unavailable(format!("{}: {e}", path.display())))?;
        Ok(Self { channel: endpoint.connect_lazy(), socket: path.to_owned() })
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    async fn call<Q, A>(
        &self,
        service: &str,
        method: &'static str,
        request: Q,
        deadline: Duration,
    ) -> Result<A>
    where
        Q: Message + Send + 'static,
        A: Message + Default + Send + 'static,
    {
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|e| Error::Unavailable(chain(&e)))?;
        let path = path(service, method)?;
        let mut request = tonic::Request::new(request);
        request.set_timeout(deadline);
        let answer = grpc.unary(request, path, ProstCodec::<Q, A>::default()).await;
        answer.map(tonic::Response::into_inner).map_err(|status| failure(&status))
    }

    async fn runtime<Q, A>(&self, method: &'static str, request: Q) -> Result<A>
    where
        Q: Message + Send + 'static,
        A: Message + Default + Send + 'static,
    {
        self.call(RUNTIME, method, request, DEADLINE).await
    }

    async fn images<Q, A>(&self, method: &'static str, request: Q) -> Result<A>
    where
        Q: Message + Send + 'static,
        A: Message + Default + Send + 'static,
    {
        self.call(IMAGES, method, request, DEADLINE).await
    }
}

/// Whether this version of containerd knows mounts of images (2.1 and newer).
fn mounts_images(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map(|number| number.parse::<u32>().ok());
    let version = (numbers.next().flatten(), numbers.next().flatten());
    version >= (Some(2), Some(1))
}

impl Cri {
    /// Sends a container's process a signal of its own choice and waits for its end; returns the grace that is left.
    async fn signalled(&self, container: &str, signal: &str, grace: Duration) -> Result<Duration> {
        let Some(pid) = self.pid(container).await? else { return Ok(grace) };
        let Some(process) = signal::Process::open(pid) else { return Ok(grace) };
        // The same answer with the process held: it is this one.
        if self.pid(container).await? != Some(pid) || !process.send(signal) {
            return Ok(grace);
        }
        process.ended(grace).await;
        Ok(Duration::ZERO)
    }

    /// The main process of a container that runs, where the runtime tells.
    async fn pid(&self, container: &str) -> Result<Option<i32>> {
        let request = c::ContainerStatusRequest { container_id: container.into(), verbose: true };
        let answer: c::ContainerStatusResponse = match self.runtime("ContainerStatus", request).await {
            Err(Error::NotFound(_)) => return Ok(None),
            other => other?,
        };
        let runs = answer.status.is_some_and(|status| status.state == convert::RUNNING);
        let info = answer.info.get("info").filter(|_| runs);
        let info = info.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        Ok(info.and_then(|info| i32::try_from(info.get("pid")?.as_i64()?).ok()).filter(|pid| *pid > 0))
    }
}

fn path(service: &str, method: &str) -> Result<PathAndQuery> {
    PathAndQuery::try_from(format!("{service}{method}")).map_err(|e| Error::Failed(e.to_string()))
}

/// The runtime's error in the form kubelets show: `rpc error: code = NotFound desc = …`.
fn failure(status: &tonic::Status) -> Error {
    use tonic::Code;
    let text = format!("rpc error: code = {:?} desc = {}", status.code(), status.message());
    match status.code() {
        Code::NotFound => Error::NotFound(text),
        Code::AlreadyExists => Error::AlreadyExists(text),
        Code::Unavailable => Error::Unavailable(text),
        Code::DeadlineExceeded => Error::Timeout(text),
        Code::Unimplemented => Error::Unimplemented(text),
        _ => Error::Failed(text),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

fn id(id: &str) -> m::Id {
    m::Id { id: id.into() }
}

/// Gone already is as good as removed.
fn gone_is_fine(result: Result<m::Empty>) -> Result<()> {
    match result {
        Ok(_) | Err(Error::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl Runtime for Cri {
    async fn version(&self) -> Result<Version> {
        let answer: m::VersionResponse =
            self.runtime("Version", m::VersionRequest { version: "v1".into() }).await?;
        Ok(Version {
            name: answer.runtime_name,
            version: answer.runtime_version,
            api_version: answer.runtime_api_version,
        })
    }

    async fn status(&self) -> Result<Vec<Condition>> {
        let answer: m::StatusResponse = self.runtime("Status", m::StatusRequest { verbose: false }).await?;
        let conditions = answer.status.unwrap_or_default().conditions.into_iter();
        Ok(conditions.map(convert::condition).collect())
    }

    async fn set_pod_cidr(&self, cidr: &str) -> Result<()> {
        let network_config = Some(c::NetworkConfig { pod_cidr: cidr.into() });
        let runtime_config = Some(c::RuntimeConfig { network_config });
        let request = c::UpdateRuntimeConfigRequest { runtime_config };
        self.runtime::<_, m::Empty>("UpdateRuntimeConfig", request).await.map(|_| ())
    }

    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<String> {
        let request = m::RunPodSandboxRequest {
            config: Some(convert::sandbox_config(config)),
            runtime_handler: config.handler.clone(),
        };
        let answer: m::Id = self.call(RUNTIME, "RunPodSandbox", request, SANDBOX_DEADLINE).await?;
        Ok(answer.id)
    }

    async fn stop_sandbox(&self, sandbox: &str) -> Result<()> {
        gone_is_fine(self.runtime("StopPodSandbox", id(sandbox)).await)
    }

    async fn remove_sandbox(&self, sandbox: &str) -> Result<()> {
        gone_is_fine(self.runtime("RemovePodSandbox", id(sandbox)).await)
    }

    async fn sandbox_status(&self, sandbox: &str) -> Result<Sandbox> {
        let answer: m::PodSandboxStatusResponse = self.runtime("PodSandboxStatus", id(sandbox)).await?;
        Ok(convert::sandbox_status(answer.status.unwrap_or_default()))
    }

    async fn list_sandboxes(&self, filter: &Filter) -> Result<Vec<Sandbox>> {
        let filter = m::PodSandboxFilter { id: filter.id.clone(), label_selector: filter.labels.clone() };
        let answer: m::ListPodSandboxResponse =
            self.runtime("ListPodSandbox", m::ListPodSandboxRequest { filter: Some(filter) }).await?;
        Ok(answer.items.into_iter().map(convert::sandbox).collect())
    }

    async fn create_container(
        &self,
        sandbox: &str,
        config: &ContainerConfig,
        sandbox_config: &SandboxConfig,
    ) -> Result<String> {
        let request = c::CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(convert::container_config(config)),
            sandbox_config: Some(convert::sandbox_config(sandbox_config)),
        };
        let answer: m::Id = self.runtime("CreateContainer", request).await?;
        Ok(answer.id)
    }

    async fn start_container(&self, container: &str) -> Result<()> {
        self.runtime::<_, m::Empty>("StartContainer", id(container)).await.map(|_| ())
    }

    async fn stop_container(&self, container: &str, signal: Option<&str>, grace: Duration) -> Result<()> {
        let grace = match signal {
            Some(signal) => self.signalled(container, signal, grace).await?,
            None => grace,
        };
        // CRI counts whole seconds; rounding up never takes time from the process.
        let timeout =
            i64::try_from(grace.as_secs() + u64::from(grace.subsec_nanos() > 0)).unwrap_or(i64::MAX);
        let request = c::StopContainerRequest { container_id: container.into(), timeout };
        gone_is_fine(self.call(RUNTIME, "StopContainer", request, DEADLINE.saturating_add(grace)).await)
    }

    async fn remove_container(&self, container: &str) -> Result<()> {
        gone_is_fine(self.runtime("RemoveContainer", id(container)).await)
    }

    async fn container_status(&self, container: &str) -> Result<Container> {
        let answer: c::ContainerStatusResponse = self.runtime("ContainerStatus", id(container)).await?;
        Ok(convert::container_status(answer.status.unwrap_or_default()))
    }

    async fn list_containers(&self, filter: &Filter) -> Result<Vec<Container>> {
        let filter = c::ContainerFilter {
            id: filter.id.clone(),
            pod_sandbox_id: filter.sandbox.clone(),
            label_selector: filter.labels.clone(),
        };
        let answer: c::ListContainersResponse =
            self.runtime("ListContainers", c::ListContainersRequest { filter: Some(filter) }).await?;
        Ok(answer.containers.into_iter().map(convert::container).collect())
    }

    async fn update_resources(&self, container: &str, resources: &Resources) -> Result<()> {
        let request = c::UpdateContainerResourcesRequest {
            container_id: container.into(),
            linux: Some(convert::resources(resources)),
        };
        self.runtime::<_, m::Empty>("UpdateContainerResources", request).await.map(|_| ())
    }

    async fn reopen_log(&self, container: &str) -> Result<()> {
        self.runtime::<_, m::Empty>("ReopenContainerLog", id(container)).await.map(|_| ())
    }

    async fn exec_sync(&self, container: &str, command: &[String], timeout: Duration) -> Result<ExecOutput> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let request =
            c::ExecSyncRequest { container_id: container.into(), cmd: command.to_vec(), timeout: seconds };
        let deadline = if timeout.is_zero() { PULL_DEADLINE } else { timeout.saturating_add(DEADLINE) };
        let answer: c::ExecSyncResponse = self.call(RUNTIME, "ExecSync", request, deadline).await?;
        Ok(ExecOutput { stdout: answer.stdout, stderr: answer.stderr, exit_code: answer.exit_code })
    }

    async fn exec_url(&self, request: &ExecRequest) -> Result<String> {
        let answer: m::Id = self.runtime("Exec", convert::exec(request)).await?;
        Ok(answer.id)
    }

    async fn attach_url(&self, request: &ExecRequest) -> Result<String> {
        let answer: m::Id = self.runtime("Attach", convert::attach(request)).await?;
        Ok(answer.id)
    }

    async fn port_forward_url(&self, sandbox: &str, ports: &[u16]) -> Result<String> {
        let port = ports.iter().map(|port| i32::from(*port)).collect();
        let request = c::PortForwardRequest { pod_sandbox_id: sandbox.into(), port };
        let answer: m::Id = self.runtime("PortForward", request).await?;
        Ok(answer.id)
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>> {
        let answer: c::ImageStatusResponse =
            self.images("ImageStatus", convert::image_request(image)).await?;
        Ok(answer.image.map(convert::image))
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        let answer: c::ListImagesResponse = self.images("ListImages", m::Empty {}).await?;
        Ok(answer.images.into_iter().map(convert::image).collect())
    }

    async fn pull_image(
        &self,
        image: &str,
        auth: Option<&Auth>,
        sandbox: Option<&SandboxConfig>,
    ) -> Result<String> {
        let request = c::PullImageRequest {
            image: Some(convert::image_spec(image)),
            auth: auth.map(convert::auth),
            sandbox_config: sandbox.map(convert::sandbox_config),
        };
        let answer: m::Id = self.call(IMAGES, "PullImage", request, PULL_DEADLINE).await?;
        Ok(answer.id)
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        gone_is_fine(self.images("RemoveImage", convert::image_request(image)).await)
    }

    async fn mount_image(&self, image: &str, at: &Path) -> Result<()> {
        let version = self.version().await?;
        if version.name != "containerd" || mounts_images(&version.version) {
            return Err(Error::Unimplemented("the runtime mounts images for containers itself".into()));
        }
        let mounted = crate::containerd::images::mount(&self.socket, image, at).await;
        mounted.map_err(|error| Error::Failed(error.to_string()))
    }

    async fn image_fs(&self) -> Result<Vec<FsUsage>> {
        let answer: c::ImageFsInfoResponse = self.images("ImageFsInfo", m::Empty {}).await?;
        Ok(answer.image_filesystems.into_iter().map(convert::fs_usage).collect())
    }

    async fn list_stats(&self) -> Result<Vec<Stats>> {
        let answer: c::ListContainerStatsResponse = self.runtime("ListContainerStats", m::Empty {}).await?;
        Ok(answer.stats.into_iter().map(convert::stats).collect())
    }

    async fn events(&self) -> Result<EventStream> {
        events::subscribe(self).await
    }
}
