//! Imports accounts: first managers, in the order of their references, then all others.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    difference,
    error::ImportError,
    id_set::IdSet,
    inserts::Inserts,
    mapping::Mapping,
    parse,
    references::References,
    rejects::Rejection,
    run::Import,
    source::{RowSource, SourceRows},
    table::{Column, Table},
};
use crate::{
    domain::{
        account::AccountType,
        imported::{ImportedAccount, StoredAccount},
        value::{ListMode, Value, Values},
    },
    fields::{FIELDS, Kind},
};

/// The rows of the source that were read so far.
#[derive(Default)]
struct AccountsState {
    /// The numbers of finished rows.
    done: IdSet,
    /// The ids of finished rows.
    ids: IdSet,
    /// Managers of this round that wait for another manager.
    waiting: u64,
    /// Accounts that are being inserted.
    inserts: Inserts,
    /// Whether the database had accounts before the import.
    has_stored: bool,
}

/// The accounts that one pass over the source imports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Managers and admins that do not wait for a manager.
    Staff,
    /// All accounts that are left.
    Rest,
}

/// An account and the number of its row.
type Numbered = (i64, ImportedAccount);

impl Import<'_> {
    pub(super) async fn accounts(
        &mut self,
        source: &RowSource,
        mapping: &Mapping,
        rows: SourceRows<'_>,
    ) -> Result<(), ImportError> {
        let has_stored = !self.store.ids_after("accounts", i64::MIN, 1).await?.is_empty();
        let mut state = AccountsState { has_stored, ..AccountsState::default() };
        let imported = self.rounds(source, mapping, rows, &mut state).await;
        // Also after a failure: no insert outlives the import.
        imported.and(self.finish_inserts(&mut state.inserts).await)
    }

    async fn rounds(
        &mut self,
        source: &RowSource,
        mapping: &Mapping,
        rows: SourceRows<'_>,
        state: &mut AccountsState,
    ) -> Result<(), ImportError> {
        if rows.columns().contains(&Column::AccountType) {
            loop {
                state.waiting = 0;
                let inserted = self.counts.inserted;
                if let Some(rows) = source.rows(mapping, Table::Accounts).await? {
                    self.round(rows, Round::Staff, state).await?;
                }
                // The next round refers to the managers of this round.
                self.finish_inserts(&mut state.inserts).await?;
                if state.waiting == 0 || self.counts.inserted == inserted {
                    break;
                }
            }
        }
        self.round(rows, Round::Rest, state).await
    }

    async fn round(
        &mut self,
        mut rows: SourceRows<'_>,
        round: Round,
        state: &mut AccountsState,
    ) -> Result<(), ImportError> {
        loop {
            let records = rows.next().await?;
            if records.is_empty() {
                return Ok(());
            }
            let mut accounts: Vec<Numbered> = Vec::new();
            for record in &records {
                let columns = rows.columns();
                let kind = parse::account_type(columns, record);
                let is_staff = !matches!(kind, None | Some(AccountType::User));
                if state.done.contains(record.row) || (round == Round::Staff && !is_staff) {
                    continue;
                }
                let rejections = match parse::account(columns, record) {
                    Ok(account) if state.ids.contains(account.id) => {
                        vec![Rejection::new("id", "another row has the id")]
                    }
                    Ok(account) => {
                        accounts.push((record.row, account));
                        continue;
                    }
                    Err(rejections) => rejections,
                };
                self.reject_record(Table::Accounts, (columns, record), rejections)?;
                state.done.insert(record.row);
            }
            self.batch(accounts, round, state).await?;
            if round == Round::Rest {
                self.counts.read += records.len() as u64;
                self.progress.advance(records.len(), rows.position());
            }
        }
    }

    /// Imports a batch.
    async fn batch(
        &mut self,
        accounts: Vec<Numbered>,
        round: Round,
        state: &mut AccountsState,
    ) -> Result<(), ImportError> {
        if accounts.is_empty() {
            return Ok(());
        }
        // In a database without accounts, the constraints find the usernames of earlier batches.
        let (mut stored, mut taken) = match state.has_stored {
            true => self.stored(&accounts).await?,
            false => Default::default(),
        };
        let all = accounts.iter().map(|(_, account)| account);
        let references = References::load(self.store, all).await?;
        let (mut inserts, mut updates) = (Vec::new(), BTreeMap::new());
        for (row, account) in accounts {
            let (missing, is_only_manager) = references.missing(&account, &self.planned);
            if round == Round::Staff && !missing.is_empty() && is_only_manager {
                state.waiting += 1;
                continue;
            }
            state.done.insert(row);
            let mut rejections = missing;
            if !state.ids.insert(account.id) {
                rejections.push(Rejection::new("id", "another row has the id"));
            }
            let before = stored.remove(&account.id);
            match &before {
                _ if !rejections.is_empty() => {}
                Some(None) => rejections.push(Rejection::new("", "the stored row is invalid")),
                Some(Some(before)) => rejections = fixed(&account, before),
                None => {
                    rejections = without_pool(&account.values(Values::default()));
                    let key = self.store.username_key(account.username.as_str());
                    let is_planned =
                        self.planned.has_username(key) || state.inserts.have_username(key);
                    if is_planned || !taken.insert(key.to_owned()) {
                        let reason = "another account has the username";
                        rejections.push(Rejection::new("username", reason));
                    }
                }
            }
            if !rejections.is_empty() {
                self.reject(Table::Accounts, &account.id.to_string(), rejections)?;
                continue;
            }
            match before.flatten() {
                None => inserts.push(account),
                Some(before) => match self.decide(&account, &before) {
                    Decision::Unchanged => self.counts.unchanged += 1,
                    Decision::Differs => self.counts.differ += 1,
                    Decision::Update => {
                        updates.insert(account.id, (account, before));
                    }
                    Decision::Reject(rejection) => {
                        self.reject(Table::Accounts, &account.id.to_string(), vec![rejection])?;
                    }
                },
            }
        }
        self.insert(inserts, &mut state.inserts).await?;
        if self.options.dry_run {
            self.counts.updated += updates.len() as u64;
            return Ok(());
        }
        self.update(updates.into_values().collect()).await
    }

    /// The stored accounts with the ids of a batch, and the stored usernames of its new accounts.
    async fn stored(
        &self,
        accounts: &[Numbered],
    ) -> Result<(BTreeMap<i64, Option<StoredAccount>>, BTreeSet<String>), ImportError> {
        let ids: Vec<_> = accounts.iter().map(|(_, account)| account.id).collect();
        let stored = self.store.accounts(&ids).await?;
        let new = accounts.iter().filter(|(_, account)| !stored.contains_key(&account.id));
        let usernames: Vec<_> = new.map(|(_, account)| account.username.as_str()).collect();
        let taken = self.store.account_ids(&usernames).await?.into_keys().collect();
        Ok((stored, taken))
    }

    fn decide(&self, account: &ImportedAccount, stored: &StoredAccount) -> Decision {
        match difference::details(account, stored).next() {
            None => Decision::Unchanged,
            Some(_) if !self.options.update => Decision::Differs,
            Some(_) if stored.user.account_type == AccountType::User => {
                // The rules check an update, but a dry run has none.
                let is_checked = !self.options.dry_run;
                let values = || account.values(stored.user.values.clone());
                let missing = if is_checked { None } else { without_pool(&values()).pop() };
                missing.map_or(Decision::Update, Decision::Reject)
            }
            Some((field, _)) => {
                let reason = "differs: only the details of plain users can be changed";
                Decision::Reject(Rejection::new(field.name(), reason))
            }
        }
    }
}

/// What becomes of a stored account.
enum Decision {
    Unchanged,
    Differs,
    Update,
    Reject(Rejection),
}

/// The columns that differ and that no update may change.
fn fixed(account: &ImportedAccount, stored: &StoredAccount) -> Vec<Rejection> {
    let columns = difference::fixed_columns(account, stored).into_iter();
    columns.map(|(column, ..)| Rejection::new(column, format!("differs: {column}"))).collect()
}

/// The missing number pools of lists.
fn without_pool(values: &Values) -> Vec<Rejection> {
    let missing = FIELDS.into_iter().filter_map(|field| match field.kind() {
        Kind::List { pool }
            if values[field] != Value::List(ListMode::No) && values[pool] == Value::None =>
        {
            let reason = "must be set while its list is blacklist or whitelist";
            Some(Rejection::new(pool.name(), reason))
        }
        _ => None,
    });
    missing.collect()
}
