//! Who a pod is, and how others come to certificates.

use anyhow::{Context, Result, ensure};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::Value;

use super::{Run, Table};
use crate::harness::{Namespace, eventually};

pub const AREA: &[Table] = &[CASES];

const CASES: Table = &[
    (
        &["[sig-auth] Certificates API [Privileged:ClusterAdmin] should support CSR API operations"],
        Run::Shared(requests),
    ),
    (
        &[
            "[sig-auth] ServiceAccounts should mount an API token into pods",
            "[sig-auth] ServiceAccounts should mount projected service account token",
        ],
        Run::Shared(tokens),
    ),
    (
        &[
            "[sig-auth] ServiceAccounts ServiceAccountIssuerDiscovery should support OIDC discovery of service account \
             issuer",
        ],
        Run::Shared(issuer),
    ),
    (
        &["[sig-auth] ServiceAccounts should allow opting out of API token automount"],
        Run::Simulated(opting_out),
    ),
    (
        &["[sig-auth] ServiceAccounts should guarantee kube-root-ca.crt exist in any namespace"],
        Run::Shared(root_certificate),
    ),
    (
        &["[sig-auth] ServiceAccounts should run through the lifecycle of a ServiceAccount"],
        Run::Shared(lifecycle),
    ),
];

/// A collection as the server tells it; kubectl's own lists have no revision.
fn listed(ns: &Namespace<'_>, collection: &str) -> Result<Value> {
    Ok(serde_json::from_str(&ns.kubectl(&["get", "--raw", collection])?)?)
}

/// The events since a list, as `TYPE name`.
fn events(ns: &Namespace<'_>, collection: &str, since: &Value) -> Result<Vec<String>> {
    let since = since["metadata"]["resourceVersion"].as_str().context("no revision")?;
    // What has happened already comes at once; a second is the least that can be asked for.
    let path = format!("{collection}?watch=true&timeoutSeconds=1&resourceVersion={since}");
    let events = ns.kubectl(&["get", "--raw", &path])?;
    let read = |line: &str| -> Result<String> {
        let event: Value = serde_json::from_str(line)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(format!("{} {}", text(&event["type"]), text(&event["object"]["metadata"]["name"])))
    };
    events.lines().map(read).collect()
}

/// A request for a certificate of somebody called `x`, in PEM and Base64.
const REQUEST: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIR01HNENBUUF3RERFS01BZ0dBMVVFQXd3QmVEQlpNQk1HQnlxR1NNNDlBZ0VHQ0NxR1NNNDlBd0VIQTBJQQpCSWVWU0p5SlVDRHMyMlhUQUhCVmp2V2VQQS9IdExOK05Va1RvNi92Zm94Q0FjQjkxekhTdDJaOWxvQXN1bXFMClhTdTRkS05aYTArOTZuaHV0TnY5M0F5Z0FEQUtCZ2dxaGtqT1BRUURBZ05JQURCRkFpQnFVRW1zY3dnRHFSZUgKVlFaem1lSktwK201cTBKTThOaGdTOVM1YUpuNytBSWhBT0J4Wjk3eXJXbmRIOEc2ZUUxUjJoUXBwL0d4Q0txagpsQVBKV0pKQjlrYksKLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg==";

fn discovered(ns: &Namespace<'_>) -> Result<()> {
    let ask =
        |path: &str| -> Result<Value> { Ok(serde_json::from_str(&ns.kubectl(&["get", "--raw", path])?)?) };
    let named = |list: &Value, key: &str, name: &str| {
        list.as_array().is_some_and(|list| list.iter().any(|item| item[key] == name))
    };
    ensure!(named(&ask("/apis")?["groups"], "name", "certificates.k8s.io"));
    ensure!(named(&ask("/apis/certificates.k8s.io")?["versions"], "version", "v1"));
    let resources = ask("/apis/certificates.k8s.io/v1")?;
    for part in ["", "/approval", "/status"] {
        let name = format!("certificatesigningrequests{part}");
        ensure!(named(&resources["resources"], "name", &name), "{name} is missing: {resources}");
    }
    Ok(())
}

fn requests(ns: &Namespace<'_>) -> Result<()> {
    discovered(ns)?;
    // The kind is the cluster's own: names and a label tell whose these are.
    let (collection, mine) =
        ("/apis/certificates.k8s.io/v1/certificatesigningrequests", format!("case={}", ns.name));
    let before = listed(ns, collection)?;
    let names = ["a", "b", "c"].map(|name| format!("{}-{name}", ns.name));
    for name in &names {
        ns.feed(&["create", "-f", "-"], &format!(
            "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}, labels: \
             {{case: {}}}}}\nspec: {{request: {REQUEST}, signerName: example.com/e2e, expirationSeconds: 3600, usages: \
             [digital signature, key encipherment, server auth]}}\n", ns.name,
        ))?;
    }
    let first = names.first().context("no name")?;
    let made = ns.get(&["csr", first])?;
    ensure!(made["spec"]["expirationSeconds"] == 3600 && !made["spec"]["username"].is_null(), "{made}");
    ensure!(ns.get(&["csr", "-l", &mine])?["items"].as_array().map(Vec::len) == Some(3));
    ns.kubectl(&[
        "patch",
        "csr",
        first,
        "--type=merge",
        "-p",
        r#"{"metadata":{"annotations":{"patched":"true"}}}"#,
    ])?;
    let mut changed = ns.get(&["csr", first])?;
    ensure!(changed["metadata"]["annotations"]["patched"] == "true", "{changed}");
    changed["metadata"]["annotations"]["updated"] = "true".into();
    ns.feed(&["replace", "-f", "-"], &changed.to_string())?;
    decided(ns, &format!("{collection}/{first}"))?;
    ns.kubectl(&["delete", "csr", first])?;
    ns.kubectl_fails(&["get", "csr", first])?;
    let rest = format!("{collection}?labelSelector={}", mine.replace('=', "%3D"));
    ns.kubectl(&["delete", "--raw", &rest])?;
    ensure!(ns.get(&["csr", "-l", &mine])?["items"].as_array().is_some_and(Vec::is_empty));
    let seen = events(ns, collection, &before)?;
    for event in [format!("ADDED {first}"), format!("MODIFIED {first}"), format!("DELETED {first}")] {
        ensure!(seen.contains(&event), "{event} is missing: {seen:?}");
    }
    Ok(())
}

/// Approval and status are written through paths of their own.
fn decided(ns: &Namespace<'_>, path: &str) -> Result<()> {
    let put = |part: &str, change: &dyn Fn(&mut Value)| -> Result<Value> {
        let mut tree: Value =
            serde_json::from_str(&ns.kubectl(&["get", "--raw", &format!("{path}/{part}")])?)?;
        change(&mut tree);
        let answer =
            ns.feed(&["replace", "--raw", &format!("{path}/{part}"), "-f", "-"], &tree.to_string())?;
        Ok(serde_json::from_str(&answer)?)
    };
    let condition =
        |kind: &str| serde_json::json!({"type": kind, "status": "True", "reason": "E2E", "message": "set"});
    let approved =
        put("approval", &|tree| tree["status"]["conditions"] = vec![condition("Approved")].into())?;
    ensure!(approved["status"]["conditions"][0]["type"] == "Approved", "{approved}");
    let told = put("status", &|tree| {
        let conditions = tree["status"]["conditions"].as_array().cloned().unwrap_or_default();
        tree["status"]["conditions"] = conditions.into_iter().chain([condition("StatusUpdate")]).collect();
    })?;
    ensure!(told["status"]["conditions"][1]["type"] == "StatusUpdate", "{told}");
    for part in ["approval", "status"] {
        let patch = serde_json::json!({"metadata": {"annotations": {"patched": part}}});
        let path = format!("{path}/{part}");
        let answer =
            super::cli::proxied(ns, "PATCH", &path, "application/merge-patch+json", &patch.to_string())?;
        ensure!(answer.contains(&format!(r#""patched":"{part}""#)), "{answer}");
    }
    Ok(())
}

fn tokens(ns: &Namespace<'_>) -> Result<()> {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  \
        - name: c\n    image: tiphys.local/hello:1\n    volumeMounts: [{name: own, mountPath: /own}]\n  volumes:\n  \
        - name: own\n    projected: {sources: [{serviceAccountToken: {path: token, audience: elsewhere, \
        expirationSeconds: 600}}]}\n";
    ns.apply(pod)?;
    ns.wait("condition=Ready", &["pod/p"])?;
    let read = |path: &str| ns.kubectl(&["exec", "p", "--", "cat", path]);
    let place = "/var/run/secrets/kubernetes.io/serviceaccount";
    ensure!(read(&format!("{place}/namespace"))? == ns.name);
    let root = ns.get(&["configmap", "kube-root-ca.crt"])?;
    ensure!(Some(read(&format!("{place}/ca.crt"))?.as_str()) == root["data"]["ca.crt"].as_str());
    let (token, own) = (read(&format!("{place}/token"))?, read("/own/token")?);
    let review = |token: &str, audiences: &[&str]| -> Result<Value> {
        let review = serde_json::json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": audiences}});
        Ok(serde_json::from_str(&ns.feed(&["create", "-o", "json", "-f", "-"], &review.to_string())?)?)
    };
    let user = format!("system:serviceaccount:{}:default", ns.name);
    for (token, audiences) in [(&token, [].as_slice()), (&own, &["elsewhere"])] {
        let answer = review(token, audiences)?;
        ensure!(
            answer["status"]["authenticated"] == true && answer["status"]["user"]["username"] == user,
            "{answer}"
        );
    }
    ensure!(
        review(&own, &[])?["status"]["authenticated"] != true,
        "a token is good only for its own audience"
    );
    Ok(())
}

/// Who trusts the issuer needs no more than its address to check a token.
fn issuer(ns: &Namespace<'_>) -> Result<()> {
    ns.hello(1)?;
    ns.rolled_out("deployment/hello")?;
    let path = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let token = ns.kubectl(&["exec", "deployment/hello", "--", "cat", path])?;
    let account = format!("system:serviceaccount:{}:default", ns.name);
    let ask = |path: &str| -> Result<Value> {
        let (user, group) = (format!("--as={account}"), "--as-group=system:serviceaccounts");
        Ok(serde_json::from_str(&ns.kubectl(&["get", &user, group, "--raw", path])?)?)
    };
    let document = ask("/.well-known/openid-configuration")?;
    let issuer = document["issuer"].as_str().context("no issuer")?;
    let place: http::Uri = document["jwks_uri"].as_str().context("no place of the keys")?.parse()?;
    let keys: JwkSet = serde_json::from_value(ask(place.path())?)?;
    let header = jsonwebtoken::decode_header(&token)?;
    let id = header.kid.context("the token names no key")?;
    let key = DecodingKey::from_jwk(keys.find(&id).context("the token's key is not told")?)?;
    let mut expected = Validation::new(header.alg);
    expected.set_issuer(&[issuer]);
    expected.set_audience(&[issuer]);
    let claims = jsonwebtoken::decode::<Value>(&token, &key, &expected)?.claims;
    ensure!(claims["sub"] == account, "{claims}");
    Ok(())
}

fn opting_out(ns: &Namespace<'_>) -> Result<()> {
    let switches = [
        ("unset", ""),
        ("wants", "automountServiceAccountToken: true"),
        ("declines", "automountServiceAccountToken: false"),
    ];
    let mut manifests = String::new();
    for (account, says) in switches {
        manifests +=
            &format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {account}}}\n{says}\n---\n");
    }
    ns.apply(&manifests)?;
    let mut pods = String::new();
    for (account, _) in switches {
        for (pod, says) in switches {
            pods += &format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}-{account}}}\nspec:\n  serviceAccountName: {account}\n  \
                 containers: [{{name: c, image: i}}]\n{}---\n",
                if says.is_empty() { String::new() } else { format!("  {says}\n") }
            );
        }
    }
    ns.apply(&pods)?;
    for (account, _) in switches {
        for (pod, _) in switches {
            let found = ns.get(&["pod", &format!("{pod}-{account}")])?;
            let mounts =
                found["spec"]["containers"][0]["volumeMounts"].as_array().cloned().unwrap_or_default();
            let mounted =
                mounts.iter().any(|m| m["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount");
            // What the pod says goes before what its account says.
            let expected = pod == "wants" || (pod == "unset" && account != "declines");
            ensure!(mounted == expected, "{pod}-{account}: {found}");
        }
    }
    Ok(())
}

fn root_certificate(ns: &Namespace<'_>) -> Result<()> {
    let map = || ns.get(&["configmap", "kube-root-ca.crt"]);
    let certificate =
        |map: &Value| map["data"]["ca.crt"].as_str().map(str::to_owned).context("no certificate");
    let made = eventually("the root certificate", map)?;
    let original = certificate(&made)?;
    ensure!(original.starts_with("-----BEGIN CERTIFICATE-----"), "{original}");
    ns.kubectl(&["delete", "configmap", "kube-root-ca.crt"])?;
    let again = eventually("the root certificate again", map)?;
    ensure!(certificate(&again)? == original && again["metadata"]["uid"] != made["metadata"]["uid"]);
    ns.kubectl(&[
        "patch",
        "configmap",
        "kube-root-ca.crt",
        "--type=merge",
        "-p",
        r#"{"data":{"ca.crt":"other"}}"#,
    ])?;
    eventually("the root certificate as it was", || {
        ensure!(certificate(&map()?)? == original);
        Ok(())
    })
}

fn lifecycle(ns: &Namespace<'_>) -> Result<()> {
    let collection = format!("/api/v1/namespaces/{}/serviceaccounts", ns.name);
    let before = listed(ns, &collection)?;
    let account =
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: testaccount, labels: {static: 'true'}}\n";
    ns.feed(&["create", "-f", "-"], account)?;
    let patch = r#"{"automountServiceAccountToken":false}"#;
    let patched = ns.kubectl(&["patch", "serviceaccount", "testaccount", "-p", patch, "-o", "json"])?;
    let off = |account: &Value| account["automountServiceAccountToken"] == false;
    ensure!(off(&serde_json::from_str(&patched)?), "{patched}");
    let listed = ns.get(&["serviceaccounts", "-l", "static=true"])?;
    let one = listed["items"].as_array().filter(|items| items.len() == 1).context("not just one")?;
    ensure!(one.iter().all(off), "{listed}");
    ns.kubectl(&["delete", "serviceaccounts", "-l", "static=true"])?;
    let seen = events(ns, &collection, &before)?;
    let own: Vec<&str> = seen.iter().filter_map(|event| event.strip_suffix(" testaccount")).collect();
    ensure!(own == ["ADDED", "MODIFIED", "DELETED"], "{seen:?}");
    Ok(())
}
