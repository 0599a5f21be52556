//! The signing key, and its public half as others read it (JWK).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use tiphys_api::{Value, json};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

use super::claims::Claims;
use crate::pki::ServiceAccountKey;

/// An uncompressed P-256 point: a 4, then x and y.
const POINT_LEN: usize = 65;

/// Signs and verifies tokens.
pub struct Keys {
    private: EncodingKey,
    public: DecodingKey,
    id: String,
    jwk: Value,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not the PEM of an EC key.
    #[error("service account key: {0}")]
    Pem(#[from] jsonwebtoken::errors::Error),
    /// Not a P-256 public key.
    #[error("service account key: the public key is not an ECDSA P-256 key")]
    Curve,
}

impl Keys {
    /// Takes the key pair that [`crate::pki`] keeps.
    pub fn new(key: &ServiceAccountKey) -> Result<Self, KeyError> {
        let private = EncodingKey::from_ec_pem(key.private_pem.as_bytes())?;
        let public = DecodingKey::from_ec_pem(key.public_pem.as_bytes())?;
        let der = SubjectPublicKeyInfoDer::from_pem_slice(key.public_pem.as_bytes())
            .map_err(|_| KeyError::Curve)?;
        let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(|_| KeyError::Curve)?;
        let point = info.subject_public_key.data.as_ref();
        let (Some(x), Some(y), POINT_LEN) = (point.get(1..33), point.get(33..), point.len()) else {
            return Err(KeyError::Curve);
        };
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let id = encode(&Sha256::digest(der.as_ref()));
        let jwk = json!({
            "use": "sig", "kty": "EC", "kid": id, "crv": "P-256", "alg": "ES256", "x": encode(x), "y": encode(y),
        });
        Ok(Self { private, public, id, jwk })
    }

    pub(super) fn jwk(&self) -> &Value {
        &self.jwk
    }

    pub(super) fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        let header = Header { kid: Some(self.id.clone()), typ: None, ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &self.private)
    }

    /// Checks signature and issuer only; times and audiences are judged by the caller's clock and need.
    pub(super) fn open(&self, token: &str, issuer: &str) -> Result<Claims, jsonwebtoken::errors::Error> {
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_issuer(&[issuer]);
        rules.set_required_spec_claims(&["iss", "sub"]);
        (rules.validate_exp, rules.validate_nbf, rules.validate_aud) = (false, false, false);
        jsonwebtoken::decode(token, &self.public, &rules).map(|token| token.claims)
    }
}
