//! What the sidecar shows Redis and expects of it: certificates and a password, from files that only it can read.
//!
//! The files are read when the sidecar starts. No message shows what is in them.

use redis::{ClientTlsConfig, TlsCertificates};
use std::fs;
use std::path::{Path, PathBuf};

/// Certificates and a password.
#[derive(Default)]
pub struct Access {
    /// The authorities that Redis's certificate must come from, if not the system's, and the sidecar's own certificate.
    pub(super) certificates: Option<TlsCertificates>,
    /// The password, if it is not in the URL.
    pub(super) password: Option<String>,
}

/// The files.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// `REDIS_CA`: certificates in PEM.
    pub ca: Option<PathBuf>,
    /// `REDIS_CERT`: a certificate and those between it and its authority, in PEM.
    pub cert: Option<PathBuf>,
    /// `REDIS_KEY`: its key, in PEM.
    pub key: Option<PathBuf>,
    /// `REDIS_PASSWORD_FILE`: a password and perhaps the end of a line.
    pub password: Option<PathBuf>,
}

/// Why a file is no good.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFile {
    /// It cannot be read.
    #[error("{setting}: cannot read {path}: {why}")]
    Unreadable {
        /// The setting that names it.
        setting: &'static str,
        /// Its path.
        path: String,
        /// The system's error.
        why: String,
    },
    /// It does not have what it should.
    #[error("{setting}: expected {expected} in {path}")]
    Content {
        /// The setting that names it.
        setting: &'static str,
        /// Its path.
        path: String,
        /// What it should have.
        expected: &'static str,
    },
    /// A certificate without its key, or a key without its certificate.
    #[error("REDIS_CERT and REDIS_KEY: expected both or neither")]
    Alone,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// See [`BadFile`].
    pub fn read(&self) -> Result<Access, BadFile> {
        let root_cert = self.ca.as_deref().map(|path| pem("REDIS_CA", path, "CERTIFICATE")).transpose()?;
        let client_tls = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some(ClientTlsConfig {
                client_cert: pem("REDIS_CERT", cert, "CERTIFICATE")?,
                client_key: pem("REDIS_KEY", key, "PRIVATE KEY")?,
            }),
            (None, None) => None,
            _ => return Err(BadFile::Alone),
        };
        let has_certificates = root_cert.is_some() || client_tls.is_some();
        let certificates = has_certificates.then_some(TlsCertificates { client_tls, root_cert });
        let password = self.password.as_deref().map(password).transpose()?;
        Ok(Access { certificates, password })
    }
}

fn bytes(setting: &'static str, path: &Path) -> Result<Vec<u8>, BadFile> {
    let path_shown = || path.display().to_string();
    fs::read(path).map_err(|why| BadFile::Unreadable { setting, path: path_shown(), why: why.to_string() })
}

/// The bytes of a file with a block of PEM of this `kind`, such as `RSA PRIVATE KEY` for `PRIVATE KEY`.
fn pem(setting: &'static str, path: &Path, kind: &'static str) -> Result<Vec<u8>, BadFile> {
    let bytes = bytes(setting, path)?;
    let text = String::from_utf8_lossy(&bytes);
    if text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(kind)) {
        return Ok(bytes);
    }
    let expected = if kind == "CERTIFICATE" { "a certificate in PEM" } else { "a key in PEM" };
    Err(BadFile::Content { setting, path: path.display().to_string(), expected })
}

fn password(path: &Path) -> Result<String, BadFile> {
    const SETTING: &str = "REDIS_PASSWORD_FILE";
    let text = String::from_utf8(bytes(SETTING, path)?).unwrap_or_default();
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        let path = path.display().to_string();
        return Err(BadFile::Content { setting: SETTING, path, expected: "a password" });
    }
    Ok(password.to_owned())
}
