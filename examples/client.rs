//! A client in Rust: updates a user, shows errors, repeats a request, and follows a watch.
//!
//! `cargo run --example client -- http://127.0.0.1:50051 [TOKEN]`
//!
//! A project of its own compiles `proto/` with tonic-prost-build instead of using this package.

#![expect(clippy::print_stdout, reason = "the example prints what it does")]

use std::{env, error::Error, time::Duration};

use m4_user_details::proto::{
    Address, General, UpdateUserDetailsRequest, UserDetails, WatchUserDetailsRequest,
    user_details_service_client::UserDetailsServiceClient,
};
use tonic::{Code, Request, Status, metadata::MetadataValue, transport::Endpoint};
use tonic_types::StatusExt;

/// The user that is changed.
const USER_ID: i64 = 5;
/// The deadline of each update, and of connecting.
const DEADLINE: Duration = Duration::from_secs(5);
/// Attempts of a request with a request id.
const ATTEMPTS: u32 = 3;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    let token = arguments.next();
    let channel = Endpoint::from_shared(address)?.connect_timeout(DEADLINE).connect().await?;
    let authenticate = move |mut request: Request<()>| {
        // The demo needs no token.
        if let Some(token) = &token {
            let value: MetadataValue<_> = format!("Bearer {token}")
                .parse()
                .map_err(|_| Status::invalid_argument("the token has other characters"))?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    };
    let mut users = UserDetailsServiceClient::with_interceptor(channel, authenticate);

    let watch = WatchUserDetailsRequest { user_id: Some(USER_ID), ..Default::default() };
    let mut changes = users.watch_user_details(watch).await?.into_inner();
    // The first response has only a resume token: from now on no change is missed.
    changes.message().await?;

    let updated = users.update_user_details(in_time(city("York"))).await?.into_inner();
    let details = updated.user_details.unwrap_or_default();
    println!("updated: city is York, etag {}", details.etag);

    if let Some(change) = changes.message().await?.and_then(|response| response.change) {
        let paths = change.changed_fields.unwrap_or_default().paths.join(", ");
        println!("watched: change {} of {paths} through {}", change.change_id, change.door);
    }

    let mut unknown = city("York");
    unknown.user_id = 999;
    show(users.update_user_details(in_time(unknown)).await.err());

    let mut invalid = city("York");
    if let Some(details) = &mut invalid.user_details {
        let general = General { call_limit: Some(-7), ..Default::default() };
        details.general = Some(general.into());
    }
    show(users.update_user_details(in_time(invalid)).await.err());

    let mut stale = city("Leeds");
    if let Some(details) = &mut stale.user_details {
        details.etag = "5-0".to_owned();
    }
    show(users.update_user_details(in_time(stale)).await.err());

    // With a request id, a repeat stores nothing and gets the first answer.
    let request = UpdateUserDetailsRequest {
        request_id: "0d3a2f0e-7a51-4c55-9d3e-2b1f6c1d5a01".to_owned(),
        ..city("Hull")
    };
    let mut etags = Vec::new();
    for attempt in 1.. {
        match users.update_user_details(in_time(request.clone())).await {
            Ok(answer) => etags.push(answer.into_inner().user_details.unwrap_or_default().etag),
            Err(status) if status.code() == Code::Unavailable && attempt < ATTEMPTS => {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(status) => return Err(status.into()),
        }
        // Once more, as if the first answer had been lost.
        if etags.len() == 2 {
            break;
        }
    }
    println!("repeated: etag {}, then {}", etags[0], etags[1]);
    Ok(())
}

/// A request with the deadline of updates.
fn in_time<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

/// A request that sets the city.
fn city(city: &str) -> UpdateUserDetailsRequest {
    let address = Address { city: Some(city.to_owned()), ..Default::default() };
    UpdateUserDetailsRequest {
        user_id: USER_ID,
        user_details: Some(UserDetails { address: Some(address.into()), ..Default::default() }),
        ..Default::default()
    }
}

/// Prints the message, which ends with the reason, and every invalid field. A program decides by the
/// reason: `details.error_info()`.
fn show(status: Option<Status>) {
    let Some(status) = status else { return };
    let details = status.get_error_details();
    println!("error: {}", status.message());
    for violation in details.bad_request().iter().flat_map(|bad| &bad.field_violations) {
        println!("  {}: {}", violation.field, violation.description);
    }
}
