//! Names outside the cluster: the question goes on as it came to the host's resolvers, and their answer comes back.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// How long one resolver may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Largest answer over UDP; a larger one comes truncated and the client asks again over TCP.
const UDP_BYTES_MAX: usize = 4096;

/// The resolvers that the host uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstreams(Vec<SocketAddr>);

/// Why a question had no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host names no resolver.
    #[error("the host's resolv.conf names no server to ask")]
    NoServer,
    /// None of them answered.
    #[error("no resolver answered: {0}")]
    Silent(io::Error),
    /// The answer is no DNS.
    #[error("a resolver's answer cannot be read: {0}")]
    Garbled(String),
}

impl Upstreams {
    /// Reads `nameserver` lines. Our own address is left out: it would ask itself.
    pub fn read(resolv_conf: &Path, own: Ipv4Addr) -> Self {
        let text = std::fs::read_to_string(resolv_conf)
            .inspect_err(
                |error| tracing::warn!(%error, file = %resolv_conf.display(), "cannot read resolvers"),
            )
            .unwrap_or_default();
        Self::parse(&text, own)
    }

    fn parse(text: &str, own: Ipv4Addr) -> Self {
        let servers =
            text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok());
        Self(servers.filter(|ip| *ip != IpAddr::V4(own)).map(|ip| SocketAddr::new(ip, 53)).collect())
    }

    /// Asks one after the other; the first answer counts.
    pub async fn ask(&self, question: &[u8], tcp: bool) -> Result<Message, Error> {
        let mut last = Error::NoServer;
        for server in &self.0 {
            let asked = async {
                if tcp { ask_tcp(*server, question).await } else { ask_udp(*server, question).await }
            };
            let answer = match tokio::time::timeout(TIMEOUT, asked).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => {
                    last = Error::Silent(error);
                    continue;
                }
                Err(_) => {
                    last = Error::Silent(io::ErrorKind::TimedOut.into());
                    continue;
                }
            };
            return Message::from_vec(&answer).map_err(|error| Error::Garbled(error.to_string()));
        }
        Err(last)
    }
}

async fn ask_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    // A port of its own per question, chosen by the kernel, is what makes answers hard to forge.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; UDP_BYTES_MAX];
    loop {
        let read = socket.recv(&mut answer).await?;
        // Only the answer to this question: its identifier is the first two bytes.
        if read >= 2 && answer.get(..2) == question.get(..2) {
            answer.truncate(read);
            return Ok(answer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(question.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut stream = TcpStream::connect(server).await?;
    stream.write_u16(length).await?;
    stream.write_all(question).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_address_is_no_upstream() {
        let text = "# x\nsearch a\nnameserver 192.0.2.1\nnameserver 10.43.0.10\nnameserver ::1\n";
        let upstreams = Upstreams::parse(text, Ipv4Addr::new(10, 43, 0, 10));
        assert_eq!(upstreams.0, ["192.0.2.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    }
}
