//! The table `accounts`: who logs in, and the details of the users among them. The columns of details bear the names
//! of the field table, through which they are read and written.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "accounts")]
pub(crate) struct Model {
    #[sea_orm(primary_key)]
    pub(crate) id: i64,
    pub(crate) username: String,
    pub(crate) account_type: String,
    pub(crate) manager_group_id: Option<i64>,
    pub(crate) show_only_assigned_users: bool,
    pub(crate) version: i64,
    pub(crate) create_time: i64,
    pub(crate) update_time: i64,
    pub(crate) currency_id: Option<i64>,
    pub(crate) call_limit: i32,
    pub(crate) hidden: bool,
    pub(crate) responsible_manager_id: Option<i64>,
    pub(crate) hide_non_answered_calls: bool,
    pub(crate) blocked: bool,
    pub(crate) block_date: Option<Date>,
    pub(crate) block_conditional_use: bool,
    pub(crate) vat_number: String,
    pub(crate) clientid: String,
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    pub(crate) accounting_number: String,
    pub(crate) agreement_number: String,
    pub(crate) language: String,
    pub(crate) agreement_date: Option<Date>,
    pub(crate) taxation_country: Option<i64>,
    pub(crate) address: String,
    pub(crate) city: String,
    pub(crate) postcode: String,
    pub(crate) county: String,
    pub(crate) state: String,
    pub(crate) mob_phone: String,
    pub(crate) phone: String,
    pub(crate) fax: String,
    pub(crate) direction_id: Option<i64>,
    pub(crate) email: String,
    pub(crate) warning_email_active: bool,
    pub(crate) warning_email_balance: i64,
    pub(crate) warning_email_hour: i32,
    pub(crate) tax1_name: String,
    pub(crate) tax2_name: String,
    pub(crate) tax3_name: String,
    pub(crate) tax4_name: String,
    pub(crate) tax1_value: i64,
    pub(crate) tax2_value: i64,
    pub(crate) tax3_value: i64,
    pub(crate) tax4_value: i64,
    pub(crate) tax2_enabled: bool,
    pub(crate) tax3_enabled: bool,
    pub(crate) tax4_enabled: bool,
    pub(crate) generate_invoice: bool,
    pub(crate) enable_static_source_list: String,
    pub(crate) enable_static_list: String,
    pub(crate) static_source_list_id: Option<i64>,
    pub(crate) static_list_id: Option<i64>,
    pub(crate) comment: String,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
