//! `tiphys reset`: takes away all that a cluster ever made on this machine, and nothing else.
//!
//! What to remove follows from the settings in the data directory, which are written before the host is touched. Every
//! step is idempotent: a reset that was cut off is finished by the next. Files go last, as they tell what to remove.

use std::path::Path;

use anyhow::{Context, Result};
use futures::stream::{self, StreamExt, TryStreamExt};
use tiphys_runtime::containerd::{Containerd, connect, shims};
use tiphys_runtime::{Filter, Runtime};

use crate::cli::Reset;
use crate::settings::Settings;
use crate::up::CGROUP_ROOT;
use crate::{cgroups, host, kubeconfig, mounts, progress::Progress, stop};

/// Sandboxes that are removed at once.
const REMOVALS_MAX: usize = 8;
/// The kubelet's mark on a sandbox: the directory of the kubelet that made it, which no other cluster shares.
const ROOT_DIR_ANNOTATION: &str = "tiphys.io/root-dir";

/// Removes a cluster, or says what would be removed.
pub async fn run(args: &Reset) -> Result<()> {
    let data_dir = std::path::absolute(&args.data_dir)?;
    if !data_dir.exists() {
        println!("Nothing to remove: {} does not exist.", data_dir.display());
        return Ok(());
    }
    let settings = Settings::load(&data_dir)?;
    if settings.is_none() && !data_dir.join("lock").exists() {
        anyhow::bail!("{} was not made by Tiphys; nothing was removed", data_dir.display());
    }
    if !args.yes {
        describe(&data_dir, settings.as_ref());
        return Ok(());
    }
    host::require_root("tiphys reset")?;
    let mut progress = Progress::new();
    if stop::end(&data_dir, false)? {
        progress.done("cluster stopped");
    }
    if let Some(settings) = &settings {
        if settings.has_node() {
            remove_pods(settings, &mut progress).await?;
            settings.network().remove().await?;
            tiphys_proxy::cleanup(&crate::up::proxy_instance(settings)).await?;
            progress.done("packet rules and bridge removed");
            cgroups::remove_empty(CGROUP_ROOT);
        }
        kubeconfig::remove(settings)?;
    }
    mounts::unmount_under(&data_dir)?;
    std::fs::remove_dir_all(&data_dir).with_context(|| format!("cannot remove {}", data_dir.display()))?;
    progress.done(&format!("{} removed", data_dir.display()));
    Ok(())
}

fn describe(data_dir: &Path, settings: Option<&Settings>) {
    println!("This would stop the cluster and remove:");
    println!("  {}", data_dir.display());
    if let Some(settings) = settings {
        if settings.has_node() {
            println!("  all its pods and containers, and their empty control groups");
            println!("  the bridge {} and the packet rules of pods and Services", settings.bridge);
        }
        if !settings.kubeconfig.as_os_str().is_empty() {
            println!("  {}", settings.kubeconfig.display());
        }
        if let Some(merged) = &settings.merged_into {
            println!("  the context `tiphys` in {}", merged.display());
        }
    }
    println!("Nothing was changed. To do it: tiphys reset --yes");
}

/// Ends and removes the pods of this cluster, and then its containerd.
async fn remove_pods(settings: &Settings, progress: &mut Progress) -> Result<()> {
    let own = settings.runtime_endpoint.is_none();
    let config = settings.containerd();
    if own && !config.as_ref().is_ok_and(|c| c.dir.exists()) {
        return Ok(());
    }
    let containerd = match config {
        Ok(config) if own => Some((Containerd::start(&config).await?, config)),
        _ => None,
    };
    let runtime = connect(&settings.runtime_socket()?).await?;
    let removed = remove_sandboxes(&runtime, settings).await?;
    progress.done(&format!("{removed} pods removed"));
    if let Some((containerd, config)) = containerd {
        containerd.stop().await?;
        shims::end_all(&config);
        progress.done("containerd stopped");
    }
    Ok(())
}

/// In a runtime that is shared with others, only sandboxes of this cluster's kubelet are ours.
async fn remove_sandboxes(runtime: &dyn Runtime, settings: &Settings) -> Result<usize> {
    let own = settings.runtime_endpoint.is_none();
    let root = settings.kubelet_dir().display().to_string();
    let mut sandboxes = runtime.list_sandboxes(&Filter::default()).await?;
    sandboxes.retain(|s| own || s.annotations.get(ROOT_DIR_ANNOTATION) == Some(&root));
    let removals = sandboxes.iter().map(|sandbox| async {
        runtime.stop_sandbox(&sandbox.id).await?;
        runtime.remove_sandbox(&sandbox.id).await
    });
    stream::iter(removals).buffer_unordered(REMOVALS_MAX).try_collect::<()>().await?;
    Ok(sandboxes.len())
}

/// Ends the pods when `--stop-pods` asks for it.
pub async fn stop_pods(settings: &Settings) -> Result<usize> {
    let runtime = connect(&settings.runtime_socket()?).await?;
    remove_sandboxes(&runtime, settings).await
}
