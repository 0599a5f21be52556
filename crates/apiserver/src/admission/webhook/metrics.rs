//! What is counted of webhooks, under Kubernetes' names.

use std::time::Duration;

use tiphys_client::metrics::{Counters, Histograms};

use super::super::Operation;

const SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];

/// Which plugin.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// MutatingAdmissionWebhook
    Admit,
    /// ValidatingAdmissionWebhook
    Validating,
}

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validating => "validating",
        }
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug)]
pub(super) enum Failed {
    /// The webhook could not be asked.
    Calling,
    /// This server could not do what it wants.
    Internal,
    /// Nothing failed: it said no.
    No,
}

impl Failed {
    fn as_str(self) -> &'static str {
        match self {
            Self::Calling => "calling_webhook_error",
            Self::Internal => "apiserver_internal_error",
            Self::No => "no_error",
        }
    }
}

pub(super) struct Metrics {
    durations: Histograms,
    rejections: Counters,
    fail_open: Counters,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            durations: Histograms::new(
                "apiserver_admission_webhook_admission_duration_seconds",
                "Time that calls of webhooks took.",
                SECONDS,
            ),
            rejections: Counters::new(
                "apiserver_admission_webhook_rejection_count",
                "Requests that webhooks refused, or that were refused because of webhooks.",
            ),
            fail_open: Counters::new(
                "apiserver_admission_webhook_fail_open_count",
                "Calls of webhooks that failed and were passed over.",
            ),
        }
    }

    /// Counts one call, and the refusal that followed from it.
    pub(super) fn count(
        &self,
        name: &str,
        phase: Phase,
        operation: Operation,
        took: Duration,
        rejected: Option<(Failed, u16)>,
    ) {
        let (kind, operation, refused) = (phase.as_str(), operation.as_str(), rejected.is_some());
        let labels =
            format!("name={name:?},operation=\"{operation}\",rejected=\"{refused}\",type=\"{kind}\"");
        self.durations.with(&labels).observe(took.as_secs_f64());
        let Some((failed, code)) = rejected else { return };
        // Kubernetes counts all codes of 600 and more as one.
        let (error, code) = (failed.as_str(), code.min(600));
        let labels = format!(
            "error_type=\"{error}\",name={name:?},operation=\"{operation}\",rejection_code=\"{code}\",type=\"{kind}\""
        );
        self.rejections.with(&labels).add(1);
    }

    /// Counts a call that failed without consequences.
    pub(super) fn passed_over(&self, name: &str, phase: Phase) {
        self.fail_open.with(&format!("name={name:?},type=\"{}\"", phase.as_str())).add(1);
    }

    pub(super) fn render(&self, out: &mut String) {
        self.durations.render(out);
        self.rejections.render(out);
        self.fail_open.render(out);
    }
}
