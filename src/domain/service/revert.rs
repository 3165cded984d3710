//! Reverts a change of the change log.

use super::Service;
use crate::domain::{
    account,
    call_context::CallContext,
    error::Error,
    listing::{ChangeFilter, ChangeQuery, Listed, LoggedChange},
    update::{Actor, Change, Edit, Edits, Revert, Update, Updated},
};

/// Page size for the changes that follow a change to revert.
const LATER_CHANGES: u64 = 200;
/// Maximum text bytes of a page of later changes.
const LATER_CHANGES_BYTES: usize = 1 << 20;
/// Attempts to revert a change while other changes arrive.
const MAX_UPDATE_ATTEMPTS: u32 = 5;

impl Service {
    /// Reverts a logged change. Without an etag, its fields must be unchanged since.
    ///
    /// # Errors
    /// The errors of [`super::Store::list_changes`] and [`super::Store::apply`],
    /// [`Error::ChangeNotFound`], and [`Error::ChangeNotSupported`].
    pub async fn revert(
        &self,
        call: &CallContext,
        Revert { actor, allowed, origin, change_id, etag, validate_only }: Revert,
    ) -> Result<Updated, Error> {
        let after = Some(change_id.saturating_sub(1));
        let query = ChangeQuery {
            filter: ChangeFilter::default(),
            descending: false,
            after,
            limit: 1,
            max_bytes: LATER_CHANGES_BYTES,
        };
        let found = self.store.list_changes(call, &actor, &query).await?.items.pop();
        let found = found.filter(|found| found.id == change_id).ok_or(Error::ChangeNotFound)?;
        call.record.set_user(found.user_id);
        // A partial revert would split fields that belong together.
        if found.unknown_changes > 0 {
            return Err(Error::ChangeNotSupported);
        }
        let mut edits = Edits::default();
        for Change { field, old, .. } in &found.changes {
            // Another program may have stored a value that the field does not allow.
            edits.add(*field, old.fits(*field).then(|| Edit::Set(old.clone())));
        }
        let new = |change: &Change| (change.field, change.new.clone());
        let update = |etag, unchanged, validate_only| Update {
            actor: actor.clone(),
            allowed,
            origin: origin.clone(),
            user_id: found.user_id,
            edits: edits.clone(),
            etag,
            request: None,
            unchanged,
            validate_only,
        };
        if etag.is_some() {
            return self.update(call, update(etag, Vec::new(), validate_only)).await;
        }
        let unchanged: Vec<_> = found.changes.iter().map(new).collect();
        let mut looked = None;
        for _ in 0..MAX_UPDATE_ATTEMPTS {
            let (touched, version) = self.later(call, &actor, &found).await?;
            if touched {
                // Report the errors of the other checks first.
                self.update(call, update(None, unchanged, true)).await?;
                break;
            }
            // The etag detects a concurrent change. If the log ends at the same version again, the
            // log lacks the stored version: go without the etag.
            let guard = (looked != Some(version)).then(|| account::etag(found.user_id, version));
            looked = Some(version);
            match self.update(call, update(guard, unchanged.clone(), validate_only)).await {
                Err(Error::EtagMismatch | Error::EarlierEpoch) => {}
                updated => return updated,
            }
        }
        Err(Error::ChangedSince)
    }

    /// Reads the user's log entries after `change`. Returns whether one of them touches the same
    /// fields, and the user's latest logged version.
    async fn later(
        &self,
        call: &CallContext,
        actor: &Actor,
        change: &LoggedChange,
    ) -> Result<(bool, i64), Error> {
        let mut query = ChangeQuery {
            filter: ChangeFilter { user_id: Some(change.user_id), ..ChangeFilter::default() },
            descending: false,
            after: Some(change.id),
            limit: LATER_CHANGES,
            max_bytes: LATER_CHANGES_BYTES,
        };
        let mut version = change.version;
        loop {
            let Listed { items: later, is_cut } =
                self.store.list_changes(call, actor, &query).await?;
            let mut fields = later.iter().flat_map(|later| &later.changes).map(|later| later.field);
            let touched = fields.any(|field| change.changes.iter().any(|own| own.field == field));
            if let Some(last) = later.last() {
                (query.after, version) = (Some(last.id), last.version);
            }
            if touched || !is_cut && (later.len() as u64) < LATER_CHANGES {
                return Ok((touched, version));
            }
        }
    }
}
