//! The results as tables, JSON and plots.

use std::{fs, path::Path as Folder};

use crate::{
    goals::{self, to_smallest},
    measured::{Case, Figures, Row},
    plot,
    results::Results,
};

/// Prints the tables, and writes JSON and plots into a folder.
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
    print_builds(results);
    print_costs(results);
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

/// Compares another build with this build.
fn print_builds(results: &Results) {
    if results.engines.iter().all(|played| played.builds.is_empty()) {
        return;
    }
    println!("\n| engine | path | callers | before, a second | now, a second | now ÷ before |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for played in &results.engines {
        for own in &played.builds {
            println!(
                "| {} | {} | {} | {:.0} | {:.0} | {:.3} |",
                played.engine, own.path, own.callers, own.before.rate, own.now.rate, own.ratio
            );
        }
    }
}

/// Prints the cost per call.
fn print_costs(results: &Results) {
    println!(
        "\n| engine | users | log | callers | path | client µs | service µs | server µs | processors busy | bytes read | transactions | log bytes |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for played in &results.engines {
        let line = |users: &str, log: &str, callers: &str, path: &str, figures: Figures| {
            let cost = figures.cost;
            println!(
                "| {} | {users} | {log} | {callers} | {path} | {:.0} | {:.0} | {:.0} | {:.2} | {:.0} | {:.3} | {:.0} |",
                played.engine,
                cost.client,
                cost.service,
                cost.server,
                cost.busy,
                cost.read,
                cost.transactions,
                cost.log_bytes
            );
        };
        for row in played.paths.iter().chain(&played.sizes) {
            let Case { users, log_rows, callers, .. } = row.case;
            let numbers = [users, log_rows].map(|number| number.to_string());
            line(
                &numbers[0],
                &numbers[1],
                &callers.to_string(),
                &format!("{:?}", row.path),
                row.figures,
            );
        }
        let pair = |callers: &str, names: [&str; 2], figures: [Figures; 2]| {
            for (name, figures) in names.into_iter().zip(figures) {
                line("", "", callers, name, figures);
            }
        };
        if let Some(own) = played.replicas {
            pair("64", ["one replica", "two replicas"], [own.one, own.two]);
        }
        for own in &played.settings {
            let names = ["door, settings read", "door, settings believed"];
            pair(&own.callers.to_string(), names, [own.without, own.with]);
        }
        for own in &played.gather {
            let names = ["not gathered", "gathered"];
            pair(&own.callers.to_string(), names, [own.without, own.with]);
        }
        if let Some(own) = played.telemetry {
            pair("64", ["telemetry off", "telemetry on"], [own.off, own.on]);
        }
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
