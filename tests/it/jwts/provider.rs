//! A test identity provider: its keys, their JWKS, and the JWTs that it issues.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use m4_user_details::domain::clock::{Clock, SystemClock};
use ring::{
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, PublicKeyComponents},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    },
};
use serde_json::{Value, json};

/// A key for these tests only (PKCS #8): no library here can generate an RSA key.
const RSA: &str = include_str!("rsa_key.txt");

/// The expected `iss` and `aud`.
pub const ISSUER: &str = "https://id.example/";
pub const AUDIENCE: &str = "m4-user-details";

/// A signing key with its id.
pub struct Signer {
    id: String,
    key: Key,
}

enum Key {
    Rs256(RsaKeyPair),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

/// base64url without padding, as in JWTs.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub fn rs256(id: &str) -> Self {
        let text: String = RSA.split_whitespace().collect();
        let key = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        Self { id: id.to_owned(), key: Key::Rs256(RsaKeyPair::from_pkcs8(&key).unwrap()) }
    }

    pub fn es256(id: &str) -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap();
        Self { id: id.to_owned(), key: Key::Es256(key) }
    }

    pub fn eddsa(id: &str) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap();
        Self { id: id.to_owned(), key: Key::EdDsa(key) }
    }

    /// The public key as a JWK.
    pub fn jwk(&self) -> Value {
        let id = &self.id;
        match &self.key {
            Key::Rs256(key) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
                let (n, e) = (encode(public.n), encode(public.e));
                json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": id, "n": n, "e": e})
            }
            Key::Es256(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": id, "x": encode(x), "y": encode(y)})
            }
            Key::EdDsa(key) => {
                let x = encode(key.public_key());
                json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": id, "x": x})
            }
        }
    }

    pub fn algorithm(&self) -> &'static str {
        match self.key {
            Key::Rs256(_) => "RS256",
            Key::Es256(_) => "ES256",
            Key::EdDsa(_) => "EdDSA",
        }
    }

    /// A header that names the key.
    pub fn header(&self) -> Value {
        json!({"typ": "at+jwt", "alg": self.algorithm(), "kid": self.id})
    }

    /// A JWT with these claims.
    pub fn jwt(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }

    /// A JWT with a custom header.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match &self.key {
            Key::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Key::Es256(key) => key.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Key::EdDsa(key) => key.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", encode(signature))
    }
}

/// A JWT signed with a shared secret (HS256).
pub fn hs256(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    format!("{message}.{}", encode(hmac::sign(&key, message.as_bytes())))
}

/// The claims of a valid JWT with this scope.
pub fn claims(scope: &str) -> Value {
    let now = SystemClock.now().timestamp();
    json!({
        "iss": ISSUER,
        "aud": ["another service", AUDIENCE],
        "sub": "crm",
        "iat": now,
        "nbf": now,
        "exp": now + 300,
        "scope": scope,
    })
}

/// Valid claims with one claim replaced, or removed if the value is null.
pub fn claims_but(name: &str, value: Value) -> Value {
    let mut claims = claims("m4:admin");
    claims[name] = value;
    if claims[name].is_null() {
        claims.as_object_mut().unwrap().remove(name);
    }
    claims
}

/// The JWKS of keys.
pub fn jwks(keys: &[&Signer]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
}
