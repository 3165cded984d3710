//! Files of secrets. A running service reads them again.

use std::{
    str,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use secrecy::SecretString;

use crate::{
    domain::hash::DEMO_KEY,
    secrets::Secrets,
    tls::{File, FileError, Source},
};

/// A file with one secret per line, the current one first.
#[derive(Clone, Debug)]
pub struct SecretFile {
    pub(super) file: File,
    /// The list that gets the secrets of the file.
    pub(super) secrets: Secrets,
    /// Checks a secret. The error is the end of a sentence that begins with the key.
    pub(super) check: fn(&str) -> Result<(), &'static str>,
    /// Whether the file may have the public key of the demo data. True until the service starts,
    /// which checks the first content itself.
    pub(super) admits_demo_key: Arc<AtomicBool>,
}

impl SecretFile {
    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Sets whether the file may have the public key of the demo data from now on.
    pub(super) fn admit_demo_key(&self, admitted: bool) {
        self.admits_demo_key.store(admitted, Ordering::Relaxed);
    }
}

impl Source for SecretFile {
    const NAME: &'static str = "secrets";
    type Made = ();

    fn files(&self) -> Vec<&File> {
        vec![&self.file]
    }

    fn make(&self, contents: &[Vec<u8>]) -> Result<(), FileError> {
        let mut secrets = Vec::new();
        for content in contents {
            let text = str::from_utf8(content).map_err(|_| self.file.wrong("must be UTF-8"))?;
            for line in text.lines().filter(|line| !line.is_empty()) {
                if line == DEMO_KEY && !self.admits_demo_key.load(Ordering::Relaxed) {
                    return Err(self.file.wrong("must not have the public key of the demo data"));
                }
                (self.check)(line).map_err(|problem| self.file.wrong(problem))?;
                secrets.push(SecretString::from(line));
            }
        }
        if secrets.is_empty() {
            return Err(self.file.wrong("must name a file with one secret per line"));
        }
        self.secrets.replace(secrets);
        Ok(())
    }
}

/// Accepts every secret.
pub(super) fn any(_secret: &str) -> Result<(), &'static str> {
    Ok(())
}

/// Refuses what cannot be sent as a bearer token.
pub(super) fn token(secret: &str) -> Result<(), &'static str> {
    let is_sendable = secret.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_sendable { Ok(()) } else { Err("must be visible ASCII characters") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(check: fn(&str) -> Result<(), &'static str>) -> SecretFile {
        let file = File { key: "a.file", path: "/none".into() };
        let admits_demo_key = Arc::new(AtomicBool::new(true));
        SecretFile { file, secrets: Secrets::new(["first".into()]), check, admits_demo_key }
    }

    #[test]
    fn only_a_file_that_can_be_used_replaces_the_secrets() {
        let file = file(token);
        for (content, problem) in [
            (&b""[..], "must name a file with one secret per line"),
            (b"\n\r\n", "must name a file with one secret per line"),
            (b"good\n\xff", "must be UTF-8"),
            (b"good\nb\tad", "must be visible ASCII characters"),
        ] {
            let refused = file.make(&[content.to_vec()]).unwrap_err();
            assert_eq!(refused.to_string(), format!("a.file {problem}"));
            assert!(file.secrets.contain("first") && !file.secrets.contain("good"));
        }
        file.make(&[b"new one\r\n\nold\n".to_vec()]).unwrap();
        assert!(file.secrets.contain("new one") && file.secrets.contain("old"));
        assert!(!file.secrets.contain("first"));
    }

    #[test]
    fn the_demo_key_does_not_come_by_a_file_where_it_is_refused() {
        let file = file(any);
        file.make(&[b"secret".to_vec()]).unwrap();
        file.admit_demo_key(false);
        file.make(&[b"other".to_vec()]).unwrap();
        assert!(file.make(&[b"another\nsecret".to_vec()]).is_err());
        assert!(file.secrets.contain("other") && !file.secrets.contain("secret"));
    }
}
