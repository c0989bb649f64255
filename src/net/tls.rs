//! TLS, one stack for HTTP and PostgreSQL: rustls with `ring`, roots of the system or of a file,
//! the two weaker ways of checking a certificate that libpq knows, and the reading of refusals.

use std::error::Error as StdError;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, PeerMisbehaved,
    RootCertStore, SignatureScheme,
};

use crate::error::{Failure, Reason, Result, Stage};

/// The most of a PEM file that is read, in bytes: far above any bundle, far below a mistaken device.
const MAX_PEM_BYTES: u64 = 16 << 20;

/// Whether a server's name is checked beside its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameCheck {
    /// It is not (libpq's `verify-ca`).
    Skip,
    /// It is.
    Require,
}

/// Returns the system's root certificates, and those of a setting if there are `more`.
///
/// The system's are where `SSL_CERT_FILE` and `SSL_CERT_DIR` say, else where the distribution
/// keeps them. None of either is an error.
pub fn roots(more: Option<RootCertStore>) -> Result<RootCertStore> {
    let mut store = more.unwrap_or_else(RootCertStore::empty);
    store.add_parsable_certificates(system_certificates());
    if store.is_empty() {
        let message = "No root certificate was found: install ca-certificates, or name a PEM file \
                       in SSL_CERT_FILE or DATAPASS_CA_FILE";
        return Err(Failure::new(Stage::Prepare, Reason::Configuration, message));
    }
    Ok(store)
}

/// Returns the system's certificates, as many as can be read.
fn system_certificates() -> Vec<CertificateDer<'static>> {
    // The library takes an empty name for a file that is not there; the probe passes over it.
    let is_empty = std::env::var_os("SSL_CERT_FILE").is_some_and(|file| file.is_empty());
    if !is_empty {
        return rustls_native_certs::load_native_certs().certs;
    }
    let found = openssl_probe::probe();
    let dir = found.cert_dir.first().map(PathBuf::as_path);
    rustls_native_certs::load_certs_from_paths(found.cert_file.as_deref(), dir).certs
}

/// Returns the root certificates of one PEM file and no others.
///
/// # Errors
///
/// What is wrong with it, as the end of a sentence whose subject is the setting.
pub fn file_roots(path: &Path) -> Result<RootCertStore, String> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_PEM_BYTES).read_to_end(&mut text))
        .map_err(|error| format!("names a file that cannot be read: {error}"))?;
    // The first line would not be recognized behind a byte-order mark.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let certificates = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let mut store = RootCertStore::empty();
    let (_, unusable) = store.add_parsable_certificates(certificates.unwrap_or_default());
    if unusable > 0 || store.is_empty() {
        return Err("names a file without a usable PEM certificate".to_owned());
    }
    Ok(store)
}

/// Makes TLS settings without a client certificate. They verify a server's chain up to one of the
/// roots, if there are any: as with OpenSSL, and so with libpq and curl, a self-signed certificate
/// may be a root itself.
pub fn client_config(roots: Option<(RootCertStore, NameCheck)>) -> ClientConfig {
    // With the provider that is the only one in the features of rustls.
    let builder = ClientConfig::builder();
    let algorithms = builder.crypto_provider().signature_verification_algorithms;
    builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { roots, algorithms }))
        .with_no_client_auth()
}

/// An error of any library.
pub(crate) type AnyError = dyn StdError + 'static;

/// Returns why a certificate was refused, when that is what an error is about; `setting` is where a
/// private root belongs.
///
/// Follows `source()`, and what an [`io::Error`] wraps, which `source()` skips.
pub fn certificate_refusal(error: &AnyError, setting: &str) -> Option<String> {
    let refusal = chain(error).find_map(|error| match error.downcast_ref() {
        Some(rustls::Error::InvalidCertificate(refusal)) => Some(refusal),
        _ => None,
    })?;
    Some(match refusal {
        CertificateError::Other(other) => other.0.to_string(),
        // The second is an issuer with the name of a known one and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!("{refusal}: no trusted root has signed it; name a private root in {setting}")
        }
        other => other.to_string(),
    })
}

/// Returns whether an error comes from TLS, certificates included.
pub fn is_tls(error: &AnyError) -> bool {
    chain(error).any(|error| error.is::<rustls::Error>())
}

/// Walks an error and its causes, outermost first.
pub(crate) fn chain(error: &AnyError) -> impl Iterator<Item = &AnyError> {
    std::iter::successors(Some(error), |&error| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}

const VERSION_1: &str =
    "it is X.509 version 1, which has no subject alternative names: re-issue it as version 3";
const P521: &str =
    "its key is on the curve P-521: re-issue it with a key on P-256 or P-384, or RSA";
const RSA_PSS: &str =
    "it uses RSASSA-PSS: re-issue it with a plain RSA key (rsaEncryption) or on P-256";
const SIGNATURE: &str =
    "it is signed in an unsupported way: re-issue it, signed with SHA-256 by RSA or P-256";

/// Schemes that are offered so that the server shows such a certificate, instead of an alert that
/// names no cause: P-521, then RSASSA-PSS keys with SHA-256, SHA-384 and SHA-512.
const UNSUPPORTED_SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::Unknown(0x0809),
    SignatureScheme::Unknown(0x080a),
    SignatureScheme::Unknown(0x080b),
];

/// Names what OpenSSL accepts in a certificate and the TLS library does not, if an error is about
/// that.
fn explain(error: rustls::Error, certificate: &[u8]) -> rustls::Error {
    let has = |id: &[u8]| certificate.windows(id.len()).any(|part| part == id);
    let cause = match &error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other))
            if other.0.to_string() == "UnsupportedCertVersion" =>
        {
            VERSION_1
        }
        rustls::Error::InvalidCertificate(
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        )
        | rustls::Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme) =>
        {
            // By the object identifiers in it: secp521r1 and id-RSASSA-PSS.
            if has(b"\x06\x05\x2b\x81\x04\x00\x23") {
                P521
            } else if has(b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a") {
                RSA_PSS
            } else {
                SIGNATURE
            }
        }
        _ => return error,
    };
    let cause: Box<dyn StdError + Send + Sync> = cause.into();
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause.into())))
}

/// Verifies a server's certificate as OpenSSL does.
#[derive(Debug)]
struct Verifier {
    /// None encrypts without knowing to whom. The signature of the handshake is then that of a key
    /// which no authority vouches for: checking it would add nothing, and refuse what libpq accepts.
    roots: Option<(RootCertStore, NameCheck)>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// Takes how the signature of a handshake was verified, if an authority is to vouch for its key.
    fn signed(
        &self,
        certificate: &CertificateDer<'_>,
        verified: Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self.roots {
            Some(_) => verified.map_err(|error| explain(error, certificate)),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }
}

/// Returns whether a certificate is a root itself, or has the name and key of one.
fn is_root(certificate: &CertificateDer<'_>, roots: &RootCertStore) -> bool {
    let mut own = RootCertStore::empty();
    // What cannot be used stays out.
    let _ = own.add(certificate.clone().into_owned());
    own.roots.iter().any(|own| roots.roots.contains(own))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some((roots, name_check)) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        let explain = |error| explain(error, end_entity);
        let certificate = ParsedCertificate::try_from(end_entity).map_err(explain)?;
        let algorithms = self.algorithms.all;
        match verify_server_cert_signed_by_trust_anchor(
            &certificate,
            roots,
            intermediates,
            now,
            algorithms,
        ) {
            // A self-signed server certificate as `openssl req -x509` makes one (PostgreSQL's
            // section 19.9.5) is marked as an authority. Its dates were checked before its mark.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
                if other.to_string() == "CaUsedAsEndEntity" && is_root(end_entity, roots) => {}
            verified => verified.map_err(explain)?,
        }
        if *name_check == NameCheck::Require {
            verify_server_name(&certificate, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.algorithms;
        let verified = verify_tls12_signature(message, certificate, signature, algorithms);
        self.signed(certificate, verified)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.algorithms;
        let verified = verify_tls13_signature(message, certificate, signature, algorithms);
        self.signed(certificate, verified)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.algorithms.supported_schemes();
        schemes.extend(UNSUPPORTED_SCHEMES);
        schemes
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn refusals_are_found_through_io_errors() {
        let refused = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = Outer(io::Error::new(io::ErrorKind::InvalidData, refused));
        assert!(certificate_refusal(&error, "CA").is_some());
        assert!(is_tls(&error));

        let alert = rustls::Error::DecryptError;
        let error = Outer(io::Error::other(Outer(io::Error::other(alert))));
        assert!(certificate_refusal(&error, "CA").is_none());
        assert!(is_tls(&error));

        let error = Outer(io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(certificate_refusal(&error, "CA").is_none());
        assert!(!is_tls(&error));
    }

    #[test]
    fn invalid_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing.pem");
        let error = file_roots(&missing).unwrap_err();
        assert_eq!(
            error,
            "names a file that cannot be read: No such file or directory (os error 2)"
        );

        let garbage = directory.path().join("garbage.pem");
        for text in [
            "",
            "not a certificate",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\n!\n",
        ] {
            std::fs::write(&garbage, text).unwrap();
            let error = file_roots(&garbage).unwrap_err();
            assert_eq!(error, "names a file without a usable PEM certificate", "{text}");
        }
    }

    /// Makes a root certificate and discards its key.
    pub(crate) fn root_pem() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn a_private_root_is_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let two = format!("\u{feff}{}{}", root_pem(), root_pem());
        std::fs::write(&path, two).unwrap();
        assert_eq!(file_roots(&path).unwrap().len(), 2);
    }
}
