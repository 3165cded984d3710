//! The actor of the current call, for its log line. A task-local, like a span.

use std::sync::{Arc, OnceLock};

use tokio::task_local;

task_local! {
    static ACTING: Acting;
}

/// The actor of a call, as soon as it is known.
#[derive(Clone, Debug, Default)]
pub struct Acting(Arc<OnceLock<Who>>);

#[derive(Debug)]
enum Who {
    Account(i64),
    Service(String),
}

impl Acting {
    /// The actor of the current call; unknown outside a call.
    pub fn current() -> Self {
        ACTING.try_with(Clone::clone).unwrap_or_default()
    }

    /// Runs a call with this actor as the current one.
    pub async fn during<F: Future>(&self, call: F) -> F::Output {
        ACTING.scope(self.clone(), call).await
    }

    /// Records the id of the acting account.
    pub fn tell_account(&self, id: i64) {
        let _ = self.0.set(Who::Account(id));
    }

    /// Records the name of the service that acts in its own name.
    pub fn tell_service(&self, name: &str) {
        let _ = self.0.set(Who::Service(name.to_owned()));
    }

    /// The id of the acting account; `None` if unknown, or for a service in its own name.
    pub fn account(&self) -> Option<i64> {
        match self.0.get()? {
            Who::Account(id) => Some(*id),
            Who::Service(_) => None,
        }
    }

    /// The name of the service that acts in its own name.
    pub fn service(&self) -> Option<&str> {
        match self.0.get()? {
            Who::Account(_) => None,
            Who::Service(name) => Some(name),
        }
    }
}
