//! `/healthz`, `/livez`, `/readyz`: named checks, one by one (`/readyz/etcd`) or together, as kube-apiserver answers.
//!
//! A check looks at present state. One that does not end soon fails: a prober waits a second or two, and a look that is
//! left out (`?exclude=`) must not make it wait at all.

use std::fmt::Write as _;
use std::time::Duration;

use futures::future::BoxFuture;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};

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

/// How long a check may look. Kubernetes' own probers give up after a second.
const LOOK_MAX: Duration = Duration::from_millis(500);

type Look = Box<dyn Fn() -> BoxFuture<'static, Outcome> + Send + Sync>;

/// Why a check fails, if it does.
pub type Outcome = Result<(), String>;

struct Check {
    name: &'static str,
    scope: Scope,
    look: Look,
}

impl Check {
    async fn outcome(&self) -> Outcome {
        let look = tokio::time::timeout(LOOK_MAX, (self.look)());
        look.await.unwrap_or_else(|_| Err("the check took too long".to_owned()))
    }
}

/// All checks, in the order in which reports show them. `ping` is always there, first.
#[derive(Default)]
pub struct Health {
    checks: Vec<Check>,
}

impl Health {
    /// Adds a check; `look` says why it fails.
    pub fn add<F>(&mut self, name: &'static str, scope: Scope, look: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        self.checks.push(Check { name, scope, look: Box::new(move || Box::pin(look())) });
    }

    /// Answers `/healthz`, `/livez`, `/readyz` and `/<one of them>/<check>`; `None` for other paths.
    pub async fn answer(&self, path: &str, query: &Query) -> Option<Answer> {
        let mut parts = path.trim_matches('/').splitn(2, '/');
        let endpoint = parts.next().filter(|name| matches!(*name, "healthz" | "livez" | "readyz"))?;
        let mine = self.checks.iter().filter(|check| endpoint == "readyz" || check.scope == Scope::Live);
        let answer = match parts.next() {
            Some("ping") => single(Ok(())),
            Some(one) => single(mine.into_iter().find(|check| check.name == one)?.outcome().await),
            None => {
                let excluded: Vec<&str> = query.all("exclude").collect();
                together(endpoint, &look(mine, &excluded).await, &excluded, query)
            }
        };
        Some(harmless(answer))
    }
}

/// All outcomes, looked at side by side; none of those that are left out.
async fn look(
    checks: impl Iterator<Item = &Check>,
    excluded: &[&str],
) -> Vec<(&'static str, Option<Outcome>)> {
    let looks = checks.map(|check| async {
        match excluded.contains(&check.name) {
            true => (check.name, None),
            false => (check.name, Some(check.outcome().await)),
        }
    });
    let mut all = vec![("ping", (!excluded.contains(&"ping")).then_some(Ok(())))];
    all.extend(futures::future::join_all(looks).await);
    all
}

fn single(outcome: Outcome) -> Answer {
    match outcome {
        Ok(()) => text(StatusCode::OK, "ok"),
        Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
    }
}

fn together(
    endpoint: &str,
    outcomes: &[(&str, Option<Outcome>)],
    excluded: &[&str],
    query: &Query,
) -> Answer {
    let mut report = String::new();
    let mut failed = false;
    for (name, outcome) in outcomes {
        // Writing to a String cannot fail.
        let _ = match outcome {
            None => writeln!(report, "[+]{name} excluded: ok"),
            Some(Ok(())) => writeln!(report, "[+]{name} ok"),
            // The reason may tell secrets of the cluster to people who may only see whether it is well.
            Some(Err(_)) => {
                failed = true;
                writeln!(report, "[-]{name} failed: reason withheld")
            }
        };
    }
    report_unknown(&mut report, excluded, outcomes);
    match (failed, query.get("verbose").is_some()) {
        (true, _) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{report}{endpoint} check failed\n")),
        (false, true) => text(StatusCode::OK, format!("{report}{endpoint} check passed\n")),
        (false, false) => text(StatusCode::OK, "ok"),
    }
}

fn report_unknown(report: &mut String, excluded: &[&str], outcomes: &[(&str, Option<Outcome>)]) {
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

    async fn ask(health: &Health, url: &str) -> (u16, String) {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let answer = health.answer(path, &Query::parse(query)).await.unwrap();
        let code = answer.status().as_u16();
        let Body::Full(bytes) = answer.into_body() else { unreachable!("health answers are whole") };
        (code, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_follows_its_checks_and_liveness_does_not() {
        let synced = Arc::new(AtomicBool::new(false));
        let mut health = Health::default();
        let seen = synced.clone();
        let look = move || {
            let synced = seen.load(Ordering::Relaxed);
            async move { if synced { Ok(()) } else { Err("not yet".to_owned()) } }
        };
        health.add("informer-sync", Scope::Ready, look);
        health.add("etcd", Scope::Live, || async { Ok(()) });
        let report =
            "[+]ping ok\n[-]informer-sync failed: reason withheld\n[+]etcd ok\nreadyz check failed\n";
        assert_eq!(ask(&health, "/readyz").await, (500, report.to_owned()));
        assert_eq!(
            ask(&health, "/livez?verbose").await,
            (200, "[+]ping ok\n[+]etcd ok\nlivez check passed\n".to_owned())
        );
        assert_eq!(ask(&health, "/readyz?exclude=informer-sync").await, (200, "ok".to_owned()));
        assert_eq!(ask(&health, "/readyz/informer-sync").await.0, 500);
        assert!(health.answer("/readyz/none", &Query::default()).await.is_none());
        synced.store(true, Ordering::Relaxed);
        assert_eq!(ask(&health, "/readyz").await, (200, "ok".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_ends_soon_and_is_not_even_begun_when_left_out() {
        let begun = Arc::new(AtomicBool::new(false));
        let mut health = Health::default();
        let seen = begun.clone();
        health.add("informer-sync", Scope::Ready, move || {
            seen.store(true, Ordering::Relaxed);
            std::future::pending()
        });
        let (code, text) = ask(&health, "/readyz?exclude=informer-sync&verbose").await;
        assert_eq!((code, begun.load(Ordering::Relaxed)), (200, false));
        assert!(text.contains("[+]informer-sync excluded: ok\n"), "{text}");
        let began = tokio::time::Instant::now();
        assert_eq!(ask(&health, "/readyz").await.0, 500);
        assert_eq!(ask(&health, "/readyz/informer-sync").await.0, 500);
        assert_eq!(began.elapsed(), LOOK_MAX * 2);
    }
}
