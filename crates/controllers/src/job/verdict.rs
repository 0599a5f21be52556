//! Whether and how a Job has come to its end. Pure.

use k8s_openapi::api::batch::v1::SuccessPolicyRule;

use super::indexes;
use super::plan::Work;
use super::pods::Judgement;

/// How a Job ends: it has succeeded or failed, for a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) success: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

fn verdict(success: bool, reason: &str, message: &str) -> Option<Verdict> {
    Some(Verdict { success, reason: reason.into(), message: message.into() })
}

impl Work<'_> {
    /// The Job's end, if it has come.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.decided()
            .or_else(|| self.failed_by_policy())
            .or_else(|| self.failed_by_limits())
            .or_else(|| self.failed_by_indexes())
            .or_else(|| self.succeeded_by_policy())
            .or_else(|| self.completed())
    }

    /// Decided before, waiting for the pods to end.
    fn decided(&self) -> Option<Verdict> {
        for (kind, success) in [("SuccessCriteriaMet", true), ("FailureTarget", false)] {
            if let Some(decided) = self.condition(kind).filter(|condition| condition.status == "True") {
                let reason = decided.reason.as_deref().unwrap_or_default();
                return verdict(success, reason, decided.message.as_deref().unwrap_or_default());
            }
        }
        None
    }

    fn failed_by_policy(&self) -> Option<Verdict> {
        let policy = Some(self.spec.pod_failure_policy.as_ref()?);
        let failed = self.pods.iter().filter(|pod| pod.failed(true));
        failed.into_iter().find_map(|pod| match pod.judge(policy) {
            Judgement::FailJob(message) => verdict(false, "PodFailurePolicy", &message),
            _ => None,
        })
    }

    fn failed_by_limits(&self) -> Option<Verdict> {
        let limit = self.spec.backoff_limit.unwrap_or(if self.per_index.is_some() { i32::MAX } else { 6 });
        if self.failed() > limit || self.restarted_too_often(limit) {
            return verdict(false, "BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        if self.deadline().is_some_and(|deadline| deadline <= self.now) {
            return verdict(false, "DeadlineExceeded", "Job was active longer than specified deadline");
        }
        None
    }

    /// Pods that restart in place count their restarts.
    fn restarted_too_often(&self, limit: i32) -> bool {
        let policy = self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return false;
        }
        let restarts: i32 = self.active().map(|pod| pod.restarts()).sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn failed_by_indexes(&self) -> Option<Verdict> {
        let failed = self.per_index.as_ref()?.failed.len() as i32;
        if self.spec.max_failed_indexes.is_some_and(|most| failed > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return verdict(false, "MaxFailedIndexesExceeded", message);
        }
        let all = failed + self.succeeded() >= self.spec.completions.unwrap_or(0);
        if failed > 0 && all { verdict(false, "FailedIndexes", "Job has failed indexes") } else { None }
    }

    fn succeeded_by_policy(&self) -> Option<Verdict> {
        let rules = &self.spec.success_policy.as_ref().filter(|_| self.is_indexed())?.rules;
        let at = rules.iter().position(|rule| self.fits(rule))?;
        verdict(true, "SuccessPolicy", &format!("Matched rules at index {at}"))
    }

    fn fits(&self, rule: &SuccessPolicyRule) -> bool {
        let count = |n: usize| rule.succeeded_count.is_some_and(|wanted| n as i32 >= wanted);
        let Some(text) = &rule.succeeded_indexes else { return count(self.completed.len()) };
        let named = indexes::parse(text, self.spec.completions.unwrap_or(0));
        let done = named.intersection(&self.completed).count();
        match rule.succeeded_count {
            Some(_) => count(done),
            None => done == named.len(),
        }
    }

    fn completed(&self) -> Option<Verdict> {
        let complete = match self.spec.completions {
            Some(completions) => self.succeeded() >= completions,
            None => self.succeeded() > 0 && self.active().next().is_none(),
        };
        let message = "Reached expected number of succeeded pods";
        if complete { verdict(true, "CompletionsReached", message) } else { None }
    }
}
