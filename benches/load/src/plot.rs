//! Plots of throughput and p99.

use std::path::Path as File;

use plotters::{coord::Shift, prelude::*};

use crate::{
    measured::{Row, count},
    path::Path,
};

/// A curve of a chart; `color` is an index of the palette.
struct Curve {
    label: String,
    color: usize,
    points: Vec<(f64, f64)>,
}

/// Throughput and p99 by callers; one row of charts per engine.
pub(crate) fn against_callers(rows: &[Row], file: &File) {
    draw(rows, file, "callers", |rows, value| {
        let curve = |(color, path): (usize, Path)| {
            let own = rows.iter().filter(|row| row.path == path);
            let points = own.map(|row| (count(row.case.callers), value(row))).collect();
            Curve { label: format!("{path:?}"), color, points }
        };
        Path::ALL.into_iter().enumerate().map(curve).collect()
    });
}

/// Throughput and p99 by number of users; one row of charts per engine.
pub(crate) fn against_users(rows: &[Row], file: &File) {
    draw(rows, file, "users", |rows, value| {
        let mut curves: Vec<Curve> = Vec::new();
        for row in rows.iter().filter(|row| row.case.log_rows == 0) {
            let label = format!("{:?}, {} callers", row.path, row.case.callers);
            let point = (count(usize::try_from(row.case.users).unwrap()), value(row));
            match curves.iter_mut().find(|curve| curve.label == label) {
                Some(curve) => curve.points.push(point),
                None => curves.push(Curve { label, color: curves.len(), points: vec![point] }),
            }
        }
        curves
    });
}

/// Draws the two charts of each engine: throughput and p99.
fn draw(
    rows: &[Row],
    file: &File,
    axis: &str,
    curves: impl Fn(&[Row], &dyn Fn(&Row) -> f64) -> Vec<Curve>,
) {
    let engines: Vec<&[Row]> =
        rows.chunk_by(|one, other| one.case.engine == other.case.engine).collect();
    let height = u32::try_from(engines.len() * 320).unwrap();
    let area = SVGBackend::new(file, (1100, height)).into_drawing_area();
    area.fill(&WHITE).unwrap();
    for (area, rows) in area.split_evenly((engines.len(), 1)).iter().zip(engines) {
        let charts = area.split_evenly((1, 2));
        let engine = rows[0].case.engine;
        let (rate, p99) =
            (curves(rows, &|row| row.figures.rate), curves(rows, &|row| row.figures.p99));
        chart(&charts[0], &format!("{engine}: calls a second"), axis, rate);
        chart(&charts[1], &format!("{engine}: p99, ms"), axis, p99);
    }
    area.present().unwrap();
}

fn chart(area: &DrawingArea<SVGBackend<'_>, Shift>, title: &str, axis: &str, curves: Vec<Curve>) {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let least = points().map(|point| point.0).fold(f64::MAX, f64::min);
    let most = points().map(|point| point.0).fold(least * 2.0, f64::max);
    let highest = points().map(|point| point.1).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d((least..most).log_scale(), 0.0..highest * 1.1)
        .unwrap();
    chart.configure_mesh().x_desc(axis).draw().unwrap();
    for Curve { label, color, points } in curves {
        if points.is_empty() {
            continue;
        }
        let color = Palette99::pick(color).mix(1.0);
        let dots = points.iter().map(|point| Circle::new(*point, 3, color.filled()));
        chart.draw_series(dots.collect::<Vec<_>>()).unwrap();
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))
            .unwrap()
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).draw().unwrap();
}
