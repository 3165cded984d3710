//! The table `accounts`: logins, and the details of users. Detail columns have the names of the
//! field table, which reads and writes them.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "accounts")]
pub(in crate::storage) struct Model {
    #[sea_orm(primary_key)]
    pub(in crate::storage) id: i64,
    pub(in crate::storage) username: String,
    pub(in crate::storage) account_type: String,
    pub(in crate::storage) manager_group_id: Option<i64>,
    pub(in crate::storage) show_only_assigned_users: bool,
    pub(in crate::storage) version: i64,
    pub(in crate::storage) create_time: i64,
    pub(in crate::storage) update_time: i64,
    pub(in crate::storage) currency_id: Option<i64>,
    pub(in crate::storage) call_limit: i32,
    pub(in crate::storage) hidden: bool,
    pub(in crate::storage) responsible_manager_id: Option<i64>,
    pub(in crate::storage) hide_non_answered_calls: bool,
    pub(in crate::storage) blocked: bool,
    pub(in crate::storage) block_date: Option<Date>,
    pub(in crate::storage) block_conditional_use: bool,
    pub(in crate::storage) vat_number: String,
    pub(in crate::storage) clientid: String,
    pub(in crate::storage) first_name: String,
    pub(in crate::storage) last_name: String,
    pub(in crate::storage) accounting_number: String,
    pub(in crate::storage) agreement_number: String,
    pub(in crate::storage) language: String,
    pub(in crate::storage) agreement_date: Option<Date>,
    pub(in crate::storage) taxation_country: Option<i64>,
    pub(in crate::storage) address: String,
    pub(in crate::storage) city: String,
    pub(in crate::storage) postcode: String,
    pub(in crate::storage) county: String,
    pub(in crate::storage) state: String,
    pub(in crate::storage) mob_phone: String,
    pub(in crate::storage) phone: String,
    pub(in crate::storage) fax: String,
    pub(in crate::storage) direction_id: Option<i64>,
    pub(in crate::storage) email: String,
    pub(in crate::storage) warning_email_active: bool,
    pub(in crate::storage) warning_email_balance: i64,
    pub(in crate::storage) warning_email_hour: i32,
    pub(in crate::storage) tax1_name: String,
    pub(in crate::storage) tax2_name: String,
    pub(in crate::storage) tax3_name: String,
    pub(in crate::storage) tax4_name: String,
    pub(in crate::storage) tax1_value: i64,
    pub(in crate::storage) tax2_value: i64,
    pub(in crate::storage) tax3_value: i64,
    pub(in crate::storage) tax4_value: i64,
    pub(in crate::storage) tax2_enabled: bool,
    pub(in crate::storage) tax3_enabled: bool,
    pub(in crate::storage) tax4_enabled: bool,
    pub(in crate::storage) generate_invoice: bool,
    pub(in crate::storage) enable_static_source_list: String,
    pub(in crate::storage) enable_static_list: String,
    pub(in crate::storage) static_source_list_id: Option<i64>,
    pub(in crate::storage) static_list_id: Option<i64>,
    pub(in crate::storage) comment: String,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::storage) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
