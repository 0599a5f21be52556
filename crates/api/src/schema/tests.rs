use super::*;

fn pod() -> &'static Arc<Resource> {
    builtin().get(&Gvr::new("", "v1", "pods")).unwrap()
}

fn field<'a>(resource: &'a Resource, path: &[&str]) -> &'a Field {
    let mut at = resource.root();
    let (last, parents) = path.split_last().unwrap();
    for key in parents {
        let mut ty = &at.field(key).unwrap().ty;
        if let Type::List(list) = ty {
            ty = &list.item;
        }
        let Type::Struct(id) = ty else { panic!("{key} is no struct") };
        at = resource.schema.get(*id);
    }
    at.field(last).unwrap()
}

#[test]
fn names_scope_and_verbs_are_known() {
    let pod = pod();
    assert_eq!(
        (pod.gvk.kind.as_ref(), pod.list_kind.as_ref(), pod.singular.as_ref()),
        ("Pod", "PodList", "pod")
    );
    assert!(pod.namespaced && pod.has_verb("watch") && pod.has_verb("deletecollection"));
    assert_eq!(pod.short_names[0].as_ref(), "po");
    let eviction = pod.subresource("eviction").unwrap();
    assert_eq!((eviction.gvk.to_string().as_str(), eviction.verbs.len()), ("policy/v1, Kind=Eviction", 1));
    let node = builtin().by_kind(&Gvk::new("", "v1", "Node")).unwrap();
    assert!(!node.namespaced);
}

#[test]
fn fields_carry_merge_keys_and_protobuf_places() {
    let env = field(pod(), &["spec", "containers", "env"]);
    assert_eq!(env.patch.merge_key.as_deref(), Some("name"));
    let Type::List(list) = &env.ty else { panic!("env is a list") };
    assert_eq!(list.kind, ListKind::Map(["name".into()].into()));
    let config_map = field(pod(), &["spec", "volumes", "configMap"]);
    assert_eq!(config_map.proto.as_ref().unwrap().path.as_ref(), [2, 19]);
    assert_eq!(field(pod(), &["spec", "nodeSelector"]).atomic, Some(true));
    assert_eq!(field(pod(), &["spec", "containers", "ports", "protocol"]).default, Some("TCP".into()));
}

#[test]
fn objects_are_stored_in_the_preferred_version() {
    let stored = |group, version, name| builtin().storage(&Gvr::new(group, version, name)).gvr.to_string();
    assert_eq!(
        stored("autoscaling", "v1", "horizontalpodautoscalers"),
        "autoscaling/v2 horizontalpodautoscalers"
    );
    assert_eq!(stored("events.k8s.io", "v1", "events"), "v1 events");
    assert_eq!(stored("resource.k8s.io", "v1beta1", "resourceslices"), "resource.k8s.io/v1 resourceslices");
}

#[test]
fn selectable_fields_have_zero_values() {
    let object = crate::json!({"spec": {"nodeName": "n1"}});
    let values = pod().selectable(&object);
    let at = |label: &str| {
        let place = pod().field_labels.iter().position(|l| l.as_ref() == label).unwrap();
        values[place].as_ref()
    };
    assert_eq!((at("spec.nodeName"), at("status.phase"), at("spec.hostNetwork")), ("n1", "", "false"));
}

#[test]
fn hand_written_names_are_of_resources_that_exist() {
    let names = names::Names::parse(table::NAMES).unwrap();
    let all: Vec<String> = builtin().iter().map(|r| r.gvr.group_resource()).collect();
    let strangers: Vec<&str> = names.described().filter(|name| !all.iter().any(|a| a == name)).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
    for resource in builtin().iter() {
        for path in &resource.field_paths {
            let first = path.split('.').next().unwrap();
            assert!(resource.root().field(first).is_some(), "{} has no {path}", resource.gvr);
        }
    }
}

#[test]
fn every_struct_is_at_its_own_index() {
    let catalog = builtin();
    for (at, record) in catalog.schema().structs.iter().enumerate() {
        assert_eq!(
            catalog.struct_id(&record.name),
            Some(StructId(u32::try_from(at).unwrap())),
            "{}",
            record.name
        );
    }
    assert!(catalog.schema().structs.len() > 700);
}

#[test]
fn versions_rank_as_kubernetes_ranks_them() {
    let mut versions = ["v1alpha1", "v2", "v1beta2", "foo1", "v1", "v10", "v1beta1", "v2alpha3"];
    versions.sort_by_key(|version| catalog::version_rank(version));
    assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1beta1", "v2alpha3", "v1alpha1", "foo1"]);
}

/// What the table holds, a line per group-version. `REWRITE=1` rewrites the file; its diff is the review.
#[test]
fn the_table_is_complete() {
    let mut text =
        String::from("# group-version: resources (subresources) kinds, and the names of the resources\n");
    let mut versions: Vec<(String, String)> = Vec::new();
    for resource in builtin().iter() {
        let pair = (resource.gvr.group.to_string(), resource.gvr.version.to_string());
        if !versions.contains(&pair) {
            versions.push(pair);
        }
    }
    for (group, version) in versions {
        let own = |r: &&Arc<Resource>| r.gvr.group == group && r.gvr.version == version;
        let resources: Vec<&Arc<Resource>> = builtin().iter().filter(own).collect();
        let subresources: usize = resources.iter().map(|r| r.subresources.len()).sum();
        let kinds =
            builtin().kinds().iter().filter(|(gvk, _)| gvk.group == group && gvk.version == version).count();
        let names: Vec<&str> = resources.iter().map(|r| r.gvr.resource.as_ref()).collect();
        let api_version = resources[0].gvr.api_version();
        text.push_str(&format!(
            "{api_version}: {} ({subresources}) {kinds}\n    {}\n",
            names.len(),
            names.join(" ")
        ));
    }
    let fields: usize = builtin().schema().structs.iter().map(|record| record.fields.len()).sum();
    text.push_str(&format!("types {}, fields {fields}\n", builtin().schema().structs.len()));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/summary.txt");
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), text, "set REWRITE=1 and review the diff");
}

#[test]
fn every_field_but_the_kind_has_its_place_in_protobuf() {
    // Neither is ever said in protobuf: the version, and metrics, whose durations are messages there.
    let said = |name: &str| ![".pkg.version.", ".metrics."].iter().any(|part| name.contains(part));
    for record in builtin().schema().structs.iter().filter(|r| said(&r.name)) {
        let lost = record.fields.iter().filter(|f| f.proto.is_none());
        let lost: Vec<&str> =
            lost.map(|f| f.name.as_ref()).filter(|name| !matches!(*name, "apiVersion" | "kind")).collect();
        assert!(lost.is_empty(), "{}: {lost:?}", record.name);
    }
}

#[test]
fn every_field_is_found_by_its_name_and_nothing_else_is() {
    for record in builtin().schema().structs.iter().chain([&record_of(&[])]) {
        for (place, field) in record.fields.iter().enumerate() {
            assert_eq!(
                record.fields.place(&field.name).map(|(found, _)| found),
                Some(place),
                "{}",
                record.name
            );
        }
        ["", "x", "noSuchField"].iter().for_each(|name| assert_eq!(record.field(name), None));
    }
    // Names that the hash cannot tell apart: the ends are the same.
    let names: Vec<String> = (0..100).map(|n| format!("samestart-{n:03}-same-ends")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let record = record_of(&names);
    names.iter().for_each(|name| assert_eq!(record.field(name).map(|f| &*f.name), Some(*name)));
    assert_eq!(record.field("samestart-100-same-ends"), None);
}

fn record_of(names: &[&str]) -> Struct {
    let any = field(pod(), &["metadata", "name"]);
    let fields: Vec<Field> = names.iter().map(|name| Field { name: (*name).into(), ..any.clone() }).collect();
    Struct { name: "test".into(), fields: fields.into(), atomic: false, preserve_unknown: false }
}
