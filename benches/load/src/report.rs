//! The results as a table, JSON and a plot.

use std::{collections::BTreeMap, fs, time::Duration};

use plotters::prelude::*;
use serde::Serialize;

use crate::{
    Arguments,
    callers::{Run, count},
};

/// A path of an update, or of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Path {
    /// The same statements without the service; on SQLite one commit each.
    Limit,
    /// On SQLite: 32 updates in each commit.
    LimitOf32,
    /// `UpdateUserDetails`.
    Rpc,
    /// The legacy call, in the service's process.
    Door,
    /// The legacy call through a door of its own.
    FarDoor,
    /// `GetUserDetails`.
    Get,
}

impl Path {
    pub(crate) const ALL: [Self; 6] =
        [Self::Limit, Self::LimitOf32, Self::Rpc, Self::Door, Self::FarDoor, Self::Get];
}

/// The runs of one path at one number of callers.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) engine: &'static str,
    pub(crate) path: Path,
    pub(crate) callers: usize,
    pub(crate) runs: Vec<Run>,
}

/// A row of the table.
#[derive(Clone, Debug, Serialize)]
struct Row {
    engine: &'static str,
    callers: usize,
    path: Path,
    /// Calls a second, the median of the rounds.
    rate: f64,
    /// Milliseconds.
    p50: f64,
    p99: f64,
    p999: f64,
    /// The rate by that of the limit at the same number of callers.
    to_limit: Option<f64>,
    /// The median time by that of the limit.
    p50_to_limit: Option<f64>,
}

impl Measured {
    fn row(&self) -> Row {
        let mut rates: Vec<f64> = self.runs.iter().map(|run| run.rate).collect();
        rates.sort_by(f64::total_cmp);
        let mut times: Vec<Duration> = self.runs.iter().flat_map(|run| run.times.clone()).collect();
        times.sort();
        let percentile = |permille: usize| {
            let index = (times.len() * permille / 1000).min(times.len().saturating_sub(1));
            times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
        };
        Row {
            engine: self.engine,
            callers: self.callers,
            path: self.path,
            rate: rates[rates.len() / 2],
            p50: percentile(500),
            p99: percentile(990),
            p999: percentile(999),
            to_limit: None,
            p50_to_limit: None,
        }
    }
}

/// Prints the table, and writes JSON and the plot.
pub(crate) fn write(measured: &[Measured], arguments: &Arguments) {
    let mut rows: Vec<Row> = measured.iter().map(Measured::row).collect();
    let limits: BTreeMap<(&str, usize), (f64, f64)> = rows
        .iter()
        .filter(|row| row.path == Path::Limit)
        .map(|row| ((row.engine, row.callers), (row.rate, row.p50)))
        .collect();
    for row in &mut rows {
        if let Some((rate, p50)) = limits.get(&(row.engine, row.callers)) {
            row.to_limit = Some(row.rate / rate);
            row.p50_to_limit = Some(row.p50 / p50);
        }
    }
    println!(
        "\n| engine | callers | path | a second | p50 ms | p99 ms | p99.9 ms | ÷ limit | p50 ÷ limit |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for row in &rows {
        println!(
            "| {} | {} | {:?} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            row.engine,
            row.callers,
            row.path,
            row.rate,
            row.p50,
            row.p99,
            row.p999,
            row.to_limit.unwrap_or_default(),
            row.p50_to_limit.unwrap_or_default(),
        );
    }
    fs::create_dir_all(&arguments.out).unwrap();
    fs::write(arguments.out.join("load.json"), serde_json::to_string_pretty(&rows).unwrap())
        .unwrap();
    plot(&rows, &arguments.out.join("load.svg"));
    println!("\nwritten to {}", arguments.out.display());
}

/// Throughput and p99 against callers, a row of charts for each engine.
fn plot(rows: &[Row], file: &std::path::Path) {
    let mut engines: Vec<&str> = rows.iter().map(|row| row.engine).collect();
    engines.dedup();
    let height = u32::try_from(engines.len() * 320).unwrap();
    let area = SVGBackend::new(file, (1100, height)).into_drawing_area();
    area.fill(&WHITE).unwrap();
    for (area, engine) in area.split_evenly((engines.len(), 1)).iter().zip(engines) {
        let own: Vec<&Row> = rows.iter().filter(|row| row.engine == engine).collect();
        let charts = area.split_evenly((1, 2));
        chart(&charts[0], &format!("{engine}: calls a second"), &own, |row| row.rate);
        chart(&charts[1], &format!("{engine}: p99, ms"), &own, |row| row.p99);
    }
    area.present().unwrap();
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    rows: &[&Row],
    value: impl Fn(&Row) -> f64,
) {
    let most = rows.iter().map(|row| value(row)).fold(1.0, f64::max);
    let callers = rows.iter().map(|row| count(row.callers)).fold(2.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(60)
        .build_cartesian_2d((1.0..callers).log_scale(), 0.0..most * 1.1)
        .unwrap();
    chart.configure_mesh().x_desc("callers").draw().unwrap();
    for (number, path) in Path::ALL.into_iter().enumerate() {
        let points: Vec<_> = rows
            .iter()
            .filter(|row| row.path == path)
            .map(|row| (count(row.callers), value(row)))
            .collect();
        if points.is_empty() {
            continue;
        }
        let color = Palette99::pick(number).mix(1.0);
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))
            .unwrap()
            .label(format!("{path:?}"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).draw().unwrap();
}
