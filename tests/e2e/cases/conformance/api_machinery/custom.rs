//! Custom resources: definitions as objects, and what their schemas make of the objects that they define.

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::definition::{Definition, free, version};
use crate::cases::Run;
use crate::cases::conformance::Table;
use crate::harness::Namespace;
use crate::hooks::Hook;
use crate::objects::{CUSTOM_RESOURCE_DEFINITION, Objects, names, refusal};

pub const CASES: Table = &[
    (
        &[
            "[sig-api-machinery] CustomResourceDefinition Watch [Privileged:ClusterAdmin] CustomResourceDefinition Watch watch \
             on custom resource definition objects",
        ],
        Run::Simulated(watched),
    ),
    (
        &[
            "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition \
             creating/deleting custom resource definition objects works",
        ],
        Run::Simulated(comes_and_goes),
    ),
    (
        &[
            "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition \
             getting/updating/patching custom resource definition status sub-resource works",
        ],
        Run::Simulated(status),
    ),
    (
        &[
            "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition \
             listing custom resource definition objects works",
        ],
        Run::Simulated(listed),
    ),
    (
        &[
            "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] custom resource defaulting for \
             requests and from storage works",
        ],
        Run::Simulated(defaults),
    ),
    (
        &[
            "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert from CR v1 \
             to CR v2",
            "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert a non \
             homogeneous list of CRs",
        ],
        Run::Simulated(converts),
    ),
];

fn watched(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let widgets = Definition::new(ns, &objects, "watched", "Widget");
    let gadgets = Definition::new(ns, &objects, "watched", "Gadget");
    for definition in [&widgets, &gadgets] {
        definition.establish(&json!([version("v1", true, &free())]))?;
    }
    let watch = |definition: &Definition<'_>| {
        let version = &objects.get(&definition.path("v1"))?["metadata"]["resourceVersion"];
        let query = format!("watch=1&resourceVersion={}", version.as_str().unwrap_or_default());
        objects.follow(&definition.path("v1"), &query)
    };
    let (mut of_widgets, mut of_gadgets) = (watch(&widgets)?, watch(&gadgets)?);
    for (definition, events) in [(&widgets, &mut of_widgets), (&gadgets, &mut of_gadgets)] {
        definition.make("v1", "a", json!({"spec": {"n": 1}}))?;
        events.expect("ADDED", "a")?;
        let path = format!("{}/a", definition.path("v1"));
        let mut object = objects.get(&path)?;
        object["spec"]["n"] = 2.into();
        objects.request("PUT", &path, &object)?;
        ensure!(events.expect("MODIFIED", "a")?["spec"]["n"] == 2);
        objects.request("DELETE", &path, &Value::Null)?;
        events.expect("DELETED", "a")?;
    }
    Ok(())
}

fn comes_and_goes(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let widgets = Definition::new(ns, &objects, "simple", "Widget");
    let established = widgets.establish(&json!([version("v1", true, &free())]))?;
    ensure!(established["status"]["acceptedNames"]["listKind"] == "WidgetList", "{established}");
    widgets.make("v1", "a", json!({"anything": [1]}))?;
    ensure!(widgets.read("v1", "a")?["anything"] == json!([1]));
    let printed = ns.kubectl(&["get", &widgets.resource()])?;
    ensure!(printed.starts_with("NAME") && printed.contains("AGE"), "{printed}");
    widgets.at().delete(&Value::Null)?;
    widgets.at().gone()?;
    ensure!(refusal(widgets.read("v1", "a"))?.code == 404, "its objects went with it");
    let again = widgets.establish(&json!([version("v1", true, &free())]))?;
    ensure!(again["metadata"]["uid"] != established["metadata"]["uid"]);
    ensure!(objects.get(&widgets.path("v1"))?["items"] == json!([]), "nothing is left of the first");
    Ok(())
}

fn status(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let widgets = Definition::new(ns, &objects, "status", "Widget");
    widgets.establish(&json!([version("v1", true, &free())]))?;
    let status = widgets.at().sub("status");
    let has = |object: &Value, kind: &str| {
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .iter()
            .any(|condition| condition["type"] == kind && condition["message"] == "set by a case")
    };
    let add = |object: &mut Value, kind: &str| {
        let condition = json!({"type": kind, "status": "True", "message": "set by a case", "reason": "Set"});
        object["status"]["conditions"]
            .as_array_mut()
            .into_iter()
            .for_each(|list| list.push(condition.clone()));
    };
    let updated = status.update(|object| add(object, "StatusUpdate"))?;
    ensure!(has(&updated, "StatusUpdate") && has(&status.get()?, "StatusUpdate"), "{updated}");
    let mut next = updated.clone();
    add(&mut next, "StatusPatched");
    let patched = status.merge(&json!({"status": {"conditions": next["status"]["conditions"]}}))?;
    ensure!(has(&patched, "StatusPatched") && has(&widgets.at().get()?, "StatusPatched"), "{patched}");
    Ok(())
}

fn listed(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let words: Vec<String> = (0..10).map(|number| format!("list{number}")).collect();
    let all: Vec<_> = words.iter().map(|word| Definition::new(ns, &objects, word, "Widget")).collect();
    for (number, definition) in all.iter().enumerate() {
        let mut body = definition.body(&json!([version("v1", true, &free())]));
        // One of them is not like the others.
        body["metadata"]["labels"] = json!({"case": if number == 0 { "apart" } else { ns.name.as_str() }});
        definition.at().create(body)?;
        definition.established()?;
    }
    let query = format!("labelSelector=case={}", ns.name);
    let listed = objects.items(CUSTOM_RESOURCE_DEFINITION, &query)?;
    ensure!(listed.len() == 9, "{:?}", names(&listed));
    objects.delete_all(CUSTOM_RESOURCE_DEFINITION, &query)?;
    objects.until(CUSTOM_RESOURCE_DEFINITION, &query, "all are gone", <[Value]>::is_empty)?;
    all.first().map_or(Ok(()), |apart| apart.at().get().map(drop))
}

fn defaults(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let widgets = Definition::new(ns, &objects, "defaults", "Widget");
    let schema = |defaults: &Value| {
        let field = |name: &str| match &defaults[name] {
            Value::Null => json!({"type": "string"}),
            default => json!({"type": "string", "default": default}),
        };
        json!({"type": "object", "properties": {"a": field("a"), "b": field("b")}})
    };
    let versions = |defaults: &Value| json!([version("v1", true, &schema(defaults))]);
    widgets.establish(&versions(&json!({})))?;
    let change = |defaults: &Value| {
        let versions = versions(defaults);
        widgets.at().update(|definition| definition["spec"]["versions"] = versions.clone())
    };
    let until = |name: &str, a: &Value, b: &Value| {
        crate::harness::eventually("the defaults are applied", || {
            let read = widgets.read("v1", name)?;
            ensure!(read["a"] == *a && read["b"] == *b, "{read}");
            Ok(())
        })
    };
    widgets.make("v1", "early", json!({}))?;
    until("early", &Value::Null, &Value::Null)?;
    change(&json!({"a": "A"}))?;
    until("early", &"A".into(), &Value::Null)?;
    let made = widgets.make("v1", "late", json!({}))?;
    ensure!(made["a"] == "A", "{made}");
    change(&json!({"b": "B"}))?;
    until("late", &"A".into(), &"B".into())?;
    until("early", &Value::Null, &"B".into())
}

/// `hostPort` of version 1 is `host` and `port` of version 2.
fn convert(review: &Value) -> Value {
    let request = &review["request"];
    let wanted = request["desiredAPIVersion"].as_str().unwrap_or_default();
    let convert = |object: &Value| {
        let mut object = object.clone();
        let fields = match (object["hostPort"].as_str(), object["host"].as_str(), object["port"].as_str()) {
            (Some(both), ..) if wanted.ends_with("/v2") => {
                let (host, port) = both.split_once(':').unwrap_or_default();
                json!({"hostPort": null, "host": host, "port": port})
            }
            (_, Some(host), Some(port)) if wanted.ends_with("/v1") => {
                json!({"hostPort": format!("{host}:{port}"), "host": null, "port": null})
            }
            _ => json!({}),
        };
        object["apiVersion"] = wanted.into();
        for (name, value) in fields.as_object().into_iter().flatten() {
            object[name] = value.clone();
        }
        object
    };
    let converted: Vec<Value> = request["objects"].as_array().into_iter().flatten().map(convert).collect();
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": {
        "uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": converted}})
}

fn converts(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let hook = Hook::serve(ns, &objects, Arc::new(|_, _, review| Some((200, convert(review)))))?;
    let widgets = Definition::new(ns, &objects, "convert", "Widget");
    let schema = |fields: &[&str]| {
        let fields: serde_json::Map<String, Value> =
            fields.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
        json!({"type": "object", "properties": fields})
    };
    let versions = |stored: &str| {
        let fields = [("v1", &["hostPort"][..]), ("v2", &["host", "port"])];
        json!(fields.map(|(name, fields)| version(name, name == stored, &schema(fields))))
    };
    let mut body = widgets.body(&versions("v1"));
    body["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "clientConfig": hook.at("/convert"), "conversionReviewVersions": ["v1", "v1beta1"]}});
    widgets.at().create(body)?;
    widgets.established()?;
    let mut events = objects.follow(&widgets.path("v2"), "watch=1")?;
    widgets.make("v1", "one", json!({"hostPort": "localhost:8080"}))?;
    let read = widgets.read("v2", "one")?;
    ensure!(read["host"] == "localhost" && read["port"] == "8080" && read["hostPort"].is_null(), "{read}");
    ensure!(events.expect("ADDED", "one")?["port"] == "8080", "a watch sees the version it asks for");
    widgets.at().merge(&json!({"spec": {"versions": versions("v2")}}))?;
    widgets.make("v2", "two", json!({"host": "example", "port": "80"}))?;
    for (version, field, wanted) in
        [("v2", "port", ["8080", "80"]), ("v1", "hostPort", ["localhost:8080", "example:80"])]
    {
        let list = objects.get(&widgets.path(version))?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let found: Vec<&Value> = items.iter().map(|item| &item[field]).collect();
        ensure!(found == wanted, "{version}: {list}");
    }
    let path = format!("{}/one", widgets.path("v1"));
    let mut object = objects.get(&path)?;
    object["hostPort"] = "other:1".into();
    objects.request("PUT", &path, &object)?;
    ensure!(widgets.read("v2", "one")?["host"] == "other");
    Ok(())
}
