//! Probes that need a server of their own kind: gRPC health checks against the hello image's own.

use anyhow::{Result, ensure};

use super::{Run, Table};
use crate::harness::{Namespace, eventually};

pub const CASES: Table = &[
    ("grpc-probes-make-ready", Run::Shared(grpc_ready)),
    ("grpc-probes-restart-what-does-not-serve", Run::Shared(grpc_failing)),
];

/// A pod that is asked by gRPC for a service; without one, for the server as a whole.
fn pod(name: &str, service: Option<&str>) -> String {
    let service = service.map(|service| format!(", service: {service}")).unwrap_or_default();
    let probe = format!("{{grpc: {{port: 9090{service}}}, periodSeconds: 1, failureThreshold: 2}}");
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  \
         - name: c\n    image: tiphys.local/hello:1\n    args: ['--grpc-port=9090']\n    readinessProbe: {probe}\n    \
         livenessProbe: {probe}\n"
    )
}

fn grpc_ready(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(&pod("whole", None))?;
    ns.apply(&pod("named", Some("hello")))?;
    ns.wait("condition=Ready", &["pod/whole", "pod/named"])?;
    // Both probes have asked, each its own service.
    for (name, line) in [("whole", r#"Check """#), ("named", r#"Check "hello""#)] {
        let asked = || -> Result<()> {
            let log = ns.kubectl(&["logs", name])?;
            ensure!(log.lines().filter(|l| *l == line).count() > 3, "{log}");
            Ok(())
        };
        eventually("the probes go on", asked)?;
        let pod = ns.get(&["pod", name])?;
        ensure!(pod["status"]["containerStatuses"][0]["restartCount"] == 0, "{}", pod["status"]);
    }
    Ok(())
}

fn grpc_failing(ns: &Namespace<'_>) -> Result<()> {
    let unknown = "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service";
    let refused = r#"service unhealthy (responded with "NOT_SERVING")"#;
    let cases = [("closed", refused), ("nobody", unknown)];
    for (service, _) in cases {
        ns.apply(&pod(service, Some(service)))?;
    }
    for (service, why) in cases {
        eventually("its liveness probe restarts it", || {
            let pod = ns.get(&["pod", service])?;
            let status = &pod["status"]["containerStatuses"][0];
            ensure!(status["restartCount"].as_i64() >= Some(1), "{status}");
            ensure!(status["ready"] == false, "{status}");
            Ok(())
        })?;
        let of_pod = format!("--field-selector=reason=Unhealthy,involvedObject.name={service}");
        for kind in ["Liveness", "Readiness"] {
            let message = format!("{kind} probe failed: {why}");
            eventually("the event says why", || {
                let events = ns.kubectl(&["get", "events", &of_pod])?;
                ensure!(events.contains(&message), "{message} is missing in\n{events}");
                Ok(())
            })?;
        }
    }
    Ok(())
}
