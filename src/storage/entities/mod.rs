//! The tables as SeaORM sees them. Private to the storage.

pub(super) mod account;
pub(super) mod change_log;
pub(super) mod currency;
pub(super) mod direction;
pub(super) mod manager_group;
pub(super) mod manager_group_right;
pub(super) mod number_pool;
pub(super) mod setting;
