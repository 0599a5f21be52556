//! What is wrong with a policy's expressions if objects are of the kinds that it is about.
//!
//! A policy is compiled for objects of any kind, so `object.replicas` for `object.spec.replicas` fails only at the first
//! request. Here each expression is checked once more for every kind that the policy names. Rules with wildcards name
//! none, subresources are left out, and so is what comes after the first ten kinds of a rule, as in Kubernetes
//! (ValidatingAdmissionPolicy, "Type checking"). Unlike there, parameters of an unknown kind may be anything.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use k8s_openapi::api::admissionregistration::v1::{
    ExpressionWarning, NamedRuleWithOperations, ValidatingAdmissionPolicySpec,
};
use tiphys_api::schema::builtin;
use tiphys_api::{Gvk, Gvr, Value, json};
use tiphys_cel::types::{self, openapi};
use tiphys_cel::{Decl, Env, Program, Type};

/// Most kinds that are looked at.
const KINDS_MAX: usize = 10;

/// What is known of kinds.
pub trait Kinds {
    /// The kind that a resource has.
    fn of_resource(&self, resource: &Gvr) -> Option<Gvk>;
    /// The type of a kind's objects.
    fn object(&self, kind: &Gvk) -> Option<Decl>;
}

/// Warnings about all expressions of a policy.
pub fn warnings(spec: &ValidatingAdmissionPolicySpec, kinds: &dyn Kinds) -> Vec<ExpressionWarning> {
    let environments = environments(spec, kinds);
    let mut warnings = Vec::new();
    for (at, validation) in spec.validations.iter().flatten().enumerate() {
        let message = validation.message_expression.as_deref().filter(|text| !text.is_empty());
        let expressions = [("expression", Some(&*validation.expression)), ("messageExpression", message)];
        for (name, text) in expressions.into_iter().filter_map(|(name, text)| Some((name, text?))) {
            let wrong: Vec<String> =
                environments.iter().filter_map(|(kind, env)| complaint(kind, text, env)).collect();
            if !wrong.is_empty() {
                let field_ref = format!("spec.validations[{at}].{name}");
                warnings.push(ExpressionWarning { field_ref, warning: wrong.join("\n") });
            }
        }
    }
    warnings
}

/// What is wrong with an expression for a kind, as Kubernetes writes it.
fn complaint(kind: &Gvk, text: &str, env: &Env) -> Option<String> {
    let error = Program::compile(text, env).err()?;
    Some(format!("{}/{}, Kind={}: {error}\n", kind.group, kind.version, kind.kind))
}

/// The kinds that a policy is about, and what its expressions read with each of them.
fn environments(spec: &ValidatingAdmissionPolicySpec, kinds: &dyn Kinds) -> Vec<(Gvk, Env)> {
    let param = spec.param_kind.as_ref().map(|param| {
        let (version, kind) = (param.api_version.as_deref(), param.kind.as_deref());
        let kind = Gvk::from_api_version(version.unwrap_or_default(), kind.unwrap_or_default());
        // One that is not known may be anything.
        kinds.object(&kind).unwrap_or_else(|| Type::Dyn.into())
    });
    let about = about(spec, kinds).into_iter().filter_map(|kind| Some((kinds.object(&kind)?, kind)));
    about.map(|(object, kind)| (kind, environment(spec, &object, param.clone()))).collect()
}

fn environment(spec: &ValidatingAdmissionPolicySpec, object: &Decl, param: Option<Decl>) -> Env {
    let mut env = Env::new()
        .with("object", object.clone())
        .with("oldObject", object.clone())
        .with("request", REQUEST.clone())
        .with(
            "namespaceObject",
            built_in(&Gvk::new("", "v1", "Namespace")).unwrap_or_else(|| Type::Dyn.into()),
        )
        .with_authorizer();
    if let Some(param) = param {
        env = env.with("params", param);
    }
    for variable in spec.variables.iter().flatten() {
        let program = Program::compile(&variable.expression, &env);
        let ty = program.map_or(Type::Dyn, |program| program.result().clone());
        env = env.with(&format!("variables.{}", variable.name), ty);
    }
    env
}

/// The kinds that a policy's rules name, in order. A rule that names ten ends the search.
fn about(spec: &ValidatingAdmissionPolicySpec, kinds: &dyn Kinds) -> BTreeSet<Gvk> {
    let constraints = spec.match_constraints.iter();
    let mut found = BTreeSet::new();
    for rule in constraints.flat_map(|constraints| constraints.resource_rules.iter().flatten()) {
        let known: Vec<Gvk> =
            named(rule).iter().filter_map(|gvr| kinds.of_resource(gvr)).take(KINDS_MAX).collect();
        let full = known.len() == KINDS_MAX;
        found.extend(known);
        if full {
            break;
        }
    }
    found
}

/// The resources that a rule names; none where it has wildcards.
fn named(rule: &NamedRuleWithOperations) -> Vec<Gvr> {
    let sorted =
        |names: &Option<Vec<String>>| -> BTreeSet<String> { names.iter().flatten().cloned().collect() };
    let (groups, versions) = (sorted(&rule.api_groups), sorted(&rule.api_versions));
    if groups.iter().chain(&versions).any(|name| name.contains('*')) {
        return Vec::new();
    }
    let resources = sorted(&rule.resources).into_iter().filter(|name| !name.contains(['*', '/']));
    let resources: Vec<String> = resources.collect();
    let mut found = Vec::new();
    for group in &groups {
        for version in &versions {
            found.extend(resources.iter().map(|resource| Gvr::owned(group, version, resource)));
        }
    }
    found
}

/// The type of a built-in kind's objects.
pub fn built_in(kind: &Gvk) -> Option<Decl> {
    let resource = builtin().by_kind(kind)?;
    Some(types::builtin::object(resource).into())
}

/// The type of a custom kind's objects, by the schema of their version. All of their metadata is typed, although a rule of
/// the schema's own would see only two fields of it.
pub fn custom(schema: &Value) -> Decl {
    let Some(mut decl) = openapi::decl(schema, true) else { return Type::Dyn.into() };
    let metadata = builtin().struct_id("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    if let (Type::Object(object), Some(id)) = (&mut decl.ty, metadata)
        && let Some(field) = Arc::make_mut(object).fields.get_mut("metadata")
    {
        field.decl = Type::Struct(types::Struct { schema: builtin().schema().clone(), id }).into();
    }
    decl
}

/// `request`: an AdmissionRequest without the objects.
static REQUEST: LazyLock<Decl> = LazyLock::new(|| {
    let text = || json!({"type": "string"});
    let list = |items: Value| json!({"type": "array", "items": items});
    let name_of = |what: &str| {
        let mut name = json!({"type": "object", "properties": {"group": text(), "version": text()}});
        name["properties"][what] = text();
        name
    };
    let user = json!({"type": "object", "properties": {
        "username": text(), "uid": text(), "groups": list(text()),
        "extra": {"type": "object", "additionalProperties": list(text())},
    }});
    let request = json!({"type": "object", "properties": {
        "kind": name_of("kind"), "resource": name_of("resource"), "subResource": text(),
        "requestKind": name_of("kind"), "requestResource": name_of("resource"), "requestSubResource": text(),
        "name": text(), "namespace": text(), "operation": text(), "userInfo": user,
        "dryRun": {"type": "boolean"}, "options": {"x-kubernetes-int-or-string": true},
    }});
    openapi::decl(&request, false).unwrap_or_else(|| Type::Dyn.into())
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::typed;

    /// The built-in kinds, and Widgets.
    struct Known;

    const WIDGET: fn() -> Gvk = || Gvk::new("example.com", "v1", "Widget");

    impl Kinds for Known {
        fn of_resource(&self, resource: &Gvr) -> Option<Gvk> {
            let known = builtin().get(resource).map(|known| known.gvk.clone());
            known.or_else(|| (*resource.resource == *"widgets").then(WIDGET))
        }

        fn object(&self, kind: &Gvk) -> Option<Decl> {
            let size = json!({"type": "object", "properties": {"size": {"type": "integer"}}});
            let schema = json!({"type": "object", "properties": {"spec": size}});
            built_in(kind).or_else(|| (*kind == WIDGET()).then(|| custom(&schema)))
        }
    }

    fn rule(group: &str, version: &str, resources: &[&str]) -> Value {
        json!({"apiGroups": [group], "apiVersions": [version], "operations": ["*"], "resources": resources})
    }

    fn told(rules: &[Value], more: &Value, expressions: &[&str]) -> Vec<String> {
        let validations: Vec<_> = expressions.iter().map(|text| json!({"expression": text})).collect();
        let mut spec = json!({"matchConstraints": {"resourceRules": rules}, "validations": validations});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let told = |warning: ExpressionWarning| format!("{}: {}", warning.field_ref, warning.warning);
        warnings(&typed(spec), &Known).into_iter().map(told).collect()
    }

    #[test]
    fn a_field_that_a_kind_does_not_have_is_told() {
        let rules = [rule("apps", "v1", &["replicasets", "deployments", "deployments/scale"])];
        assert_eq!(
            told(&rules, &json!({}), &["object.spec.replicas > 1", "object.replicas > 1"]),
            ["spec.validations[1].expression: \
              apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n | object.replicas > 1\n | ......^\n\n\
              apps/v1, Kind=ReplicaSet: ERROR: <input>:1:7: undefined field 'replicas'\n | object.replicas > 1\n | ......^\n"]
        );
        let validation = json!({"expression": "true", "messageExpression": "object.spec.replicas + 'x'"});
        let told = told(&[rule("apps", "v1", &["deployments"])], &json!({"validations": [validation]}), &[]);
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with("spec.validations[0].messageExpression: apps/v1, Kind=Deployment: ERROR:")
                && told[0].contains("no matching overload for '_+_' applied to '(int, string)'"),
            "{told:?}"
        );
    }

    #[test]
    fn what_fits_is_not_complained_about() {
        let fine = [
            "oldObject == null || object.spec.nodeName == oldObject.spec.nodeName",
            "object.metadata.labels['a'] == 'b' && object.metadata.?annotations['c'].orValue('') == ''",
            "object.spec.containers.all(c, !has(c.resources.limits) || quantity(c.resources.limits['cpu']).isLessThan(quantity('2')))",
            "object.spec.containers.all(c, c.ports.all(p, p.containerPort > 1024))",
            "request.userInfo.groups.exists(g, g == 'x') && request.operation in ['CREATE', 'UPDATE']",
            "has(namespaceObject.metadata.labels) && namespaceObject.status.phase == 'Active'",
            "authorizer.group('').resource('pods').check('get').allowed()",
            "authorizer.requestResource.check('custom').allowed()",
            "request.options.anything",
        ];
        assert_eq!(told(&[rule("", "v1", &["pods"])], &json!({}), &fine), [""; 0]);
    }

    #[test]
    fn variables_and_parameters_have_types() {
        let more = json!({
            "paramKind": {"apiVersion": "example.com/v1", "kind": "Widget"},
            "variables": [
                {"name": "size", "expression": "params.spec.size"},
                {"name": "wrong", "expression": "params.spec.sise"},
            ],
        });
        let expressions = [
            "variables.size > 1 && params.metadata.labels['a'] == 'b'",
            "variables.size == 'large'",
            "variables.wrong == 'large'",
            "object.spec.size == variables.size",
        ];
        let told = told(&[rule("example.com", "v1", &["widgets"])], &more, &expressions);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("spec.validations[1].expression: example.com/v1, Kind=Widget: ERROR: "));
        let unknown = json!({"paramKind": {"apiVersion": "example.com/v1", "kind": "Gone"}});
        assert_eq!(super::tests::told(&[rule("", "v1", &["pods"])], &unknown, &["params.x == 1"]), [""; 0]);
    }

    #[test]
    fn kinds_are_those_that_rules_name_without_wildcards() {
        let wrong = ["object.nothing"];
        for none in
            [rule("*", "v1", &["pods"]), rule("", "*", &["pods"]), rule("", "v1", &["*", "pods/*", "gone"])]
        {
            assert_eq!(told(&[none], &json!({}), &wrong), [""; 0]);
        }
        let apps = rule("apps", "v1", &["deployments", "daemonsets", "replicasets"]);
        let eight =
            ["pods", "nodes", "services", "secrets", "configmaps", "events", "endpoints", "namespaces"];
        let kinds = |core: &[&str]| {
            let told = told(&[rule("", "v1", core), apps.clone(), apps.clone()], &json!({}), &wrong);
            told[0].matches("undefined field 'nothing'").count()
        };
        assert_eq!(kinds(&eight), 11);
        let eleven = [&eight[..], &["serviceaccounts", "limitranges", "resourcequotas"]].concat();
        assert_eq!(kinds(&eleven), KINDS_MAX);
    }
}
