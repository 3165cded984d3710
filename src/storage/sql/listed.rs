//! Rows of a list of users.

use sea_orm::{DbErr, QueryResult};

use super::{entities::account, stored::FromRow};
use crate::{
    domain::{
        account::User,
        listing::{Cursor, ListedUser, UnreadableUser},
    },
    fields::FIELDS,
    storage::{failure::Corrupt, unknown::Unreadable},
};

impl FromRow for ListedUser {
    const TABLE: &'static str = User::TABLE;
    type Row = account::Model;
    type Place = Cursor;

    fn from_row(row: account::Model) -> Result<Self, Corrupt> {
        User::from_row(row).map(Self::User)
    }

    fn place(&self) -> Cursor {
        match self {
            Self::User(user) => user.place(),
            Self::Unreadable(user) => user.place.clone(),
        }
    }

    fn place_of_row(row: &QueryResult) -> Result<(Cursor, String), DbErr> {
        User::place_of_row(row)
    }

    fn marker(place: Cursor, unreadable: &Unreadable) -> Result<Self, Cursor> {
        let (_, column) = unreadable.column();
        let field = FIELDS.into_iter().find(|field| field.name() == column);
        let field = field.map_or(column, |field| field.path()).to_owned();
        Ok(Self::Unreadable(UnreadableUser { place, field }))
    }
}
