//! The rows that accounts refer to.

use std::collections::{BTreeMap, BTreeSet};

use super::{planned::Planned, rejects::Rejection};
use crate::{
    domain::{
        error::Error,
        imported::{ImportedAccount, NamedTable},
        value::Value,
    },
    fields::{Kind, Reference},
    storage::SqlStore,
};

/// The existing rows that a batch refers to.
pub(super) struct References {
    ids: BTreeMap<Reference, BTreeSet<i64>>,
    groups: BTreeSet<i64>,
}

impl References {
    pub(super) async fn load(
        store: &SqlStore,
        accounts: impl Iterator<Item = &ImportedAccount> + Clone,
    ) -> Result<Self, Error> {
        let mut ids: BTreeMap<Reference, BTreeSet<i64>> = BTreeMap::new();
        for (reference, id) in accounts.clone().flat_map(references) {
            ids.entry(reference).or_default().insert(id);
        }
        let groups: BTreeSet<_> =
            accounts.filter_map(|account| account.manager_group_id.flatten()).collect();
        let groups: Vec<_> = groups.into_iter().collect();
        let groups = store.named_rows(NamedTable::ManagerGroups, &groups, &[]).await?;
        let ids = store.existing_references(ids).await?;
        Ok(Self { ids, groups: groups.into_keys().collect() })
    }

    /// The references of an account that no row has, and whether only its manager is missing.
    pub(super) fn missing(
        &self,
        account: &ImportedAccount,
        planned: &Planned,
    ) -> (Vec<Rejection>, bool) {
        let mut rejections = Vec::new();
        let mut is_only_manager = true;
        for (field, value) in &account.details {
            let (Kind::Id(reference), Value::Id(id)) = (field.kind(), value) else { continue };
            let exists = self.ids.get(&reference).is_some_and(|ids| ids.contains(id));
            if !exists && !is_planned(planned, reference, *id) {
                is_only_manager &= reference == Reference::Manager;
                rejections.push(Rejection::new(field.name(), unknown(reference)));
            }
        }
        if let Some(Some(group)) = account.manager_group_id
            && !self.groups.contains(&group)
            && !planned.has_named(NamedTable::ManagerGroups, group)
        {
            is_only_manager = false;
            let reason = "refers to a manager group that does not exist";
            rejections.push(Rejection::new("manager_group_id", reason));
        }
        (rejections, is_only_manager)
    }
}

fn references(account: &ImportedAccount) -> impl Iterator<Item = (Reference, i64)> {
    account.details.iter().filter_map(|(field, value)| match (field.kind(), value) {
        (Kind::Id(reference), Value::Id(id)) => Some((reference, *id)),
        _ => None,
    })
}

fn is_planned(planned: &Planned, reference: Reference, id: i64) -> bool {
    match reference {
        Reference::Currency => planned.has_named(NamedTable::Currencies, id),
        Reference::Direction => planned.has_named(NamedTable::Directions, id),
        Reference::NumberPool => planned.has_named(NamedTable::NumberPools, id),
        Reference::Manager => planned.has_manager(id),
    }
}

fn unknown(reference: Reference) -> &'static str {
    match reference {
        Reference::Currency => "refers to a currency that does not exist",
        Reference::Direction => "refers to a direction that does not exist",
        Reference::Manager => "refers to a manager that does not exist",
        Reference::NumberPool => "refers to a number pool that does not exist",
    }
}
