//! The cost of telemetry per call. Disabled: the share of its source files in all instructions.
//! Enabled: the additional instructions.

use std::{
    collections::HashMap,
    fmt::{self, Display, Formatter},
};

use crate::{calls::Call, instructions};

/// Maximum share if disabled, in percent.
const MOST_OFF: f64 = 1.0;
/// Maximum increase if enabled, in percent. It is 3 to 5; runs differ by 1 or more, as threads wait
/// in varying ways. The call rate falls by less, since other processes use CPU, too.
const MOST_ON: f64 = 8.0;
/// Number of counted calls. The start varies by millions of instructions: with 200 calls by a fifth of the result.
const CALLS: usize = 1000;
/// Path parts of telemetry's source files, and of libraries that only telemetry uses. Calls into
/// std and macro expansions do not count: the real share is slightly larger.
const OWN: [&str; 8] = [
    "src/trace.rs",
    "src/telemetry",
    "src/grpc/layers/observe.rs",
    "src/grpc/layers/observed_call.rs",
    "src/grpc/metrics.rs",
    "src/gateway/telemetry.rs",
    "src/storage/query_telemetry.rs",
    "/opentelemetry",
];
const OFF: [(&str, &str); 1] = [("OTEL_SDK_DISABLED", "true")];
/// As in the load benchmark: metrics and traces, to an unreachable receiver.
const ON: [(&str, &str); 2] =
    [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_LOGS_EXPORTER", "none")];
/// One in this number of calls is sampled.
const SAMPLED: u64 = 100;

/// The instructions of a call.
pub(crate) struct Cost {
    call: &'static str,
    /// Instructions in telemetry's own files, if telemetry is disabled.
    own: u64,
    off: u64,
    on: u64,
}

impl Cost {
    /// The share if telemetry is disabled, and the increase if enabled, in percent.
    fn percent(&self) -> [f64; 2] {
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let [own, off, on] = [self.own, self.off, self.on].map(|number| number as f64);
        [own / off * 100.0, (on / off - 1.0) * 100.0]
    }

    /// Whether the cost is within its limits. A share of 0 means that telemetry was not found.
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

/// Counts the instructions of a call.
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

/// The instructions if telemetry is enabled: the weighted mean of sampled and unsampled calls.
/// Random sampling would vary.
fn on(call: &Call) -> u64 {
    let count = |sampler| {
        let variables = [&ON[..], &[("OTEL_TRACES_SAMPLER", sampler)]].concat();
        files(call, &["--measured"], &variables).values().sum::<u64>()
    };
    (count("always_off") * (SAMPLED - 1) + count("always_on")) / SAMPLED
}

/// The instructions of a call by source file. The difference between `CALLS` and `2 * CALLS` calls
/// excludes the start and the schema.
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

/// The instructions of each source file, including inlined code, from a callgrind profile.
fn by_file(profile: &str) -> HashMap<String, u64> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let (mut costs, mut file, mut is_call) = (HashMap::new(), "", false);
    for line in profile.lines() {
        let of = |keys: &[&str]| keys.iter().find_map(|key| line.strip_prefix(key));
        let (own, called) = (of(&["fl=", "fi=", "fe="]), of(&["cfl=", "cfi="]));
        if let Some(named) = own.or(called) {
            // callgrind writes a file's name once, and then only its number.
            let (number, name) = named.split_once(' ').unwrap_or((named, ""));
            if !name.is_empty() {
                names.insert(number, name);
            }
            if own.is_some() {
                file = names.get(number).copied().unwrap_or_default();
            }
        } else if line.starts_with("calls=") {
            // The callee's cost counts in its own file.
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
