//! Imports the rights of manager groups. A stored level is never changed.

use super::{
    error::ImportError, parse, rejects::Rejection, run::Import, source::SourceRows, table::Table,
};
use crate::domain::imported::{GroupRight, NamedTable};

impl Import<'_> {
    pub(super) async fn group_rights(
        &mut self,
        mut rows: SourceRows<'_>,
    ) -> Result<(), ImportError> {
        let mut stored = self.store.group_rights().await?;
        loop {
            let records = rows.next().await?;
            if records.is_empty() {
                return Ok(());
            }
            self.counts.read += records.len() as u64;
            let mut parsed = Vec::new();
            for record in &records {
                match parse::right(rows.columns(), record) {
                    Ok(right) => parsed.push(right),
                    Err(rejections) => {
                        self.reject_record(
                            Table::GroupRights,
                            (rows.columns(), record),
                            rejections,
                        )?;
                    }
                }
            }
            let mut groups: Vec<_> = parsed.iter().map(|right| right.manager_group_id).collect();
            groups.dedup();
            let groups = self.store.named_rows(NamedTable::ManagerGroups, &groups, &[]).await?;
            let mut new: Vec<GroupRight> = Vec::new();
            for right in parsed {
                let group = right.manager_group_id;
                let key = (group, right.name.clone());
                let exists = groups.contains_key(&group)
                    || self.planned.has_named(NamedTable::ManagerGroups, group);
                let rejection = match stored.get(&key) {
                    Some(level) if *level == Some(right.level) => {
                        self.counts.unchanged += 1;
                        continue;
                    }
                    Some(_) => Rejection::new("level", "differs: level"),
                    None if !exists => {
                        let reason = "refers to a manager group that does not exist";
                        Rejection::new("manager_group_id", reason)
                    }
                    None => {
                        stored.insert(key, Some(right.level));
                        new.push(right);
                        continue;
                    }
                };
                self.reject(Table::GroupRights, &group.to_string(), vec![rejection])?;
            }
            let refused = match self.options.dry_run {
                true => Vec::new(),
                false => self.store.insert_group_rights(&new).await?,
            };
            self.counts.inserted += (new.len() - refused.len()) as u64;
            let group = |index: usize| new[index].manager_group_id;
            self.reject_refused(Table::GroupRights, refused, "name", group)?;
            self.progress.advance(records.len(), rows.position());
        }
    }
}
