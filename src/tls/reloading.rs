//! Reloads configurations when their files change. Open connections keep their TLS configuration.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use sha1::{Digest, Sha1};
use tokio_util::sync::CancellationToken;

use super::file::{File, FileError};

/// The interval between two reads of the files.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// The files of a configuration.
pub trait Source: Clone + Send + Sync + 'static {
    /// What the files hold, for the log.
    const NAME: &'static str;
    /// The configuration.
    type Made: Send + Sync + 'static;

    /// The files.
    fn files(&self) -> Vec<&File>;

    /// Makes the configuration from the contents of [`Self::files`], in the same order.
    ///
    /// # Errors
    /// A file cannot be used.
    fn make(&self, contents: &[Vec<u8>]) -> Result<Self::Made, FileError>;
}

/// A configuration that follows changes of its files.
#[derive(Clone)]
pub struct Reloading<S: Source>(Arc<Shared<S>>);

struct Shared<S: Source> {
    source: S,
    current: RwLock<Arc<S::Made>>,
    /// The digests of the first contents.
    first: Digests,
}

/// A digest of each file: private keys must not be in memory twice.
type Digests = Vec<[u8; 20]>;

impl<S: Source> Reloading<S> {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub fn read(source: S) -> Result<Self, FileError> {
        let (contents, first) = contents(&source)?;
        let current = RwLock::new(Arc::new(source.make(&contents)?));
        Ok(Self(Arc::new(Shared { source, current, first })))
    }

    /// The files.
    pub(crate) fn source(&self) -> &S {
        &self.0.source
    }

    /// The current configuration.
    pub(crate) fn current(&self) -> Arc<S::Made> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows changes of the files until `stop`. Files that cannot be used are logged and ignored.
    pub(crate) async fn follow(self, stop: CancellationToken) {
        let mut seen = Ok(self.0.first.clone());
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RELOAD_INTERVAL) => {}
            }
            let following = self.clone();
            let before = seen.clone();
            // A disk may be slow.
            let looked = tokio::task::spawn_blocking(move || following.look(before));
            if let Ok(now) = looked.await {
                seen = now;
            }
        }
    }

    /// Reloads the files if their digests differ from `before`. Returns the current digests.
    fn look(&self, before: Result<Digests, FileError>) -> Result<Digests, FileError> {
        let read = contents(&self.0.source);
        let now = read.as_ref().map(|(_, digests)| digests.clone()).map_err(Clone::clone);
        if now == before {
            return before;
        }
        match read.and_then(|(contents, _)| self.0.source.make(&contents)) {
            Ok(made) => {
                *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(made);
                let keys: Vec<_> = self.0.source.files().iter().map(|file| file.key).collect();
                tracing::info!(keys = keys.join(", "), "{} reloaded", S::NAME);
            }
            Err(error) => {
                tracing::error!(%error, "{} not reloaded: the current ones stay in use", S::NAME);
            }
        }
        now
    }
}

impl<S: Source> fmt::Debug for Reloading<S> {
    /// Omits the contents of the files.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.0.source.files().iter().map(|file| file.key).collect();
        formatter.debug_struct("Reloading").field("keys", &keys).finish_non_exhaustive()
    }
}

fn contents(source: &impl Source) -> Result<(Vec<Vec<u8>>, Digests), FileError> {
    let contents: Vec<_> = source.files().into_iter().map(File::read).collect::<Result<_, _>>()?;
    let digests = contents.iter().map(|content| Sha1::digest(content).into()).collect();
    Ok((contents, digests))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes the file's content if the content starts with `good`.
    impl Source for File {
        const NAME: &'static str = "files";
        type Made = Vec<u8>;

        fn files(&self) -> Vec<&File> {
            vec![self]
        }

        fn make(&self, contents: &[Vec<u8>]) -> Result<Vec<u8>, FileError> {
            let good = contents.concat().starts_with(b"good");
            if good { Ok(contents.concat()) } else { Err(self.wrong("is bad")) }
        }
    }

    #[test]
    fn what_cannot_be_used_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let write = |content| std::fs::write(&path, content).unwrap();
        write("good");
        let file = File { key: "grpc.tls_key", path: path.clone() };
        let followed = Reloading::read(file.clone()).unwrap();
        let mut seen = Ok(followed.0.first.clone());
        let mut look = || {
            let now = followed.look(seen.clone());
            let changed = now != seen;
            seen = now;
            (changed, followed.current().to_vec())
        };
        assert_eq!(look(), (false, b"good".to_vec()));
        write("bad");
        assert_eq!(look(), (true, b"good".to_vec()));
        assert_eq!(look(), (false, b"good".to_vec()), "it is told once");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(look(), (true, b"good".to_vec()));
        write("good again");
        assert_eq!(look(), (true, b"good again".to_vec()));
        write("bad");
        let error = Reloading::read(file).unwrap_err();
        assert_eq!(error.to_string(), "grpc.tls_key is bad");
    }
}
