//! The gateway's self-signed certificate, saved so that clients that accepted it once need not do so again after a
//! restart.

use super::TlsError;
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
};
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use sluicegate_config::{Server, machine, private};
use std::{
    net::IpAddr,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use time::OffsetDateTime;

const DAY: Duration = Duration::from_secs(86_400);
/// Validity. Apple's devices accept at most 825 days.
const VALID: Duration = DAY.saturating_mul(800);
/// How long before its end the certificate is renewed.
const RENEW_BEFORE_END: Duration = DAY.saturating_mul(30);
/// How far in the past the validity begins, since clocks differ.
const BACKDATED: Duration = DAY;
/// Prefix of the first line of the file, before the PEM: end of validity in Unix seconds.
const EXPIRY_PREFIX: &str = "until ";

/// The names that the certificate is for, and the folder in which it is saved.
#[derive(Debug)]
pub(super) struct SelfSigned {
    names: Vec<String>,
    dir: Option<PathBuf>,
}

impl SelfSigned {
    /// For the loopback names, those of the config, and this machine's addresses that other machines can connect to.
    pub(super) fn new(server: &Server) -> SelfSigned {
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(Into::into).into();
        names.extend(server.names.iter().map(|name| name.as_str().to_owned()));
        for address in server.tcp_addresses() {
            let listen = address.ip().to_canonical();
            names.extend(machine::addresses(listen).iter().map(IpAddr::to_string));
            if listen.is_loopback() {
                names.push(listen.to_string());
            }
        }
        names.sort();
        names.dedup();
        SelfSigned {
            names,
            dir: private::folder("XDG_STATE_HOME", ".local/state", "tls"),
        }
    }

    /// Loads the saved certificate if it is for these names and valid for longer than [`RENEW_BEFORE_END`], or else
    /// creates one. Also returns when to renew it.
    pub(super) fn load(&self, now: SystemTime) -> Result<(CertifiedKey, SystemTime), TlsError> {
        let file = self.file();
        if let Some((key, until)) = file.as_ref().and_then(|file| parse(&private::read(file)?))
            && now + RENEW_BEFORE_END < until
        {
            return Ok((key, until - RENEW_BEFORE_END));
        }
        let until = now + VALID;
        let text = make(&self.names, now, until)?;
        match &file {
            Some(file) => match private::write(file, &[text.as_bytes()]) {
                Ok(()) => tracing::info!("created a certificate, saved in {}", file.display()),
                Err(error) => tracing::warn!(
                    "the certificate is not saved, so the next start creates another: {}: {error}",
                    file.display()
                ),
            },
            None => {
                tracing::warn!("the certificate is not saved, so the next start creates another")
            }
        }
        let (key, _) = parse(text.as_bytes())
            .ok_or_else(|| TlsError::Make("the new certificate cannot be read back".into()))?;
        Ok((key, until - RENEW_BEFORE_END))
    }

    /// Path of the saved certificate. The name has a hash of the certificate's names, so other names use another file.
    fn file(&self) -> Option<PathBuf> {
        let dir = self.dir.as_ref()?;
        if let Err(reason) = private::make(dir) {
            tracing::warn!("{}: {reason}", dir.display());
            return None;
        }
        let digest = Sha256::digest(self.names.join(","));
        let hex: String = digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Some(dir.join(format!("self-signed-{hex}.pem")))
    }
}

/// A new ECDSA P-256 certificate for these names with its key, to be used from `start` until `until`.
pub(crate) fn self_sign(
    names: &[String],
    start: SystemTime,
    until: SystemTime,
) -> Result<(Certificate, KeyPair), TlsError> {
    let failed = |error: rcgen::Error| TlsError::Make(error.to_string());
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "Sluicegate");
    params.not_before = date(start - BACKDATED)?;
    params.not_after = date(until)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((certificate, key))
}

/// A time as in a certificate, which has years of four digits (RFC 5280 section 4.1.2.5).
fn date(at: SystemTime) -> Result<OffsetDateTime, TlsError> {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or_else(|| TlsError::Make("the system clock is wrong: set it".into()))
}

fn make(names: &[String], now: SystemTime, until: SystemTime) -> Result<String, TlsError> {
    let (certificate, key) = self_sign(names, now, until)?;
    let seconds = until.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(format!(
        "{EXPIRY_PREFIX}{}\n{}{}",
        seconds.as_secs(),
        pem("CERTIFICATE", certificate.der()),
        pem("PRIVATE KEY", key.serialized_der()),
    ))
}

/// PEM with lines of 64 characters (RFC 7468).
fn pem(label: &str, bytes: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for (place, c) in STANDARD.encode(bytes).chars().enumerate() {
        if place > 0 && place % 64 == 0 {
            text.push('\n');
        }
        text.push(c);
    }
    text + &format!("\n-----END {label}-----\n")
}

fn parse(text: &[u8]) -> Option<(CertifiedKey, SystemTime)> {
    let line = std::str::from_utf8(text).ok()?.lines().next()?;
    let until: u64 = line.strip_prefix(EXPIRY_PREFIX)?.parse().ok()?;
    let certificate = CertificateDer::from_pem_slice(text).ok()?;
    let key = PrivateKeyDer::from_pem_slice(text).ok()?;
    let pair = CertifiedKey::from_der(vec![certificate], key, &ring::default_provider()).ok()?;
    let until = UNIX_EPOCH.checked_add(Duration::from_secs(until))?;
    Some((pair, until))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    fn own(dir: &Path, names: &[&str]) -> SelfSigned {
        let server = Server {
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            ..Server::default()
        };
        SelfSigned {
            dir: Some(dir.to_owned()),
            ..SelfSigned::new(&server)
        }
    }

    fn scratch(name: &str) -> PathBuf {
        let dir =
            std::env::temp_dir().join(format!("sluicegate-tls-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    fn certificate(loaded: &(CertifiedKey, SystemTime)) -> Vec<u8> {
        loaded.0.end_entity_cert().unwrap().to_vec()
    }

    #[test]
    fn a_clock_beyond_all_dates_of_certificates_is_an_error() {
        let names = ["localhost".to_owned()];
        for (years, is_good) in [(0, true), (500, true), (8028, false), (100_000, false)] {
            let now = UNIX_EPOCH + years * 366 * DAY;
            let made = self_sign(&names, now, now + VALID);
            assert_eq!(made.is_ok(), is_good, "{years}");
        }
    }

    #[test]
    fn it_is_kept_for_its_names_until_it_nearly_ends() {
        let dir = scratch("kept");
        let now = SystemTime::now();
        let first = own(&dir, &["cam.example"]).load(now).unwrap();
        let again = own(&dir, &["cam.example"]).load(now + DAY).unwrap();
        assert_eq!(certificate(&first), certificate(&again));
        let other = own(&dir, &["cam.example", "192.168.0.7"])
            .load(now)
            .unwrap();
        assert_ne!(certificate(&first), certificate(&other));
        let late = own(&dir, &["cam.example"]).load(again.1 + DAY).unwrap();
        assert_ne!(certificate(&first), certificate(&late));
        let kept = own(&dir, &["cam.example"]).load(again.1 + DAY).unwrap();
        assert_eq!(certificate(&late), certificate(&kept));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn beyond_loopback_it_is_for_the_addresses_at_which_others_reach_it() {
        for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.7:0"] {
            let server = Server {
                listen: vec![listen.parse().unwrap()],
                ..Server::default()
            };
            let names = SelfSigned::new(&server).names;
            let own = server.tcp_addresses().next().unwrap();
            let told = machine::addresses(own.ip());
            assert!(
                told.iter()
                    .all(|address| names.contains(&address.to_string()))
            );
            assert_eq!(
                names.contains(&"192.0.2.7".to_owned()),
                listen.starts_with("192")
            );
            assert!(!names.contains(&"0.0.0.0".to_owned()));
        }
    }

    #[test]
    fn a_file_that_is_damaged_or_that_others_can_read_is_replaced_by_a_private_one() {
        let dir = scratch("private");
        let own = own(&dir, &[]);
        let now = SystemTime::now();
        let first = own.load(now).unwrap();
        let file = own.file().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&file)), (0o700, 0o600));
        let text = fs::read(&file).unwrap();
        fs::write(&file, &text[..text.len() / 2]).unwrap();
        let second = own.load(now).unwrap();
        assert_ne!(certificate(&first), certificate(&second));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let third = own.load(now).unwrap();
        assert_ne!(certificate(&second), certificate(&third));
        assert_eq!(mode(&file), 0o600);
        assert_eq!(
            fs::read_dir(&dir).unwrap().count(),
            1,
            "nothing is left over"
        );
        fs::remove_dir_all(dir).unwrap();
    }
}
