//! Sign-ins, API tokens and share links: how they are made, listed and revoked.

use super::accounts::{Accounts, ChangeError, Effect, Refused, seconds, time, unstored};
use super::identity::{Credential, Identity};
use super::random::{self, Digest, Id};
use super::session::{self, LiveSession};
use super::state::{
    Begun, MAX_LINKS, MAX_SESSIONS, MAX_SESSIONS_OF_ONE, MAX_TOKENS, Owner, State, StoredLink,
    StoredSession, StoredToken,
};
use sluicegate_config::{Access, Grants, Role, Secret, check_stream_name};
use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

/// By which a token is recognised as one of this gateway's, by people and by programs that look for leaked ones.
const TOKEN_PREFIX: &str = "sluicegate_";
/// Longest name of a token, in characters.
const MAX_NAME: usize = 64;
/// Longest time of a link.
const MAX_LINK_TIME: Duration = Duration::from_secs(366 * 86_400);

/// A sign-in, or the opening of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Public id, for [`Accounts::end_session`].
    pub id: String,
    /// Name of the user; for a link, of the one who made it.
    pub user: String,
    /// Id of the link that was opened; `None` if somebody signed in with a password.
    pub link: Option<String>,
    /// When the user signed in, or the link was opened.
    pub created: SystemTime,
    /// When it was used last, to a minute.
    pub seen: SystemTime,
    /// When it ends unless it is used.
    pub until: SystemTime,
    /// Address of the client at the beginning.
    pub from: IpAddr,
    /// The client's `User-Agent` at the beginning, shortened.
    pub agent: String,
}

/// An API token as its user sees it in the list; the secret itself is shown once, when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Public id, for [`Accounts::revoke_token`].
    pub id: String,
    /// What its user called it.
    pub name: String,
    /// Name of the user who made it.
    pub user: String,
    /// What it permits, as far as its user may do that.
    pub grants: Grants,
    /// When it was made.
    pub created: SystemTime,
    /// When it ends; `None` if it does not by itself.
    pub until: Option<SystemTime>,
}

/// A share link as its user sees it in the list; its secret is shown once, when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Public id, for [`Accounts::revoke_link`].
    pub id: String,
    /// Name of the user who made it.
    pub user: String,
    /// Name of the stream.
    pub stream: String,
    /// [`Role::View`], or [`Role::Talk`], which includes watching.
    pub role: Role,
    /// When it was made.
    pub created: SystemTime,
    /// When nobody can open or use it any more.
    pub until: SystemTime,
}

impl Session {
    fn of(session: &LiveSession, access: &Access) -> Session {
        let stored = &session.stored;
        Session {
            id: session.id.to_string(),
            user: stored.owner.name().to_owned(),
            link: session.link().map(|id| id.to_string()),
            created: time(stored.created),
            seen: time(session.seen()),
            until: time(session.until(access)),
            from: stored.from,
            agent: stored.agent.clone(),
        }
    }
}

impl Token {
    fn of(id: Id, stored: &StoredToken) -> Token {
        Token {
            id: id.to_string(),
            name: stored.name.clone(),
            user: stored.owner.name().to_owned(),
            grants: stored.grants.clone(),
            created: time(stored.created),
            until: stored.until.map(time),
        }
    }
}

impl Link {
    fn of(id: Id, stored: &StoredLink) -> Link {
        Link {
            id: id.to_string(),
            user: stored.owner.name().to_owned(),
            stream: stored.stream.clone(),
            role: stored.role,
            created: time(stored.created),
            until: time(stored.until),
        }
    }
}

/// Whether an identity may see and revoke what somebody made: its own, and everything if it may administer the gateway.
fn manages(identity: &Identity, owner: &Owner) -> bool {
    let own = || identity.owner().is_some_and(|own| own.is(owner));
    identity.permits(Role::Admin, None) || (identity.may_delegate() && own())
}

/// In whose name an identity makes tokens and links.
fn delegating(identity: &Identity) -> Result<Owner, ChangeError> {
    let owner = identity.owner().filter(|_| identity.may_delegate());
    owner.cloned().ok_or_else(|| {
        let what = "tokens and links are made by people: sign in with a password";
        ChangeError::NotPermitted(what.into())
    })
}

fn not_found(kind: &str, id: &str) -> ChangeError {
    let id: String = id.escape_debug().take(32).collect();
    ChangeError::NotFound(format!("there is no {kind} `{id}`, or not any more"))
}

fn full(kind: &str, most: usize) -> ChangeError {
    ChangeError::Full(format!(
        "there are {most} {kind} already; revoke those that nobody needs"
    ))
}

impl State {
    /// Removes what has ended.
    fn prune(&mut self, access: &Access, now: u64) -> Effect {
        let count = |state: &State| state.links.len() + state.tokens.len() + state.sessions.len();
        let before = count(self);
        self.links.retain(|_, link| link.until > now);
        self.tokens
            .retain(|_, token| token.until.is_none_or(|until| until > now));
        let links = &self.links;
        self.sessions.retain(|_, session| {
            let link = match session.begun {
                Begun::Link(id) => links.contains_key(&id),
                Begun::Password(_) => true,
            };
            link && session::end(access, session.created, session.seen) > now
        });
        match count(self) == before {
            true => Effect::Adds,
            false => Effect::Revokes,
        }
    }

    /// Adds a session. If there is no room for it, another one ends: of the same user or link the one that was not used
    /// for longest, else such a one of all.
    fn add_session(&mut self, id: Id, session: StoredSession) -> Effect {
        let of_same = |other: &StoredSession| match (other.begun, session.begun) {
            (Begun::Link(other), Begun::Link(own)) => other == own,
            (Begun::Password(_), Begun::Password(_)) => other.owner.is(&session.owner),
            _ => false,
        };
        let same = self.sessions.iter().filter(|(_, other)| of_same(other));
        let (count, oldest) = oldest(same);
        let (count, oldest) = match count >= MAX_SESSIONS_OF_ONE {
            true => (usize::MAX, oldest),
            false => self::oldest(self.sessions.iter()),
        };
        let ended = oldest.filter(|_| count >= MAX_SESSIONS);
        let ended = ended.and_then(|oldest| self.sessions.remove(&oldest));
        self.sessions.insert(id, session);
        match ended {
            Some(_) => Effect::Revokes,
            None => Effect::Adds,
        }
    }
}

/// Number of sessions, and the one of them that was not used for longest.
fn oldest<'a>(sessions: impl Iterator<Item = (&'a Id, &'a StoredSession)>) -> (usize, Option<Id>) {
    let mut count = 0;
    let counted = sessions.inspect(|_| count += 1);
    let oldest = counted
        .min_by_key(|(_, session)| session.seen)
        .map(|(id, _)| *id);
    (count, oldest)
}

impl Accounts {
    /// Checks name and password, and begins a session: the value of the cookie, and who it is. `agent` is the value of
    /// `User-Agent`, for the list of sessions.
    ///
    /// # Errors
    /// The password is wrong, or there were too many attempts, or the sign-in cannot be stored.
    pub async fn sign_in(
        &self,
        name: &str,
        password: &str,
        from: IpAddr,
        agent: &str,
        now: SystemTime,
    ) -> Result<(Secret, Identity), Refused> {
        let at = seconds(now);
        let verified = self.verify(name, password, from, at).await?;
        let owner = Owner::Account(name.to_owned());
        let begun = Begun::Password(verified.fingerprint);
        let place = verified.new_place.map(|place| (name.to_owned(), place));
        self.begin_session(owner, begun, from, agent, at, place)
            .await
    }

    /// Begins a session for whoever opened a link: the value of the cookie, who that is, and the name of the stream.
    ///
    /// # Errors
    /// There is no such link, it has expired, or who made it may not share that any more.
    pub async fn open_link(
        &self,
        secret: &str,
        from: IpAddr,
        agent: &str,
        now: SystemTime,
    ) -> Result<(Secret, Identity, String), Refused> {
        let at = seconds(now);
        let (id, link) = {
            let view = self.inner.view();
            let id = view.link(secret).ok_or(Refused::Unknown)?;
            let link = view.state.links.get(&id).cloned().ok_or(Refused::Unknown)?;
            let grants = view.grants(&link.owner)?;
            if !grants.permit(Role::View, Some(&link.stream)) {
                return Err(Refused::Unknown);
            }
            (id, link)
        };
        if link.until <= at {
            return Err(Refused::Expired);
        }
        let begun = Begun::Link(id);
        let session = self.begin_session(link.owner, begun, from, agent, at, None);
        let (cookie, identity) = session.await?;
        Ok((cookie, identity, link.stream))
    }

    async fn begin_session(
        &self,
        owner: Owner,
        begun: Begun,
        from: IpAddr,
        agent: &str,
        now: u64,
        place: Option<(String, u64)>,
    ) -> Result<(Secret, Identity), Refused> {
        let cookie = random::secret("")?;
        let id = Id::random()?;
        let session = StoredSession {
            hash: Digest::of(cookie.expose()),
            owner,
            begun,
            created: now,
            seen: now,
            from: from.to_canonical(),
            agent: session::agent(agent),
        };
        let change = self.change(move |state, view| {
            let pruned = state.prune(&view.settings.access, now);
            if let Some((user, place)) = place {
                state.add_place(&user, place);
            }
            Ok(((), pruned.max(state.add_session(id, session))))
        });
        change.await.map_err(|error| match error {
            ChangeError::Busy { retry_after } => Refused::Busy { retry_after },
            error => unstored(error),
        })?;
        let view = self.inner.view();
        let credential = view.session(cookie.expose()).ok_or(Refused::Unknown)?;
        Ok((cookie, view.identity(credential, None, now)?))
    }

    /// Ends the session that an identity was proved by, if it was by one.
    ///
    /// # Errors
    /// It cannot be stored.
    pub async fn sign_out(&self, identity: &Identity) -> Result<(), ChangeError> {
        let Credential::Session(session) = identity.held() else {
            return Ok(());
        };
        let id = session.id;
        self.change(move |state, _| {
            state.sessions.remove(&id);
            Ok(((), Effect::Revokes))
        })
        .await
    }

    /// The sessions that an identity may end: its own, or all of them if it may administer the gateway. The one that
    /// was used last comes first.
    pub fn sessions_of(&self, identity: &Identity, now: SystemTime) -> Vec<Session> {
        let (view, now) = (self.inner.view(), seconds(now));
        let access = &view.settings.access;
        let sessions = view.session_ids.values();
        let mut sessions: Vec<Session> = sessions
            .filter(|session| session.until(access) > now)
            .filter(|session| manages(identity, &session.stored.owner))
            .map(|session| Session::of(session, access))
            .collect();
        sessions.sort_by(|one, other| (other.seen, &other.id).cmp(&(one.seen, &one.id)));
        sessions
    }

    /// Ends one of [`Accounts::sessions_of`].
    ///
    /// # Errors
    /// There is no such session, or it cannot be stored.
    pub async fn end_session(&self, identity: &Identity, id: &str) -> Result<(), ChangeError> {
        let (identity, id) = (identity.clone(), id.to_owned());
        self.change(move |state, _| {
            let found = id.parse::<Id>().ok().filter(|id| {
                let session = state.sessions.get(id);
                session.is_some_and(|session| manages(&identity, &session.owner))
            });
            let found = found.ok_or_else(|| not_found("session", &id))?;
            state.sessions.remove(&found);
            Ok(((), Effect::Revokes))
        })
        .await
    }

    /// Makes an API token in the identity's name, for what is in `grants` as far as its user may do that, now and
    /// later. The secret is kept nowhere.
    ///
    /// # Errors
    /// The name or a time is not valid, the identity may not make tokens, there are too many, or it cannot be stored.
    pub async fn create_token(
        &self,
        identity: &Identity,
        name: &str,
        grants: Grants,
        until: Option<SystemTime>,
        now: SystemTime,
    ) -> Result<(Token, Secret), ChangeError> {
        let owner = delegating(identity)?;
        let name = name.trim();
        let invalid = |what: &str| Err(ChangeError::Invalid(what.into()));
        if name.is_empty() || name.chars().count() > MAX_NAME || name.contains(char::is_control) {
            return invalid(
                "a token needs a name of 1 to 64 characters, by which you recognise it",
            );
        }
        if grants.is_empty() {
            return invalid("a token without any role is good for nothing; choose at least one");
        }
        if until.is_some_and(|until| until <= now) {
            return invalid("the token would have ended already; choose a later time");
        }
        let secret = random::secret(TOKEN_PREFIX)?;
        let (id, now) = (Id::random()?, seconds(now));
        let token = StoredToken {
            hash: Digest::of(secret.expose()),
            owner,
            name: name.to_owned(),
            grants,
            created: now,
            until: until.map(seconds),
        };
        let change = self.change(move |state, view| {
            let pruned = state.prune(&view.settings.access, now);
            if state.tokens.len() >= MAX_TOKENS {
                return Err(full("tokens", MAX_TOKENS));
            }
            let made = Token::of(id, &token);
            state.tokens.insert(id, token);
            Ok((made, pruned))
        });
        Ok((change.await?, secret))
    }

    /// The tokens that an identity may revoke: its own, or all of them if it may administer the gateway. The newest
    /// comes first.
    pub fn tokens_of(&self, identity: &Identity) -> Vec<Token> {
        let view = self.inner.view();
        let tokens = view.state.tokens.iter();
        let tokens = tokens.filter(|(_, token)| manages(identity, &token.owner));
        let mut tokens: Vec<Token> = tokens.map(|(id, token)| Token::of(*id, token)).collect();
        tokens.sort_by(|one, other| (other.created, &other.id).cmp(&(one.created, &one.id)));
        tokens
    }

    /// Revokes one of [`Accounts::tokens_of`].
    ///
    /// # Errors
    /// There is no such token, or it cannot be stored.
    pub async fn revoke_token(&self, identity: &Identity, id: &str) -> Result<(), ChangeError> {
        let (identity, id) = (identity.clone(), id.to_owned());
        self.change(move |state, _| {
            let found = id.parse::<Id>().ok().filter(|id| {
                let token = state.tokens.get(id);
                token.is_some_and(|token| manages(&identity, &token.owner))
            });
            let found = found.ok_or_else(|| not_found("token", &id))?;
            state.tokens.remove(&found);
            Ok(((), Effect::Revokes))
        })
        .await
    }

    /// Makes a share link for a stream, until a time: for [`Role::View`], or [`Role::Talk`], which includes watching.
    /// The secret is kept nowhere.
    ///
    /// # Errors
    /// The identity may not do that itself, or not share it; stream, role or time are not valid; there are too many
    /// links; or it cannot be stored.
    pub async fn create_link(
        &self,
        identity: &Identity,
        stream: &str,
        role: Role,
        until: SystemTime,
        now: SystemTime,
    ) -> Result<(Link, Secret), ChangeError> {
        let owner = delegating(identity)?;
        check_stream_name(stream)
            .map_err(|what| ChangeError::Invalid(format!("`{}` {what}", stream.escape_debug())))?;
        if !matches!(role, Role::View | Role::Talk) {
            let what = format!("a link is for `view` or `talk`, not for `{role}`");
            return Err(ChangeError::Invalid(what));
        }
        if ![Role::View, role]
            .iter()
            .all(|role| identity.permits(*role, Some(stream)))
        {
            let what = format!("you cannot share `{stream}`, since you may not {role} it yourself");
            return Err(ChangeError::NotPermitted(what));
        }
        let lasts = until.duration_since(now).unwrap_or_default();
        if lasts.is_zero() || lasts > MAX_LINK_TIME {
            let what = "a link ends in the future, and within a year; choose such a time";
            return Err(ChangeError::Invalid(what.into()));
        }
        let secret = random::secret("")?;
        let (id, now) = (Id::random()?, seconds(now));
        let link = StoredLink {
            hash: Digest::of(secret.expose()),
            owner,
            stream: stream.to_owned(),
            role,
            created: now,
            until: seconds(until),
        };
        let change = self.change(move |state, view| {
            let pruned = state.prune(&view.settings.access, now);
            if state.links.len() >= MAX_LINKS {
                return Err(full("links", MAX_LINKS));
            }
            let made = Link::of(id, &link);
            state.links.insert(id, link);
            Ok((made, pruned))
        });
        Ok((change.await?, secret))
    }

    /// The links that an identity may revoke: its own, or all of them if it may administer the gateway. The newest
    /// comes first.
    pub fn links_of(&self, identity: &Identity) -> Vec<Link> {
        let view = self.inner.view();
        let links = view.state.links.iter();
        let links = links.filter(|(_, link)| manages(identity, &link.owner));
        let mut links: Vec<Link> = links.map(|(id, link)| Link::of(*id, link)).collect();
        links.sort_by(|one, other| (other.created, &other.id).cmp(&(one.created, &one.id)));
        links
    }

    /// Revokes one of [`Accounts::links_of`], and ends what was begun by it.
    ///
    /// # Errors
    /// There is no such link, or it cannot be stored.
    pub async fn revoke_link(&self, identity: &Identity, id: &str) -> Result<(), ChangeError> {
        let (identity, id) = (identity.clone(), id.to_owned());
        self.change(move |state, _| {
            let found = id.parse::<Id>().ok().filter(|id| {
                let link = state.links.get(id);
                link.is_some_and(|link| manages(&identity, &link.owner))
            });
            let found = found.ok_or_else(|| not_found("link", &id))?;
            state.links.remove(&found);
            state
                .sessions
                .retain(|_, session| session.begun != Begun::Link(found));
            Ok(((), Effect::Revokes))
        })
        .await
    }
}
