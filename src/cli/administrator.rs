//! Who administers on the command line.

use std::env;

use crate::domain::administration::Administrator;

/// `cli:USER@HOST`: the name of the user, or its id if the environment has no name.
pub(super) fn administrator() -> Administrator {
    let name = |variable: &str| env::var(variable).ok().filter(|name| !name.is_empty());
    let user = name("USER").or_else(|| name("LOGNAME"));
    let user = user.unwrap_or_else(|| rustix::process::getuid().as_raw().to_string());
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let printable =
        |text: &str| text.chars().filter(|c| !c.is_control()).take(100).collect::<String>();
    let identity = format!("cli:{}@{}", printable(&user), printable(&host));
    Administrator { identity, ..Administrator::default() }
}
