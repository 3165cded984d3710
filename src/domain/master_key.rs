//! The master keys, which seal the secrets of client keys: AES-256-GCM.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::secrets::Secrets;

/// The length of a master key, in bytes.
const KEY_LENGTH: usize = 32;
/// The length of the name of a master key in a sealed secret, in hexadecimal digits.
const NAME_LENGTH: usize = 16;

/// The master keys, the current one first. The others open secrets that are not sealed again yet.
#[derive(Clone, Debug, Default)]
pub struct MasterKeys(pub Secrets);

/// A secret that only a master key opens.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub String);

impl fmt::Debug for Sealed {
    /// Omits the content.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sealed")
    }
}

/// Why a secret could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is no master key.
    #[error("there is no master key: set api.master_key_file (M4_API_MASTER_KEY_FILE)")]
    NoMasterKey,
    /// No master key of the file sealed this secret.
    #[error("the secret was sealed with a master key that is not in api.master_key_file")]
    OtherMasterKey,
    /// The sealed text was changed, or belongs to another key.
    #[error("the sealed secret is damaged")]
    Damaged,
    /// The system has no random numbers.
    #[error("the system has no random numbers")]
    NoRandom,
}

impl MasterKeys {
    /// Checks a line of the file. The error is the end of a sentence that begins with the key.
    ///
    /// # Errors
    /// The line is not a master key.
    pub fn check(line: &str) -> Result<(), &'static str> {
        let problem = "must have one master key per line: 64 hexadecimal digits";
        bytes(line).map(drop).ok_or(problem)
    }

    /// A new master key that is in no file.
    ///
    /// # Errors
    /// [`SealError::NoRandom`].
    pub fn random() -> Result<Self, SealError> {
        let mut bytes = [0; KEY_LENGTH];
        SystemRandom::new().fill(&mut bytes).map_err(|_| SealError::NoRandom)?;
        Ok(Self(Secrets::new([hex::encode(bytes).into()])))
    }

    /// Seals the secret of the client key with this id.
    ///
    /// # Errors
    /// [`SealError::NoMasterKey`], [`SealError::NoRandom`].
    pub fn seal(&self, id: &str, secret: &SecretString) -> Result<Sealed, SealError> {
        let master = self.0.current().ok_or(SealError::NoMasterKey)?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::NoRandom)?;
        let mut text = secret.expose_secret().as_bytes().to_vec();
        let key = cipher(&master).ok_or(SealError::NoMasterKey)?;
        let tag = key.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(id),
            &mut text,
        );
        let tag = tag.map_err(|_| SealError::NoRandom)?;
        let sealed = [&nonce, &*text, tag.as_ref()].concat();
        Ok(Sealed(format!("{}.{}", name(&master), STANDARD_NO_PAD.encode(sealed))))
    }

    /// Opens the secret of the client key with this id.
    ///
    /// # Errors
    /// [`SealError::NoMasterKey`], [`SealError::OtherMasterKey`], [`SealError::Damaged`].
    pub fn open(&self, id: &str, sealed: &Sealed) -> Result<SecretString, SealError> {
        let masters = self.0.get();
        if masters.is_empty() {
            return Err(SealError::NoMasterKey);
        }
        let (by, content) = sealed.0.split_once('.').ok_or(SealError::Damaged)?;
        let master = masters.iter().find(|master| name(master) == by);
        let key = master.and_then(cipher).ok_or(SealError::OtherMasterKey)?;
        let content = STANDARD_NO_PAD.decode(content).map_err(|_| SealError::Damaged)?;
        let (nonce, text) = content.split_at_checked(NONCE_LEN).ok_or(SealError::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Damaged)?;
        let mut text = text.to_vec();
        let text = key.open_in_place(nonce, Aad::from(id), &mut text);
        let text = text.map_err(|_| SealError::Damaged)?;
        let text = std::str::from_utf8(text).map_err(|_| SealError::Damaged)?;
        Ok(text.into())
    }

    /// Whether the current master key sealed this secret.
    pub fn is_current(&self, sealed: &Sealed) -> bool {
        let current = self.0.current();
        current.is_some_and(|master| {
            sealed.0.split_once('.').is_some_and(|(by, _)| name(&master) == by)
        })
    }
}

/// The name of a master key: the beginning of its SHA-256. The name does not reveal the key.
fn name(master: &SecretString) -> String {
    let mut name = hex::encode(Sha256::digest(master.expose_secret().to_lowercase()));
    name.truncate(NAME_LENGTH);
    name
}

fn cipher(master: &SecretString) -> Option<LessSafeKey> {
    let bytes = bytes(master.expose_secret())?;
    UnboundKey::new(&AES_256_GCM, &bytes).ok().map(LessSafeKey::new)
}

fn bytes(line: &str) -> Option<[u8; KEY_LENGTH]> {
    let mut bytes = [0; KEY_LENGTH];
    hex::decode_to_slice(line, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys<const N: usize>(digits: [char; N]) -> MasterKeys {
        MasterKeys(Secrets::new(digits.map(|digit| digit.to_string().repeat(64).into())))
    }

    #[test]
    fn a_secret_is_opened_by_the_key_that_sealed_it_and_under_its_own_id_only() {
        let secret: SecretString = "a client's secret".into();
        let (old, both, new) = (keys(['a']), keys(['b', 'a']), keys(['b']));
        let sealed = old.seal("1", &secret).unwrap();
        assert!(!sealed.0.contains("secret"));
        assert_ne!(sealed, old.seal("1", &secret).unwrap(), "nonces differ");
        for masters in [&old, &both] {
            assert_eq!(masters.open("1", &sealed).unwrap().expose_secret(), "a client's secret");
        }
        assert!(old.is_current(&sealed) && !both.is_current(&sealed));
        assert_eq!(new.open("1", &sealed).unwrap_err(), SealError::OtherMasterKey);
        assert_eq!(old.open("2", &sealed).unwrap_err(), SealError::Damaged);
        assert_eq!(keys([]).open("1", &sealed).unwrap_err(), SealError::NoMasterKey);
        assert_eq!(keys([]).seal("1", &secret).unwrap_err(), SealError::NoMasterKey);
        let sealed_again = both.seal("1", &secret).unwrap();
        assert!(new.open("1", &sealed_again).is_ok());
        let mut damaged = sealed.0.clone();
        let replaced = damaged.len() - 4..damaged.len() - 3;
        let other = if &damaged[replaced.clone()] == "A" { "B" } else { "A" };
        damaged.replace_range(replaced, other);
        for text in [&*damaged, "", "x", ".", &sealed.0[..20]] {
            assert!(old.open("1", &Sealed(text.to_owned())).is_err(), "{text}");
        }
    }

    #[test]
    fn a_master_key_has_64_hexadecimal_digits() {
        for (line, is_good) in [
            ("0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef", true),
            ("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde", false),
            ("g123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", false),
            ("", false),
        ] {
            assert_eq!(MasterKeys::check(line).is_ok(), is_good, "{line}");
        }
    }
}
