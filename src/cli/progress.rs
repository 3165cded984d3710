//! Progress on standard error: a bar on a terminal, otherwise a line every few seconds.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::import::progress::Progress;

/// Time between two lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// The progress of one table at a time.
#[derive(Default)]
pub(super) struct TerminalProgress(Option<TableProgress>);

struct TableProgress {
    name: &'static str,
    rows: u64,
    start: Instant,
    last_line: Instant,
    /// `None` without a terminal.
    bar: Option<ProgressBar>,
}

impl Progress for TerminalProgress {
    fn begin(&mut self, table: &'static str) {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {msg}, {eta} left");
            let bar = ProgressBar::new(0).with_prefix(table);
            style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
        });
        let now = Instant::now();
        self.0 = Some(TableProgress { name: table, rows: 0, start: now, last_line: now, bar });
    }

    fn advance(&mut self, rows: usize, (position, total): (u64, u64)) {
        let Some(table) = &mut self.0 else { return };
        table.rows += rows as u64;
        let elapsed = table.start.elapsed();
        let rate = table.rows as f64 / elapsed.as_secs_f64().max(0.001);
        let text = format!("{} rows, {rate:.0} rows/s", table.rows);
        if let Some(bar) = &table.bar {
            bar.set_length(total.max(position));
            bar.set_position(position);
            bar.set_message(text);
        } else if table.last_line.elapsed() >= LINE_INTERVAL {
            table.last_line = Instant::now();
            let left = total.saturating_sub(position) as f64 / (position as f64).max(1.0);
            let left = HumanDuration(elapsed.mul_f64(left));
            let _ = writeln!(std::io::stderr(), "{}: {text}, {left} left", table.name);
        }
    }

    fn end(&mut self) {
        if let Some(TableProgress { bar: Some(bar), .. }) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}
