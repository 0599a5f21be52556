//! Stop signals that a pod chooses. The runtime is told of them when it makes a container, but only runtimes since
//! containerd 2.1 listen: so the process is also sent its signal from here, and the runtime only has to end what is left.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

/// Names in the order of CRI's enumeration, which counts from 1, and Linux' numbers.
const NAMED: [(&str, i32); 34] = [
    ("SIGABRT", 6),
    ("SIGALRM", 14),
    ("SIGBUS", 7),
    ("SIGCHLD", 17),
    ("SIGCLD", 17),
    ("SIGCONT", 18),
    ("SIGFPE", 8),
    ("SIGHUP", 1),
    ("SIGILL", 4),
    ("SIGINT", 2),
    ("SIGIO", 29),
    ("SIGIOT", 6),
    ("SIGKILL", 9),
    ("SIGPIPE", 13),
    ("SIGPOLL", 29),
    ("SIGPROF", 27),
    ("SIGPWR", 30),
    ("SIGQUIT", 3),
    ("SIGSEGV", 11),
    ("SIGSTKFLT", 16),
    ("SIGSTOP", 19),
    ("SIGSYS", 31),
    ("SIGTERM", 15),
    ("SIGTRAP", 5),
    ("SIGTSTP", 20),
    ("SIGTTIN", 21),
    ("SIGTTOU", 22),
    ("SIGURG", 23),
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGVTALRM", 26),
    ("SIGWINCH", 28),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
];
/// CRI's numbers of the first and the last real-time signal.
const RT_MIN: i32 = 35;
const RT_MAX: i32 = 65;

/// A signal's number in CRI's enumeration; 0 leaves it to the runtime.
pub(super) fn cri_number(name: &str) -> i32 {
    if let Some(place) = NAMED.iter().position(|(known, _)| *known == name) {
        return i32::try_from(place).map_or(0, |place| place + 1);
    }
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        rest => rest.strip_prefix(sign)?.parse::<i32>().ok(),
    };
    let above = name.strip_prefix("SIGRTMIN").and_then(|rest| offset(rest, '+')).map(|by| RT_MIN + by);
    let below = name.strip_prefix("SIGRTMAX").and_then(|rest| offset(rest, '-')).map(|by| RT_MAX - by);
    above.or(below).filter(|number| (RT_MIN..=RT_MAX).contains(number)).unwrap_or(0)
}

/// A process that cannot be mistaken for a later one of the same number.
pub(super) struct Process(AsyncFd<OwnedFd>);

impl Process {
    /// `None`: there is no such process.
    #[allow(deprecated, reason = "the safe constructor; the descriptor is owned here and never closed early")]
    pub(super) fn open(pid: i32) -> Option<Self> {
        let fd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::NONBLOCK).ok()?;
        AsyncFd::new(fd).ok().map(Self)
    }

    /// Sends a signal by its name. Says whether that could be done: real-time signals are the runtime's alone.
    pub(super) fn send(&self, name: &str) -> bool {
        let number = NAMED.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        let signal = number.and_then(Signal::from_named_raw);
        signal.is_some_and(|signal| pidfd_send_signal(self.0.get_ref(), signal).is_ok())
    }

    /// Returns when it has ended, or after this time.
    pub(super) async fn ended(&self, within: Duration) {
        let _ = tokio::time::timeout(within, self.0.readable()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_cris_numbers() {
        let expected = [
            ("SIGABRT", 1),
            ("SIGTERM", 23),
            ("SIGXFSZ", 34),
            ("SIGRTMIN", 35),
            ("SIGRTMIN+15", 50),
            ("SIGRTMAX-14", 51),
            ("SIGRTMAX", 65),
            ("SIGRTMIN+99", 0),
            ("SIGNONE", 0),
        ];
        for (name, number) in expected {
            assert_eq!(cri_number(name), number, "{name}");
        }
    }

    #[tokio::test]
    async fn a_process_is_sent_its_signal() {
        let mut child = tokio::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id().unwrap().try_into().unwrap()).unwrap();
        assert!(!process.send("SIGRTMIN") && process.send("SIGUSR1"));
        process.ended(Duration::from_secs(60)).await;
        let status = child.wait().await.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(10));
    }
}
