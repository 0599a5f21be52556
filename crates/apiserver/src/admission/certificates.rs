//! Certificate requests: who may approve and sign for a signer, and what no signer hands out.
//!
//! Three plugins of Kubernetes: CertificateApproval, CertificateSigning and CertificateSubjectRestriction.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tiphys_api::{Status, Value};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::tree::text;
use super::{Operation, Plugin, Review};
use crate::auth::groups::MASTERS;
use crate::auth::{Attributes, Authorizer, Decision};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Who approves or denies a request may `approve` for its signer.
pub struct CertificateApproval(pub Arc<dyn Authorizer>);

/// Who puts a certificate into a request may `sign` for its signer.
pub struct CertificateSigning(pub Arc<dyn Authorizer>);

/// Nobody becomes `system:masters` by a request.
pub struct CertificateSubjectRestriction;

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    async fn validate(&self, review: &Review<'_>) -> Result<(), Status> {
        match changes(review, "approval") {
            true => demand(self.0.as_ref(), review, "approve").await,
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    async fn validate(&self, review: &Review<'_>) -> Result<(), Status> {
        if !changes(review, "status") {
            return Ok(());
        }
        let old =
            review.old.map(|old| old.value()).transpose().map_err(Status::internal)?.unwrap_or_default();
        let certificate = "/status/certificate";
        match text(&old, certificate) == text(review.object, certificate) {
            true => Ok(()),
            false => demand(self.0.as_ref(), review, "sign").await,
        }
    }
}

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    async fn validate(&self, review: &Review<'_>) -> Result<(), Status> {
        let signer = text(review.object, "/spec/signerName");
        if !review.creates(GROUP, REQUESTS) || signer != CLIENT_SIGNER || !asks_for_masters(review.object) {
            return Ok(());
        }
        let why = format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed");
        Err(review.forbidden(&why))
    }
}

fn changes(review: &Review<'_>, subresource: &str) -> bool {
    review.operation == Operation::Update
        && review.gvr.group == GROUP
        && review.gvr.resource == REQUESTS
        && review.subresource == subresource
}

/// The caller may do `verb` for the request's signer, by its name or by its domain.
async fn demand(authorizer: &dyn Authorizer, review: &Review<'_>, verb: &str) -> Result<(), Status> {
    let old = review.old.map(|old| old.value()).transpose().map_err(Status::internal)?.unwrap_or_default();
    let signer = text(&old, "/spec/signerName");
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    for name in [signer, &format!("{domain}/*")] {
        let asked = Attributes {
            user: review.user,
            verb,
            group: GROUP,
            version: "v1",
            resource: "signers",
            subresource: "",
            namespace: "",
            name,
            path: "",
        };
        if authorizer.authorize(&asked).await == Decision::Allow {
            return Ok(());
        }
    }
    Err(review.forbidden(&format!("user not permitted to {verb} requests with signerName {signer:?}")))
}

fn asks_for_masters(object: &Value) -> bool {
    let pem = STANDARD.decode(text(object, "/spec/request")).unwrap_or_default();
    let Ok((_, block)) = x509_parser::pem::parse_x509_pem(&pem) else { return false };
    // What cannot be read is for validation to refuse.
    let Ok((_, request)) = X509CertificationRequest::from_der(&block.contents) else { return false };
    let subject = &request.certification_request_info.subject;
    subject.iter_organization().any(|group| group.as_str() == Ok(MASTERS))
}

#[cfg(test)]
mod tests {
    use tiphys_api::json;

    use super::*;
    use crate::admission::testing::Case;
    use crate::auth::rbac::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, Rbac};
    use crate::auth::testing::Fake;

    /// Jane may approve for one signer and sign for a domain.
    fn authorizer() -> Arc<dyn Authorizer> {
        let fake = Fake::default();
        let rule = |verb: &str, name: &str| json!({"verbs": [verb], "apiGroups": [GROUP], "resources": ["signers"], "resourceNames": [name]});
        let rules = [rule("approve", "a.example/x"), rule("sign", "b.example/*")];
        fake.put(&CLUSTER_ROLES, &json!({"metadata": {"name": "r"}, "rules": rules}));
        let subject = json!({"kind": "User", "name": "jane"});
        let role = json!({"kind": "ClusterRole", "name": "r"});
        fake.put(
            &CLUSTER_ROLE_BINDINGS,
            &json!({"metadata": {"name": "b"}, "roleRef": role, "subjects": [subject]}),
        );
        Arc::new(Rbac::new(Arc::new(fake)))
    }

    fn update(subresource: &'static str, signer: &str, certificate: &str) -> Case {
        let object = |certificate: &str| json!({"metadata": {"name": "x"}, "spec": {"signerName": signer}, "status": {"certificate": certificate}});
        let case = Case::create("certificates.k8s.io/certificatesigningrequests", "", object(certificate));
        Case { subresource, old: Some(object("")), ..case.operation(Operation::Update) }
    }

    #[tokio::test]
    async fn approval_and_signing_need_their_verbs() {
        let (approval, signing) = (CertificateApproval(authorizer()), CertificateSigning(authorizer()));
        assert!(update("approval", "a.example/x", "").validate(&approval).await.is_ok());
        let refused = update("approval", "a.example/y", "").validate(&approval).await.unwrap_err();
        assert!(
            refused
                .message
                .ends_with(r#"user not permitted to approve requests with signerName "a.example/y""#)
        );
        assert!(update("status", "b.example/any", "c").validate(&signing).await.is_ok());
        assert!(update("status", "a.example/x", "c").validate(&signing).await.is_err());
        assert!(update("status", "a.example/x", "").validate(&signing).await.is_ok());
    }

    #[tokio::test]
    async fn masters_are_not_made_by_request() {
        let request = |group: &str, signer: &str| {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
            let pem = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
            let spec = json!({"signerName": signer, "request": STANDARD.encode(pem)});
            Case::create("certificates.k8s.io/certificatesigningrequests", "", json!({"spec": spec}))
        };
        let plugin = CertificateSubjectRestriction;
        assert!(request(MASTERS, CLIENT_SIGNER).validate(&plugin).await.is_err());
        assert!(request("others", CLIENT_SIGNER).validate(&plugin).await.is_ok());
        assert!(request(MASTERS, "example.com/x").validate(&plugin).await.is_ok());
    }
}
