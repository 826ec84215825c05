//! Reads a certificate and its key from PEM files (RFC 7468), and detects when the files change.

use super::TlsError;
use rustls::{
    InconsistentKeys,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Largest file in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Paths of certificate and key.
#[derive(Debug)]
pub(super) struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// State of both files, to detect changes: inode, size and modification time in seconds and nanoseconds, of each that
/// exists.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp([Option<(u64, u64, i64, i64)>; 2]);

impl Files {
    pub(super) fn new(certificate: &Path, key: &Path) -> Files {
        Files {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        }
    }

    pub(super) fn stamp(&self) -> Stamp {
        let of = |file: &Path| {
            let found = fs::metadata(file).ok()?;
            Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
        };
        Stamp([of(&self.certificate), of(&self.key)])
    }

    /// Reads both files and checks that they belong together.
    pub(super) fn load(&self) -> Result<CertifiedKey, TlsError> {
        let text = read(&self.certificate)?;
        let chain = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| broken(&self.certificate, &error))?;
        if chain.is_empty() {
            return Err(content(
                &self.certificate,
                "has no certificate: it must be PEM, with a line -----BEGIN CERTIFICATE-----",
            ));
        }
        let text = read(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            pem::Error::NoItemsFound => content(
                &self.key,
                "has no private key: it must be PEM, with a line -----BEGIN PRIVATE KEY-----, and not encrypted",
            ),
            error => broken(&self.key, &error),
        })?;
        let key = ring::default_provider()
            .key_provider
            .load_private_key(key)
            .map_err(|error| {
                content(&self.key, format!("has a key that cannot be used: {error}"))
            })?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(pair),
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
            }),
            Err(error) => Err(content(
                &self.certificate,
                format!("has a certificate that cannot be used: {error}"),
            )),
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let mut text = Vec::new();
    File::open(file)
        .and_then(|open| open.take(MAX_FILE_BYTES + 1).read_to_end(&mut text))
        .map_err(|reason| TlsError::Read {
            file: file.to_owned(),
            reason,
        })?;
    match text.len() as u64 > MAX_FILE_BYTES {
        true => Err(content(
            file,
            "is larger than 1 MiB, so it is not a PEM file",
        )),
        false => Ok(text),
    }
}

fn broken(file: &Path, error: &pem::Error) -> TlsError {
    content(
        file,
        format!(
            "is incomplete: {error}; write it again, best under another name and then rename it"
        ),
    )
}

fn content(file: &Path, what: impl Into<String>) -> TlsError {
    TlsError::Content {
        file: file.to_owned(),
        what: what.into(),
    }
}
