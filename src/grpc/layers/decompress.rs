//! Decompresses messages, with limits for their size and for the decoder's memory.

use std::io::{self, Read};

/// The compression algorithm of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::grpc) enum Encoding {
    Gzip,
    Zstd,
}

/// Messages up to this size are decompressed at once, larger messages on a worker.
pub(super) const SMALL_BYTES: usize = 64 * 1024;
/// Maximum zstd windows, as powers of two: the decoder allocates the window. RFC 8878, section
/// 3.1.1.1.2, recommends support for 8 MB.
const SMALL_WINDOW_LOG: u32 = 16;
const MAX_WINDOW_LOG: u32 = 23;

impl Encoding {
    /// Parses a value of `grpc-encoding`.
    pub(in crate::grpc) fn of(name: &[u8]) -> Option<Self> {
        match name {
            b"gzip" => Some(Self::Gzip),
            b"zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Decompresses a small message; `None` if it is malformed or may exceed [`SMALL_BYTES`].
    pub(in crate::grpc) fn decompress_small(self, compressed: &[u8]) -> Option<Vec<u8>> {
        self.read(compressed, SMALL_BYTES, SMALL_WINDOW_LOG, |_| true).ok().flatten()
    }

    /// Decompresses a message; `None` if it exceeds `max` bytes. If `goes_on` rejects the
    /// beginning, returns only the beginning.
    ///
    /// # Errors
    /// If the bytes do not have this encoding.
    pub(in crate::grpc) fn decompress(
        self,
        compressed: &[u8],
        max: usize,
        goes_on: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Option<Vec<u8>>> {
        self.read(compressed, max, MAX_WINDOW_LOG, goes_on)
    }

    fn read(
        self,
        compressed: &[u8],
        max: usize,
        window_log: u32,
        goes_on: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Gzip => bounded(flate2::read::MultiGzDecoder::new(compressed), max, goes_on),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(compressed)?;
                decoder.window_log_max(window_log)?;
                bounded(decoder, max, goes_on)
            }
        }
    }
}

/// Reads the whole message; `None` if it exceeds `max` bytes.
fn bounded(
    mut decoder: impl Read,
    max: usize,
    goes_on: impl Fn(&[u8]) -> bool,
) -> io::Result<Option<Vec<u8>>> {
    let limit = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    let mut message = Vec::new();
    let beginning = SMALL_BYTES.min(max);
    decoder.by_ref().take(limit(beginning)).read_to_end(&mut message)?;
    if message.len() == beginning && goes_on(&message) {
        let rest = limit(max - beginning).saturating_add(1);
        decoder.take(rest).read_to_end(&mut message)?;
    }
    Ok((message.len() <= max).then_some(message))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const BOMB: usize = 8 * 1024 * 1024;

    fn gzip(message: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(message).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn messages_come_back_and_bombs_are_refused() {
        let message = b"some message".repeat(100);
        let zstd = |message: &[u8]| zstd::encode_all(message, 3).unwrap();
        for (encoding, compress) in
            [(Encoding::Gzip, &gzip as &dyn Fn(&[u8]) -> Vec<u8>), (Encoding::Zstd, &zstd)]
        {
            let compressed = compress(&message);
            assert_eq!(encoding.decompress_small(&compressed).as_ref(), Some(&message));
            let whole = encoding.decompress(&compressed, message.len(), |_| true).unwrap();
            assert_eq!(whole.as_ref(), Some(&message));
            assert_eq!(
                encoding.decompress(&compressed, message.len() - 1, |_| true).unwrap(),
                None
            );

            let bomb = compress(&vec![0; BOMB]);
            assert_eq!(encoding.decompress_small(&bomb), None);
            assert!(!matches!(encoding.decompress(&bomb, 1 << 20, |_| true), Ok(Some(_))));
            let beginning = encoding.decompress(&bomb, 1 << 20, |_| false).unwrap();
            assert_eq!(beginning.map(|beginning| beginning.len()), Some(SMALL_BYTES));
            let broken = encoding.decompress(b"neither of them", 100, |_| true);
            assert!(broken.is_err(), "{encoding:?}");
        }
    }
}
