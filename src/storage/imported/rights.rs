//! Rights of manager groups.

use std::collections::BTreeMap;

use sea_orm::{
    ActiveValue::Set, DbErr, EntityTrait, QueryResult, QueryTrait, StatementBuilder,
    sea_query::Query,
};

use super::{NAMED_ROWS_PER_INSERT, RowInsert, ranges};
use crate::{
    domain::{
        account::Level,
        error::Error,
        imported::{Clash, GroupRight},
    },
    storage::{SqlStore, sql::entities::manager_group_right, texts::backend},
};

const RIGHTS_TABLE: &str = "manager_group_rights";

impl SqlStore {
    /// All rights, by group and name. A level of a newer version is `None`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn group_rights(&self) -> Result<BTreeMap<(i64, String), Option<Level>>, Error> {
        let mut select = Query::select();
        let select = select.columns(["manager_group_id", "name", "level"]).from(RIGHTS_TABLE);
        let select = StatementBuilder::build(&*select, &backend(self.engine()));
        let right = |row: QueryResult| -> Result<_, DbErr> {
            let level: String = row.try_get("", "level")?;
            let key = (row.try_get("", "manager_group_id")?, row.try_get("", "name")?);
            Ok((key, Level::from_word(&level)))
        };
        let rows = self.rows(RIGHTS_TABLE, select).await?;
        Ok(rows.into_iter().map(right).collect::<Result<_, _>>()?)
    }

    /// Inserts rights. Returns the refused rows by index.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn insert_group_rights(
        &self,
        rights: &[GroupRight],
    ) -> Result<Vec<(usize, Clash)>, Error> {
        let row = |right: &GroupRight| manager_group_right::ActiveModel {
            manager_group_id: Set(right.manager_group_id),
            name: Set(right.name.clone()),
            level: Set(right.level.as_str().to_owned()),
        };
        let insert = |rights: &[GroupRight]| {
            let insert = manager_group_right::Entity::insert_many(rights.iter().map(row));
            Ok(RowInsert::Statement(insert.build(backend(self.engine()))))
        };
        let ranges = ranges(rights, (NAMED_ROWS_PER_INSERT, usize::MAX), |_| 0);
        self.insert_all(RIGHTS_TABLE, rights, ranges, insert).await
    }
}
