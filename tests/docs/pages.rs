//! The Markdown files of the documentation.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files outside `docs/` that belong to the documentation.
const OUTSIDE: [&str; 4] = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"];

/// A Markdown file.
pub struct Page {
    /// The path from the root of the repository.
    pub path: String,
    pub text: String,
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All pages.
pub fn all() -> Vec<Page> {
    let mut paths: Vec<_> = OUTSIDE.map(|name| root().join(name)).into();
    collect(&root().join("docs"), &mut paths);
    paths.sort();
    let pages = paths.into_iter().map(|path| Page {
        text: fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(),
    });
    pages.collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
}

/// The lines of a page outside code blocks.
pub fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}
