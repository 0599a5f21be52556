//! Replication controllers, events and namespaces: rules of one or two fields each.

use super::{At, Fields, judge, list, object, pods, text};
use crate::field::{Error, Errors};
use crate::validate::kinds::here::Here;
use crate::validate::{meta, names};
use crate::{Text, Value};

/// A selector that selects the pods of the template, which never end.
pub(super) fn replication_controller(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    let here = &mut Here::new(at, spec, errors);
    let selector = here.object("selector");
    if selector.is_none_or(Fields::is_empty) {
        here.required("selector", "");
    }
    let Some(template) = here.object("template") else {
        here.required("template", "");
        return;
    };
    let labels = here.object("template.metadata.labels");
    let chosen = |(key, value): (&Text, &Value)| labels.and_then(|labels| labels.get(key)) == Some(value);
    if !selector.into_iter().flatten().all(chosen) {
        let why = "`selector` does not match template `labels`";
        here.invalid("template.metadata.labels", why);
    }
    if here.get("template.spec.restartPolicy").is_some_and(|policy| policy != "Always") {
        here.unsupported("template.spec.restartPolicy", &["Always"]);
    }
    if here.has("template.spec.activeDeadlineSeconds") {
        let why = "activeDeadlineSeconds in ReplicationController is not Supported";
        here.forbidden("template.spec.activeDeadlineSeconds", why);
    }
    if let Some(pod) = object(template, "spec") {
        pods::mounts_exist(&at.child("template").child("spec"), pod, &[], here.errors);
    }
}

/// The finalizers of a namespace are known or qualified.
pub(super) fn namespace(at: &At<'_>, spec: &Fields, errors: &mut Errors) {
    for name in list(spec, "finalizers").iter().filter_map(crate::Value::as_str) {
        let path = || at.path().child("finalizers");
        meta::finalizer(name, &path, &path, errors);
    }
}

/// An event happened to something in its own namespace; one in the new form says all that belongs to it.
pub(super) fn event(at: &At<'_>, event: &Fields, errors: &mut Errors) {
    let namespace = object(event, "metadata").map_or("", |metadata| text(metadata, "namespace"));
    let involved = object(event, "involvedObject").map_or("", |object| text(object, "namespace"));
    let new = event.contains_key("eventTime");
    let apart = match involved {
        "" if new => !matches!(namespace, "default" | "kube-system"),
        "" => !matches!(namespace, "" | "default"),
        involved => !new && involved != namespace,
    };
    if apart {
        let path = at.path().child("involvedObject").child("namespace");
        errors.push(Error::invalid(&path, involved, "does not match event.namespace"));
    }
    if !new {
        return;
    }
    let controller = text(event, "reportingComponent");
    if controller.is_empty() {
        errors.push(Error::required(&at.path().child("reportingComponent"), ""));
    }
    judge(names::qualified_name(controller), controller, errors, || at.path().child("reportingComponent"));
    for name in ["reportingInstance", "action", "reason"] {
        match text(event, name).len() {
            0 => errors.push(Error::required(&at.path().child(name), "")),
            1..=128 => {}
            _ => errors.push(Error::invalid(&at.path().child(name), "", "can have at most 128 characters")),
        }
    }
    if text(event, "message").len() > 1024 {
        let path = at.path().child("message");
        errors.push(Error::invalid(&path, "", "can have at most 1024 characters"));
    }
}
