//! The spans of transactions.

use opentelemetry::trace::{SpanContext, SpanKind};

use super::queue::Job;
use crate::trace::Span;

/// A transaction's span: a child of its first sampled job's span. Other sampled jobs link to it.
pub(super) struct Traced {
    pub(super) span: Span,
    /// The span context of that job, or `None` if no job is sampled.
    owner: Option<SpanContext>,
}

impl Traced {
    /// Starts the span. More jobs may join later.
    pub(super) fn of<'a>(jobs: impl Iterator<Item = &'a Job>) -> Self {
        let mut first = None;
        for job in jobs {
            let owner = job.call.span.kept();
            if owner.is_some() {
                return Self { span: transaction(&job.call.span), owner };
            }
            first.get_or_insert(&job.call.span);
        }
        Self { span: first.cloned().unwrap_or_default(), owner: None }
    }

    /// Returns the span and links the other jobs to it, once `jobs` is complete.
    pub(super) fn with(self, jobs: &[Job]) -> Span {
        let Self { span, owner } = if self.owner.is_some() { self } else { Self::of(jobs.iter()) };
        if let Some(owner) = owner {
            let sampled = jobs.iter().filter(|job| job.call.span.is_recording());
            let others = sampled.filter(|job| job.call.span.kept().as_ref() != Some(&owner));
            others.for_each(|job| job.call.span.add_link(&span));
        }
        span
    }
}

/// A transaction's span, as a child of a sampled call's span; otherwise the call's span itself.
pub(super) fn transaction(call: &Span) -> Span {
    if !call.is_recording() {
        return call.clone();
    }
    call.child(SpanKind::Internal, || "transaction".into())
}
