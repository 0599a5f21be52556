//! Admission policies in CEL: what they refuse and what they change.

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::definition::{Definition, version};
use super::webhooks::rule;
use crate::cases::Run;
use crate::cases::conformance::Table;
use crate::harness::{Namespace, eventually};
use crate::objects::{CONFIG_MAP, Kind, Objects, POD};

pub const CASES: Table = &[
    (&["policies-in-cel-refuse-and-warn"], Run::Simulated(refuse_and_warn)),
    (&["policies-in-cel-tell-what-does-not-fit"], Run::Simulated(check_types)),
    (&["policies-in-cel-change-objects"], Run::Simulated(change)),
];

const VALIDATING: Kind = kind("ValidatingAdmissionPolicy", "validatingadmissionpolicies");
const VALIDATING_BINDING: Kind =
    kind("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings");
const MUTATING: Kind = kind("MutatingAdmissionPolicy", "mutatingadmissionpolicies");
const MUTATING_BINDING: Kind = kind("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings");

const fn kind(kind: &'static str, plural: &'static str) -> Kind {
    Kind::new("admissionregistration.k8s.io/v1", kind, plural).cluster()
}

fn refuse_and_warn(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let policy = objects.at(VALIDATING, &ns.name);
    let own = json!({"matchLabels": {"kubernetes.io/metadata.name": ns.name}});
    policy.create(json!({"spec": {
        "matchConstraints": {"resourceRules": [rule(&["CREATE"], "", "configmaps")], "namespaceSelector": own},
        "variables": [{"name": "size", "expression": "size(object.data)"}],
        "validations": [
            {"expression": "variables.size < 3", "messageExpression": "'holds ' + string(variables.size)"},
            {"expression": "authorizer.requestResource.check('delete').allowed()", "message": "jane cannot clean up"},
        ],
    }}))?;
    let binding = objects.at(VALIDATING_BINDING, &ns.name);
    binding.create(json!({"spec": {"policyName": ns.name, "validationActions": ["Deny"]}}))?;
    let three = ["--from-literal=a=1", "--from-literal=b=2", "--from-literal=c=3"];
    let create = |name: &'static str| [&["create", "configmap", name], &three[..]].concat();
    let told = ns.kubectl_fails(&create("denied"))?;
    ensure!(told.contains("denied request: holds 3"), "{told}");
    ns.kubectl(&["create", "configmap", "small", "--from-literal=a=1"])?;
    ns.kubectl(&["create", "role", "maker", "--verb=create", "--resource=configmaps"])?;
    ns.kubectl(&["create", "rolebinding", "maker", "--role=maker", "--user=jane"])?;
    let told = ns.kubectl_fails(&["create", "configmap", "hers", "--from-literal=a=1", "--as=jane"])?;
    ensure!(told.contains("denied request: jane cannot clean up"), "{told}");
    binding.update(|binding| binding["spec"]["validationActions"] = json!(["Warn"]))?;
    let output = ns.kubectl_command().args(create("warned")).output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() && told.contains("Warning: Validation failed"), "{told}");
    binding.delete(&Value::Null)?;
    policy.delete(&Value::Null).map(drop)
}

/// As the documentation of type checking shows it, and for a custom resource.
fn check_types(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let widgets = Definition::new(ns, &objects, "parts", "Widget");
    widgets.establish(&json!([version("v1", true, &parts())]))?;
    let policy = objects.at(VALIDATING, &ns.name);
    let rule = |group: &str, resource: &str| json!({"operations": ["*"], "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource]});
    let rules = json!([rule("apps", "deployments"), rule(&widgets.group, "widgets")]);
    let validations =
        json!([{"expression": "object.replicas > 1"}, {"expression": "object.metadata.name != ''"}]);
    let spec = |validations: &Value| json!({"matchConstraints": {"resourceRules": rules}, "validations": validations});
    policy.create(json!({"spec": spec(&validations)}))?;
    let told = |generation: i64| {
        eventually("the policy is checked", || {
            let status = policy.get()?["status"].clone();
            ensure!(status["observedGeneration"] == generation, "{status}");
            Ok(status["typeChecking"].clone())
        })
    };
    let complaint = |kind: &str| {
        format!(
            "{kind}: ERROR: <input>:1:7: undefined field 'replicas'\n | object.replicas > 1\n | ......^\n"
        )
    };
    let both =
        [complaint("apps/v1, Kind=Deployment"), complaint(&format!("{}/v1, Kind=Widget", widgets.group))];
    let wanted = json!({"expressionWarnings": [{"fieldRef": "spec.validations[0].expression", "warning": both.join("\n")}]});
    let found = told(1)?;
    ensure!(found == wanted, "{found}");
    policy.update(|policy| {
        policy["spec"]["validations"] = json!([{"expression": "object.metadata.name != ''"}])
    })?;
    let found = told(2)?;
    ensure!(found == json!({}), "{found}");
    policy.delete(&Value::Null).map(drop)
}

/// A policy and its binding about one case's namespace, as a user writes them.
const CHANGES: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: NAME}
spec:
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAME}}
    resourceRules:
    - {operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}
    - {operations: [CREATE, UPDATE], apiGroups: [GROUP], apiVersions: [v1], resources: [widgets]}
  failurePolicy: Fail
  reinvocationPolicy: IfNeeded
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConditions:
  - {name: not-yet, expression: "!has(object.metadata.labels) || !('mesh' in object.metadata.labels)"}
  variables:
  - {name: mesh, expression: "params.data.mesh"}
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >
        object.kind == "Pod"
        ? Object{spec: Object.spec{initContainers: [Object.spec.initContainers{
            name: "proxy", image: params.data.image, restartPolicy: "Always"}]}}
        : Object{spec: Object.spec{parts: [Object.spec.parts{name: "b", size: 2}]}}
  - patchType: JSONPatch
    jsonPatch:
      expression: >
        [JSONPatch{op: "add", path: "/metadata/labels", value: {}},
         JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("mesh"), value: variables.mesh}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: NAME}
spec:
  policyName: NAME
  paramRef: {name: mesh, namespace: NAME, parameterNotFoundAction: Deny}
"#;

/// A custom resource with a list by names, and one that is replaced as a whole.
fn parts() -> Value {
    let part = json!({"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string"}, "size": {"type": "integer"}, "form": {"type": "string", "default": "round"}}});
    let list = json!({"type": "array", "items": part, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]});
    let spec = json!({"type": "object", "properties": {"parts": list}});
    json!({"type": "object", "properties": {"spec": spec}})
}

fn change(ns: &Namespace<'_>) -> Result<()> {
    let objects = Objects::of(ns)?;
    let widgets = Definition::new(ns, &objects, "parts", "Widget");
    widgets.establish(&json!([version("v1", true, &parts())]))?;
    ns.kubectl(&[
        "create",
        "configmap",
        "mesh",
        "--from-literal=mesh=blue",
        "--from-literal=image=proxy:v1",
    ])?;
    let manifest = CHANGES.replace("NAME", &ns.name).replace("GROUP", &widgets.group);
    let wrong = manifest.replace("JSONPatch{op", "JSONPatches{op");
    let Err(told) = ns.feed(&["apply", "-f", "-"], &wrong) else {
        bail!("a policy of unknown types was taken")
    };
    ensure!(format!("{told:?}").contains("undeclared reference to 'JSONPatches'"), "{told:?}");
    ns.apply(&manifest)?;
    let outcome = changed(ns, &objects, &widgets);
    objects.at(MUTATING_BINDING, &ns.name).delete(&Value::Null)?;
    objects.at(MUTATING, &ns.name).delete(&Value::Null)?;
    outcome
}

fn changed(ns: &Namespace<'_>, objects: &Objects, widgets: &Definition<'_>) -> Result<()> {
    ns.kubectl(&["run", "one", "--image=a:v1", "--restart=Never"])?;
    let pod = objects.at(POD, "one").get()?;
    ensure!(pod["metadata"]["labels"] == json!({"mesh": "blue"}), "{pod}");
    let proxy = &pod["spec"]["initContainers"][0];
    ensure!(proxy["name"] == "proxy" && proxy["imagePullPolicy"] == "IfNotPresent", "{pod}");
    let given = json!({"spec": {"parts": [{"name": "a", "size": 1}, {"name": "b", "form": "flat"}]}});
    let widget = widgets.make("v1", "w", given)?;
    let parts = json!([{"name": "a", "size": 1, "form": "round"}, {"name": "b", "size": 2, "form": "flat"}]);
    ensure!(widget["spec"]["parts"] == parts && widget["metadata"]["labels"]["mesh"] == "blue", "{widget}");
    // Without its parameter the policy cannot be asked.
    objects.at(CONFIG_MAP, "mesh").delete(&Value::Null)?;
    let told = ns.kubectl_fails(&["run", "two", "--image=a:v1", "--restart=Never"])?;
    let why = format!(
        "policy '{0}' with binding '{0}' denied request: failed to configure binding: no params found",
        ns.name
    );
    ensure!(told.contains(&why), "{told}");
    Ok(())
}
