//! The signals that end the process, and the longest that its end may take.
//!
//! An end in order waits for much: pods, components, connections, containerd. Should one of them hang, whoever asked for the
//! end would wait for ever; so a thread of its own, which nothing in the process can hold up, ends the process after a
//! time. With pods it waits as long as these have: how long that is, the kubelet's configuration says. Nothing is lost
//! then: what is kept on disk is whole at any moment, and the next start takes over what still runs.

use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long an orderly end may take.
pub const WITHIN: Duration = Duration::from_secs(50);

/// The signals that end the process.
pub struct Ending {
    terminate: Signal,
    interrupt: Signal,
    with_pods_signal: Signal,
    /// Whether the one came that ends the pods, too.
    pub with_pods: bool,
}

impl Ending {
    /// Takes the signals from now on. `stop_pods`: pods end with any of them.
    pub fn listen(stop_pods: bool) -> Result<Self> {
        bound(stop_pods)?;
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            with_pods_signal: signal(SignalKind::user_defined2())?,
            with_pods: false,
        })
    }

    /// Returns at the first of them.
    pub async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.with_pods_signal.recv() => self.with_pods = true,
        }
    }
}

/// Ends the process some time after the first signal, if it still runs and need not end pods.
fn bound(stop_pods: bool) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR2])?;
    let wait = move || {
        let Some(signal) = signals.forever().next() else { return };
        if stop_pods || signal == SIGUSR2 {
            return;
        }
        let (_held, never) = channel::<()>();
        let _ = never.recv_timeout(WITHIN);
        eprintln!(
            "tiphys: has not ended within {} s, and ends now; the lines above tell what went on",
            WITHIN.as_secs()
        );
        std::process::exit(1);
    };
    std::thread::Builder::new().name("ending".into()).spawn(wait).context("cannot start a thread")?;
    Ok(())
}
