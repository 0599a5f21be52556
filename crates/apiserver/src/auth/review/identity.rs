//! TokenReview (whose token is this) and SelfSubjectReview (who am I).

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use tiphys_api::{Object, Status, Value, json};

use super::user_info;
use crate::auth::ServiceAccountTokens;
use crate::registry::{Computed, Request};

pub(super) struct TokenReview(pub(super) Arc<ServiceAccountTokens>);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    token: String,
    audiences: Option<Vec<String>>,
}

#[async_trait]
impl Computed for TokenReview {
    async fn create(
        &self,
        _request: &Request<'_>,
        _parent: Option<&Object>,
        body: &mut Value,
    ) -> Result<(), Status> {
        let Spec { token, audiences } = super::spec(body)?;
        if token.is_empty() {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        let verified = self.0.verify(&token, &audiences.unwrap_or_default(), Timestamp::now());
        body["status"] = match verified {
            Ok(good) => json!({
                "authenticated": true, "user": user_info(&good.user), "audiences": good.audiences,
            }),
            Err(refused) => json!({ "user": {}, "error": refused.to_string() }),
        };
        Ok(())
    }
}

pub(super) struct SelfReview;

#[async_trait]
impl Computed for SelfReview {
    async fn create(
        &self,
        request: &Request<'_>,
        _parent: Option<&Object>,
        body: &mut Value,
    ) -> Result<(), Status> {
        body["status"] = json!({ "userInfo": user_info(request.user) });
        Ok(())
    }
}
