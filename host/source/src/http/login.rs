//! Basic and digest logins (RFC 7617, RFC 7616), for HTTP and what is like it.

use http_auth::{PasswordClient, PasswordParams};

/// A login is answered anew where its nonce was too old (RFC 7616 3.3, `stale`).
pub const MAX_LOGINS: usize = 2;

/// A user name and a password, and how the peer wants them.
#[derive(Debug)]
pub struct Login {
    user: String,
    password: String,
    challenge: Option<PasswordClient>,
}

impl Login {
    /// One that the peer has not asked for yet.
    pub fn new(user: String, password: String) -> Login {
        Login {
            user,
            password,
            challenge: None,
        }
    }

    /// Takes what a 401 says in its `WWW-Authenticate` headers.
    ///
    /// # Errors
    /// It is neither basic nor digest.
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
            format!("it wants a login of a kind that is not known here: {reason}")
        })?);
        Ok(())
    }

    /// The `Authorization` header of a request, once the peer has asked for it. Of digest's kinds `auth` goes before `auth-int`,
    /// which covers the empty body too and which fewer servers get right.
    ///
    /// # Errors
    /// The peer wants what cannot be computed here.
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
            .map_err(|reason| format!("it wants a login that cannot be given: {reason}"))
    }
}

/// A challenge in the spelling of the specifications: names of algorithms are written in any case by cameras, and some ask for a basic
/// login without a realm.
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
        assert!(reason.contains("not known here"), "{reason}");
    }
}
