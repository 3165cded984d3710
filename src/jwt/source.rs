//! The keys of an identity provider, from a file or a URL. The keys are read periodically, and when
//! a JWT names an unknown key. The old keys stay if a read fails.

use std::{fs::File, io::Read, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    client::{self, HttpClient},
    keys::Keys,
};
use crate::domain::error::{Error, chain};

/// The largest key set, in bytes.
const MAX_KEY_SET_BYTES: u64 = 1024 * 1024;
/// The timeout for reading a URL, and for waiting for an unknown key.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The location of a key set.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// An HTTP or HTTPS URL, and a PEM file of authorities; `None` trusts public authorities.
    Url(Uri, Option<PathBuf>),
}

impl Source {
    /// The time between two periodic reads.
    fn interval(&self) -> Duration {
        match self {
            Self::File(_) => Duration::from_secs(1),
            Self::Url(..) => Duration::from_secs(300),
        }
    }

    /// The minimum time between two reads, even if JWTs name unknown keys.
    fn min_interval(&self) -> Duration {
        match self {
            Self::File(_) => Duration::from_secs(1),
            Self::Url(..) => Duration::from_secs(5),
        }
    }
}

/// The key set of a source.
#[derive(Debug)]
pub(super) struct Jwks {
    source: Source,
    min_interval: Duration,
    client: HttpClient,
    known: watch::Sender<Known>,
    /// Notified when a JWT names an unknown key.
    missed: Notify,
}

/// The keys of the last successful read.
#[derive(Clone, Debug, Default)]
struct Known {
    keys: Option<Arc<Keys>>,
    /// The time of the last read, successful or not.
    at: Option<Instant>,
}

/// The problem of a key set without usable keys.
const NO_KEY: &str = "it has no key for RS256, ES256 or EdDSA";

impl Jwks {
    /// Reads the keys of a file. Only [`Self::keep`] reads the keys of a URL.
    pub(super) async fn new(
        source: &Source,
        min_interval: Option<Duration>,
    ) -> Result<Self, String> {
        let authorities = match source {
            Source::File(_) => None,
            Source::Url(_, authorities) => authorities.as_deref(),
        };
        let client = client::trusting(authorities)?;
        let (known, missed) = (watch::Sender::default(), Notify::new());
        let min_interval = min_interval.unwrap_or_else(|| source.min_interval());
        let jwks = Self { source: source.clone(), min_interval, client, known, missed };
        if let Source::File(_) = source {
            let read = jwks.read().await.and_then(|keys| match keys.is_empty() {
                true => Err(NO_KEY.to_owned()),
                false => Ok(keys),
            });
            let read = jwks.store(read);
            read.map_err(|problem| format!("jwt.jwks: {problem}"))?;
        }
        Ok(jwks)
    }

    /// Reads the keys periodically until `stop`.
    pub(super) async fn keep(&self, stop: CancellationToken) {
        let mut failed = false;
        loop {
            let read = tokio::select! {
                () = stop.cancelled() => return,
                read = self.read() => read,
            };
            let outcome = self.store(read);
            match &outcome {
                Err(problem) if !failed => {
                    tracing::warn!(
                        problem,
                        "the keys of JWTs could not be read; the previous keys stay in use"
                    );
                }
                Ok(()) if failed => tracing::info!("the keys of JWTs can be read again"),
                _ => {}
            }
            failed = outcome.is_err();
            let rested = Instant::now() + self.min_interval;
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(self.source.interval()) => {}
                () = self.missed.notified() => sleep_until(rested).await,
            }
        }
    }

    /// The key that a JWT names.
    pub(super) async fn key(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<DecodingKey, Error> {
        let mut watching = self.known.subscribe();
        let known = watching.borrow_and_update().clone();
        let find = |known: &Known| known.keys.as_ref()?.find(id, algorithm).cloned();
        if let Some(key) = find(&known) {
            return Ok(key);
        }
        // The key may be new. `min_interval` protects the source from JWTs with invented key ids.
        let mut latest = known;
        if latest.at.is_none_or(|at| at.elapsed() >= self.min_interval) {
            self.missed.notify_one();
            if timeout(FETCH_TIMEOUT, watching.changed()).await.is_ok() {
                latest = watching.borrow().clone();
            }
        }
        find(&latest).ok_or_else(|| match latest.keys {
            Some(_) => Error::Unauthenticated,
            None => Error::Unavailable("the keys of JWTs were never read".into()),
        })
    }

    fn store(&self, read: Result<Keys, String>) -> Result<(), String> {
        let (keys, outcome) = match read {
            Ok(keys) => (Some(Arc::new(keys)), Ok(())),
            Err(problem) => (None, Err(problem)),
        };
        self.known.send_modify(|known| {
            known.at = Some(Instant::now());
            let has = |keys: &Option<Arc<Keys>>| keys.as_ref().is_some_and(|keys| !keys.is_empty());
            if keys.is_some() && !has(&keys) && has(&known.keys) {
                tracing::warn!("no JWT is accepted any more: {NO_KEY}");
            }
            if keys.is_some() {
                known.keys = keys;
            }
        });
        outcome
    }

    async fn read(&self) -> Result<Keys, String> {
        match &self.source {
            Source::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_file(path));
                Keys::parse(&read.await.map_err(|error| error.to_string())??)
            }
            Source::Url(url, _) => {
                let fetched = timeout(FETCH_TIMEOUT, self.fetch(url)).await;
                Keys::parse(&fetched.unwrap_or_else(|_| Err("it does not answer".to_owned()))?)
            }
        }
    }

    async fn fetch(&self, url: &Uri) -> Result<Bytes, String> {
        let request = Request::get(url).header(http::header::ACCEPT, "application/json");
        let request = request.body(Empty::new()).map_err(|error| chain(&error))?;
        let answer = self.client.request(request).await.map_err(|error| chain(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("it answers {}", answer.status()));
        }
        let largest = usize::try_from(MAX_KEY_SET_BYTES).unwrap_or(usize::MAX);
        let body = Limited::new(answer.into_body(), largest).collect().await;
        Ok(body.map_err(|error| error.to_string())?.to_bytes())
    }
}

fn read_file(path: PathBuf) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| format!("it cannot be read: {}", error.kind()))?;
    let read = file.take(MAX_KEY_SET_BYTES + 1).read_to_end(&mut text);
    read.map_err(|error| format!("it cannot be read: {}", error.kind()))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_KEY_SET_BYTES {
        return Err(format!("it is over {MAX_KEY_SET_BYTES} bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = r#"{"keys": [{"kty": "OKP", "alg": "EdDSA", "crv": "Ed25519", "kid": "old",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    /// The paused clock moves on only while no file is being read.
    #[tokio::test(start_paused = true)]
    async fn the_keys_stay_while_their_file_is_broken() {
        super::super::ring::install();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        std::fs::write(&path, KEY).unwrap();
        let jwks = Arc::new(Jwks::new(&Source::File(path.clone()), None).await.unwrap());
        let stop = CancellationToken::new();
        let reading = Arc::clone(&jwks);
        let keep = tokio::spawn({
            let stop = stop.clone();
            async move { reading.keep(stop).await }
        });
        let key = async || jwks.key(Some("old"), Algorithm::EdDSA).await;
        let mut reads = jwks.known.subscribe();
        for broken in ["{".to_owned(), " ".repeat(2_000_000)] {
            std::fs::write(&path, broken).unwrap();
            reads.mark_unchanged();
            // The first read may have begun before the file was broken.
            for _ in 0..2 {
                reads.changed().await.unwrap();
            }
            key().await.unwrap();
        }
        std::fs::write(&path, r#"{"keys": []}"#).unwrap();
        reads.mark_unchanged();
        for _ in 0..2 {
            reads.changed().await.unwrap();
        }
        assert!(matches!(key().await, Err(Error::Unauthenticated)));
        stop.cancel();
        keep.await.unwrap();
    }
}
