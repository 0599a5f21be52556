//! The law of quotas: whoever creates and deletes at the same time, no more is there than a quota allows, and what it says
//! is used is never less than what is there.

use std::sync::Arc;

use futures::future::join_all;
use proptest::prelude::*;
use tiphys_api::schema::builtin;
use tiphys_api::{Gvr, Status, json};

use crate::auth::User;
use crate::registry::testing::{self, Fixture};
use crate::registry::{Body, DeleteParams, ListParams, Request, WriteParams};

const CONFIG_MAPS: Gvr = Gvr::new("", "v1", "configmaps");
const QUOTAS: Gvr = Gvr::new("", "v1", "resourcequotas");
const CLAIMS: Gvr = Gvr::new("", "v1", "persistentvolumeclaims");

struct Cluster {
    fixture: Fixture,
    user: User,
}

impl Cluster {
    async fn with_quota(hard: &tiphys_api::Value, used: &tiphys_api::Value) -> Self {
        let cluster = Self { fixture: testing::fixture().await, user: User::default() };
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
        cluster.create(&QUOTAS, &quota).await.unwrap();
        cluster.patch_used(used).await;
        cluster
    }

    fn request<'r>(&'r self, gvr: &Gvr, name: &'r str, subresource: &'static str) -> Request<'r> {
        let resource = builtin().get(gvr).unwrap();
        Request { resource, namespace: "n", name, subresource, user: &self.user }
    }

    async fn create(&self, gvr: &Gvr, object: &tiphys_api::Value) -> Result<(), Status> {
        let body = Body::Json(object.to_string().into());
        self.fixture
            .registry
            .create(&self.request(gvr, "", ""), body, &WriteParams::default())
            .await
            .map(drop)
    }

    async fn update(
        &self,
        gvr: &Gvr,
        name: &str,
        sub: &'static str,
        object: &tiphys_api::Value,
    ) -> Result<(), Status> {
        let body = Body::Json(object.to_string().into());
        self.fixture
            .registry
            .update(&self.request(gvr, name, sub), body, &WriteParams::default())
            .await
            .map(drop)
    }

    async fn patch_used(&self, used: &tiphys_api::Value) {
        let status = json!({"metadata": {"name": "q"}, "status": {"used": used}});
        self.update(&QUOTAS, "q", "status", &status).await.unwrap();
    }

    async fn used(&self, name: &str) -> String {
        let quota = self.fixture.registry.get(&self.request(&QUOTAS, "q", ""), "").await.unwrap();
        quota.value().unwrap()["status"]["used"][name].as_str().unwrap_or_default().to_owned()
    }

    async fn count(&self) -> usize {
        let (request, params) = (self.request(&CONFIG_MAPS, "", ""), ListParams::default());
        self.fixture.registry.list(&request, &params).await.unwrap().items.len()
    }
}

fn map(name: &str) -> tiphys_api::Value {
    json!({"metadata": {"name": name}})
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn a_quota_is_never_exceeded(hard in 0..6u32, names in proptest::collection::vec(0..10u8, 1..24)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let hard_text = json!({"configmaps": hard.to_string()});
            let cluster = Arc::new(Cluster::with_quota(&hard_text, &json!({"configmaps": "0"})).await);
            let racing = names.iter().map(|name| {
                let (cluster, name) = (cluster.clone(), format!("m{name}"));
                tokio::spawn(async move {
                    let made = cluster.create(&CONFIG_MAPS, &map(&name)).await;
                    // Some go again, and nobody has counted them out.
                    if made.is_ok() && name == "m3" {
                        let request = cluster.request(&CONFIG_MAPS, &name, "");
                        drop(cluster.fixture.registry.delete(&request, &DeleteParams::default()).await);
                    }
                    made
                })
            });
            let outcomes: Vec<Result<(), Status>> =
                join_all(racing).await.into_iter().map(|outcome| outcome.unwrap()).collect();
            let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            let used: usize = cluster.used("configmaps").await.parse().unwrap();
            // Failed writes leave nothing behind: exactly what was made is used.
            prop_assert_eq!(used, made);
            prop_assert!(made <= hard as usize && cluster.count().await <= used);
            for refused in outcomes.into_iter().filter_map(Result::err) {
                prop_assert!(refused.is("Forbidden") || refused.is("AlreadyExists"), "{}", refused);
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_refusal_and_a_growth_are_told_as_kubernetes_tells_them() {
    let hard = json!({"requests.storage": "10Gi", "count/configmaps": "0"});
    let cluster =
        Cluster::with_quota(&hard, &json!({"requests.storage": "0", "count/configmaps": "0"})).await;
    let refused = cluster.create(&CONFIG_MAPS, &map("m")).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (
            403,
            "configmaps \"m\" is forbidden: exceeded quota: q, requested: count/configmaps=1, \
               used: count/configmaps=0, limited: count/configmaps=0"
        )
    );
    let claim = |size: &str| {
        json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "s",
            "volumeName": "v", "resources": {"requests": {"storage": size}}}})
    };
    cluster.create(&CLAIMS, &claim("4Gi")).await.unwrap();
    assert_eq!(cluster.used("requests.storage").await, "4Gi");
    let mut bound = claim("4Gi");
    bound["status"] = json!({"phase": "Bound", "capacity": {"storage": "4Gi"}});
    cluster.update(&CLAIMS, "c", "status", &bound).await.unwrap();
    cluster.update(&CLAIMS, "c", "", &claim("9Gi")).await.unwrap();
    assert_eq!(cluster.used("requests.storage").await, "9Gi");
    let refused = cluster.update(&CLAIMS, "c", "", &claim("11Gi")).await.unwrap_err();
    assert!(refused.message.contains("exceeded quota: q, requested: requests.storage=2Gi"), "{refused}");
    assert_eq!(cluster.used("requests.storage").await, "9Gi");
}
