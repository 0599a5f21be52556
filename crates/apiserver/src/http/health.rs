//! `/healthz`, `/livez`, `/readyz`: named checks, one by one (`/readyz/etcd`) or together, as kube-apiserver answers.
//!
//! A check is a cheap look at present state (an atomic, a watch value); nothing here waits.

use std::fmt::Write as _;

use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use parking_lot::RwLock;

use super::answer::{Answer, text};
use super::query::Query;

/// Which of the three paths a check belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All three: without it the process is of no use.
    Live,
    /// Only `/readyz`: it passes when the server should get traffic.
    Ready,
}

struct Check {
    name: String,
    scope: Scope,
    look: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// All checks. `ping` is always there.
#[derive(Default)]
pub struct Health {
    checks: RwLock<Vec<Check>>,
}

impl Health {
    /// Adds a check; `look` says why it fails.
    pub fn add(
        &self,
        name: &str,
        scope: Scope,
        look: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.checks.write().push(Check { name: name.to_owned(), scope, look: Box::new(look) });
    }

    /// Why the first failing check of `/readyz` fails; `None` when ready.
    pub fn unready(&self) -> Option<String> {
        let checks = self.checks.read();
        checks.iter().find_map(|check| (check.look)().err().map(|why| format!("{}: {why}", check.name)))
    }

    /// Answers `/healthz`, `/livez`, `/readyz` and `/<one of them>/<check>`; `None` for other paths.
    pub fn answer(&self, path: &str, query: &Query) -> Option<Answer> {
        let mut parts = path.trim_matches('/').splitn(2, '/');
        let endpoint = parts.next().filter(|name| matches!(*name, "healthz" | "livez" | "readyz"))?;
        let outcomes = self.look(endpoint);
        let answer = match parts.next() {
            Some(one) => {
                let (_, outcome) = outcomes.iter().find(|(name, _)| name == one)?;
                single(outcome)
            }
            None => together(endpoint, &outcomes, query),
        };
        Some(harmless(answer))
    }

    fn look(&self, endpoint: &str) -> Vec<(String, Result<(), String>)> {
        let checks = self.checks.read();
        let mine = checks.iter().filter(|check| endpoint == "readyz" || check.scope == Scope::Live);
        let ping = ("ping".to_owned(), Ok(()));
        [ping].into_iter().chain(mine.map(|check| (check.name.clone(), (check.look)()))).collect()
    }
}

fn single(outcome: &Result<(), String>) -> Answer {
    match outcome {
        Ok(()) => text(StatusCode::OK, "ok"),
        Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
    }
}

fn together(endpoint: &str, outcomes: &[(String, Result<(), String>)], query: &Query) -> Answer {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut report = String::new();
    let mut failed = false;
    for (name, outcome) in outcomes {
        // Writing to a String cannot fail.
        let _ = match outcome {
            _ if excluded.contains(&name.as_str()) => writeln!(report, "[+]{name} excluded: ok"),
            Ok(()) => writeln!(report, "[+]{name} ok"),
            // The reason may tell secrets of the cluster to people who may only see whether it is well.
            Err(_) => {
                failed = true;
                writeln!(report, "[-]{name} failed: reason withheld")
            }
        };
    }
    report_unknown(&mut report, &excluded, outcomes);
    match (failed, query.get("verbose").is_some()) {
        (true, _) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{report}{endpoint} check failed\n")),
        (false, true) => text(StatusCode::OK, format!("{report}{endpoint} check passed\n")),
        (false, false) => text(StatusCode::OK, "ok"),
    }
}

fn report_unknown(report: &mut String, excluded: &[&str], outcomes: &[(String, Result<(), String>)]) {
    let unknown = excluded.iter().filter(|name| !outcomes.iter().any(|(known, _)| known == *name));
    let unknown: Vec<String> = unknown.map(|name| format!("{name:?}")).collect();
    if !unknown.is_empty() {
        let names = unknown.join(",");
        let _ = writeln!(report, "warn: some health checks cannot be excluded: no matches for {names}");
    }
}

fn harmless(mut answer: Answer) -> Answer {
    let nosniff = HeaderName::from_static("x-content-type-options");
    answer.headers_mut().insert(nosniff, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::body::Body;
    use super::*;

    fn ask(health: &Health, url: &str) -> (u16, String) {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let answer = health.answer(path, &Query::parse(query)).unwrap();
        let code = answer.status().as_u16();
        let Body::Full(bytes) = answer.into_body() else { unreachable!("health answers are whole") };
        (code, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn readiness_follows_its_checks_and_liveness_does_not() {
        let synced = Arc::new(AtomicBool::new(false));
        let health = Health::default();
        let seen = synced.clone();
        let look = move || if seen.load(Ordering::Relaxed) { Ok(()) } else { Err("not yet".to_owned()) };
        health.add("informer-sync", Scope::Ready, look);
        health.add("etcd", Scope::Live, || Ok(()));
        let report =
            "[+]ping ok\n[-]informer-sync failed: reason withheld\n[+]etcd ok\nreadyz check failed\n";
        assert_eq!(ask(&health, "/readyz"), (500, report.to_owned()));
        assert_eq!(
            ask(&health, "/livez?verbose"),
            (200, "[+]ping ok\n[+]etcd ok\nlivez check passed\n".to_owned())
        );
        assert_eq!(ask(&health, "/readyz?exclude=informer-sync"), (200, "ok".to_owned()));
        assert_eq!(ask(&health, "/readyz/informer-sync").0, 500);
        assert!(health.answer("/readyz/none", &Query::default()).is_none());
        synced.store(true, Ordering::Relaxed);
        assert_eq!(ask(&health, "/readyz"), (200, "ok".to_owned()));
        assert_eq!(health.unready(), None);
    }
}
