//! Imports tables of ids and names. A stored name is never changed.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    error::ImportError, id_set::IdSet, parse, rejects::Rejection, run::Import, source::SourceRows,
    table::Table,
};
use crate::domain::imported::{Clash, NamedRow, NamedTable};

impl Import<'_> {
    pub(super) async fn named_rows(
        &mut self,
        table: NamedTable,
        mut rows: SourceRows<'_>,
    ) -> Result<(), ImportError> {
        let mut seen = IdSet::default();
        loop {
            let records = rows.next().await?;
            if records.is_empty() {
                return Ok(());
            }
            self.counts.read += records.len() as u64;
            let mut parsed = Vec::new();
            for record in &records {
                let row = (rows.columns(), record);
                match parse::named(table, rows.columns(), record) {
                    Err(rejections) => {
                        self.reject_record(Table::Named(table), row, rejections)?;
                    }
                    Ok(named) if !seen.insert(named.id) => {
                        let rejection = Rejection::new("id", "another row has the id");
                        self.reject_record(Table::Named(table), row, vec![rejection])?;
                    }
                    Ok(named) => parsed.push(named),
                }
            }
            let new = self.new_rows(table, parsed).await?;
            self.insert_rows(table, &new).await?;
            self.progress.advance(records.len(), rows.position());
        }
    }

    /// The rows that are not stored yet.
    async fn new_rows(
        &mut self,
        table: NamedTable,
        rows: Vec<NamedRow>,
    ) -> Result<Vec<NamedRow>, ImportError> {
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let names: Vec<_> = rows.iter().map(|row| row.name.clone()).collect();
        let stored = self.store.named_rows(table, &ids, &names).await?;
        let holders: BTreeMap<_, _> = stored.iter().map(|(id, name)| (name.clone(), *id)).collect();
        let (mut new, mut new_names) = (Vec::new(), BTreeSet::new());
        for row in rows {
            let is_taken = holders.contains_key(&row.name)
                || new_names.contains(&row.name)
                || self.planned.has_name(table, &row.name);
            let reason = match stored.get(&row.id) {
                Some(name) if *name == row.name => {
                    self.counts.unchanged += 1;
                    continue;
                }
                Some(_) => "differs: name",
                None if is_taken => "another row has the name",
                None => {
                    new_names.insert(row.name.clone());
                    new.push(row);
                    continue;
                }
            };
            let rejection = Rejection::new("name", reason);
            self.reject(Table::Named(table), &row.id.to_string(), vec![rejection])?;
        }
        Ok(new)
    }

    async fn insert_rows(
        &mut self,
        table: NamedTable,
        rows: &[NamedRow],
    ) -> Result<(), ImportError> {
        let refused = if self.options.dry_run {
            rows.iter().for_each(|row| self.planned.add_named(table, row));
            Vec::new()
        } else {
            self.store.insert_named_rows(table, rows).await?
        };
        self.counts.inserted += (rows.len() - refused.len()) as u64;
        self.reject_refused(Table::Named(table), refused, "name", |index| rows[index].id)
    }

    /// Rejects the rows that the database refuses.
    pub(super) fn reject_refused(
        &mut self,
        table: Table,
        refused: Vec<(usize, Clash)>,
        unique: &'static str,
        id: impl Fn(usize) -> i64,
    ) -> Result<(), ImportError> {
        for (index, clash) in refused {
            let rejection = match clash {
                Clash::Unique if table == Table::Accounts => {
                    Rejection::new(unique, "another account has the username")
                }
                Clash::Unique => Rejection::new(unique, "another row has the same text"),
                Clash::Reference => Rejection::new("", "refers to a row that does not exist"),
            };
            self.reject(table, &id(index).to_string(), vec![rejection])?;
        }
        Ok(())
    }
}
