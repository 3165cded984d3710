//! Who acts in the call under way, as soon as it is known, and in which trace that is where no spans are kept here: for the call's
//! line in the log. It goes with the task, as a span does.

use std::sync::{Arc, OnceLock};

use tokio::task_local;

task_local! {
    static ACTING: Acting;
}

/// Who acts in a call, and in which trace.
#[derive(Clone, Debug, Default)]
pub struct Acting(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    who: OnceLock<Who>,
    traceparent: OnceLock<String>,
}

#[derive(Debug)]
enum Who {
    Account(i64),
    Service(String),
}

impl Acting {
    /// That of the call under way; nobody's outside of one.
    pub fn current() -> Self {
        ACTING.try_with(Clone::clone).unwrap_or_default()
    }

    /// Runs a call of which this is to be told.
    pub async fn during<F: Future>(&self, call: F) -> F::Output {
        ACTING.scope(self.clone(), call).await
    }

    /// Tells the id of the acting account.
    pub fn tell_account(&self, id: i64) {
        let _ = self.0.who.set(Who::Account(id));
    }

    /// Tells the name of the service that acts in its own name.
    pub fn tell_service(&self, name: &str) {
        let _ = self.0.who.set(Who::Service(name.to_owned()));
    }

    /// Tells the caller's span, as W3C writes it.
    pub fn tell_trace(&self, traceparent: String) {
        let _ = self.0.traceparent.set(traceparent);
    }

    /// The caller's span, as W3C writes it; none where it was not told.
    pub fn traceparent(&self) -> Option<&str> {
        self.0.traceparent.get().map(String::as_str)
    }

    /// The id of the acting account; none where it is not known, or a service acts in its own name.
    pub fn account(&self) -> Option<i64> {
        match self.0.who.get()? {
            Who::Account(id) => Some(*id),
            Who::Service(_) => None,
        }
    }

    /// The name of the service that acts in its own name.
    pub fn service(&self) -> Option<&str> {
        match self.0.who.get()? {
            Who::Account(_) => None,
            Who::Service(name) => Some(name),
        }
    }
}
