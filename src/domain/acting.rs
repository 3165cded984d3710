//! Who acts in the call under way, as soon as it is known: for the call's line in the log. It goes with the task, as a span does.

use std::sync::{Arc, OnceLock};

use tokio::task_local;

task_local! {
    static ACTING: Acting;
}

/// Who acts in a call.
#[derive(Clone, Debug, Default)]
pub struct Acting(Arc<OnceLock<Who>>);

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
        let _ = self.0.set(Who::Account(id));
    }

    /// Tells the name of the service that acts in its own name.
    pub fn tell_service(&self, name: &str) {
        let _ = self.0.set(Who::Service(name.to_owned()));
    }

    /// The id of the acting account; none where it is not known, or a service acts in its own name.
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
