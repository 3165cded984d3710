//! Compares a source with the stored rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use super::{
    cell::Record,
    difference,
    drift::{Drift, DriftKind},
    error::ImportError,
    id_set::IdSet,
    mapping::Mapping,
    parse,
    progress::Progress,
    rejects::Rejection,
    source::{RowSource, SourceRows},
    table::{Column, Table},
};
use crate::{
    domain::{
        account::Level,
        imported::{ImportedAccount, NamedRow, NamedTable},
        listing::ROWS_PER_READ,
        value::{Value, micros_to_text},
    },
    storage::SqlStore,
};

/// Receives each difference.
pub(crate) type Receive<'a> = &'a mut (dyn FnMut(Drift) + Send);

/// A running comparison.
struct Comparison<'a> {
    store: &'a SqlStore,
    receive: Receive<'a>,
    progress: &'a mut dyn Progress,
}

/// Compares all tables of a mapping file. Writes nothing.
pub(crate) async fn compare(
    store: &SqlStore,
    mapping: &Mapping,
    receive: Receive<'_>,
    progress: &mut dyn Progress,
) -> Result<(), ImportError> {
    let source = RowSource::open(mapping).await?;
    let mut comparison = Comparison { store, receive, progress };
    let compared = comparison.tables(&source, mapping).await;
    source.close().await;
    compared
}

impl Comparison<'_> {
    async fn tables(&mut self, source: &RowSource, mapping: &Mapping) -> Result<(), ImportError> {
        for table in Table::ALL {
            let Some(rows) = source.rows(mapping, table).await? else { continue };
            self.progress.begin(table.as_str());
            match table {
                Table::GroupRights => self.rights(rows).await?,
                Table::Named(_) | Table::Accounts => self.rows(table, rows).await?,
            }
            self.progress.end();
        }
        Ok(())
    }

    /// Compares a table with ids.
    async fn rows(&mut self, table: Table, mut rows: SourceRows<'_>) -> Result<(), ImportError> {
        let mut seen = IdSet::default();
        loop {
            let records = rows.next().await?;
            if records.is_empty() {
                break;
            }
            match table {
                Table::Named(named) => {
                    let parse = |columns: &_, record: &_| parse::named(named, columns, record);
                    let parsed =
                        self.parse(table, rows.columns(), &records, parse, &mut seen, |row| row.id);
                    self.named(named, parsed).await?;
                }
                _ => {
                    let columns = rows.columns();
                    let parsed =
                        self.parse(table, columns, &records, parse::account, &mut seen, |row| {
                            row.id
                        });
                    self.accounts(parsed).await?;
                }
            }
            self.progress.advance(records.len(), rows.position());
        }
        let mut after = 0;
        loop {
            let ids = self.store.ids_after(table.as_str(), after, ROWS_PER_READ).await?;
            let Some(last) = ids.last() else { return Ok(()) };
            after = *last;
            for id in ids.into_iter().filter(|id| !seen.contains(*id)) {
                self.tell(table, id, "", DriftKind::MissingThere);
            }
        }
    }

    /// The valid rows. Reports the others.
    fn parse<T>(
        &mut self,
        table: Table,
        columns: &[Column],
        records: &[Record],
        parse: impl Fn(&[Column], &Record) -> Result<T, Vec<Rejection>>,
        seen: &mut IdSet,
        id: impl Fn(&T) -> i64,
    ) -> Vec<T> {
        let mut parsed = Vec::with_capacity(records.len());
        for record in records {
            let label = parse::label(columns, record);
            let rejections = match parse(columns, record) {
                Ok(row) if seen.insert(id(&row)) => {
                    parsed.push(row);
                    continue;
                }
                Ok(_) => {
                    self.tell(table, &label, "id", DriftKind::DoubledThere);
                    continue;
                }
                Err(rejections) => {
                    // The row is there, if it has an id.
                    if let Ok(id) = label.parse() {
                        seen.insert(id);
                    }
                    rejections
                }
            };
            self.tell_invalid(table, &label, &rejections);
        }
        parsed
    }

    async fn named(&mut self, table: NamedTable, rows: Vec<NamedRow>) -> Result<(), ImportError> {
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let mut stored = self.store.named_rows(table, &ids, &[]).await?;
        let table = Table::Named(table);
        for NamedRow { id, name } in rows {
            match stored.remove(&id) {
                None => self.tell(table, id, "", DriftKind::MissingHere),
                Some(here) if here != name => self.differs(table, id, "name", (here, name)),
                Some(_) => {}
            }
        }
        Ok(())
    }

    async fn accounts(&mut self, accounts: Vec<ImportedAccount>) -> Result<(), ImportError> {
        let ids: Vec<_> = accounts.iter().map(|account| account.id).collect();
        let stored = self.store.accounts(&ids).await?;
        for account in accounts {
            let id = account.id;
            match stored.get(&id) {
                None => self.tell(Table::Accounts, id, "", DriftKind::MissingHere),
                // Its values cannot be compared.
                Some(None) => self.tell(Table::Accounts, id, "", DriftKind::Differs),
                Some(Some(stored)) => {
                    for (column, here, there) in difference::fixed_columns(&account, stored) {
                        self.differs(Table::Accounts, id, column, (here, there));
                    }
                    for (field, there) in difference::details(&account, stored) {
                        let values = (text_of(&stored.user.values[*field]), text_of(there));
                        self.differs(Table::Accounts, id, field.name(), values);
                    }
                }
            }
        }
        Ok(())
    }

    async fn rights(&mut self, mut rows: SourceRows<'_>) -> Result<(), ImportError> {
        let table = Table::GroupRights;
        let mut stored: BTreeMap<_, _> = self.store.group_rights().await?;
        let mut seen = BTreeSet::new();
        loop {
            let records = rows.next().await?;
            if records.is_empty() {
                break;
            }
            let columns = rows.columns();
            let mut rights = Vec::with_capacity(records.len());
            for record in &records {
                match parse::right(columns, record) {
                    Ok(right) => rights.push(right),
                    Err(rejections) => {
                        self.tell_invalid(table, &parse::label(columns, record), &rejections);
                    }
                }
            }
            for right in rights {
                let group = right.manager_group_id;
                let key = (group, right.name);
                let stored = stored.remove(&key);
                if !seen.insert(key) {
                    self.tell(table, group, "name", DriftKind::DoubledThere);
                    continue;
                }
                match stored {
                    None => self.tell(table, group, "", DriftKind::MissingHere),
                    Some(level) if level != Some(right.level) => {
                        let here = level.map_or("", Level::as_str).to_owned();
                        let there = right.level.as_str().to_owned();
                        self.differs(table, group, "level", (here, there));
                    }
                    Some(_) => {}
                }
            }
        }
        for (group, _) in stored.into_keys() {
            self.tell(table, group, "", DriftKind::MissingThere);
        }
        Ok(())
    }

    fn tell_invalid(&mut self, table: Table, label: &str, rejections: &[Rejection]) {
        for Rejection { field, .. } in rejections {
            self.tell(table, label, field, DriftKind::InvalidThere);
        }
    }

    fn tell(&mut self, table: Table, id: impl Display, field: &'static str, drift: DriftKind) {
        let (table, id) = (table.as_str(), id.to_string());
        (self.receive)(Drift { table, id, field, drift, here: None, there: None });
    }

    fn differs(
        &mut self,
        table: Table,
        id: i64,
        field: &'static str,
        (here, there): (String, String),
    ) {
        let (table, id) = (table.as_str(), id.to_string());
        let (here, there) = (Some(here), Some(there));
        (self.receive)(Drift { table, id, field, drift: DriftKind::Differs, here, there });
    }
}

/// A value as text. No value is empty.
fn text_of(value: &Value) -> String {
    match value {
        Value::None => String::new(),
        Value::Id(id) => id.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Flag(flag) => u8::from(*flag).to_string(),
        Value::Text(text) => text.clone(),
        Value::Micros(micros) => micros_to_text(*micros),
        Value::List(mode) => mode.as_str().to_owned(),
        Value::Date(date) => date.to_string(),
    }
}
