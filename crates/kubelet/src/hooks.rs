//! Lifecycle hooks: postStart and preStop, as a command, a request or a pause.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use tiphys_runtime::Runtime;

use crate::probe::run::{self, Target};

/// Runs a hook to its end; `Err` says why it failed.
pub(crate) async fn run(
    runtime: &dyn Runtime,
    id: &str,
    container: &Container,
    ip: IpAddr,
    hook: &LifecycleHandler,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.as_deref().unwrap_or_default();
        let output = runtime.exec_sync(id, command, Duration::ZERO).await.map_err(|e| e.to_string())?;
        let said = [output.stdout, output.stderr].concat();
        return match output.exit_code {
            0 => Ok(()),
            code => Err(format!(
                "command '{}' exited with {code}: {}, message: {:?}",
                command.join(" "),
                String::from_utf8_lossy(&said),
                String::from_utf8_lossy(&said)
            )),
        };
    }
    if let Some(get) = &hook.http_get {
        let target = Target { runtime, id, container, ip };
        return run::hook(&target, get, Duration::from_secs(30)).await;
    }
    if let Some(sleep) = &hook.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        return Ok(());
    }
    Err("invalid handler: the hook has no action".into())
}
