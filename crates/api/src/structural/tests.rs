//! Golden scenarios. A block of `golden.txt` is a schema, an object, perhaps the object before it, and what becomes of it:
//! the object as it is kept, what was dropped, what is wrong. A block of `schemas.txt` is a schema and what is wrong with
//! it. `REWRITE=1` writes the present results into the files; review what changed.

use super::*;
use crate::field::Path;

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect(text)
}

fn lines(outcome: impl IntoIterator<Item = String>) -> String {
    outcome.into_iter().map(|line| format!("{line}\n")).collect()
}

fn kept(input: &str) -> String {
    let (schema, object) = input.split_once("given\n").expect("a block has an object");
    let (object, old) =
        object.split_once("before\n").map_or((object, None), |(new, old)| (new, Some(yaml(old))));
    let (node, mut object) = (Node::compile(&yaml(schema)), yaml(object));
    let unknown = prune(&node, &mut object).unwrap();
    fill(&node, &mut object);
    let once = object.clone();
    fill(&node, &mut object);
    assert_eq!(once, object, "filled twice");
    assert!(prune(&node, &mut object).unwrap().is_empty(), "pruned twice");
    assert_eq!(once, object);
    let errors = check(&node, &object, old.as_ref());
    let told = errors.iter().map(ToString::to_string);
    lines(std::iter::once(object.to_string()).chain(unknown).chain(told))
}

fn judged(schema: &str) -> String {
    let errors = judge(&Path::new("schema"), &yaml(schema));
    lines(if errors.is_empty() {
        vec!["valid".to_owned()]
    } else {
        errors.iter().map(ToString::to_string).collect()
    })
}

fn golden(file: &str, text: &str, actual: fn(&str) -> String) {
    let mut blessed = Vec::new();
    let mut wrong = Vec::new();
    for block in text.split("\n\n") {
        let (input, expected) = block.split_once("=>").expect("a block has =>");
        let actual = actual(input);
        if actual.trim() != expected.trim() {
            wrong.push(format!("{input}expected\n{expected}\nactual\n{actual}"));
        }
        blessed.push(format!("{input}=>\n{}", actual.trim()));
    }
    if std::env::var_os("REWRITE").is_some() {
        let path = format!("{}/src/structural/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, blessed.join("\n\n") + "\n").unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn objects_become_what_their_schemas_say() {
    golden("golden.txt", include_str!("golden.txt"), kept);
}

#[test]
fn schemas_are_judged_as_kubernetes_judges_them() {
    golden("schemas.txt", include_str!("schemas.txt"), judged);
}

#[test]
fn a_definition_has_a_resource_for_each_version() {
    let definition = yaml(
        r#"
        spec:
          group: stable.example.com
          scope: Namespaced
          names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
          versions:
          - name: v1
            served: true
            storage: true
            schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {
              ports: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [name],
                      items: {type: object, properties: {name: {type: string}}}}}}}}}
            subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
            additionalPrinterColumns: [{name: Replicas, type: integer, jsonPath: .spec.replicas}]
            selectableFields: [{jsonPath: .spec.color}]
          - {name: v1beta1, served: true, storage: false, deprecated: true, schema: {openAPIV3Schema: {type: object}}}
        "#,
    );
    let versions = versions(&definition, &|_| None);
    let [v1, beta] = versions.as_slice() else { panic!("two versions") };
    assert!(v1.storage && v1.served && !beta.storage);
    let resource = &v1.resource;
    assert_eq!(resource.gvk.to_string(), "stable.example.com/v1, Kind=CronTab");
    assert_eq!((&*resource.list_kind, &*resource.singular), ("CronTabList", "crontab"));
    assert_eq!(resource.subresources.iter().map(|s| &*s.name).collect::<Vec<_>>(), ["status", "scale"]);
    let columns = crate::table::columns(resource);
    assert_eq!(columns.iter().map(|c| &*c.name).collect::<Vec<_>>(), ["Name", "Replicas"]);
    assert_eq!(&*resource.field_paths, ["spec.color".into()]);
    let custom = beta.resource.custom.as_ref().unwrap();
    assert_eq!(custom.warning.as_deref(), Some("stable.example.com/v1beta1 CronTab is deprecated"));
    let columns = crate::table::columns(&beta.resource);
    assert_eq!(columns.iter().map(|c| &*c.name).collect::<Vec<_>>(), ["Name", "Age"]);
}
