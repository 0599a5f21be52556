//! Keeps an APIService for every group-version that is served here, so that clients find all of them in one list.
//!
//! - Those of custom resources (`automanaged: true`) follow what is served. Those built in (`onstart`) are put right once, at
//!   the start: from then on what somebody makes of them stays. Of either, one that is gone comes back.
//! - An APIService without the label is somebody's own; it is left alone.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt, stream};
use tiphys_api::{Object, Status, Value};
use tiphys_client::{Client, DeleteOptions, Target, WriteOptions};

use super::priorities::{self, MANAGED};
use super::service::API_SERVICES;

/// Writes under way at once.
const WRITES: usize = 64;

/// One write.
#[derive(Clone, Debug, PartialEq)]
enum Write {
    Create(Value),
    Update(Value),
    Delete(String),
}

/// Makes what is registered fit what is served: pairs of group and version. `first` at the start.
pub(super) async fn reconcile(
    client: &dyn Client,
    served: &[(String, String)],
    present: &[Object],
    first: bool,
) -> Result<(), Status> {
    let desired: Vec<Value> =
        served.iter().filter_map(|(group, version)| priorities::desired(group, version)).collect();
    let present: Result<Vec<Value>, _> = present.iter().map(Object::value).collect();
    let writes = plan(&desired, &present.map_err(Status::internal)?, first);
    let writes = writes.into_iter().map(|one| write(client, one));
    stream::iter(writes).buffer_unordered(WRITES).try_collect::<()>().await
}

fn name(service: &Value) -> &str {
    service["metadata"]["name"].as_str().unwrap_or_default()
}

fn plan(desired: &[Value], present: &[Value], first: bool) -> Vec<Write> {
    let mut left: HashMap<&str, &Value> = present.iter().map(|service| (name(service), service)).collect();
    let mut writes = Vec::new();
    for want in desired {
        let Some(have) = left.remove(name(want)) else {
            writes.push(Write::Create(want.clone()));
            continue;
        };
        if managed(have, first) && !same(&want["spec"], &have["spec"]) {
            let mut better = have.clone();
            better["spec"] = want["spec"].clone();
            writes.push(Write::Update(better));
        }
    }
    let spurious = left.into_iter().filter(|(_, have)| managed(have, first));
    writes.extend(spurious.map(|(name, _)| Write::Delete(name.to_owned())));
    writes
}

/// Whether it is changed to fit.
fn managed(service: &Value, first: bool) -> bool {
    match service["metadata"]["labels"].get(MANAGED).and_then(Value::as_str) {
        Some("true") => true,
        Some("onstart") => first,
        _ => false,
    }
}

fn same(want: &Value, have: &Value) -> bool {
    want.as_object() == have.as_object()
}

async fn write(client: &dyn Client, write: Write) -> Result<(), Status> {
    let target = |name: &str| Target::new(&API_SERVICES, "", name);
    let options = WriteOptions::default();
    let done = match write {
        Write::Create(service) => {
            client.create(&target(name(&service)), service.to_string().into(), &options).await.map(drop)
        }
        Write::Update(service) => {
            client.update(&target(name(&service)), service.to_string().into(), &options).await.map(drop)
        }
        Write::Delete(name) => client.delete(&target(&name), &DeleteOptions::default()).await.map(drop),
    };
    match done {
        // Somebody was faster, which is told as a change of its own.
        Err(status) if ["AlreadyExists", "Conflict", "NotFound"].iter().any(|reason| status.is(reason)) => {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use tiphys_api::json;

    use super::*;

    #[test]
    fn what_is_registered_follows_what_is_served() {
        let service = |group: &str, managed: &str, priority: i64| {
            json!({"metadata": {"name": format!("v1.{group}"), "labels": {MANAGED: managed}},
                "spec": {"group": group, "groupPriorityMinimum": priority, "version": "v1", "versionPriority": 15}})
        };
        let want = ["new", "builtin", "custom", "own", "same"]
            .map(|group| service(group, if group == "custom" { "true" } else { "onstart" }, 1));
        let have = [
            service("builtin", "onstart", 2),
            service("custom", "true", 2),
            service("own", "", 2),
            service("same", "onstart", 1),
            service("gone-custom", "true", 1),
            service("gone-builtin", "onstart", 1),
            service("extension", "", 1),
        ];
        let described = |first| {
            let mut lines: Vec<String> = plan(&want, &have, first)
                .iter()
                .map(|write| match write {
                    Write::Create(service) => format!("create {}", name(service)),
                    Write::Update(service) => {
                        format!("update {} {}", name(service), service["spec"]["groupPriorityMinimum"])
                    }
                    Write::Delete(name) => format!("delete {name}"),
                })
                .collect();
            lines.sort();
            lines
        };
        assert_eq!(
            described(true),
            [
                "create v1.new",
                "delete v1.gone-builtin",
                "delete v1.gone-custom",
                "update v1.builtin 1",
                "update v1.custom 1"
            ]
        );
        assert_eq!(described(false), ["create v1.new", "delete v1.gone-custom", "update v1.custom 1"]);
    }
}
