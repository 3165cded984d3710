//! Relative links lead to files and headings that exist, and every page is in the summary.

use std::{collections::BTreeSet, fs, path::Path};

use crate::pages::{self, Page, prose, root};

/// The targets of the links and images of a page.
fn targets(page: &Page) -> Vec<&str> {
    let lines = prose(&page.text);
    let links = lines.flat_map(|line| line.split("](").skip(1));
    links.map(|rest| rest.split(')').next().unwrap()).collect()
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let mut anchors = BTreeSet::new();
    for heading in headings {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|letter| {
            letter.is_alphanumeric() || *letter == '-' || *letter == '_' || *letter == ' '
        });
        let anchor: String = kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect();
        assert!(anchors.insert(anchor), "two headings have one anchor: {heading}");
    }
    anchors
}

/// The problem of a link; `None` if it leads somewhere.
fn problem(page: &Page, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let folder = root().join(Path::new(&page.path).parent().unwrap());
    let path = if file.is_empty() { root().join(&page.path) } else { folder.join(file) };
    let Ok(path) = path.canonicalize() else {
        return Some(format!("{}: {target} does not exist", page.path));
    };
    let docs = root().join("docs").canonicalize().unwrap();
    if page.path.starts_with("docs/") && !path.starts_with(docs) {
        return Some(format!("{}: {target} is not in the book", page.path));
    }
    let is_known =
        anchor.is_empty() || anchors(&fs::read_to_string(path).unwrap()).contains(anchor);
    (!is_known).then(|| format!("{}: {target} has no such heading", page.path))
}

#[test]
fn relative_links_lead_somewhere() {
    let pages = pages::all();
    let mut count = 0;
    let mut problems = Vec::new();
    for page in &pages {
        let targets = targets(page);
        count += targets.len();
        problems.extend(targets.into_iter().filter_map(|target| problem(page, target)));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count >= 100, "{count} links were found");
}

#[test]
fn the_summary_has_every_page() {
    let pages = pages::all();
    let summary = pages.iter().find(|page| page.path == "docs/SUMMARY.md").unwrap();
    let listed: BTreeSet<_> =
        targets(summary).into_iter().map(|target| format!("docs/{target}")).collect();
    let paths = pages.iter().map(|page| page.path.clone());
    let expected: BTreeSet<_> =
        paths.filter(|path| path.starts_with("docs/") && path != "docs/SUMMARY.md").collect();
    assert_eq!(listed, expected);
}

#[test]
fn the_readme_is_short() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.lines().count() <= 150, "{} lines", readme.lines().count());
}

#[test]
fn the_rows_of_a_table_have_the_same_columns() {
    let mut problems = Vec::new();
    for page in pages::all() {
        let mut columns = None;
        for line in prose(&page.text) {
            let is_row = line.trim_start().starts_with('|');
            let count = line.replace("\\|", "").matches('|').count();
            match columns {
                Some(expected) if is_row && expected != count => {
                    problems.push(format!("{}: {line}", page.path));
                }
                _ => columns = is_row.then_some(count),
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
