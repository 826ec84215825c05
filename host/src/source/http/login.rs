//! Basic and digest logins (RFC 7617, RFC 7616), for HTTP and what is like it.

use http_auth::{PasswordClient, PasswordParams};

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
                builder.challenges(header)
            });
        self.challenge = Some(builder.build().map_err(|reason| {
            format!("it wants a login of a kind that is not known here: {reason}")
        })?);
        Ok(())
    }

    /// The `Authorization` header of a request, once the peer has asked for it.
    pub fn authorization(&mut self, method: &str, uri: &str) -> Option<String> {
        let params = PasswordParams {
            username: &self.user,
            password: &self.password,
            uri,
            method,
            body: Some(&[]),
        };
        self.challenge.as_mut()?.respond(&params).ok()
    }
}
