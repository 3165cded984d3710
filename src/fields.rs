//! The field table: a crate, so that `migrations` has it, too.

pub use m4_user_details_fields::*;
