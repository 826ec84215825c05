//! Basic and digest authentication (RFC 7617, RFC 7616), used by the HTTP client and by `rtsp`.

use http_auth::{PasswordClient, PasswordParams};

/// Number of attempts: a second one is made if the nonce was stale (RFC 7616 3.3, `stale`).
pub const MAX_LOGINS: usize = 2;

/// User name and password, with the peer's challenge.
#[derive(Debug)]
pub struct Login {
    user: String,
    password: String,
    challenge: Option<PasswordClient>,
}

impl Login {
    /// A login without a challenge yet.
    pub fn new(user: String, password: String) -> Login {
        Login {
            user,
            password,
            challenge: None,
        }
    }

    /// Takes the challenge from the `WWW-Authenticate` headers of a 401 response.
    ///
    /// # Errors
    /// The challenge is neither basic nor digest.
    pub fn challenged<'a>(
        &mut self,
        headers: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), String> {
        let builder = headers
            .into_iter()
            .fold(PasswordClient::builder(), |builder, header| {
                builder.challenges(&as_specified(header))
            });
        self.challenge = Some(builder.build().map_err(|reason| {
            format!("the server requires a login of an unsupported kind: {reason}")
        })?);
        Ok(())
    }

    /// Value of the `Authorization` header, if there is a challenge. `auth` is preferred to `auth-int`, which also
    /// covers the (empty) body and which fewer servers implement correctly.
    ///
    /// # Errors
    /// The challenge requires something that cannot be computed here.
    pub fn authorization(&mut self, method: &str, uri: &str) -> Result<Option<String>, String> {
        let Some(challenge) = &mut self.challenge else {
            return Ok(None);
        };
        let mut respond = |body| {
            challenge.respond(&PasswordParams {
                username: &self.user,
                password: &self.password,
                uri,
                method,
                body,
            })
        };
        respond(None)
            .or_else(|_| respond(Some(&[])))
            .map(Some)
            .map_err(|reason| format!("the server's login challenge cannot be answered: {reason}"))
    }
}

/// Normalises a challenge: cameras write algorithm names in any case, and some send a basic challenge without a realm.
fn as_specified(header: &str) -> String {
    const ALGORITHM: &str = "algorithm=";
    if header.trim().eq_ignore_ascii_case("basic") {
        return "Basic realm=\"\"".into();
    }
    let mut header = header.to_owned();
    let lower = header.to_ascii_lowercase();
    for (at, _) in lower.match_indices(ALGORITHM) {
        let begin = at + ALGORITHM.len();
        let rest = lower[begin..].trim_start_matches('"');
        let begin = lower.len() - rest.len();
        for name in [
            "MD5-sess",
            "SHA-256-sess",
            "SHA-512-256-sess",
            "MD5",
            "SHA-256",
            "SHA-512-256",
        ] {
            if rest.starts_with(&name.to_ascii_lowercase()) {
                header.replace_range(begin..begin + name.len(), name);
                break;
            }
        }
    }
    header
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn login(challenge: &str) -> Login {
        let mut login = Login::new("u".into(), "p".into());
        login.challenged([challenge]).unwrap();
        login
    }

    #[test]
    fn digest_is_by_auth_and_by_auth_int_where_there_is_no_other() {
        for (offered, taken) in [
            ("auth,auth-int", "qop=auth,"),
            ("auth-int,auth", "qop=auth,"),
            ("auth-int", "qop=auth-int,"),
        ] {
            let mut login = login(&format!(
                "Digest realm=\"x\", nonce=\"1\", qop=\"{offered}\""
            ));
            let header = login.authorization("GET", "/").unwrap().unwrap();
            assert!(header.contains(taken), "{offered}: {header}");
        }
    }

    #[test]
    fn challenges_are_understood_however_cameras_spell_them() {
        for (challenge, begin) in [
            ("Digest realm=\"x\", nonce=\"1\", algorithm=md5", "Digest "),
            (
                "Digest realm=\"x\", nonce=\"1\", Algorithm=\"md5-SESS\", qop=\"auth\"",
                "Digest ",
            ),
            (
                "Digest realm=\"x\", nonce=\"1\", algorithm=sha-256, qop=auth",
                "Digest ",
            ),
            ("basic", "Basic "),
        ] {
            let header = login(challenge).authorization("GET", "/").unwrap().unwrap();
            assert!(header.starts_with(begin), "{challenge}: {header}");
        }
    }

    #[test]
    fn a_login_of_an_unknown_kind_is_refused_and_one_not_asked_for_is_none() {
        let mut unasked = Login::new("u".into(), "p".into());
        assert_eq!(unasked.authorization("GET", "/"), Ok(None));
        let mut strange = Login::new("u".into(), "p".into());
        let challenge = "Digest realm=\"x\", nonce=\"1\", qop=\"auth-conf\"";
        let reason = strange.challenged([challenge]).unwrap_err();
        assert!(reason.contains("unsupported kind"), "{reason}");
    }
}
