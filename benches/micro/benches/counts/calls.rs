//! Allocations of whole calls: gateway, RPC, rules and a SQLite database, without sockets.

use std::{
    env,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use http::Request;
use http_body_util::BodyExt;
use m4_user_details::{
    app::DEMO_KEY,
    domain::{clock::SystemClock, hash::SecretKeys, service::Service},
    gateway::{Answers, Gateway, Limits},
    grpc::{auth::Authentication, call::CallOptions, services::Services},
    proto::{
        Channel, General, UpdateUserDetailsRequest, UserDetails,
        user_details_service_client::UserDetailsServiceClient,
    },
    storage::{Options, SqlStore},
    telemetry::Telemetry,
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::allocations::counted;

/// Number of warm-up calls.
const WARM_UP: usize = 50;
/// Number of counted calls.
pub(crate) const COUNTED: usize = 201;
/// Deadline of a call.
const DEADLINE: Duration = Duration::from_secs(10);

/// Maximum body size of the gateway, in bytes.
const LARGEST_BODY: usize = 262_144;

/// A whole call.
pub(crate) struct Call {
    /// The name in the table.
    pub(crate) name: &'static str,
    asked: Asked,
}

/// The request of a call.
enum Asked {
    /// A legacy call with these parameters and a new call limit each time; and the response's text.
    Legacy(&'static str, &'static str),
    /// `UpdateUserDetails` with a new call limit each time.
    Update,
}

/// All calls.
pub(crate) const CALLS: [Call; 4] = [
    Call {
        name: "legacy call: updated",
        asked: Asked::Legacy(
            "hash=09574460be862d62efd300117fcee3328a10b48a&first_name=Jonas&email=jonas%40example.com&hidden=1&ay=2026&am=5&ad=17&warning_email_balance=-25.50",
            "User was updated successfully",
        ),
    },
    Call {
        name: "legacy call: Incorrect hash",
        asked: Asked::Legacy(
            "hash=80ea571b1932bfecb937013966849154cb995e05&first_name=Jonas",
            "Incorrect hash",
        ),
    },
    Call {
        name: "legacy call: User was not updated",
        asked: Asked::Legacy(
            "hash=09574460be862d62efd300117fcee3328a10b48a&email=none&hidden=yes&tax1_value=-1",
            "User was not updated",
        ),
    },
    Call { name: "RPC UpdateUserDetails: updated", asked: Asked::Update },
];

/// Allocations of a call, counted in a separate process whose log is discarded.
pub(crate) fn allocations_alone(call: &Call) -> u64 {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--call", call.name])
        .env("OTEL_SDK_DISABLED", "true")
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "failed; see why with --call {:?}", call.name);
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Median allocations of `times` sequential calls. `measured` enables metrics.
pub(crate) fn allocations(call: &Call, times: usize, measured: bool) -> u64 {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}", folder.path().join("counts.db").display());
    let telemetry = runtime.block_on(async { Telemetry::start("info") }).unwrap().0;
    // Never stopped: the final export would count, and callgrind loses track there.
    let _telemetry = std::mem::ManuallyDrop::new(if measured {
        runtime.block_on(async { telemetry.measuring(true) }).unwrap()
    } else {
        telemetry
    });
    let channel = runtime.block_on(start(database));
    let limits = Limits { body: LARGEST_BODY, deadline: DEADLINE };
    let router = Gateway::new(channel.clone(), None, Answers::Xml, limits).router();
    let one = |number: usize| match call.asked {
        Asked::Legacy(parameters, answer) => {
            let target = format!(
                "/billing/api/user_details_update?u=admin&user_id=3&call_limit={number}&{parameters}"
            );
            let request = Request::post(target).body(String::new()).unwrap();
            let call = router.clone().oneshot(request);
            let (response, allocations) = counted(|| runtime.block_on(call).unwrap());
            let body = runtime.block_on(response.into_body().collect()).unwrap().to_bytes();
            let body = String::from_utf8_lossy(&body);
            assert!(body.contains(answer), "{body}");
            allocations
        }
        Asked::Update => {
            let request = update(number);
            let mut client = UserDetailsServiceClient::new(channel.clone());
            let (response, allocations) =
                counted(|| runtime.block_on(client.update_user_details(request)).unwrap());
            let changed = response.into_inner().changed_fields.unwrap_or_default();
            assert!(changed.paths.contains(&"general.call_limit".to_owned()));
            allocations
        }
    };
    let mut counts: Vec<u64> = (1000..).map(one).take(WARM_UP + times).skip(WARM_UP).collect();
    counts.sort_unstable();
    counts[times / 2]
}

/// Starts the services on demo data. Returns the gateway's in-process channel.
async fn start(url: String) -> Channel {
    let store = SqlStore::new(Options::of(url)).unwrap();
    store.prepare(true).await.unwrap();
    let keys = SecretKeys::new([DEMO_KEY.into()]);
    let service = Arc::new(Service::new(Arc::new(store), Arc::new(SystemClock), keys));
    let authentication = Authentication { open: true, ..Authentication::default() };
    let stop = CancellationToken::new();
    let options = CallOptions {
        deadline: DEADLINE,
        heartbeat: DEADLINE,
        largest_body: LARGEST_BODY,
        largest_message: 4 << 20,
        max_calls: 1024,
        message_memory: 64 << 20,
        stop,
    };
    Services::new(service, authentication, options).await.unwrap().in_process()
}

fn update(call_limit: usize) -> UpdateUserDetailsRequest {
    let call_limit = i32::try_from(call_limit).ok();
    let general = General { call_limit, hidden: Some(true), ..General::default() };
    UpdateUserDetailsRequest {
        user_id: 3,
        user_details: Some(UserDetails {
            general: Some(Box::new(general)),
            ..UserDetails::default()
        }),
        ..UpdateUserDetailsRequest::default()
    }
}
