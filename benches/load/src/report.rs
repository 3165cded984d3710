//! The results as tables, JSON and plots.

use std::{fs, path::Path as Folder};

use serde::Serialize;

use crate::{
    goals::{self, to_smallest},
    measured::Row,
    plot,
    scenes::Played,
};

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Results {
    /// The size of the program, in MB.
    pub(crate) binary: f64,
    /// The scenes on each engine.
    pub(crate) engines: Vec<Played>,
}

impl Results {
    /// Nothing yet but the size of the program.
    pub(crate) fn new(binary: f64) -> Self {
        Self { binary, engines: Vec::new() }
    }

    /// Adds an engine.
    pub(crate) fn add(&mut self, played: Played) {
        self.engines.push(played);
    }

    fn rows(&self, rows: impl Fn(&Played) -> &Vec<Row>) -> Vec<Row> {
        self.engines.iter().flat_map(|played| rows(played).clone()).collect()
    }
}

/// Prints the tables, and writes JSON and the plots into a folder.
pub(crate) fn write(results: &Results, folder: &Folder) {
    let paths = results.rows(|played| &played.paths);
    let sizes = results.rows(|played| &played.sizes);
    let goals = goals::goals(results);
    fs::create_dir_all(folder).unwrap();
    let save = |name: &str, json: String| fs::write(folder.join(name), json).unwrap();
    save("load.json", serde_json::to_string_pretty(results).unwrap());
    save("goals.json", serde_json::to_string_pretty(&goals).unwrap());
    if !paths.is_empty() {
        print_paths(&paths);
        plot::against_callers(&paths, &folder.join("load.svg"));
    }
    if !sizes.is_empty() {
        print_sizes(results);
        plot::against_users(&sizes, &folder.join("sizes.svg"));
    }
    goals::print(&goals);
    println!("\nwritten to {}", folder.display());
}

fn print_paths(rows: &[Row]) {
    println!(
        "\n| engine | callers | path | a second | p50 ms | p99 ms | p99.9 ms | ÷ limit | p50 ÷ limit | memory MB |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for row in rows {
        let figures = row.figures;
        println!(
            "| {} | {} | {:?} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
            row.case.engine,
            row.case.callers,
            row.path,
            figures.rate,
            figures.p50,
            figures.p99,
            figures.p999,
            row.to_limit.unwrap_or_default(),
            row.p50_to_limit.unwrap_or_default(),
            row.peak.map_or("—".to_owned(), |peak| format!("{peak:.0}")),
        );
    }
}

fn print_sizes(results: &Results) {
    println!(
        "\n| engine | users | log | callers | path | a second | p99 ms | ÷ limit | ÷ smallest |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for played in &results.engines {
        for row in &played.sizes {
            println!(
                "| {} | {} | {} | {} | {:?} | {:.0} | {:.2} | {:.2} | {:.2} |",
                row.case.engine,
                row.case.users,
                row.case.log_rows,
                row.case.callers,
                row.path,
                row.figures.rate,
                row.figures.p99,
                row.to_limit.unwrap_or_default(),
                to_smallest(&played.sizes, row).unwrap_or_default(),
            );
        }
    }
}
