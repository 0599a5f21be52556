//! Answers of one connection that are ready together leave together.
//!
//! HTTP/2 hands over each frame of a body by itself and asks for it to be sent: each would be a TLS record and a
//! system call of its own, and a client's many requests (or its many watches) come on one connection. So what is
//! handed over is held until the tasks that are ready now have had their turn: they may have more for the same
//! connection. Nobody waits for a time; a lone answer leaves at the connection's next turn, which is at once.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much is held at most: four TLS records.
const MOST: usize = 64 * 1024;
/// What an idle connection keeps for the next answers.
const KEPT: usize = 4 * 1024;

/// Counts the turns of a connection's task.
#[derive(Clone, Debug, Default)]
pub struct Turns(Arc<AtomicU64>);

impl Turns {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Runs the connection, which holds a [`Corked`] socket with these turns.
    pub async fn of<F: Future>(&self, mut connection: Pin<&mut F>) -> F::Output {
        std::future::poll_fn(|cx| {
            self.0.fetch_add(1, Ordering::Relaxed);
            connection.as_mut().poll(cx)
        })
        .await
    }
}

/// A socket that holds what is written until the connection's next turn.
#[derive(Debug)]
pub struct Corked<S> {
    socket: S,
    turns: Turns,
    held: Vec<u8>,
    /// So much of it is sent.
    sent: usize,
    /// The turn in which the first of it came.
    since: u64,
}

impl<S: AsyncWrite + Unpin> Corked<S> {
    /// Over a socket of a connection with these turns.
    pub fn new(socket: S, turns: Turns) -> Self {
        Self { socket, turns, held: Vec::new(), sent: 0, since: 0 }
    }

    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.sent += taken,
            }
        }
        self.held.clear();
        self.held.shrink_to(KEPT);
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    fn send_and_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.held.len() >= MOST {
            ready!(this.send(cx))?;
        }
        if this.held.is_empty() {
            this.since = this.turns.now();
        }
        this.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.held.is_empty() && this.since == this.turns.now() {
            // Behind the tasks that are ready: the flush that the next turn ends with is the real one.
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        this.send_and_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.send_and_flush(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    async fn read(peer: &mut DuplexStream) -> String {
        let mut bytes = [0; 64];
        let got = peer.read(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes[..got]).into_owned()
    }

    #[tokio::test]
    async fn what_one_turn_writes_leaves_with_the_next() {
        let (near, mut far) = duplex(1024);
        let turns = Turns::default();
        let mut socket = Corked::new(near, turns.clone());
        let mut connection = Box::pin(async {
            for part in ["a", "b"] {
                socket.write_all(part.as_bytes()).await.unwrap();
                socket.flush().await.unwrap();
            }
            tokio::task::yield_now().await;
            socket.write_all(b"c").await.unwrap();
            socket.flush().await.unwrap();
            socket.shutdown().await.unwrap();
        });
        assert!(poll!(std::pin::pin!(turns.of(connection.as_mut()))).is_pending());
        assert!(poll!(std::pin::pin!(read(&mut far))).is_pending(), "held");
        turns.of(connection.as_mut()).await;
        assert_eq!(read(&mut far).await, "abc");
    }

    #[tokio::test]
    async fn no_more_than_a_few_records_are_held() {
        let (near, mut far) = duplex(MOST);
        let mut socket = Corked::new(near, Turns::default());
        for _ in 0..5 {
            socket.write_all(&vec![7; MOST / 4]).await.unwrap();
        }
        let mut bytes = vec![0; MOST];
        far.read_exact(&mut bytes).await.unwrap();
        assert!(socket.held.len() <= MOST / 4);
    }
}
