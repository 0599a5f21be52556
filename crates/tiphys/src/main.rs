//! The binary: command line, configuration, wiring; nothing else.
//!
//! `main` looks first whether it is a tool inside a container ([`applets`]), which needs none of the rest.

mod applets;
mod backup;
mod cgroups;
mod cli;
mod detach;
mod host;
mod image;
mod kubeconfig;
mod lock;
mod logging;
mod mounts;
mod progress;
mod reset;
mod settings;
mod stop;
mod storage;
mod up;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::CommandFactory;

use crate::cli::{Cli, Command};

/// Bytes stay small and are given back: see LIBRARIES' allocator figures in docs/decisions.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Version of this program and of the API it serves.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (Kubernetes v1.36.0)");
/// Where a cluster keeps everything unless told otherwise.
pub const DATA_DIR: &str = "/var/lib/tiphys";
/// How long blocking work in the background may go on after the end.
const BACKGROUND_WITHIN: Duration = Duration::from_secs(5);
/// Where the admin kubeconfig goes unless told otherwise.
pub const ADMIN_KUBECONFIG: &str = "/etc/tiphys/admin.kubeconfig";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = applets::run(&args) {
        return code;
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tiphys: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[OsString]) -> Result<()> {
    let cli = cli::config::parse(args)?;
    match cli.command {
        Command::Version => println!("tiphys {VERSION}"),
        Command::Completion(shell) => {
            clap_complete::generate(shell.shell, &mut Cli::command(), "tiphys", &mut std::io::stdout());
        }
        Command::Stop(args) => stop::run(&args)?,
        Command::Kubectl(args) => tiphys_kubectl::run(&args.args, std::path::Path::new(ADMIN_KUBECONFIG))?,
        command => {
            let runtime = async_runtime()?;
            let ended = runtime.block_on(serve(command, args));
            // What still reads or writes in the background loses nothing; an end must not wait for it.
            runtime.shutdown_timeout(BACKGROUND_WITHIN);
            ended?;
        }
    }
    Ok(())
}

async fn serve(command: Command, args: &[OsString]) -> Result<()> {
    match command {
        Command::Up(flags) if flags.detach.detach => {
            host::require_root("tiphys up")?;
            detach::up(&flags.cluster.place.data_dir, args).await
        }
        Command::Up(flags) => up::up(&flags).await,
        Command::Server(flags) => up::server(&flags, up::Master::WithControllers).await,
        Command::Apiserver(flags) => up::server(&flags, up::Master::ApiServerOnly).await,
        Command::Scheduler(flags) => up::component(&flags, up::Part::Scheduler).await,
        Command::ControllerManager(flags) => up::component(&flags, up::Part::ControllerManager).await,
        Command::Agent(flags) => up::agent(&flags, &up::NodePart::ALL).await,
        Command::Kubelet(flags) => up::agent(&flags, &[up::NodePart::Kubelet]).await,
        Command::Proxy(flags) => up::agent(&flags, &[up::NodePart::Proxy]).await,
        Command::Dns(flags) => up::agent(&flags, &[up::NodePart::Dns]).await,
        Command::Simulate(flags) => up::simulate(&flags).await,
        Command::Image(flags) => image::run(&flags).await,
        Command::Store(flags) => storage::run(&flags).await,
        Command::Backup(flags) => backup::run(&flags).await,
        Command::Reset(flags) => reset::run(&flags).await,
        Command::Version | Command::Completion(_) | Command::Stop(_) | Command::Kubectl(_) => Ok(()),
    }
}

/// One runtime for every component, with a thread per core.
fn async_runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
