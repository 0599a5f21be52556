//! What a person sees while things start: a line per step with the time since the start and the time it took.
//!
//! The same words go to systemd (or to `up --detach`'s parent) as `STATUS=`, and `READY=1` at the end: sd_notify(3).

use std::io::{IsTerminal, Write};
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

/// The steps of one start.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
    last: Instant,
    colour: bool,
    notify: Option<Notify>,
}

impl Progress {
    /// Starts the clock.
    pub fn new() -> Self {
        let now = Instant::now();
        Self { start: now, last: now, colour: std::io::stdout().is_terminal(), notify: Notify::from_env() }
    }

    /// A step is done.
    pub fn done(&mut self, what: &str) {
        let now = Instant::now();
        let took = now.duration_since(self.last);
        let (green, plain) = if self.colour { ("\x1b[32m", "\x1b[0m") } else { ("", "") };
        let at = now.duration_since(self.start).as_secs_f64();
        line(&format!("{green}✓{plain} {at:6.2} s  {what}  (+{} ms)", took.as_millis()));
        self.notify(&format!("STATUS={what}"));
        self.last = now;
    }

    /// Something to read that is no step.
    pub fn say(&self, text: &str) {
        line(text);
    }

    /// All is up.
    pub fn ready(&self) {
        self.notify("READY=1");
    }

    /// The end began.
    pub fn stopping(&self) {
        self.notify("STOPPING=1");
    }

    fn notify(&self, message: &str) {
        if let Some(notify) = &self.notify {
            notify.send(message);
        }
    }
}

/// Prints a line; a reader that went away is no reason to end a cluster.
fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// The sending end of systemd's readiness protocol.
#[derive(Debug)]
struct Notify(UnixDatagram);

impl Notify {
    fn from_env() -> Option<Self> {
        let path = std::env::var_os("NOTIFY_SOCKET")?;
        let socket = UnixDatagram::unbound().ok()?;
        let connected = match path.as_encoded_bytes().strip_prefix(b"@") {
            Some(name) => {
                use std::os::linux::net::SocketAddrExt;
                std::os::unix::net::SocketAddr::from_abstract_name(name).and_then(|a| socket.connect_addr(&a))
            }
            None => socket.connect(&path),
        };
        connected.ok().map(|()| Self(socket))
    }

    fn send(&self, message: &str) {
        // Whoever asked to be told may be gone.
        let _ = self.0.send(message.as_bytes());
    }
}
