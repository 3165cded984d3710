//! The tables in the documentation that the code generates.
//!
//! A table stands between `<!-- generated: NAME -->` and `<!-- end -->`.

use std::{collections::BTreeSet, fs};

use crate::{
    pages::{self, Page, root},
    reference,
};

const BEGIN: &str = "\n<!-- generated: ";
const END: &str = "<!-- end -->";
/// The variable that writes the tables instead of comparing them.
const WRITE: &str = "WRITE_DOCS";

/// The page with all its tables generated anew. Adds the names of the tables to `found`.
fn generated(page: &Page, found: &mut BTreeSet<String>) -> String {
    let mut parts = page.text.split(BEGIN);
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(" -->\n").unwrap();
        let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("{name} has no end"));
        let table = reference::table(name).unwrap_or_else(|| panic!("there is no table {name}"));
        assert!(found.insert(name.to_owned()), "{name} is in two places");
        text.push_str(&format!("{BEGIN}{name} -->\n\n{}\n\n{END}{after}", table.trim()));
    }
    text
}

#[test]
fn generated_tables_are_up_to_date() {
    let mut found = BTreeSet::new();
    let mut stale = Vec::new();
    for page in pages::all() {
        let text = generated(&page, &mut found);
        if text == page.text {
            continue;
        }
        if std::env::var_os(WRITE).is_some() {
            fs::write(root().join(&page.path), text).unwrap();
        } else {
            stale.push(page.path);
        }
    }
    assert_eq!(found, reference::NAMES.map(str::to_owned).into());
    assert!(stale.is_empty(), "run `{WRITE}=1 cargo test --test docs generated`: {stale:?}");
}
