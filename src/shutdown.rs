//! Signals: the first stop signal drains the service, the second stops it at once.

use std::io;

use rustix::process::Signal as Number;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two kinds of shutdown.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Finish the running calls.
    pub graceful: CancellationToken,
    /// Stop at once.
    pub immediate: CancellationToken,
}

impl Shutdown {
    /// Follows SIGTERM and SIGINT: the first is graceful, the second is immediate.
    ///
    /// # Errors
    /// If signals cannot be handled.
    pub fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self::default();
        let Self { graceful, immediate } = shutdown.clone();
        tokio::spawn(async move {
            for token in [graceful, immediate] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(shutdown)
    }
}

/// Ignores SIGXFSZ, which kills a process whose file reaches `RLIMIT_FSIZE`. The write then fails
/// with EFBIG, and the service behaves as on a full disk.
///
/// # Errors
/// If signals cannot be handled.
pub fn ignore_file_size_signal() -> io::Result<()> {
    // The handler stays when the listener is dropped.
    signal(SignalKind::from_raw(Number::XFSZ.as_raw())).map(drop)
}
