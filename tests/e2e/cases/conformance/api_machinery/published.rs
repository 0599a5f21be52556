//! What OpenAPI says of custom resources, and what kubectl makes of that.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::definition::{Definition, free, version};
use crate::cases::Run;
use crate::cases::conformance::Table;
use crate::harness::{Namespace, eventually};
use crate::objects::Objects;

pub const CASES: Table = &[
    (
        &[
            "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD with validation schema",
        ],
        Run::Simulated(with_schema),
    ),
    (
        &[
            "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD without validation \
             schema",
        ],
        Run::Simulated(without_schema),
    ),
    (
        &[
            "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown \
             fields at the schema root",
        ],
        Run::Simulated(free_at_the_root),
    ),
    (
        &[
            "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown \
             fields in an embedded object",
        ],
        Run::Simulated(free_inside),
    ),
    (
        &[
            "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of different \
             groups",
            "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group \
             and version but different kinds",
        ],
        Run::Simulated(several),
    ),
    (
        &[
            "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group \
             but different versions",
            "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] updates the published spec when one \
             version gets renamed",
            "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] removes definition from spec when \
             one version gets changed to not be served",
        ],
        Run::Simulated(versions),
    ),
];

fn schema() -> Value {
    json!({"type": "object", "description": "A widget for testing.", "properties": {
        "spec": {"type": "object", "description": "What it should be.", "required": ["bars"], "properties": {
            "bars": {"type": "array", "description": "Its bars.", "items": {"type": "object", "required": ["name"],
                "properties": {
                    "name": {"type": "string", "description": "Name of a bar."},
                    "age": {"type": "string", "description": "Age of a bar."},
                    "feeling": {"type": "string", "enum": ["Great", "Down"]},
                }}},
        }},
    }})
}

/// The schema that both versions of OpenAPI publish.
fn published(definition: &Definition<'_>, of: &str) -> Result<[Value; 2]> {
    let name = definition.type_name(of);
    let v2 = definition.objects.get("/openapi/v2")?["definitions"][&name].take();
    let v3 = definition.objects.get(&format!("/openapi/v3/apis/{}/{of}", definition.group));
    let v3 = v3.map(|mut v3| v3["components"]["schemas"][&name].take()).unwrap_or_default();
    Ok([v2, v3])
}

/// Waits until both publish the kind in a version, or neither.
fn until_published(definition: &Definition<'_>, of: &str, there: bool) -> Result<()> {
    eventually("OpenAPI says what is served", || {
        let published = published(definition, of)?;
        ensure!(published.iter().all(|schema| schema.is_object() == there), "{of}: {published:?}");
        Ok(())
    })
}

fn manifest(definition: &Definition<'_>, name: &str, more: Value) -> String {
    definition.object("v1", name, more).to_string()
}

fn with_schema(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let widgets = Definition::new(ns, &objects, "schema", "Widget");
    widgets.establish(&json!([version("v1", true, &schema())]))?;
    until_published(&widgets, "v1", true)?;
    let bars = |bar: Value| json!({"spec": {"bars": [bar]}});
    let good = manifest(&widgets, "good", bars(json!({"name": "b", "age": "10", "feeling": "Great"})));
    ns.feed(&["create", "-f", "-"], &good)?;
    ns.feed(&["apply", "-f", "-"], &good)?;
    let refused = |verb: &str, why: &str, more: Value| -> Result<()> {
        let text = ns.feed(&[verb, "-f", "-"], &manifest(&widgets, "bad", more));
        let text = text.map_or_else(|error| format!("{error:#}"), |out| format!("accepted: {out}"));
        ensure!(text.contains(why), "{verb}: {text}");
        Ok(())
    };
    for verb in ["create", "apply"] {
        refused(verb, "unknown field", bars(json!({"name": "b", "strange": 1})))?;
        refused(verb, "Required value", bars(json!({"age": "10"})))?;
        refused(verb, "Unsupported value", bars(json!({"name": "b", "feeling": "Odd"})))?;
    }
    let resource = widgets.resource();
    let explain = |path: &str| ns.kubectl(&["explain", &format!("{resource}{path}")]);
    let whole = explain("")?;
    ensure!(whole.contains("A widget for testing.") && whole.contains("What it should be."), "{whole}");
    ensure!(explain(".spec")?.contains("Its bars."));
    ensure!(explain(".spec.bars")?.contains("Name of a bar."));
    ensure!(explain(".metadata")?.contains("labels"));
    ns.kubectl_fails(&["explain", &format!("{resource}.spec.bars2")]).map(drop)
}

/// Takes what kubectl sends and explains the kind.
fn takes_anything(ns: &Namespace<'_>, widgets: &Definition<'_>, more: &Value) -> Result<String> {
    until_published(widgets, "v1", true)?;
    let text = manifest(widgets, "any", more.clone());
    ns.feed(&["create", "-f", "-"], &text)?;
    ns.feed(&["apply", "-f", "-"], &text)?;
    ns.kubectl(&["explain", &widgets.resource()])
}

fn without_schema(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let widgets = Definition::new(ns, &objects, "none", "Widget");
    widgets.establish(&json!([version("v1", true, &free())]))?;
    let told = takes_anything(ns, &widgets, &json!({"a": {"b": [{"c": 1}]}}))?;
    ensure!(told.contains("DESCRIPTION:") && told.contains("KIND:"), "{told}");
    Ok(())
}

fn free_at_the_root(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let widgets = Definition::new(ns, &objects, "root", "Widget");
    let mut schema = schema();
    schema["x-kubernetes-preserve-unknown-fields"] = true.into();
    widgets.establish(&json!([version("v1", true, &schema)]))?;
    let told = takes_anything(ns, &widgets, &json!({"a": {"b": 1}, "spec": {"bars": []}}))?;
    ensure!(told.contains("Widget"), "{told}");
    ensure!(widgets.read("v1", "any")?["a"] == json!({"b": 1}));
    Ok(())
}

fn free_inside(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let widgets = Definition::new(ns, &objects, "inside", "Widget");
    let inner = json!({"type": "object", "description": "Anything goes.", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"spec": {"type": "object"}}, "x-kubernetes-embedded-resource": true});
    let schema = json!({"type": "object", "properties": {"spec": inner}});
    widgets.establish(&json!([version("v1", true, &schema)]))?;
    let spec = json!({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "t"}, "a": {"b": 1}});
    let told = takes_anything(ns, &widgets, &json!({"spec": spec}))?;
    ensure!(told.contains("Anything goes."), "{told}");
    ensure!(widgets.read("v1", "any")?["spec"]["a"] == json!({"b": 1}));
    let [_, v3] = published(&widgets, "v1")?;
    ensure!(v3["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"] == true, "{v3}");
    Ok(())
}

fn several(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let all = [("one", "Widget"), ("two", "Widget"), ("one", "Gadget")];
    let all = all.map(|(word, kind)| Definition::new(ns, &objects, word, kind));
    for definition in &all {
        definition.establish(&json!([version("v1", true, &schema())]))?;
    }
    all.iter().try_for_each(|definition| until_published(definition, "v1", true))
}

fn versions(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let widgets = Definition::new(ns, &objects, "versions", "Widget");
    let both = |second: &str| json!([version("v1", true, &schema()), version(second, false, &schema())]);
    widgets.establish(&both("v2"))?;
    until_published(&widgets, "v1", true)?;
    until_published(&widgets, "v2", true)?;
    let [before, _] = published(&widgets, "v1")?;
    widgets.at().merge(&json!({"spec": {"versions": both("v3")}}))?;
    until_published(&widgets, "v3", true)?;
    until_published(&widgets, "v2", false)?;
    let mut unserved = both("v3");
    unserved[1]["served"] = false.into();
    widgets.at().merge(&json!({"spec": {"versions": unserved}}))?;
    until_published(&widgets, "v3", false)?;
    let [after, _] = published(&widgets, "v1")?;
    ensure!(before == after, "the other version is as it was");
    Ok(())
}
