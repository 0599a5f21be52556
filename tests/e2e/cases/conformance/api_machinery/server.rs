//! What the server says of itself, and the forms in which it answers.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cases::Run;
use crate::cases::conformance::Table;
use crate::harness::Namespace;
use crate::objects::{Objects, refusal};

pub const CASES: Table = &[(
    &[
        "[sig-api-machinery] server version should find the server version",
        "[sig-api-machinery] Discovery should validate PreferredVersion for each APIGroup",
        "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] should include custom resource \
         definition resources in discovery documents",
        "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should include webhook resources in discovery \
         documents",
        "[sig-api-machinery] Servers with support for Table transformation should return a 406 for a backend which does \
         not implement metadata",
    ],
    Run::Simulated(server),
)];

fn server(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let version = objects.get("/version")?;
    for part in ["major", "minor"] {
        let number = version[part].as_str().context("no number")?;
        ensure!(number.parse::<u32>().is_ok(), "{version}");
    }
    preferred_versions(&objects)?;
    served(&objects, "apiextensions.k8s.io", &["customresourcedefinitions"])?;
    let webhooks = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"];
    served(&objects, "admissionregistration.k8s.io", &webhooks)?;
    // A review is not kept, and has no metadata that a table could be made of.
    let review = serde_json::json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let refused = refusal(objects.request_as(path, &review, "application/json;as=Table;v=v1;g=meta.k8s.io"))?;
    ensure!(refused.code == 406, "{refused:?}");
    Ok(())
}

fn items<'a>(list: &'a Value, field: &str) -> Result<&'a Vec<Value>> {
    list[field].as_array().with_context(|| format!("no {field}: {list}"))
}

/// Each group's preferred version is one of its versions, and served.
fn preferred_versions(objects: &Objects) -> Result<()> {
    for group in items(&objects.get("/apis")?, "groups")? {
        let Err(error) = preferred_version(objects, group) else { continue };
        // Other cases' groups come and go; one that is still there as it was has no excuse.
        ensure!(!items(&objects.get("/apis")?, "groups")?.contains(group), "{group}: {error:#}");
    }
    Ok(())
}

fn preferred_version(objects: &Objects, group: &Value) -> Result<()> {
    let preferred = &group["preferredVersion"];
    ensure!(items(group, "versions")?.contains(preferred), "{group}");
    let path = format!("/apis/{}", preferred["groupVersion"].as_str().context("no version")?);
    ensure!(!items(&objects.get(&path)?, "resources")?.is_empty(), "{path}");
    let alone = objects.get(&format!("/apis/{}", group["name"].as_str().context("no name")?))?;
    ensure!(alone["preferredVersion"] == *preferred, "{alone}");
    Ok(())
}

/// The group, its version v1 and these resources are in the documents.
fn served(objects: &Objects, group: &str, resources: &[&str]) -> Result<()> {
    let groups = objects.get("/apis")?;
    let found = items(&groups, "groups")?.iter().find(|found| found["name"] == group).context("no group")?;
    let version = format!("{group}/v1");
    ensure!(items(found, "versions")?.iter().any(|v| v["groupVersion"] == version.as_str()), "{found}");
    ensure!(objects.get(&format!("/apis/{group}"))?["name"] == group);
    let list = objects.get(&format!("/apis/{version}"))?;
    for resource in resources {
        ensure!(items(&list, "resources")?.iter().any(|r| r["name"] == *resource), "{resource}: {list}");
    }
    Ok(())
}
