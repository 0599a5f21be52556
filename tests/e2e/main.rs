//! End to end, as a user: a real `tiphys up` with a real containerd, driven by the official kubectl.
//!
//! - The cases share one cluster, each in a namespace of its own, several at a time; those that run no container share
//!   another with simulated nodes. Those that stop, kill or remove a cluster start their own beside it.
//! - They need root and the distribution's packages; without root every case is skipped, and says so.
//! - `TIPHYS_BIN` names the binary under test (`make test` builds it statically and sets it).
//! - Waiting is by kubectl's own watches (`wait`, `rollout status`) or by [`harness::eventually`], which is bounded.

mod cases;
mod clock;
mod harness;
mod hooks;
mod machine;
mod objects;
mod simulated;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::Context;
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
    let mut trials = Vec::new();
    for case in cases::all() {
        trials.extend(trials_of(case, root).into_iter().enumerate());
    }
    // All cases before any case's further names, so that nobody waits for another's run.
    trials.sort_by_key(|(place, _)| *place);
    let watched = clock::watch();
    let conclusion = libtest_mimic::run(&args, trials.into_iter().map(|(_, trial)| trial).collect());
    eprintln!("e2e: the longest cases:\n{}", clock::longest());
    simulated::end(conclusion.has_failed());
    if let Some(Ok(cluster)) = SHARED.get() {
        if conclusion.has_failed() {
            eprintln!("e2e: the shared cluster's last messages:\n{}", cluster.log_tail());
        }
        if let Err(error) = clock::timed("the removal of the shared cluster", || cluster.clear()) {
            eprintln!("e2e: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    drop(watched);
    conclusion.exit_code()
}

/// A trial for each of a case's names. Whichever is first runs the case, the others tell the same.
fn trials_of(case: cases::Case, root: bool) -> Vec<Trial> {
    let missing = match case.run {
        cases::Run::If(missing, _) | cases::Run::SharedIf(missing, _) => missing(),
        _ => None,
    };
    if let Some(why) = &missing {
        eprintln!("e2e: {} is skipped: {why}", case.names.join(", "));
    }
    let outcome: Arc<OnceLock<Result<(), String>>> = Arc::default();
    let trial = |name: &&str| {
        let outcome = outcome.clone();
        let told = move || {
            let outcome = outcome.get_or_init(|| timed(case).map_err(|error| format!("{error:#}")));
            outcome.clone().map_err(Into::into)
        };
        Trial::test(*name, told).with_ignored_flag(!root || missing.is_some())
    };
    case.names.iter().map(trial).collect()
}

fn timed(case: cases::Case) -> anyhow::Result<()> {
    let name = case.names.first().context("a case without a name")?;
    clock::timed(name, || run(name, case.run))
}

fn run(name: &str, case: cases::Run) -> anyhow::Result<()> {
    match case {
        cases::Run::Shared(run) | cases::Run::SharedIf(_, run) => {
            let cluster = shared()?;
            let ns = cluster.namespace(name)?;
            run(&ns)?;
            // The pods of all cases are more than the node takes. What a failed case left is there to be looked at.
            ns.remove()
        }
        cases::Run::Simulated(run) => run(&simulated::shared()?.cluster.namespace(name)?),
        cases::Run::Own(run) | cases::Run::If(_, run) => run(),
    }
}

fn shared() -> anyhow::Result<Arc<Cluster>> {
    let started =
        SHARED.get_or_init(|| Cluster::start("shared", 0).map(Arc::new).map_err(|e| format!("{e:#}")));
    started.clone().map_err(|error| anyhow::anyhow!("the shared cluster did not start: {error}"))
}
