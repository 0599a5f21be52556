//! Questions over TCP: each behind its length, one after the other (RFC 7766). hickory's own listener would take any number
//! of connections.
//!
//! As many clients are served at a time as there is room for; who comes then waits in the system's queue. Silence ends a
//! connection, and so does its next answer while there is no room: whoever asks without end shall not keep others out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::MessageType;
use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponse;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::server::Handler;

/// Clients at a time: questions come over TCP only where an answer did not fit a datagram.
pub(crate) const CONNECTIONS: usize = 256;
/// How long a client may say nothing, or leave its answer untaken.
const SILENCE: Duration = Duration::from_secs(5);
/// Pause after a connection could not be accepted: no file is left to open, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until dropped, `room` clients at a time.
pub(crate) async fn serve(listener: TcpListener, handler: Handler, room: usize) {
    let room = Arc::new(Semaphore::new(room));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let (handler, room) = (handler.clone(), room.clone());
        connections.spawn(async move {
            if let Err(error) = converse(stream, from, &handler, &room).await {
                tracing::debug!(%error, client = %from, "a connection ended");
            }
            drop(permit);
        });
    }
}

async fn converse(
    mut stream: TcpStream,
    from: SocketAddr,
    handler: &Handler,
    room: &Semaphore,
) -> io::Result<()> {
    loop {
        let question = timeout(SILENCE, question(&mut stream)).await??;
        let request = Request::from_bytes(question, from, Protocol::Tcp).map_err(io::Error::other)?;
        if request.metadata.message_type == MessageType::Response {
            return Ok(());
        }
        let said = Said::default();
        handler.handle_request::<_, TokioTime>(&request, said.clone()).await;
        let answer = std::mem::take(&mut *said.0.lock());
        timeout(SILENCE, stream.write_all(&answer)).await??;
        if room.available_permits() == 0 {
            return Ok(());
        }
    }
}

async fn question(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut question = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut question).await?;
    Ok(question)
}

/// An answer with its length before it.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

#[async_trait::async_trait]
impl ResponseHandler for Said {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut message = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut message);
        encoder.set_max_size(u16::MAX);
        let info = response.destructive_emit(&mut encoder)?;
        let mut said = self.0.lock();
        said.extend((message.len() as u16).to_be_bytes());
        said.append(&mut message);
        Ok(info)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hickory_proto::op::{Message, Query};
    use hickory_proto::rr::{Name, RecordType};
    use parking_lot::RwLock;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::forward::Upstreams;
    use crate::zone::Zone;

    /// A server for so many clients at a time, and where it listens.
    async fn server(room: usize) -> (SocketAddr, AbortOnDropHandle<()>) {
        let own = [127, 0, 0, 1].into();
        let mut zone = Zone::new("cluster.local", own);
        zone.complete();
        let upstreams = Arc::new(Upstreams::new(Path::new("/dev/null"), own, &[]).unwrap());
        let complete = tokio::sync::watch::channel(true).1;
        let handler = Handler { zone: Arc::new(RwLock::new(zone)), upstreams, complete };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (address, AbortOnDropHandle::new(tokio::spawn(serve(listener, handler, room))))
    }

    async fn ask(stream: &mut TcpStream) -> io::Result<usize> {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii("cluster.local.").unwrap(), RecordType::SOA));
        let message = message.to_vec().unwrap();
        stream.write_u16(message.len() as u16).await?;
        stream.write_all(&message).await?;
        let mut answer = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut answer).await?;
        Ok(Message::from_vec(&answer).unwrap().answers.len())
    }

    #[tokio::test]
    async fn clients_wait_for_room_and_then_leave_it() {
        let (address, _task) = server(2).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        assert_eq!(ask(&mut first).await.unwrap(), 1);
        let mut second = TcpStream::connect(address).await.unwrap();
        let mut third = TcpStream::connect(address).await.unwrap();
        assert_eq!(ask(&mut second).await.unwrap(), 1, "the second has the last place");
        assert_eq!(ask(&mut third).await.unwrap(), 1, "which it leaves with its answer");
        assert!(ask(&mut second).await.is_err(), "it is closed");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection() {
        let (address, _task) = server(2).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Half a question is silence, too.
        stream.write_u16(40).await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
