//! The container runtime's contract and drivers.
//!
//! - [`Runtime`] is all the kubelet knows of a runtime: sandboxes, containers, images, events. Values are plain
//!   ([`model`]); a driver converts at its own edge, so that CRI, Docker and a native one are interchangeable.
//! - [`cri::Cri`] speaks CRI v1 over a unix socket (containerd, CRI-O).
//! - [`fake::Fake`] simulates a runtime in memory, for tests.
//! - Calls are idempotent where CRI's are: stopping or removing what is gone succeeds.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

pub mod containerd;
pub mod cri;
pub mod fake;
pub mod model;

pub use model::{
    Auth, Condition, Container, ContainerConfig, ContainerState, Event, ExecOutput, ExecRequest, Filter,
    FsUsage, Image, Resources, Sandbox, SandboxConfig, Stats, Version,
};

/// Why a runtime refused or failed. The text is the runtime's own, as it is shown in events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such sandbox, container or image.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken.
    #[error("{0}")]
    AlreadyExists(String),
    /// The runtime cannot be reached.
    #[error("{0}")]
    Unavailable(String),
    /// It took longer than allowed.
    #[error("{0}")]
    Timeout(String),
    /// The runtime has no such call.
    #[error("{0}")]
    Unimplemented(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// An answer or why there is none.
pub type Result<T> = std::result::Result<T, Error>;

/// Events until the connection ends; after an error the caller lists again and subscribes anew.
pub type EventStream = BoxStream<'static, Result<Event>>;

/// A container runtime as the kubelet uses it.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Which runtime this is.
    async fn version(&self) -> Result<Version>;
    /// Its conditions, `RuntimeReady` and `NetworkReady` among them.
    async fn status(&self) -> Result<Vec<Condition>>;
    /// Tells the runtime the range of pod addresses; runtimes with their own network configuration ignore it.
    async fn set_pod_cidr(&self, cidr: &str) -> Result<()>;

    /// Makes and starts a sandbox; returns its identifier.
    async fn run_sandbox(&self, config: &SandboxConfig) -> Result<String>;
    /// Ends a sandbox and everything in it, and frees its addresses.
    async fn stop_sandbox(&self, id: &str) -> Result<()>;
    /// Removes a sandbox and the containers in it.
    async fn remove_sandbox(&self, id: &str) -> Result<()>;
    /// A sandbox with its addresses.
    async fn sandbox_status(&self, id: &str) -> Result<Sandbox>;
    /// Sandboxes without their addresses.
    async fn list_sandboxes(&self, filter: &Filter) -> Result<Vec<Sandbox>>;

    /// Makes a container; returns its identifier.
    async fn create_container(
        &self,
        sandbox: &str,
        config: &ContainerConfig,
        sandbox_config: &SandboxConfig,
    ) -> Result<String>;
    /// Starts a container that was made.
    async fn start_container(&self, id: &str) -> Result<()>;
    /// Sends the stop signal (the image's own, unless another is named, as `SIGUSR1`), and kills after `grace`. Returns
    /// once the container has ended.
    async fn stop_container(&self, id: &str, signal: Option<&str>, grace: Duration) -> Result<()>;
    /// Removes a container; kills it when it runs.
    async fn remove_container(&self, id: &str) -> Result<()>;
    /// One container in full.
    async fn container_status(&self, id: &str) -> Result<Container>;
    /// Containers without times of start and end, exit codes and log paths.
    async fn list_containers(&self, filter: &Filter) -> Result<Vec<Container>>;
    /// Changes limits of a running container.
    async fn update_resources(&self, id: &str, resources: &Resources) -> Result<()>;
    /// Makes the runtime write to a new log file after a rotation.
    async fn reopen_log(&self, id: &str) -> Result<()>;

    /// Runs a command to its end; `timeout` zero means no limit.
    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecOutput>;
    /// The URL at which the runtime serves this command's streams.
    async fn exec_url(&self, request: &ExecRequest) -> Result<String>;
    /// The URL at which the runtime serves the main process's streams.
    async fn attach_url(&self, request: &ExecRequest) -> Result<String>;
    /// The URL at which the runtime forwards these ports of a sandbox.
    async fn port_forward_url(&self, sandbox: &str, ports: &[u16]) -> Result<String>;

    /// An image, if the node has it.
    async fn image_status(&self, image: &str) -> Result<Option<Image>>;
    /// All images.
    async fn list_images(&self) -> Result<Vec<Image>>;
    /// Fetches an image; returns its identifier.
    async fn pull_image(
        &self,
        image: &str,
        auth: Option<&Auth>,
        sandbox: Option<&SandboxConfig>,
    ) -> Result<String>;
    /// Removes an image.
    async fn remove_image(&self, image: &str) -> Result<()>;
    /// Mounts the files of an image on a directory, read-only. [`Error::Unimplemented`]: it mounts images for containers
    /// itself, see [`model::Mount::image`].
    async fn mount_image(&self, image: &str, at: &Path) -> Result<()>;
    /// Usage of the file systems that hold images.
    async fn image_fs(&self) -> Result<Vec<FsUsage>>;

    /// Usage of all running containers.
    async fn list_stats(&self) -> Result<Vec<Stats>>;
    /// What happens from now on.
    async fn events(&self) -> Result<EventStream>;
}
