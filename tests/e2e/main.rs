//! End to end, as a user: a real `tiphys up` with a real containerd, driven by the official kubectl.
//!
//! - The cases share one cluster, each in a namespace of its own, several at a time. Those that stop, kill or remove
//!   a cluster start their own beside it.
//! - They need root and the distribution's packages; without root every case is skipped, and says so.
//! - `TIPHYS_BIN` names the binary under test (`make test` builds it statically and sets it).
//! - Waiting is by kubectl's own watches (`wait`, `rollout status`) or by [`harness::eventually`], which is bounded.

mod cases;
mod harness;
mod machine;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use harness::Cluster;
use libtest_mimic::{Arguments, Trial};

/// The cluster that most cases share, or why it did not start.
static SHARED: OnceLock<Result<Arc<Cluster>, String>> = OnceLock::new();

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!(
            "e2e: not root; every case is skipped. They make network interfaces, mounts and containers."
        );
    }
    // A case mostly waits for containers; more at once than cores is faster, many more is not.
    args.test_threads.get_or_insert(4);
    let trials = cases::all().into_iter().map(|case| trial(case, root)).collect();
    let conclusion = libtest_mimic::run(&args, trials);
    if let Some(Ok(cluster)) = SHARED.get() {
        if conclusion.has_failed() {
            eprintln!("e2e: the shared cluster's last messages:\n{}", cluster.log_tail());
        }
        if let Err(error) = cluster.clear() {
            eprintln!("e2e: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    conclusion.exit_code()
}

fn trial(case: cases::Case, root: bool) -> Trial {
    let name = case.name;
    let missing = match case.run {
        cases::Run::If(missing, _) | cases::Run::SharedIf(missing, _) => missing(),
        _ => None,
    };
    if let Some(why) = &missing {
        eprintln!("e2e: {name} is skipped: {why}");
    }
    Trial::test(name, move || {
        let run = match case.run {
            cases::Run::Shared(run) | cases::Run::SharedIf(_, run) => {
                shared().and_then(|cluster| run(&cluster.namespace(name)?))
            }
            cases::Run::Own(run) | cases::Run::If(_, run) => run(),
        };
        run.map_err(|error| format!("{error:#}").into())
    })
    .with_ignored_flag(!root || missing.is_some())
}

fn shared() -> anyhow::Result<Arc<Cluster>> {
    let started =
        SHARED.get_or_init(|| Cluster::start("shared", 0).map(Arc::new).map_err(|e| format!("{e:#}")));
    started.clone().map_err(|error| anyhow::anyhow!("the shared cluster did not start: {error}"))
}
