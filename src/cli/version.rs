//! The version of the program, of its source and of its schema.

use std::sync::LazyLock;

use m4_user_details_migrations::steps;

static LONG: LazyLock<String> = LazyLock::new(|| {
    let schema = steps().last().map_or("none", |step| step.name());
    format!(
        "{}\ncommit: {}\nbuilt: {}\nschema: {schema}",
        env!("CARGO_PKG_VERSION"),
        env!("M4_BUILD_COMMIT"),
        env!("M4_BUILD_TIME"),
    )
});

/// Version, commit, time of the build, and the last step of the schema.
pub(super) fn long() -> &'static str {
    &LONG
}
