//! The reader below a real hyper server: the service sees the requests as sent.

use std::{convert::Infallible, sync::Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::budget::{CONNECTION_RESERVE, MemoryBudget};

/// A request as the service saw it: path, query string and body; or its refusal.
type Seen = Result<(String, String, Vec<u8>), Refusal>;

async fn see(request: Request<Incoming>, notes: &Notes) -> Seen {
    let (mut parts, body) = request.into_parts();
    notes.request(&mut parts.extensions);
    if let Some(refusal) = parts.extensions.get::<Refusal>() {
        return Err(*refusal);
    }
    let query = match parts.extensions.get::<LongQuery>() {
        Some(query) => String::from_utf8(query.as_bytes().to_vec()).unwrap(),
        None => parts.uri.query().unwrap_or_default().to_owned(),
    };
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Ok((parts.uri.path().to_owned(), query, body))
}

/// Sends bytes in steps of these lengths, in turn. Returns the server's requests and responses.
async fn exchange(
    sent: &[u8],
    steps: &[usize],
    budget: Option<std::sync::Arc<crate::budget::ConnectionBudget>>,
) -> (Vec<Seen>, String) {
    let (mut client, server) = duplex(4096);
    let notes = Notes::default();
    let stream = TokioIo::new(HeadReader::new(server, notes.clone(), budget));
    let seen = Mutex::new(Vec::new());
    let service = service_fn(|request| async {
        let one = see(request, &notes).await;
        seen.lock().unwrap().push(one);
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"answer"))))
    });
    let serve = http1::Builder::new().max_buf_size(MAX_PASSED).serve_connection(stream, service);
    let (mut reading, mut writing) = tokio::io::split(&mut client);
    let mut answers = String::new();
    let talk = async {
        let write = async {
            let mut rest = sent;
            for step in steps.iter().cycle() {
                let (part, others) = rest.split_at((*step).min(rest.len()));
                if part.is_empty() || writing.write_all(part).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
                rest = others;
            }
        };
        tokio::join!(write, reading.read_to_string(&mut answers)).1.unwrap();
    };
    // A broken request ends its connection with an error.
    let (_, ()) = tokio::join!(serve, talk);
    (seen.into_inner().unwrap(), answers)
}

/// A request as sent, and as the service sees it.
fn request() -> impl Strategy<Value = (Vec<u8>, Seen)> {
    let body = prop_oneof![vec(any::<u8>(), 0..200), Just(b"GET /x HTTP/1.1\r\n\r\n".to_vec())];
    let query =
        prop_oneof![8 => 0_usize..200, 1 => 65_000_usize..66_000, 1 => 100_000..190_000_usize];
    (query, body, 0_usize..4, any::<bool>()).prop_map(|(query, body, framing, blank)| {
        let query = "q".repeat(query);
        let start = format!("POST /path?{query} HTTP/1.1\r\nHost: x\r\n");
        let mut sent = if blank { b"\r\n".to_vec() } else { Vec::new() };
        sent.extend(start.as_bytes());
        let mut seen = body.clone();
        match framing {
            0 => {
                seen.clear();
                sent.extend(b"\r\n");
            }
            1 => {
                sent.extend(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                sent.extend(&body);
            }
            _ => {
                sent.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in body.chunks(framing * 30) {
                    sent.extend(format!("{:x};e=\"x\"\r\n", chunk.len()).as_bytes());
                    sent.extend(chunk);
                    sent.extend(b"\r\n");
                }
                sent.extend(if framing == 2 {
                    b"0\r\n\r\n".as_slice()
                } else {
                    b"00\r\nA: b\r\n\r\n"
                });
            }
        }
        (sent, Ok(("/path".to_owned(), query, seen)))
    })
}

#[test]
fn every_pipelined_request_is_seen_as_it_was_sent() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() };
    let cases = (vec(request(), 1..6), vec(1_usize..5000, 1..4));
    let tested = TestRunner::new(config).run(&cases, |(requests, steps)| {
        let mut sent: Vec<u8> = requests.iter().flat_map(|(sent, _)| sent.clone()).collect();
        sent.extend(b"GET /last HTTP/1.1\r\nConnection: close\r\n\r\n");
        let (seen, answers) = runtime.block_on(exchange(&sent, &steps, None));
        let last = Ok(("/last".to_owned(), String::new(), Vec::new()));
        let expected: Vec<_> = requests.into_iter().map(|(_, seen)| seen).chain([last]).collect();
        prop_assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), expected.len());
        prop_assert_eq!(seen, expected);
        Ok(())
    });
    tested.unwrap();
}

#[tokio::test]
async fn a_refused_head_is_one_request_and_the_last() {
    let good = "POST /good HTTP/1.1\r\nContent-Length: 2\r\n\r\nab";
    for (bad, refusal) in [
        ("GET /\u{1} HTTP/1.1\r\n\r\n".to_owned(), Refusal::Malformed),
        ("no HTTP at all\r\n\r\n".to_owned(), Refusal::Malformed),
        ("\u{16}\u{3}\u{1}\u{2}".to_owned(), Refusal::Malformed),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(150)), Refusal::TooLarge),
        (format!("GET /?{}", "x".repeat(MAX_HEAD)), Refusal::TooLarge),
        (format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(MAX_HEAD)), Refusal::TooLarge),
        (
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            Refusal::Malformed,
        ),
    ] {
        let sent = format!("{good}{bad}GET /smuggled HTTP/1.1\r\n\r\n");
        let (seen, answers) = exchange(sent.as_bytes(), &[100, 3000], None).await;
        let first = Ok(("/good".to_owned(), String::new(), b"ab".to_vec()));
        let shown = &bad[..bad.len().min(60)];
        assert_eq!(seen, [first, Err(refusal)], "{shown:?}");
        assert_eq!(answers.matches("HTTP/1.").count(), 2, "{shown:?}: {answers}");
        assert_eq!(answers.matches("connection: close\r\n").count(), 1, "{shown:?}: {answers}");
    }
}

#[tokio::test]
async fn heads_count_in_the_budget_while_their_requests_live() {
    let process = MemoryBudget::new(300_000);
    let small = format!("GET /?{} HTTP/1.1\r\n", "x".repeat(CONNECTION_RESERVE / 2));
    let large = format!("GET /?{} HTTP/1.1\r\n", "x".repeat(100_000));
    let larger = format!("GET /?{} HTTP/1.1\r\n", "x".repeat(200_000));
    let sent = format!("{small}\r\n{large}\r\n{large}\r\n{larger}\r\n");
    let (seen, _) = exchange(sent.as_bytes(), &[4000], Some(process.connection())).await;
    let lengths: Vec<_> =
        seen.into_iter().map(|seen| seen.map(|(_, query, _)| query.len())).collect();
    let half = CONNECTION_RESERVE / 2;
    assert_eq!(lengths, [Ok(half), Ok(100_000), Ok(100_000), Err(Refusal::Overloaded)]);
    assert_eq!(process.used(), 0);
}

#[tokio::test]
async fn empty_lines_before_a_head_use_up_no_budget() {
    let process = MemoryBudget::new(300_000);
    let lines = "\r\n".repeat(300_000);
    let sent = format!("{lines}GET /?x HTTP/1.1\r\nConnection: close\r\n\r\n");
    // An odd step leaves half of an empty line at the end of a read.
    let (seen, _) = exchange(sent.as_bytes(), &[4001], Some(process.connection())).await;
    assert_eq!(seen, [Ok(("/".to_owned(), "x".to_owned(), Vec::new()))]);
    assert_eq!(process.used(), 0);
}
