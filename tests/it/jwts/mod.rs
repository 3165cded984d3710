//! JWTs: accepted and refused tokens, and key sources. SQLite only: the engine does not matter.

mod provider;

use std::{
    convert::Infallible,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use m4_user_details::{
    app::{Application, Environment, RunError},
    domain::clock::{Clock, SystemClock},
    proto::{GetUserDetailsRequest, UpdateUserDetailsRequest},
};
use prost_types::FieldMask;
use rcgen::{CertifiedKey as Certified, generate_simple_self_signed};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring::default_provider, pki_types::PrivatePkcs8KeyDer},
};
use tonic::Code;

use crate::{
    identities::{read, with},
    support::{
        app::{TestApp, config, reason},
        database::{Kind, TestDatabase, run},
        until,
    },
};
use provider::{AUDIENCE, ISSUER, Signer, claims, claims_but, encode, hs256, jwks};

/// The application, with its JWT keys in a file.
struct WithFile {
    app: TestApp,
    folder: TempDir,
}

impl WithFile {
    async fn start(database: &TestDatabase, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        fs::write(&file, text).unwrap();
        let app = start(database, file.to_str().unwrap()).await;
        Self { app, folder }
    }

    fn replace(&self, text: &str) {
        let new = self.folder.path().join("new.json");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.folder.path().join("jwks.json")).unwrap();
    }
}

fn keys(source: &str) -> [(&'static str, &str); 3] {
    [("jwt.jwks", source), ("jwt.issuer", ISSUER), ("jwt.audience", AUDIENCE)]
}

async fn start(database: &TestDatabase, source: &str) -> TestApp {
    TestApp::start_with(database, &keys(source)).await
}

/// The status code of a read as admin with a JWT.
async fn code(app: &TestApp, jwt: &str) -> Code {
    match read(app, jwt, "admin").await {
        Ok(_) => Code::Ok,
        Err(status) => {
            assert!(!status.message().contains(jwt));
            status.code()
        }
    }
}

async fn until_code(app: &TestApp, jwt: &str, expected: Code) {
    until("a JWT has its code", || async { code(app, jwt).await == expected }).await;
}

#[test]
fn each_algorithm_is_verified_and_scopes_bind() {
    run(Kind::Sqlite, |database| async move {
        let signers = [Signer::rs256("a"), Signer::es256("b"), Signer::eddsa("c")];
        let set = jwks(&[&signers[0], &signers[1], &signers[2]]);
        let WithFile { app, folder: _folder } = WithFile::start(&database, &set).await;
        for signer in &signers {
            let jwt = signer.jwt(&claims("openid m4:read m4:unknown update"));
            assert_eq!(code(&app, &jwt).await, Code::Ok, "{}", signer.algorithm());
            // `m4:read` does not permit acting in its own name, and unknown scopes grant nothing.
            assert_eq!(read(&app, &jwt, "").await.unwrap_err().code(), Code::PermissionDenied);
            let update = UpdateUserDetailsRequest {
                user_id: 3,
                acting_username: "admin".to_owned(),
                ..Default::default()
            };
            let status = app.users().update_user_details(with(&jwt, update)).await.unwrap_err();
            assert_eq!(
                (status.code(), &*reason(&status)),
                (Code::PermissionDenied, "ACCESS_DENIED")
            );
            let admin = signer.jwt(&claims("m4:admin"));
            assert_eq!(read(&app, &admin, "").await.unwrap().username, "alice");
            // A JWT need not name the only key of its algorithm.
            let nameless = json!({"alg": signer.algorithm()});
            assert_eq!(code(&app, &signer.sign(&nameless, &claims("m4:read"))).await, Code::Ok);
        }
        let without = GetUserDetailsRequest { user_id: 3, ..Default::default() };
        let status = app.users().get_user_details(without).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "nothing is open");
    });
}

#[test]
fn claims_that_are_wrong_or_missing_are_refused() {
    run(Kind::Sqlite, |database| async move {
        let signer = Signer::es256("key");
        let WithFile { app, folder: _folder } = WithFile::start(&database, &jwks(&[&signer])).await;
        let now = SystemClock.now().timestamp();
        let refused = [
            ("iss", json!("https://id.example")),
            ("iss", Value::Null),
            ("aud", json!("another service")),
            ("aud", json!([])),
            ("aud", Value::Null),
            ("exp", json!(now - 40)),
            ("exp", json!((now + 300).to_string())),
            ("exp", json!(-1)),
            ("exp", Value::Null),
            ("nbf", json!(now + 60)),
            ("nbf", json!("soon")),
            ("sub", json!("")),
            ("sub", json!("a\nb")),
            ("sub", json!("x".repeat(256))),
            ("sub", json!(7)),
            ("sub", Value::Null),
            ("scope", json!(["m4:admin"])),
            ("m4_fields", json!(["address"])),
            ("m4_fields", json!(true)),
        ];
        for (name, value) in refused {
            let jwt = signer.jwt(&claims_but(name, value.clone()));
            assert_eq!(code(&app, &jwt).await, Code::Unauthenticated, "{name}: {value}");
        }
        let accepted = [
            ("aud", json!(AUDIENCE)),
            ("exp", json!(now - 15)),
            ("nbf", json!(now + 15)),
            ("nbf", Value::Null),
            ("sub", json!("spiffe://example/crm")),
        ];
        for (name, value) in accepted {
            let jwt = signer.jwt(&claims_but(name, value.clone()));
            assert_eq!(code(&app, &jwt).await, Code::Ok, "{name}: {value}");
        }
        assert_eq!(
            code(&app, &signer.jwt(&claims_but("scope", Value::Null))).await,
            Code::PermissionDenied
        );
    });
}

#[test]
fn signatures_that_the_provider_did_not_make_are_refused() {
    run(Kind::Sqlite, |database| async move {
        let (rsa, ec, ed) = (Signer::rs256("rsa"), Signer::es256("ec"), Signer::eddsa("ed"));
        let mut set: Value = serde_json::from_str(&jwks(&[&rsa, &ec, &ed])).unwrap();
        let (encrypts, other) = (Signer::es256("encrypts"), Signer::es256("other alg"));
        let mut keys = [encrypts.jwk(), other.jwk()];
        keys[0]["use"] = json!("enc");
        keys[1]["alg"] = json!("ES384");
        let [secret, modulus] = ["a shared secret".to_owned(), rsa.jwk()["n"].to_string()];
        let shared = json!({"kty": "oct", "alg": "HS256", "kid": "oct", "k": encode(&secret)});
        let all = set["keys"].as_array_mut().unwrap();
        all.extend(keys);
        all.push(shared);
        let WithFile { app, folder: _folder } = WithFile::start(&database, &set.to_string()).await;
        let good = claims("m4:admin");
        assert_eq!(code(&app, &ec.jwt(&good)).await, Code::Ok);
        let header = |algorithm: &str, id: &str| json!({"alg": algorithm, "kid": id});
        let jwt = ec.jwt(&good);
        let (message, signature) = jwt.rsplit_once('.').unwrap();
        let [head, _] = message.split('.').collect::<Vec<_>>()[..] else { panic!("{message}") };
        let changed = encode(claims_but("sub", json!("root")).to_string());
        let mut critical = ec.header();
        critical["crit"] = json!(["b64"]);
        critical["b64"] = json!(true);
        let unsigned = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(good.to_string()));
        let refused = [
            ("no algorithm", unsigned.clone()),
            ("no algorithm, but a signature", format!("{unsigned}{signature}")),
            ("a signature that is left out", format!("{message}.")),
            ("two parts", message.to_owned()),
            ("four parts", format!("{jwt}.{signature}")),
            ("other claims", format!("{head}.{changed}.{signature}")),
            (
                "the public key as a secret",
                hs256(&header("HS256", "rsa"), &good, modulus.as_bytes()),
            ),
            ("a secret among the keys", hs256(&header("HS256", "oct"), &good, secret.as_bytes())),
            ("another kind of key", ec.sign(&header("ES256", "rsa"), &good)),
            ("another algorithm", ec.sign(&header("RS256", "ec"), &good)),
            ("an algorithm that is not offered", rsa.sign(&header("RS512", "rsa"), &good)),
            ("another key of that name", Signer::es256("ec").jwt(&good)),
            ("a key that is not known", Signer::eddsa("unknown").jwt(&good)),
            ("a key for something else", encrypts.jwt(&good)),
            ("a key for another algorithm", other.jwt(&good)),
            ("an extension", ec.sign(&critical, &good)),
            ("no JSON", format!("{}.{}.{signature}", encode("{"), encode("}"))),
            ("nothing", "..".to_owned()),
        ];
        for (what, jwt) in refused {
            assert_eq!(code(&app, &jwt).await, Code::Unauthenticated, "{what}");
        }
    });
}

#[test]
fn a_claim_bounds_the_fields_that_are_changed() {
    run(Kind::Sqlite, |database| async move {
        let signer = Signer::eddsa("key");
        let WithFile { app, folder: _folder } = WithFile::start(&database, &jwks(&[&signer])).await;
        let clear = |path: &str| UpdateUserDetailsRequest {
            user_id: 3,
            update_mask: Some(FieldMask { paths: vec![path.to_owned()] }),
            ..Default::default()
        };
        let jwt = signer.jwt(&claims_but("m4_fields", json!("address comment.comment")));
        for (path, expected) in [
            ("address", Code::Ok),
            ("comment", Code::Ok),
            ("general.hidden", Code::PermissionDenied),
            ("*", Code::PermissionDenied),
        ] {
            let outcome = app.users().update_user_details(with(&jwt, clear(path))).await;
            assert_eq!(
                outcome.map_or_else(|status| status.code(), |_| Code::Ok),
                expected,
                "{path}"
            );
        }
        assert_eq!(database.text("SELECT service FROM change_log LIMIT 1").await, "crm");
    });
}

#[test]
fn keys_in_a_file_follow_it() {
    run(Kind::Sqlite, |database| async move {
        let (old, new) = (Signer::es256("old"), Signer::es256("new"));
        let with_file = WithFile::start(&database, &jwks(&[&old])).await;
        let app = &with_file.app;
        let [by_old, by_new] = [&old, &new].map(|signer| signer.jwt(&claims("m4:read")));
        assert_eq!(code(app, &by_old).await, Code::Ok);
        assert_eq!(code(app, &by_new).await, Code::Unauthenticated);
        with_file.replace("{");
        assert_eq!(code(app, &by_old).await, Code::Ok);
        with_file.replace(&jwks(&[&old, &new]));
        until_code(app, &by_new, Code::Ok).await;
        assert_eq!(code(app, &by_old).await, Code::Ok);
        with_file.replace(&jwks(&[&new]));
        until_code(app, &by_old, Code::Unauthenticated).await;
        assert_eq!(code(app, &by_new).await, Code::Ok);
        // Every key is withdrawn.
        with_file.replace(r#"{"keys": []}"#);
        until_code(app, &by_new, Code::Unauthenticated).await;
    });
}

#[test]
fn keys_at_a_url_are_asked_for_when_a_new_one_is_named_but_not_by_a_flood() {
    run(Kind::Sqlite, |database| async move {
        let (old, new) = (Signer::eddsa("old"), Signer::eddsa("new"));
        // The URL serves no keys at first.
        let served = Arc::new(Mutex::new(None::<String>));
        let asked = Arc::new(AtomicUsize::new(0));
        let (text, times) = (Arc::clone(&served), Arc::clone(&asked));
        let answer = move || async move {
            times.fetch_add(1, Ordering::Relaxed);
            text.lock().unwrap().clone().ok_or(http::StatusCode::SERVICE_UNAVAILABLE)
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let server = axum::serve(listener, Router::new().route("/jwks", get(answer)));
        let server = tokio::spawn(server.into_future());
        let with_min_interval = async |min_interval| {
            let environment =
                Environment { jwks_min_interval: Some(min_interval), ..Environment::default() };
            TestApp::start_in(&database, &keys(&url), environment).await
        };
        let app = with_min_interval(Duration::ZERO).await;
        let [by_old, by_new] = [&old, &new].map(|signer| signer.jwt(&claims("m4:read")));
        let status = read(&app, &by_old, "admin").await.unwrap_err();
        assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "UNAVAILABLE"));
        *served.lock().unwrap() = Some(jwks(&[&old]));
        until_code(&app, &by_old, Code::Ok).await;
        let before = asked.load(Ordering::Relaxed);
        let quiet = with_min_interval(Duration::from_secs(3600)).await;
        until_code(&quiet, &by_old, Code::Ok).await;
        assert_eq!(asked.load(Ordering::Relaxed), before + 1);
        *served.lock().unwrap() = Some(jwks(&[&old, &new]));
        for number in 0..200 {
            let jwt = Signer::eddsa(&number.to_string()).jwt(&claims("m4:read"));
            assert_eq!(code(&quiet, &jwt).await, Code::Unauthenticated);
        }
        assert_eq!(code(&quiet, &by_new).await, Code::Unauthenticated);
        assert_eq!(asked.load(Ordering::Relaxed), before + 1);
        until_code(&app, &by_new, Code::Ok).await;
        // One request for the new key, and perhaps one for a concurrent call.
        assert!((2..=3).contains(&(asked.load(Ordering::Relaxed) - before)));
        // The keys stay after the provider goes away.
        server.abort();
        assert_eq!(code(&app, &by_new).await, Code::Ok);
    });
}

#[test]
fn keys_come_over_tls_from_whom_the_authority_certifies() {
    run(Kind::Sqlite, |database| async move {
        let signer = Signer::eddsa("key");
        let Certified { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        fs::write(&file, cert.pem()).unwrap();
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let set = jwks(&[&signer]);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that does not trust the certificate disconnects here.
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let set = set.clone();
                let answer = service_fn(move |_| {
                    let set = Full::new(Bytes::from(set.clone()));
                    async { Ok::<_, Infallible>(http::Response::new(set)) }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
            }
        });
        let url = format!("https://localhost:{port}/jwks");
        let jwt = signer.jwt(&claims("m4:read"));
        // No public authority certifies the server.
        let app = start(&database, &url).await;
        assert_eq!(code(&app, &jwt).await, Code::Unavailable);
        app.stop().await.unwrap();
        let keys: Vec<_> =
            keys(&url).into_iter().chain([("jwt.tls_ca", file.to_str().unwrap())]).collect();
        let app = TestApp::start_with(&database, &keys).await;
        assert_eq!(code(&app, &jwt).await, Code::Ok);
    });
}

#[test]
fn keys_in_a_file_that_cannot_be_used_are_told_at_start() {
    run(Kind::Sqlite, |database| async move {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        for (text, problem) in [
            (None, "cannot be read"),
            (Some("hush"), "no JSON"),
            (Some(r#"{"keys": [{"kty": "oct", "k": "aHVzaA"}]}"#), "no key for RS256"),
        ] {
            if let Some(text) = text {
                fs::write(&file, text).unwrap();
            }
            let config = config(&database.url, &keys(file.to_str().unwrap()));
            let error =
                Application::service(&config, true, Environment::default()).await.err().unwrap();
            assert!(matches!(error, RunError::Configuration(_)));
            let told = error.to_string();
            assert!(told.contains("jwt.jwks") && told.contains(problem), "{told}");
            assert!(!told.contains("hush"), "{told}");
        }
    });
}
