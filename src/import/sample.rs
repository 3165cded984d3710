//! Example files: CSV files of every table and a commented mapping file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::error::ImportError;

/// The name of the mapping file.
const MAPPING: &str = "mapping.toml";

/// The example files by name.
const FILES: [(&str, &str); 7] = [
    (MAPPING, include_str!("sample/mapping.toml")),
    ("currencies.csv", include_str!("sample/currencies.csv")),
    ("directions.csv", include_str!("sample/directions.csv")),
    ("number_pools.csv", include_str!("sample/number_pools.csv")),
    ("manager_groups.csv", include_str!("sample/manager_groups.csv")),
    ("manager_group_rights.csv", include_str!("sample/manager_group_rights.csv")),
    ("accounts.csv", include_str!("sample/accounts.csv")),
];

/// Writes the example files to a directory, which is created. Replaces no file. Returns the path of
/// the mapping file.
pub(crate) fn write(directory: &Path) -> Result<PathBuf, ImportError> {
    let fails = |file: &Path, error| ImportError::File { file: file.to_owned(), error };
    fs::create_dir_all(directory).map_err(|error| fails(directory, error))?;
    for (name, text) in FILES {
        let path = directory.join(name);
        let file = fs::File::create_new(&path);
        let written =
            file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
        written.map_err(|error| fails(&path, error))?;
    }
    Ok(directory.join(MAPPING))
}
