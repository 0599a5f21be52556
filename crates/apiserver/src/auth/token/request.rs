//! `serviceaccounts/token`: gives out a token for an account, bound as the caller asks.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use tiphys_api::field::{Error, Path};
use tiphys_api::{Gvk, Gvr, Object, Status, Value};

use super::claims::{Bound, Claims, Ref};
use super::{NODES, PODS, SECRETS, SERVICE_ACCOUNTS, ServiceAccountTokens};
use crate::auth::groups::service_account_user;
use crate::registry;

/// Life of a token when none is asked for, in seconds.
const DEFAULT_LIFE: i64 = 60 * 60;
/// Shortest life that may be asked for, in seconds.
const MIN_LIFE: i64 = 10 * 60;
/// Longest life that may be asked for, in seconds.
const MAX_LIFE: i64 = 1 << 32;
/// What the kubelet asks for on behalf of a projected volume that a client may never read again: such a token lives
/// [`EXTENDED_LIFE`], and says after how long it should have been read anew.
const KUBELET_LIFE: i64 = 3607;
const EXTENDED_LIFE: i64 = 365 * 24 * 60 * 60;

const TOKEN_REQUEST: Gvk = Gvk::new("authentication.k8s.io", "v1", "TokenRequest");

/// `spec` of a TokenRequest.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    /// Whom the token is meant for; none means the API server.
    pub audiences: Option<Vec<String>>,
    /// Life in seconds.
    pub expiration_seconds: Option<i64>,
    /// What the token dies with.
    pub bound_object_ref: Option<BoundTo>,
}

/// `spec.boundObjectRef`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BoundTo {
    /// `v1`
    pub api_version: String,
    /// `Pod`, `Secret` or `Node`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its identity; empty takes the present one.
    pub uid: String,
}

/// A new token.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The token.
    pub token: String,
    /// When a client should have fetched another.
    pub expires: Timestamp,
    /// Whom it is meant for.
    pub audiences: Vec<String>,
    /// Its life in seconds, as granted.
    pub seconds: i64,
}

#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    spec: PodSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
    service_account_name: String,
}

impl ServiceAccountTokens {
    /// Makes a token for a service account.
    pub fn issue(&self, account: &Object, request: &Request, now: Timestamp) -> Result<Issued, Status> {
        let meta = account.meta();
        let life = life(request.expiration_seconds)?;
        let audiences = request.audiences.clone().filter(|list| !list.is_empty());
        let audiences = audiences.unwrap_or_else(|| vec![self.issuer.clone()]);
        let mut bound = Bound {
            namespace: meta.namespace.to_string(),
            serviceaccount: Ref { name: meta.name.to_string(), uid: meta.uid.to_string() },
            ..Bound::default()
        };
        if let Some(to) = &request.bound_object_ref {
            self.bind(&mut bound, to)?;
        }
        let (from, mut until) = (now.as_second(), now.as_second() + life);
        if bound.pod.is_some() && life == KUBELET_LIFE && audiences == [self.issuer.as_str()] {
            bound.warnafter = Some(until);
            until = from + EXTENDED_LIFE;
        }
        let claims = Claims {
            sub: service_account_user(&bound.namespace, &bound.serviceaccount.name),
            aud: audiences.clone(),
            exp: until,
            iat: from,
            nbf: from,
            iss: self.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            bound,
        };
        let token = self.keys.sign(&claims).map_err(Status::internal)?;
        let expires = Timestamp::from_second(from + life).map_err(Status::internal)?;
        Ok(Issued { token, expires, audiences, seconds: life })
    }

    fn bind(&self, bound: &mut Bound, to: &BoundTo) -> Result<(), Status> {
        match (to.api_version.as_str(), to.kind.as_str()) {
            ("v1", "Pod") => {
                let pod = self.bindable(&PODS, &bound.namespace, to)?;
                let spec = pod.decode::<Pod>().map_err(Status::internal)?.spec;
                let account = &bound.serviceaccount.name;
                if spec.service_account_name != *account {
                    return Err(Status::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                    )));
                }
                if !spec.node_name.is_empty() {
                    let node = self.lister.get(&NODES, "", &spec.node_name);
                    let uid = node.map(|node| node.meta().uid.to_string()).unwrap_or_default();
                    bound.node = Some(Ref { name: spec.node_name, uid });
                }
                bound.pod = Some(reference(&pod));
            }
            ("v1", "Secret") => {
                bound.secret = Some(reference(&self.bindable(&SECRETS, &bound.namespace, to)?));
            }
            ("v1", "Node") => bound.node = Some(reference(&self.bindable(&NODES, "", to)?)),
            _ => {
                let gvk = Gvk::from_api_version(&to.api_version, &to.kind);
                return Err(Status::bad_request(format!("cannot bind token to object of type {gvk}")));
            }
        }
        Ok(())
    }

    fn bindable(&self, gvr: &Gvr, namespace: &str, to: &BoundTo) -> Result<Object, Status> {
        let found = self.lister.get(gvr, namespace, &to.name);
        let object = found.ok_or_else(|| Status::not_found(gvr, &to.name))?;
        if !to.uid.is_empty() && object.meta().uid.as_ref() != to.uid {
            let why = format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
                to.uid
            );
            return Err(Status::conflict(gvr, &to.name, &why));
        }
        Ok(object)
    }
}

fn reference(object: &Object) -> Ref {
    Ref { name: object.meta().name.to_string(), uid: object.meta().uid.to_string() }
}

fn life(asked: Option<i64>) -> Result<i64, Status> {
    let seconds = asked.unwrap_or(DEFAULT_LIFE);
    let why = match seconds {
        ..MIN_LIFE => "may not specify a duration less than 10 minutes",
        MIN_LIFE..=MAX_LIFE => return Ok(seconds),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let path = Path::new("spec").child("expirationSeconds");
    Err(Status::invalid(&TOKEN_REQUEST, "", &[Error::invalid(&path, seconds, why)]))
}

#[async_trait]
impl registry::Computed for ServiceAccountTokens {
    async fn create(
        &self,
        request: &registry::Request<'_>,
        parent: Option<&Object>,
        body: &mut Value,
    ) -> Result<(), Status> {
        let account = parent.ok_or_else(|| Status::not_found(&SERVICE_ACCOUNTS, request.name))?;
        let spec = body.get("spec").cloned().unwrap_or_default();
        let asked: Option<Request> = spec.to().map_err(|error| Status::bad_request(error.to_string()))?;
        let asked = asked.unwrap_or_default();
        let issued = self.issue(account, &asked, Timestamp::now())?;
        body["metadata"]["name"] = account.meta().name.as_ref().into();
        body["metadata"]["namespace"] = account.meta().namespace.as_ref().into();
        body["spec"]["audiences"] = issued.audiences.into();
        body["spec"]["expirationSeconds"] = issued.seconds.into();
        let expires = format!("{:.0}", issued.expires);
        body["status"] = tiphys_api::json!({ "token": issued.token, "expirationTimestamp": expires });
        Ok(())
    }
}
