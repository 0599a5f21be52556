//! `tiphys image`: the node's images, through the same runtime as the kubelet's.

use std::path::Path;

use anyhow::{Context, Result, bail};
use tiphys_runtime::Runtime;
use tiphys_runtime::containerd::{connect, images};
use tiphys_runtime::cri::Cri;

use crate::cli::{Image, ImageCommand};
use crate::settings::{Settings, socket_path};

/// Runs one of its verbs.
pub async fn run(args: &Image) -> Result<()> {
    let socket = match &args.runtime_endpoint {
        Some(endpoint) => socket_path(endpoint)?,
        None => Settings::load(&args.data_dir)?
            .with_context(|| {
                format!("no cluster in {}; start one with `tiphys up`", args.data_dir.display())
            })?
            .runtime_socket()?,
    };
    if !socket.exists() {
        bail!(
            "the container runtime does not run ({} is missing); start it with `tiphys up`",
            socket.display()
        );
    }
    match &args.command {
        ImageCommand::Import { files } => {
            for file in files {
                import(&socket, file).await?;
            }
        }
        ImageCommand::List => list(&connect(&socket).await?).await?,
        ImageCommand::Remove { images } => remove(&socket, images).await?,
    }
    Ok(())
}

async fn import(socket: &Path, file: &Path) -> Result<()> {
    let names = match file.to_str() {
        Some("-") => images::import(socket, tokio::io::stdin()).await?,
        _ => {
            let archive = tokio::fs::File::open(file)
                .await
                .with_context(|| format!("cannot read {}", file.display()))?;
            images::import(socket, archive).await.with_context(|| file.display().to_string())?
        }
    };
    for name in names {
        println!("imported {name}");
    }
    Ok(())
}

async fn list(runtime: &Cri) -> Result<()> {
    let mut rows = Vec::new();
    for image in runtime.list_images().await? {
        let id = image.id.trim_start_matches("sha256:").chars().take(13).collect::<String>();
        let size = format!("{:.1} MB", image.size as f64 / 1e6);
        let names = if image.tags.is_empty() { &image.digests } else { &image.tags };
        rows.extend(names.iter().map(|name| [name.clone(), id.clone(), size.clone()]));
    }
    rows.sort();
    print_columns(&["IMAGE", "ID", "SIZE"], &rows);
    Ok(())
}

fn print_columns(head: &[&str; 3], rows: &[[String; 3]]) {
    let width = |i: usize| rows.iter().map(|r| r[i].len()).chain([head[i].len()]).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    println!("{:first$}   {:second$}   {}", head[0], head[1], head[2]);
    for [name, id, size] in rows {
        println!("{name:first$}   {id:second$}   {size}");
    }
}

/// By name, like `docker rmi`: the CRI would remove every other name of the same image, too.
async fn remove(socket: &Path, names: &[String]) -> Result<()> {
    let runtime = connect(socket).await?;
    for name in names {
        let Some(image) = runtime.image_status(name).await? else {
            bail!("the node has no image {name}; `tiphys image list` shows all");
        };
        if image.tags.contains(name) {
            images::remove(socket, name).await?;
        } else {
            runtime.remove_image(name).await?;
        }
        println!("removed {name}");
    }
    Ok(())
}
