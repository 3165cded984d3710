//! What telemetry costs a call: where it is off, the share of its source files in the instructions of the call; and how many more
//! there are where it is on.

use std::{
    collections::HashMap,
    fmt::{self, Display, Formatter},
};

use crate::{calls::Call, instructions};

/// What it may be at most where it is off, in percent.
const MOST_OFF: f64 = 1.0;
/// What it may add at most where it is on, in percent. It adds 3 to 5, by runs that differ by one and more: threads wait for each other
/// now in this way and now in that. The rate of calls falls by less, as others than the service use processors, too.
const MOST_ON: f64 = 8.0;
/// How many calls are counted.
const CALLS: usize = 200;
/// Parts of the paths of its source files: the project's own, and those of the libraries that it uses for nothing else. What
/// they call of the standard library, and what a macro does where it stands, is not told apart: it is a little more.
const OWN: [&str; 8] = [
    "src/trace.rs",
    "src/telemetry",
    "src/grpc/metered.rs",
    "src/grpc/unserved.rs",
    "src/legacy/observed.rs",
    "src/storage/gate.rs",
    "src/storage/spans.rs",
    "/opentelemetry",
];
const OFF: [(&str, &str); 1] = [("OTEL_SDK_DISABLED", "true")];
/// As in the benchmark: metrics and traces, to a receiver that is not there.
const ON: [(&str, &str); 2] =
    [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_LOGS_EXPORTER", "none")];
/// One call in so many is sampled.
const SAMPLED: u64 = 100;

/// The instructions of a call.
pub(crate) struct Cost {
    call: &'static str,
    /// Those of telemetry's own files, where it is off.
    own: u64,
    off: u64,
    on: u64,
}

impl Cost {
    /// What telemetry takes where it is off, and what it adds where it is on, in percent.
    fn percent(&self) -> [f64; 2] {
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let [own, off, on] = [self.own, self.off, self.on].map(|number| number as f64);
        [own / off * 100.0, (on / off - 1.0) * 100.0]
    }

    /// Whether it is as small as it is to be. Where there is none, it was not found.
    pub(crate) fn is_small(&self) -> bool {
        let [off, on] = self.percent();
        self.own > 0 && off <= MOST_OFF && on <= MOST_ON
    }
}

impl Display for Cost {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let [off, on] = self.percent();
        write!(
            formatter,
            "{}: {} instructions, of which telemetry that is off {}, {off:.2} % (at most {MOST_OFF} %); {} where it is on, {on:.2} % more (at most {MOST_ON} %)",
            self.call, self.off, self.own, self.on
        )
    }
}

/// Counts it.
pub(crate) fn cost(call: &Call) -> Cost {
    let off = files(call, &[], &OFF);
    let own = off.iter().filter(|(file, _)| OWN.iter().any(|own| file.contains(own)));
    Cost {
        call: call.name,
        own: own.map(|(_, count)| count).sum(),
        off: off.values().sum(),
        on: on(call),
    }
}

/// The instructions where telemetry is on: of those that are sampled and those that are not, by their parts, as chance would not
/// sample the same number each time.
fn on(call: &Call) -> u64 {
    let count = |sampler| {
        let variables = [&ON[..], &[("OTEL_TRACES_SAMPLER", sampler)]].concat();
        files(call, &["--measured"], &variables).values().sum::<u64>()
    };
    (count("always_off") * (SAMPLED - 1) + count("always_on")) / SAMPLED
}

/// The instructions of a call by source file: the difference between some calls and twice as many, so that neither the start nor the
/// schema counts.
fn files(call: &Call, arguments: &[&str], variables: &[(&str, &str)]) -> HashMap<String, u64> {
    let profile = |calls: usize| {
        let calls = calls.to_string();
        let own = ["--call", call.name, "--times", &calls];
        by_file(&instructions::profile(&[&own[..], arguments].concat(), variables))
    };
    let (once, mut files) = (profile(CALLS), profile(2 * CALLS));
    for (file, count) in &mut files {
        let more = count.saturating_sub(once.get(file).copied().unwrap_or_default());
        *count = more / CALLS as u64;
    }
    files
}

/// The instructions of each source file, of inlined code too, in a profile as callgrind writes it.
fn by_file(profile: &str) -> HashMap<String, u64> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let (mut costs, mut file, mut is_call) = (HashMap::new(), "", false);
    for line in profile.lines() {
        let of = |keys: &[&str]| keys.iter().find_map(|key| line.strip_prefix(key));
        let (own, called) = (of(&["fl=", "fi=", "fe="]), of(&["cfl=", "cfi="]));
        if let Some(named) = own.or(called) {
            // A file has its name where it comes first, and then a number.
            let (number, name) = named.split_once(' ').unwrap_or((named, ""));
            if !name.is_empty() {
                names.insert(number, name);
            }
            if own.is_some() {
                file = names.get(number).copied().unwrap_or_default();
            }
        } else if line.starts_with("calls=") {
            // What is called is counted where it stands.
            is_call = true;
        } else if line.starts_with(['+', '-', '*'])
            || line.starts_with(|first: char| first.is_ascii_digit())
        {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok());
            if !std::mem::take(&mut is_call) {
                *costs.entry(file.to_owned()).or_default() += cost.unwrap_or_default();
            }
        }
    }
    costs
}
