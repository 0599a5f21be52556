//! Streams to nodes, pods and services: the API server connects and passes bytes through, raw, in both directions.
//!
//! - `pods/{log,exec,attach,portforward}` and `nodes/proxy` go to the node's kubelet over HTTPS, at the kubelet's own
//!   paths, with the server's client certificate. `pods/proxy` and `services/proxy` go straight to the endpoint.
//! - Upgrades (SPDY/3.1 and WebSocket) are mostly not understood here: the kubelet answers 101, and from then on this
//!   copies. A side that closes its half closes only that half on the other side.
//! - WebSockets that runtimes do not understand are SPDY on the other side ([`socket`]).
//! - Where a stream goes is decided purely ([`locate`], [`endpoint`]) from cached objects.
//! - The caller's credentials never leave the server.

mod channels;
pub(crate) mod connect;
pub(crate) mod endpoint;
mod locate;
mod options;
mod pass;
mod read;
pub(crate) mod service;
mod socket;
mod spdy;

use std::sync::Arc;

pub use connect::{Error, KubeletTls};
use http::Method;
use http::StatusCode;
use http::header::{HeaderValue, LOCATION};
use serde::de::DeserializeOwned;
use tiphys_api::{Gvr, Status};

use crate::auth::Lister;
use crate::http::answer::{self, Answer};
use crate::http::handle::Call;
use crate::http::path::RequestInfo;
use connect::Connector;
pub(crate) use locate::path_escape;
pub use options::{check as check_options, options, put_back};
pub use pass::Lasting;
use pass::Passage;
pub(crate) use pass::{authority, forwarded, passed_back, upgraded};

const PODS: Gvr = Gvr::new("", "v1", "pods");
const NODES: Gvr = Gvr::new("", "v1", "nodes");

/// Connects to kubelets and endpoints.
#[derive(Clone)]
pub struct NodeProxy {
    connector: Arc<Connector>,
}

/// One of the paths beneath a resource that lead off this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Road {
    Log,
    Exec,
    Attach,
    PortForward,
    PodProxy,
    ServiceProxy,
    NodeProxy,
}

impl Road {
    fn of(info: &RequestInfo) -> Option<Self> {
        if !info.group.is_empty() {
            return None;
        }
        match (info.resource.as_str(), info.subresource.as_str()) {
            ("pods", "log") => Some(Self::Log),
            ("pods", "exec") => Some(Self::Exec),
            ("pods", "attach") => Some(Self::Attach),
            ("pods", "portforward") => Some(Self::PortForward),
            ("pods", "proxy") => Some(Self::PodProxy),
            ("services", "proxy") => Some(Self::ServiceProxy),
            ("nodes", "proxy") => Some(Self::NodeProxy),
            _ => None,
        }
    }
}

/// Whether a request is answered here.
pub fn serves(info: &RequestInfo) -> bool {
    Road::of(info).is_some()
}

/// Whether admission judges it, as the operation CONNECT: all but reading a log.
pub fn connects(info: &RequestInfo) -> bool {
    Road::of(info).is_some_and(|road| road != Road::Log)
}

/// Whether a request leads into a container, where it may do anything.
pub fn enters(info: &RequestInfo) -> bool {
    matches!(Road::of(info), Some(Road::Exec | Road::Attach | Road::PortForward))
}

impl NodeProxy {
    /// Connects to kubelets as `tls` says.
    pub fn new(tls: KubeletTls) -> Result<Self, Error> {
        Ok(Self { connector: Arc::new(Connector::new(tls)?) })
    }

    /// Answers one request that [`serves`] claims. `lasting` goes with the stream.
    pub async fn answer(&self, lister: &dyn Lister, call: Call, lasting: Lasting) -> Result<Answer, Status> {
        let road = Road::of(&call.info).ok_or_else(Status::no_such_path)?;
        let finder = Finder { lister, call: &call };
        let passage = match road {
            Road::Log => match finder.log()? {
                Some(passage) => return pass::log(&self.connector, &passage, call, lasting).await,
                // Nothing runs yet, so there is nothing to read.
                None => return Ok(answer::with_body(StatusCode::NO_CONTENT, "text/plain", "")),
            },
            Road::Exec | Road::Attach | Road::PortForward => finder.stream(road)?,
            Road::NodeProxy => finder.node_proxy()?,
            Road::PodProxy | Road::ServiceProxy => {
                if let Some(redirect) = add_slash(&call) {
                    return Ok(redirect);
                }
                finder.endpoint(road)?
            }
        };
        pass::through(&self.connector, passage, call, lasting).await
    }
}

/// `.../proxy` without a closing slash would break a page's relative links.
fn add_slash(call: &Call) -> Option<Answer> {
    let reads = matches!(call.method, Method::GET | Method::HEAD) && call.upgrade.is_none();
    let bare = call.info.rest.is_none() && reads;
    bare.then(|| {
        let query = if call.raw_query.is_empty() { String::new() } else { format!("?{}", call.raw_query) };
        let mut moved = answer::with_body(StatusCode::MOVED_PERMANENTLY, "text/plain", "");
        if let Ok(place) = HeaderValue::from_str(&format!("{}/{query}", call.info.path)) {
            moved.headers_mut().insert(LOCATION, place);
        }
        moved
    })
}

/// Finds where a request goes from cached objects.
struct Finder<'a> {
    lister: &'a dyn Lister,
    call: &'a Call,
}

impl Finder<'_> {
    fn read<T: DeserializeOwned>(&self, gvr: &Gvr, namespace: &str, name: &str) -> Result<T, Status> {
        let object = self.lister.get(gvr, namespace, name).ok_or_else(|| Status::not_found(gvr, name))?;
        object.decode().map_err(Status::internal)
    }

    fn pod(&self) -> Result<locate::Pod, Status> {
        let info = &self.call.info;
        self.read(&PODS, &info.namespace, &info.name)
    }

    /// The way to a node's kubelet.
    fn kubelet(&self, node: &str, path: String) -> Result<Passage, Status> {
        let node_object: locate::Node = self.read(&NODES, "", node)?;
        let (host, port) = locate::kubelet_address(&node_object)
            .ok_or_else(|| Status::internal(format!("no preferred addresses found for node {node:?}")))?;
        Ok(Passage { kubelet: true, tls: true, host, port, path })
    }

    fn log(&self) -> Result<Option<Passage>, Status> {
        let pod = self.pod()?;
        let info = &self.call.info;
        let path = locate::log_path(&info.namespace, &info.name, &pod, &self.call.query)?;
        let node = pod.spec.node_name.as_str();
        if node.is_empty() { Ok(None) } else { self.kubelet(node, path).map(Some) }
    }

    fn stream(&self, road: Road) -> Result<Passage, Status> {
        let pod = self.pod()?;
        let info = &self.call.info;
        let (namespace, name) = (info.namespace.as_str(), info.name.as_str());
        let path = match road {
            Road::PortForward => locate::port_forward_path(namespace, name, &self.call.query),
            Road::Exec => locate::exec_path("exec", namespace, name, &pod, &self.call.query)?,
            _ => locate::exec_path("attach", namespace, name, &pod, &self.call.query)?,
        };
        if pod.spec.node_name.is_empty() {
            return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
        }
        self.kubelet(&pod.spec.node_name, path)
    }

    fn rest(&self) -> String {
        let mut path =
            format!("/{}", locate::path_escape(self.call.info.rest.as_deref().unwrap_or_default()));
        if !self.call.raw_query.is_empty() {
            path.push('?');
            path.push_str(&self.call.raw_query);
        }
        path
    }

    fn node_proxy(&self) -> Result<Passage, Status> {
        let name = &self.call.info.name;
        let wanted = endpoint::Name::parse(name)
            .ok_or_else(|| Status::bad_request(format!("invalid node request {name:?}")))?;
        let passage = self.kubelet(wanted.name, self.rest())?;
        match wanted.port.parse::<u16>() {
            // Another port of the node is not its kubelet: our certificate stays here.
            Ok(port) if port != passage.port => {
                Ok(Passage { kubelet: false, tls: wanted.scheme == "https", port, ..passage })
            }
            _ => Ok(passage),
        }
    }

    fn endpoint(&self, road: Road) -> Result<Passage, Status> {
        let info = &self.call.info;
        let what = if road == Road::PodProxy { "pod" } else { "service" };
        let wanted = endpoint::Name::parse(&info.name)
            .ok_or_else(|| Status::bad_request(format!("invalid {what} request {:?}", info.name)))?;
        let (host, port) = match road {
            Road::PodProxy => endpoint::of_pod(&wanted, &self.read(&PODS, &info.namespace, wanted.name)?)?,
            _ => endpoint::of_service_now(self.lister, &info.namespace, &wanted)?,
        };
        Ok(Passage { kubelet: false, tls: wanted.scheme == "https", host, port, path: self.rest() })
    }
}
