//! The service's own steps in a call, on the values of real calls.
#![allow(clippy::expect_used, reason = "a benchmark may stop at any failure")]

mod sample;
pub mod table;

use std::{fmt, hint::black_box};

use m4_user_details::{
    app::DEMO_KEY,
    domain::{
        hash::{Recipe, SecretKeys},
        rules,
    },
    measured::{Answer, Parameters, edits, paths, translate, user_details, values},
    proto::UpdateUserDetailsResponse,
};

/// A step with its input. Dropping input and output counts, as in a call.
pub type Work = Box<dyn FnOnce()>;

/// A step of the service in a call.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// The name.
    pub name: &'static str,
    /// Prepares the input.
    pub prepare: fn() -> Work,
}

impl fmt::Display for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// All workloads, in the order of a call.
pub const WORKLOADS: [Workload; 9] = [
    Workload { name: "query string to parameters", prepare: parse },
    Workload { name: "parameters to request", prepare: translation },
    Workload { name: "hash check", prepare: hash_check },
    Workload { name: "legacy request to edits, with a mask", prepare: masked_edits },
    Workload { name: "RPC request to edits, without a mask", prepare: present_edits },
    Workload { name: "rules: validation and change diff", prepare: change },
    Workload { name: "user to answer", prepare: answer },
    Workload { name: "XML of a success", prepare: success },
    Workload { name: "XML of an error with three messages", prepare: error },
];

fn work<O>(work: impl FnOnce() -> O + 'static) -> Work {
    Box::new(move || {
        black_box(work());
    })
}

fn parse() -> Work {
    work(|| Parameters::from_form(black_box(sample::CALL).as_bytes()))
}

fn translation() -> Work {
    let parameters = Parameters::from_form(sample::CALL.as_bytes());
    work(move || translate(&parameters, "POST", "192.0.2.7"))
}

fn hash_check() -> Work {
    let keys = SecretKeys::new([DEMO_KEY.into()]);
    work(move || {
        let right = keys.accept(
            &[Recipe::UsernameUserId],
            black_box(sample::USERNAME),
            black_box(sample::USER_ID),
            black_box(sample::HASH),
        );
        assert!(right, "the sample's hash is right");
    })
}

fn masked_edits() -> Work {
    let request = sample::request(sample::CALL);
    work(move || edits(request.user_details.unwrap_or_default(), request.update_mask.as_ref()))
}

fn present_edits() -> Work {
    let details = sample::request(sample::CALL).user_details.unwrap_or_default();
    work(move || edits(details, None))
}

fn change() -> Work {
    work(|| rules::apply(&sample::UPDATE, sample::now(), &sample::FACTS))
}

fn answer() -> Work {
    let updated = sample::UPDATED.clone();
    work(move || UpdateUserDetailsResponse {
        user_details: Some(user_details(updated.user)),
        changed_fields: Some(paths(&updated.changes)),
        previous_details: Some(values(updated.changes, |change| change.old)),
    })
}

fn success() -> Work {
    let text = "User was updated successfully";
    let answer = Answer { page: true, element: "success", text, messages: Vec::new() };
    work(move || answer.to_xml())
}

fn error() -> Work {
    let messages = [
        "call_limit must be an integer from 0 to 2147483647",
        "email must be empty or one e-mail address of at most 255 characters",
        "tax1_value must be a decimal, not negative, of at most 12 digits before and 6 after the point",
    ];
    let messages = messages.map(str::to_owned).to_vec();
    let answer = Answer { page: true, element: "error", text: "User was not updated", messages };
    work(move || answer.to_xml())
}
