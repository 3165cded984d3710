//! What telemetry costs a call where it is off: the share of its source files in the instructions of the call.

use std::{
    collections::HashMap,
    fmt::{self, Display, Formatter},
};

use crate::{calls::Call, instructions};

/// What it may be at most, in percent.
const MOST: f64 = 1.0;
/// How many calls are counted.
const CALLS: usize = 200;
/// Parts of the paths of its source files: the project's own, and those of the libraries that it uses for nothing else. What
/// they call of the standard library, and what a macro does where it stands, is not told apart: it is a little more.
const OWN: [&str; 8] = [
    "src/trace.rs",
    "src/telemetry",
    "src/grpc/metered.rs",
    "src/storage/spans.rs",
    "/opentelemetry",
    "/tracing-opentelemetry",
    "/src/span.rs",
    "/src/instrument.rs",
];

/// The instructions of a call.
pub(crate) struct Share {
    call: &'static str,
    own: u64,
    all: u64,
}

impl Share {
    fn percent(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = self.own as f64 / self.all as f64;
        share * 100.0
    }

    /// Whether it is as small as it is to be. Where there is none, it was not found.
    pub(crate) fn is_small(&self) -> bool {
        self.own > 0 && self.percent() <= MOST
    }
}

impl Display for Share {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let (own, all, percent) = (self.own, self.all, self.percent());
        write!(
            formatter,
            "{}: telemetry that is off {own} of {all} instructions, {percent:.2} % (at most {MOST} %)",
            self.call
        )
    }
}

/// Counts it: the difference between some calls and twice as many, so that neither the start nor the schema counts.
pub(crate) fn share(call: &Call) -> Share {
    let profile = |calls: usize| {
        by_file(&instructions::profile(&["--call", call.name, "--times", &calls.to_string()]))
    };
    let (once, twice) = (profile(CALLS), profile(2 * CALLS));
    let mut share = Share { call: call.name, own: 0, all: 0 };
    for (file, twice) in twice {
        let more = twice.saturating_sub(once.get(&file).copied().unwrap_or_default());
        share.all += more / CALLS as u64;
        if OWN.iter().any(|own| file.contains(own)) {
            share.own += more / CALLS as u64;
        }
    }
    share
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
