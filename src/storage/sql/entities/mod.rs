//! The SeaORM entities, private to the storage.

pub(in crate::storage) mod account;
pub(in crate::storage) mod administration_log;
pub(in crate::storage) mod change_log;
pub(in crate::storage) mod change_log_sweep;
pub(in crate::storage) mod currency;
pub(in crate::storage) mod database_epoch;
pub(in crate::storage) mod direction;
pub(in crate::storage) mod legacy_block;
pub(in crate::storage) mod legacy_client;
pub(in crate::storage) mod legacy_key;
pub(in crate::storage) mod manager_group;
pub(in crate::storage) mod manager_group_right;
pub(in crate::storage) mod number_pool;
pub(in crate::storage) mod request;
pub(in crate::storage) mod service_token;
pub(in crate::storage) mod setting;
pub(in crate::storage) mod token_key;
