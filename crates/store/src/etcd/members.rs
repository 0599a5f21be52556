//! The members of an etcd cluster, one of which is spoken to at a time.
//!
//! A member that cannot be reached, does not answer in time or has no leader is left for the next one, by every call and
//! every watch at once. What may be asked again elsewhere is decided by what is known of the first attempt ([`judge`]):
//! a read always, a write only if it was certainly not taken. A write whose answer was lost is **not** repeated: it may
//! be done or not, and the second attempt's "conflict" would be a lie. It ends as [`Error::Unavailable`].

use std::time::{Duration, Instant};

use parking_lot::RwLock;
use prost::Message;
use tokio::sync::watch;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use super::admin_messages::{AuthenticateRequest, AuthenticateResponse};
use super::dial::Address;
use super::{ConnectError, Options};
use crate::Error;

/// How long one member may take for a read before the next is asked.
const READ: Duration = Duration::from_secs(3);
/// How long a write may take before it counts as lost: longer than an election, so that it rather waits than fails.
const WRITE: Duration = Duration::from_secs(5);
/// How long a call tries, all members together.
const PATIENCE: Duration = Duration::from_secs(12);
/// Pause after all members were tried in vain.
const ROUND: Duration = Duration::from_millis(200);

const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

/// When a call that begins now gives up.
pub(super) fn patience() -> Option<Instant> {
    Some(Instant::now() + PATIENCE)
}

/// Whether a call may be done twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It changes nothing, or the same once more.
    Read,
    /// It must not be done twice.
    Write,
}

/// The name and password of an etcd user.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Name.
    pub name: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({})", self.name)
    }
}

/// See the module.
pub(super) struct Members {
    channels: Vec<Channel>,
    /// How often a member was left; the one spoken to follows from it.
    moves: watch::Sender<usize>,
    login: Option<Login>,
    token: RwLock<Option<MetadataValue<Ascii>>>,
}

impl Members {
    /// Dials nobody yet.
    pub fn new(options: &Options) -> Result<Self, ConnectError> {
        let mut channels = Vec::new();
        for url in &options.servers {
            let address = Address::parse(url)?;
            address.check(&options.tls)?;
            channels.push(address.channel(&options.tls)?);
        }
        if channels.is_empty() {
            return Err(ConnectError::NoServers);
        }
        let (moves, _) = watch::channel(0);
        Ok(Self { channels, moves, login: options.login.clone(), token: RwLock::new(None) })
    }

    /// Tells of every move to another member.
    pub fn moves(&self) -> watch::Receiver<usize> {
        self.moves.subscribe()
    }

    /// The place of the member spoken to.
    #[cfg(test)]
    pub fn present(&self) -> usize {
        *self.moves.borrow() % self.channels.len()
    }

    /// Leaves the member that was spoken to after this many moves, unless that has been done.
    pub fn leave(&self, at: usize) {
        self.moves.send_if_modified(|moves| {
            let still_there = *moves == at;
            *moves += usize::from(still_there);
            still_there
        });
    }

    /// One question, one answer.
    pub async fn call<Q, A>(&self, method: &'static str, request: Q, kind: Kind) -> Result<A, Failure>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let give_up = patience();
        let first = *self.moves.borrow();
        loop {
            let at = *self.moves.borrow();
            let within = if kind == Kind::Read { READ } else { WRITE };
            let attempt = self.attempt(at, method, request.clone());
            let status = match tokio::time::timeout(within, attempt).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded(format!("no answer within {} s", within.as_secs())),
            };
            // No time makes a certificate right; but another member may have a right one.
            let hopeless = is_tls(&status) && at + 1 >= first + self.channels.len();
            let give_up = if hopeless { Some(Instant::now()) } else { give_up };
            self.after(at, status, kind, give_up).await?;
        }
    }

    /// What follows from a failed attempt: nothing, if the call is to be tried again. Never gives up without a time.
    pub async fn after(
        &self,
        at: usize,
        status: Status,
        kind: Kind,
        give_up: Option<Instant>,
    ) -> Result<(), Failure> {
        match judge(&status, kind) {
            Verdict::Answer => return Err(Failure::Answer(status)),
            Verdict::Login => *self.token.write() = None,
            Verdict::Lost => {
                self.leave(at);
                return Err(Failure::Lost(status));
            }
            Verdict::Again => self.leave(at),
        }
        if give_up.is_some_and(|end| Instant::now() >= end) {
            return Err(Failure::Lost(status));
        }
        if at % self.channels.len() + 1 == self.channels.len() {
            tokio::time::sleep(ROUND).await;
        }
        Ok(())
    }

    async fn attempt<Q, A>(&self, at: usize, method: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let request = self.with_token(at, tonic::Request::new(request)).await?;
        Ok(self.unary(at, method, request).await?.into_inner())
    }

    async fn unary<Q, A>(
        &self,
        at: usize,
        method: &'static str,
        request: tonic::Request<Q>,
    ) -> Result<tonic::Response<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc(at);
        ready(&mut grpc).await?;
        grpc.unary(request, PathAndQuery::from_static(method), ProstCodec::<Q, A>::default()).await
    }

    /// Opens a stream at the present member; also tells after how many moves that was.
    pub async fn stream<Q, A>(
        &self,
        method: &'static str,
        requests: impl futures::Stream<Item = Q> + Send + 'static,
    ) -> (usize, Result<Streaming<A>, Status>)
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let at = *self.moves.borrow();
        let open = async {
            let request = self.with_token(at, tonic::Request::new(requests)).await?;
            let mut grpc = self.grpc(at);
            ready(&mut grpc).await?;
            let path = PathAndQuery::from_static(method);
            Ok(grpc.streaming(request, path, ProstCodec::<Q, A>::default()).await?.into_inner())
        };
        let opened = tokio::time::timeout(READ, open).await;
        (at, opened.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer to a new stream"))))
    }

    /// The member spoken to after so many moves. Lists may be of any size.
    fn grpc(&self, at: usize) -> Grpc<Channel> {
        let channel = self.channels.get(at % self.channels.len()).cloned();
        let channel = channel.expect("there is at least one, and a remainder is less than their number");
        Grpc::new(channel).max_decoding_message_size(usize::MAX)
    }

    /// Says that only a member with a leader shall answer, and who asks.
    async fn with_token<T>(
        &self,
        at: usize,
        mut request: tonic::Request<T>,
    ) -> Result<tonic::Request<T>, Status> {
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        if let Some(login) = &self.login {
            let known = self.token.read().clone();
            let token = match known {
                Some(token) => Some(token),
                None => self.authenticate(at, login).await?,
            };
            if let Some(token) = token {
                request.metadata_mut().insert("token", token);
            }
        }
        Ok(request)
    }

    /// A token for this user; none while the cluster has authentication switched off.
    async fn authenticate(&self, at: usize, login: &Login) -> Result<Option<MetadataValue<Ascii>>, Status> {
        let request = AuthenticateRequest { name: login.name.clone(), password: login.password.clone() };
        let answer = self.unary(at, AUTHENTICATE, tonic::Request::new(request)).await;
        let answer: AuthenticateResponse = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.message().contains("authentication is not enabled") => return Ok(None),
            Err(status) => return Err(status),
        };
        let token = MetadataValue::try_from(answer.token).map_err(|e| Status::internal(e.to_string()))?;
        *self.token.write() = Some(token.clone());
        Ok(Some(token))
    }
}

async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))
}

/// How a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// etcd refused it.
    Answer(Status),
    /// Nobody answered; a write may have been done.
    Lost(Status),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Answer(status) => Self::Refused(status.message().into()),
            Failure::Lost(status) => Self::Unavailable(chain(&status).into()),
        }
    }
}

/// What a failed attempt means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is etcd's answer.
    Answer,
    /// The token is no longer good; the call was not looked at.
    Login,
    /// Another attempt is right, elsewhere.
    Again,
    /// Nobody knows whether it was done, and it must not be done twice.
    Lost,
}

/// What etcd says when it has not taken a call.
const NOT_TAKEN: [&str; 4] = [
    "etcdserver: no leader",
    "etcdserver: too many requests",
    "etcdserver: rpc not supported for learner",
    "etcdserver: not capable",
];
/// What it says of a token that it does not take.
const BAD_TOKEN: [&str; 2] = ["etcdserver: invalid auth token", "etcdserver: revision of auth store is old"];

/// See the module.
fn judge(status: &Status, kind: Kind) -> Verdict {
    let message = status.message();
    if BAD_TOKEN.iter().any(|bad| message.contains(bad)) {
        return Verdict::Login;
    }
    if never_sent(status) || NOT_TAKEN.iter().any(|not| message.contains(not)) {
        return Verdict::Again;
    }
    // A broken connection is `Unknown` or `Internal` here; a member that stops is `Unavailable` or `Cancelled`.
    let transport = status_source(status);
    let unclear = transport
        || matches!(
            status.code(),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted
        );
    match (unclear, kind) {
        (false, _) => Verdict::Answer,
        (true, Kind::Read) => Verdict::Again,
        (true, Kind::Write) => Verdict::Lost,
    }
}

/// Whether the status was made on this side of the wire.
fn status_source(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// Whether there was no connection to send anything over.
fn never_sent(status: &Status) -> bool {
    let mut next = std::error::Error::source(status);
    while let Some(error) = next {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// Whether a certificate was not taken, on either side.
fn is_tls(status: &Status) -> bool {
    let mut next = std::error::Error::source(status);
    while let Some(error) = next {
        let within = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
        if error.is::<rustls::Error>() || within.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        next = error.source();
    }
    false
}

/// A status and its causes in one line.
pub(super) fn chain(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut next = std::error::Error::source(status);
    while let Some(error) = next {
        let why = error.to_string();
        if !text.contains(&why) {
            text = if text.is_empty() { why } else { format!("{text}: {why}") };
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_repeated_only_if_it_was_certainly_not_taken() {
        let refused = Status::from_error(Box::new(tonic::ConnectError("refused".into())));
        let no_leader = Status::unavailable("etcdserver: no leader");
        for status in [refused, no_leader] {
            assert_eq!(judge(&status, Kind::Write), Verdict::Again, "{status}");
        }
        let timed_out = Status::unavailable("etcdserver: request timed out");
        let silent = Status::deadline_exceeded("no answer");
        let broken = Status::from_error(Box::new(std::io::Error::other("broken pipe")));
        for status in [timed_out, silent, broken] {
            assert_eq!(judge(&status, Kind::Write), Verdict::Lost, "{status}");
            assert_eq!(judge(&status, Kind::Read), Verdict::Again, "{status}");
        }
        let expired = Status::unauthenticated("etcdserver: invalid auth token");
        assert_eq!(judge(&expired, Kind::Write), Verdict::Login);
        let refused = Status::out_of_range("etcdserver: mvcc: required revision has been compacted");
        assert_eq!(judge(&refused, Kind::Read), Verdict::Answer);
    }

    #[test]
    fn a_failing_member_is_left_once_however_many_notice() {
        let options =
            Options { servers: vec!["http://a:1".into(), "http://b:1".into()], ..Options::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let members = Members::new(&options).unwrap();
        members.leave(0);
        members.leave(0);
        assert_eq!(*members.moves.borrow(), 1);
    }
}
