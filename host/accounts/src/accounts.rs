//! [`Accounts`]: who a client is. What can be made and revoked is in `credentials`, users are in `users`.

use super::external::{self, Externals};
use super::identity::{Credential, Identity};
use super::jwt::{self, JwksError};
use super::password::{self, Verifier};
use super::random;
use super::state::{Owner, Stamp, State, StateError, StateFile};
use super::throttle::{Place, Throttle};
use super::ticket::{Claims, Media, Reference, Restriction, Ticket, TicketError, short_tag};
use super::turns::Turns;
use super::used::UsedTickets;
use super::verified::Verified;
use super::view::{Settings, View};
use parking_lot::{Mutex, RwLock};
use sluicegate_config::{Config, Jwks, Role, Secret};
use sluicegate_telemetry::contain;
use std::{
    fs::File,
    io::{self, Read},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use thiserror::Error;
use tokio::sync::{Semaphore, watch};

/// How often files and times are looked at.
const TICK: Duration = Duration::from_millis(250);
/// Most changes of the state that wait for the disk.
pub(crate) const MAX_PENDING: usize = 32;
/// When to come again if there was no room.
const BUSY: Duration = Duration::from_secs(2);
/// Seconds between two looks at which sessions are in use.
const TOUCH: u64 = 20;

/// What a client presents to prove who it is, as the values of headers or parts of the path.
#[derive(Clone, Copy)]
pub enum Presented<'a> {
    /// No credentials: the client is an anonymous user.
    Nothing,
    /// A connection from this machine without any trace of a proxy, to the gateway's own loopback name and port.
    Local,
    /// Value of the cookie.
    Cookie(&'a str),
    /// `Authorization: Bearer`: an API token or a JSON Web Token.
    Bearer(&'a str),
    /// User name and password from `Authorization: Basic`, decoded (RFC 7617).
    Basic {
        /// Name of the user, before the first colon.
        name: &'a str,
        /// The password, behind the first colon.
        password: &'a str,
    },
    /// A ticket, from the path or the query.
    Ticket(&'a str),
    /// Headers of a proxy, whose address and [`Accounts::is_proxy_secret`] the caller has checked.
    Proxy {
        /// Name of the user.
        user: &'a str,
        /// The whole header with the groups.
        groups: &'a str,
    },
}

/// Why a caller is not identified. `Display` tells a client what to do, and nothing about which part was wrong.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// 401: there is no such user, password, cookie, token or ticket, or not any more.
    #[error("name, password or token are not known here, or not any more; sign in again")]
    Unknown,
    /// 401: it was valid once.
    #[error("this sign-in, token or ticket has expired; sign in again, or get a new one")]
    Expired,
    /// 429: too many wrong passwords.
    #[error("there were too many wrong passwords; try again in {} s", retry_after.as_secs())]
    Throttled {
        /// When to try again.
        retry_after: Duration,
    },
    /// 503: more passwords wait to be verified, or sign-ins to be stored, than there is room for.
    #[error("too many people sign in at this moment; try again in {} s", retry_after.as_secs())]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// 500: the sign-in cannot be stored.
    #[error("the sign-in cannot be stored; the gateway's log tells why")]
    Unstored,
}

impl From<TicketError> for Refused {
    fn from(error: TicketError) -> Refused {
        match error {
            TicketError::Invalid => Refused::Unknown,
            TicketError::Expired => Refused::Expired,
        }
    }
}

/// Why something cannot be made, changed or revoked. `Display` says what to do.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// 404: there is no such thing, or it is somebody else's.
    #[error("{0}")]
    NotFound(String),
    /// 403: the caller may not do this.
    #[error("{0}")]
    NotPermitted(String),
    /// 400: a name, role, pattern or time is not valid.
    #[error("{0}")]
    Invalid(String),
    /// 409: there are as many as there can be.
    #[error("{0}")]
    Full(String),
    /// 503: more changes wait to be stored than there is room for.
    #[error("too many changes wait to be stored; try again in {} s", retry_after.as_secs())]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// 500: it cannot be stored.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Names of the headers of a trusted proxy, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyHeaders {
    /// The one with the secret.
    pub secret: String,
    /// The one with the user.
    pub user: String,
    /// The one with the user's groups.
    pub groups: String,
}

/// Users and credentials of the gateway. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Accounts {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Accounts")
    }
}

/// What another config says of accounts, with the content of the files that it names.
pub struct NewSettings {
    settings: Arc<Settings>,
    keys: Vec<jwt::Key>,
    keys_stamp: Option<Stamp>,
}

/// Does nothing but to end [`Accounts::watch`] when it is dropped.
#[derive(Debug)]
pub struct Watching {
    _stop: mpsc::Sender<()>,
}

pub(crate) struct Inner {
    view: RwLock<Arc<View>>,
    /// Locked by who changes the view.
    stored: Mutex<Stored>,
    throttle: Throttle,
    verified: Verified,
    turns: Turns,
    verifier: Verifier,
    externals: Externals,
    used_tickets: UsedTickets,
    /// Places for changes that wait for the disk.
    pub(crate) pending: Arc<Semaphore>,
    changes: watch::Sender<u64>,
    times: Mutex<Times>,
}

/// The state file as it was read or written last.
struct Stored {
    file: Option<StateFile>,
    stamp: Option<Stamp>,
    /// The file that could not be read and was reported.
    reported: Option<Stamp>,
    /// The same of the file with the keys for JSON Web Tokens.
    keys_stamp: Option<Stamp>,
}

/// Unix times in seconds.
#[derive(Default)]
struct Times {
    /// Until when everything that ended was told.
    told: u64,
    /// When something may end next.
    next_end: u64,
    next_touch: u64,
    next_save: u64,
}

/// What a change does to what exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effect {
    /// All that was permitted is still permitted.
    Adds,
    /// Somebody may do less.
    Revokes,
}

/// A time as Unix time in seconds.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |passed| passed.as_secs())
}

/// The inverse of [`seconds`].
pub(crate) fn time(seconds: u64) -> SystemTime {
    let passed = Duration::from_secs(seconds);
    UNIX_EPOCH.checked_add(passed).unwrap_or(UNIX_EPOCH)
}

impl Accounts {
    /// Takes users, groups and `[access]` from the config, and reads the state file if there is one. Without a path,
    /// what would be in it is kept in memory only. Creates no file. Blocks for reading.
    ///
    /// # Errors
    /// The state file, or one that `[access]` names, cannot be used.
    pub fn open(config: &Config, state: Option<PathBuf>) -> Result<Accounts, StateError> {
        let settings = Arc::new(Settings::of(config)?);
        let file = state.map(StateFile::new);
        let found = match &file {
            Some(file) => file.read()?,
            None => None,
        };
        let (state, stamp) = match found {
            Some((state, stamp)) => (state, Some(stamp)),
            None => (State::new()?, None),
        };
        let (keys, keys_stamp) = read_keys(&settings)?;
        let keys = Arc::new(jwt::Keys::new(keys));
        let inner = Inner {
            view: RwLock::new(Arc::new(View::new(settings, state, keys, None))),
            stored: Mutex::new(Stored {
                file,
                stamp,
                reported: None,
                keys_stamp,
            }),
            throttle: Throttle::default(),
            verified: Verified::new(&random::bytes()?),
            turns: Turns::default(),
            verifier: Verifier::new(),
            externals: Externals::default(),
            used_tickets: UsedTickets::default(),
            pending: Arc::new(Semaphore::new(MAX_PENDING)),
            changes: watch::Sender::new(0),
            times: Mutex::default(),
        };
        Ok(Accounts {
            inner: Arc::new(inner),
        })
    }

    /// Begins to follow the state file and that with the keys for JSON Web Tokens, and to notice what expires, every
    /// 250 ms, in a thread of its own, until the result is dropped.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn watch(&self) -> io::Result<Watching> {
        let (stop, stopped) = mpsc::channel();
        let inner = Arc::clone(&self.inner);
        let thread = thread::Builder::new().name("accounts".into());
        thread.spawn(move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                if let Err(panicked) = contain(|| inner.tick(SystemTime::now())) {
                    tracing::error!("following the accounts {panicked}");
                }
            }
        })?;
        Ok(Watching { _stop: stop })
    }

    /// Reads users, groups and `[access]` of another config, and the files that it names, for [`Accounts::take_over`].
    /// Changes nothing. Blocks.
    ///
    /// # Errors
    /// A file that `[access]` names cannot be used.
    pub fn read(&self, config: &Config) -> Result<NewSettings, StateError> {
        let settings = Arc::new(Settings::of(config)?);
        let (keys, keys_stamp) = read_keys(&settings)?;
        Ok(NewSettings {
            settings,
            keys,
            keys_stamp,
        })
    }

    /// Puts other settings in force.
    pub fn take_over(&self, new: NewSettings) {
        let mut stored = self.inner.stored.lock();
        let earlier = self.inner.view();
        if earlier.settings == new.settings {
            return;
        }
        let same_url = match (jwks(&new.settings), jwks(&earlier.settings)) {
            (Some(Jwks::Url(url)), Some(Jwks::Url(earlier))) => url == earlier,
            _ => false,
        };
        // Keys from the same URL stay until they are fetched again.
        if !same_url {
            earlier.keys.replace(new.keys);
            stored.keys_stamp = new.keys_stamp;
        }
        self.inner.publish(new.settings, earlier.state.clone());
        self.inner.changed();
    }

    /// Who presents this, from this address. Only a password may have to wait for its verification: some 30 ms, and
    /// some seconds under attack. Everything else takes microseconds. [`Presented::Nothing`] and [`Presented::Local`]
    /// are never refused.
    ///
    /// # Errors
    /// Why the caller is not identified.
    pub async fn identify(
        &self,
        presented: Presented<'_>,
        from: IpAddr,
        now: SystemTime,
    ) -> Result<Identity, Refused> {
        let at = seconds(now);
        let inner = &self.inner;
        let credential = match presented {
            Presented::Nothing => return Ok(self.anonymous()),
            Presented::Ticket(ticket) => return Ok(self.use_ticket(ticket, now)?),
            Presented::Local => Some(Credential::Local),
            Presented::Cookie(value) => inner.view().session(value),
            Presented::Bearer(token) if jwt::is_jwt(token) => Some(inner.jwt(token, at)?),
            Presented::Bearer(token) => inner.view().token(token),
            Presented::Proxy { user, groups } => inner.proxied(user, groups, at),
            Presented::Basic { name, password } => {
                let verified = self.verify(name, password, from, at).await?;
                if let Some(place) = verified.new_place {
                    self.remember(name, place).await;
                }
                let owner = Owner::Account(name.to_owned());
                Some(Credential::Password(owner, verified.fingerprint))
            }
        };
        inner
            .view()
            .identity(credential.ok_or(Refused::Unknown)?, None, at)
    }

    /// As [`Accounts::identify`] with [`Presented::Ticket`], which needs no waiting. The ticket stays valid by that.
    ///
    /// # Errors
    /// Why the ticket is refused.
    pub fn use_ticket(&self, ticket: &str, now: SystemTime) -> Result<Identity, TicketError> {
        let inner = &self.inner;
        let (view, now) = (inner.view(), seconds(now));
        let (claims, seal) = Claims::read(&view.key, ticket).ok_or(TicketError::Invalid)?;
        if claims.expires < now && !inner.used_tickets.has(&seal, now) {
            return Err(TicketError::Expired);
        }
        let credential = view.referred(claims.credential, &inner.externals, now);
        let credential = credential.ok_or(TicketError::Invalid)?;
        let lifetime = lifetime(&view, claims.ticket.restriction.is_some());
        let identity = view
            .identity(credential, Some(claims.ticket), now)
            .map_err(|_| TicketError::Invalid)?;
        inner
            .used_tickets
            .keep(seal, now.saturating_add(lifetime), now);
        Ok(identity)
    }

    /// The identity of who presents nothing.
    pub fn anonymous(&self) -> Identity {
        self.inner.view().anonymous()
    }

    /// Whether a proxy's secret is the configured one. False if none is.
    pub fn is_proxy_secret(&self, presented: &str) -> bool {
        let view = self.inner.view();
        let own = view.settings.proxy_secret.as_ref();
        own.is_some_and(|own| password::is_equal(own.expose().as_bytes(), presented.as_bytes()))
    }

    /// Names of the headers of a trusted proxy; `None` if no secret is configured, so that nobody is believed.
    pub fn proxy_headers(&self) -> Option<ProxyHeaders> {
        let view = self.inner.view();
        view.settings.proxy_secret.as_ref()?;
        let access = &view.settings.access;
        Some(ProxyHeaders {
            secret: access.proxy_secret_header.as_str().to_owned(),
            user: access.proxy_user_header.as_str().to_owned(),
            groups: access.proxy_groups_header.as_str().to_owned(),
        })
    }

    /// Becomes a new number whenever somebody may do less than before: something was revoked, has expired, or was
    /// reloaded.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// The same caller with the rights that it has now; `None` if what it was proved by is not valid any more. A ticket
    /// is valid as long as the credential is that it was issued under: its own time may have passed, since what was
    /// opened with it is in use.
    pub fn renew(&self, identity: &Identity, now: SystemTime) -> Option<Identity> {
        let (credential, ticket) = (identity.held().clone(), identity.ticket().cloned());
        let view = self.inner.view();
        view.identity(credential, ticket, seconds(now)).ok()
    }

    /// Whether [`Accounts::renew`] yields an identity with this role over the stream, or, with `None`, over the
    /// gateway. For a ticket with a restriction, the stream is enough.
    pub fn is_current(
        &self,
        identity: &Identity,
        role: Role,
        stream: Option<&str>,
        now: SystemTime,
    ) -> bool {
        let view = self.inner.view();
        let rights = view.rights(identity.held(), seconds(now));
        rights.is_ok_and(|(_, rights)| rights.permit(role, stream, identity.ticket()))
    }

    /// Makes a ticket for all renditions of a stream, or, with a restriction, for one transport of one rendition. It is
    /// good for one role, and for nothing that its issuer may not do itself when it is used. `session` is the number of
    /// the playback session whose connections these are, or 0. Valid for [`Accounts::ticket_lifetime`], or
    /// [`Ticket::MEDIA_LIFETIME`] with a restriction, and for so long after each use. From a ticket's identity there
    /// are only tickets for the same stream and role.
    pub fn issue_ticket(
        &self,
        identity: &Identity,
        stream: &str,
        role: Role,
        restriction: Option<Media<'_>>,
        session: u64,
        now: SystemTime,
    ) -> String {
        let view = self.inner.view();
        let (stream, role) = match identity.ticket() {
            Some(own) => (own.stream.as_str(), own.role),
            None => (stream, role),
        };
        let restriction = restriction.map(|media| Restriction {
            rendition: media.rendition.to_owned(),
            transport: media.transport.to_owned(),
        });
        let inherited = identity.ticket().and_then(|own| own.restriction.clone());
        let restriction = inherited.or(restriction);
        let credential = match identity.held() {
            Credential::Nothing => Reference::Nothing,
            Credential::Local => Reference::Local,
            Credential::Password(owner, fingerprint) => Reference::Password {
                user: owner.name().to_owned(),
                fingerprint: *fingerprint,
            },
            Credential::Session(session) => Reference::Session(session.id),
            Credential::Token(id) => Reference::Token(*id),
            Credential::External(external) => Reference::External(external.key),
        };
        let claims = Claims {
            expires: seconds(now).saturating_add(lifetime(&view, restriction.is_some())),
            credential,
            ticket: Ticket {
                stream: stream.to_owned(),
                role,
                restriction,
                session,
            },
        };
        claims.sign(&view.key)
    }

    /// How long a ticket without a restriction is valid without use.
    pub fn ticket_lifetime(&self) -> Duration {
        self.inner.view().settings.access.ticket.duration()
    }

    /// How long a browser may keep a cookie.
    pub fn cookie_lifetime(&self) -> Duration {
        self.inner.view().settings.access.session_max.duration()
    }

    /// The URL of the keys for JSON Web Tokens, if they are at one. Who fetches it passes the answer to
    /// [`Accounts::set_jwks`].
    pub fn jwks_url(&self) -> Option<String> {
        match jwks(&self.inner.view().settings) {
            Some(Jwks::Url(url)) => Some(url.clone()),
            _ => None,
        }
    }

    /// Takes over a set of keys for JSON Web Tokens. Returns how many of them can be used.
    ///
    /// # Errors
    /// It is no such set; then the earlier keys stay.
    pub fn set_jwks(&self, json: &[u8]) -> Result<usize, JwksError> {
        let keys = jwt::read_keys(json)?;
        let count = keys.len();
        self.inner.use_keys(keys);
        Ok(count)
    }

    /// Verifies a password, slowing down who sends wrong ones.
    pub(crate) async fn verify(
        &self,
        name: &str,
        password: &str,
        from: IpAddr,
        now: u64,
    ) -> Result<VerifiedUser, Refused> {
        // Nobody has such a name or password, so the shorter time tells nothing.
        if name.len() > 64 || password.len() > password::MOST {
            return Err(Refused::Unknown);
        }
        let inner = &self.inner;
        let place = Place::of(from);
        let view = inner.view();
        let fingerprint = view.fingerprint(name);
        let (is_known, place_tag) = view.place(name, place);
        let verified = |fingerprint| VerifiedUser {
            fingerprint,
            new_place: (!is_known).then_some(place_tag),
        };
        let key = (!is_known).then(|| short_tag(&view.key, &[b"name", name.as_bytes()]));
        let throttled = |retry_after| Refused::Throttled { retry_after };
        // First, since a right guess must not get through in the midst of wrong ones.
        inner.throttle.check(place, key, now).map_err(throttled)?;
        let tag = inner.verified.tag(name, password);
        if let Some(good) = inner.verified.get(&tag, fingerprint, now) {
            let fingerprint = fingerprint.filter(|_| good);
            return fingerprint.map(verified).ok_or(Refused::Unknown);
        }
        let hash = view.hash_for(name)?;
        // Not kept during the wait, which may be long.
        drop(view);
        let _turn = inner.turns.turn(tag).await;
        if let Some(good) = inner.verified.get(&tag, fingerprint, now) {
            let fingerprint = fingerprint.filter(|_| good);
            return fingerprint.map(verified).ok_or(Refused::Unknown);
        }
        inner.throttle.admit(place, key, now).map_err(throttled)?;
        let answer = inner
            .verifier
            .verify(Secret::new(password), hash, is_known)
            .await;
        let Ok(matches) = answer else {
            inner.throttle.take_back(place, key);
            return Err(Refused::Busy { retry_after: BUSY });
        };
        let good = matches && fingerprint.is_some();
        inner.verified.put(tag, fingerprint, good, now);
        if good {
            inner.throttle.take_back(place, key);
        }
        fingerprint
            .filter(|_| good)
            .map(verified)
            .ok_or(Refused::Unknown)
    }

    /// Remembers that a user has signed in from a place.
    async fn remember(&self, user: &str, place: u64) {
        let user = user.to_owned();
        let change = self.change(move |state, _| {
            state.add_place(&user, place);
            Ok(((), Effect::Adds))
        });
        if let Err(error) = change.await {
            tracing::warn!("cannot remember where a user signed in: {error}");
        }
    }

    /// Changes the state on a thread that may block.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut State, &View) -> Result<(T, Effect), ChangeError> + Send + 'static,
    ) -> Result<T, ChangeError> {
        let pending = Arc::clone(&self.inner.pending).try_acquire_owned();
        let pending = pending.map_err(|_| ChangeError::Busy { retry_after: BUSY })?;
        let inner = Arc::clone(&self.inner);
        let changed = tokio::task::spawn_blocking(move || {
            let _pending = pending;
            contain(|| inner.change(change))
        });
        match changed.await {
            Ok(Ok(changed)) => changed,
            Ok(Err(panicked)) => {
                tracing::error!("changing the accounts {panicked}");
                Err(StateError::Internal.into())
            }
            // The gateway ends.
            Err(_) => Err(StateError::Internal.into()),
        }
    }
}

impl From<StateError> for Refused {
    fn from(error: StateError) -> Refused {
        unstored(error)
    }
}

/// A user whose password was right.
pub(crate) struct VerifiedUser {
    /// Fingerprint of the hash that the password was compared with, so that a later change of it is noticed.
    pub fingerprint: u64,
    /// The place, if the user has not signed in from there before.
    pub new_place: Option<u64>,
}

/// The refusal for a state that cannot be kept, which is logged here.
pub(crate) fn unstored(error: impl std::fmt::Display) -> Refused {
    tracing::error!("cannot store a sign-in: {error}");
    Refused::Unstored
}

impl Inner {
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read())
    }

    /// Somebody whom a proxy has authenticated.
    fn proxied(&self, user: &str, groups: &str, now: u64) -> Option<Credential> {
        let view = self.view();
        let trust = view.proxy_trust?;
        let map = &view.settings.access.group_map;
        let owner = Owner::Proxy(external::known(user, external::split(groups), map)?);
        let external = self.externals.of(&view.key, owner, None, trust, None, now);
        Some(Credential::External(external))
    }

    fn jwt(&self, token: &str, now: u64) -> Result<Credential, Refused> {
        let view = self.view();
        let access = &view.settings.access;
        let (jwt, trust) = access
            .jwt
            .as_ref()
            .zip(view.jwt_trust)
            .ok_or(Refused::Unknown)?;
        let checked = jwt::check(&view.keys.get(), jwt, token, now);
        let (claims, signed_by) = checked.map_err(|invalid| match invalid {
            jwt::Invalid::Unknown => Refused::Unknown,
            jwt::Invalid::Expired => Refused::Expired,
        })?;
        let groups = claims.groups.iter().map(String::as_str);
        let remote = external::known(&claims.user, groups, &access.group_map);
        let owner = Owner::Jwt(remote.ok_or(Refused::Unknown)?);
        let until = Some(claims.until);
        let signed_by = Some(signed_by);
        let external = self
            .externals
            .of(&view.key, owner, until, trust, signed_by, now);
        let mut times = self.times.lock();
        times.next_end = times.next_end.min(claims.until);
        Ok(Credential::External(external))
    }

    /// Changes the state in the file and in memory, in both or in none. Blocks.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut State, &View) -> Result<(T, Effect), ChangeError>,
    ) -> Result<T, ChangeError> {
        let mut stored = self.stored.lock();
        let lock = stored.file.as_ref().map(StateFile::lock).transpose()?;
        self.refresh(&mut stored)?;
        let view = self.view();
        let mut state = view.state.clone();
        for (id, session) in &mut state.sessions {
            if let Some(live) = view.session_ids.get(id) {
                session.seen = session.seen.max(live.seen());
            }
        }
        let (result, effect) = change(&mut state, &view)?;
        if let (Some(file), Some(lock)) = (&stored.file, &lock) {
            stored.stamp = file.write(&state, lock)?;
        }
        self.publish(Arc::clone(&view.settings), state);
        if effect == Effect::Revokes {
            self.changed();
        }
        Ok(result)
    }

    /// Reads the state file if another process has changed it. A file that is gone is one without users and sign-ins.
    fn refresh(&self, stored: &mut Stored) -> Result<(), StateError> {
        let Some(file) = &stored.file else {
            return Ok(());
        };
        if file.stamp() == stored.stamp {
            return Ok(());
        }
        let (state, stamp) = match file.read()? {
            Some((state, stamp)) => (state, Some(stamp)),
            None => (State::new()?, None),
        };
        stored.stamp = stamp;
        let settings = Arc::clone(&self.view().settings);
        self.publish(settings, state);
        self.changed();
        Ok(())
    }

    /// Makes this what requests see.
    fn publish(&self, settings: Arc<Settings>, state: State) {
        let earlier = self.view();
        let keys = Arc::clone(&earlier.keys);
        let view = Arc::new(View::new(settings, state, keys, Some(&earlier)));
        *self.view.write() = Arc::clone(&view);
        // Something may end earlier than before.
        self.times.lock().next_end = 0;
        // The first user may take something away from everybody.
        if view.anonymous != earlier.anonymous {
            self.changed();
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|number| *number += 1);
    }

    /// Looks at the files, and at what has ended since the last time. Blocks for reading, and now and then for writing.
    pub(crate) fn tick(&self, now: SystemTime) {
        let now = seconds(now);
        {
            let mut stored = self.stored.lock();
            self.tick_state(&mut stored);
            self.tick_keys(&mut stored);
        }
        let view = self.view();
        let (touch, save) = {
            let mut times = self.times.lock();
            let touch = now >= times.next_touch || now >= times.next_end;
            if touch {
                times.next_touch = now.saturating_add(TOUCH);
            }
            let save = now >= times.next_save;
            if save {
                let idle = view.settings.access.session_idle.duration().as_secs();
                times.next_save = now.saturating_add((idle / 10).clamp(60, 3_600));
            }
            (touch, save)
        };
        if touch {
            let held = view
                .session_ids
                .values()
                .filter(|session| session.is_held());
            held.for_each(|session| session.touch(now));
            self.tell_ends(&view, now);
        }
        if save {
            self.save_seen(&view);
        }
    }

    fn tick_state(&self, stored: &mut Stored) {
        match self.refresh(stored) {
            Ok(()) => stored.reported = None,
            Err(error) => {
                let stamp = stored.file.as_ref().and_then(StateFile::stamp);
                if stored.reported != stamp {
                    stored.reported = stamp;
                    tracing::error!("{error}; until then, users and sign-ins stay as they were");
                }
            }
        }
    }

    fn tick_keys(&self, stored: &mut Stored) {
        let settings = Arc::clone(&self.view().settings);
        let Some(Jwks::File(path)) = jwks(&settings) else {
            return;
        };
        let stamp = Stamp::of(path);
        if stamp == stored.keys_stamp {
            return;
        }
        stored.keys_stamp = stamp;
        match read_keys(&settings) {
            Ok((keys, _)) => self.use_keys(keys),
            Err(error) => tracing::error!("{error}; until then, the earlier keys are used"),
        }
    }

    /// Uses other keys for JSON Web Tokens. What a key that is not among them has signed, ends.
    fn use_keys(&self, keys: Vec<jwt::Key>) {
        if self.view().keys.replace(keys) {
            self.changed();
        }
    }

    /// Tells of what has ended since the last time.
    fn tell_ends(&self, view: &View, now: u64) {
        let next = |after| {
            let ends = [view.next_end(after), self.externals.next_end(after)];
            ends.into_iter().flatten().min().unwrap_or(u64::MAX)
        };
        let told = {
            let mut times = self.times.lock();
            times.next_end = next(now);
            std::mem::replace(&mut times.told, now)
        };
        // The first time, nothing was in use before.
        if told > 0 && next(told) <= now {
            self.changed();
        }
    }

    /// Writes when sessions were used last, if the file is far behind.
    fn save_seen(&self, view: &View) {
        let newer = |session: &super::session::LiveSession| {
            let stored = view.state.sessions.get(&session.id);
            stored.is_some_and(|stored| stored.seen < session.seen())
        };
        if view.session_ids.values().any(|session| newer(session))
            && let Err(error) = self.change(|_, _| Ok(((), Effect::Adds)))
        {
            tracing::warn!("cannot store when sign-ins were used last: {error}");
        }
    }
}

fn lifetime(view: &View, is_restricted: bool) -> u64 {
    match is_restricted {
        true => Ticket::MEDIA_LIFETIME.as_secs(),
        false => view.settings.access.ticket.duration().as_secs(),
    }
}

fn jwks(settings: &Settings) -> Option<&Jwks> {
    settings.access.jwt.as_ref().map(|jwt| &jwt.jwks)
}

/// Reads the keys for JSON Web Tokens if they are in a file.
fn read_keys(settings: &Settings) -> Result<(Vec<jwt::Key>, Option<Stamp>), StateError> {
    let Some(Jwks::File(path)) = jwks(settings) else {
        return Ok((Vec::new(), None));
    };
    let stamp = Stamp::of(path);
    let keys = jwt::read_keys(&read_bounded(path, jwt::MAX_JWKS_BYTES)?);
    let keys = keys.map_err(|reason| StateError::Jwks {
        path: path.clone(),
        reason,
    })?;
    Ok((keys, stamp))
}

/// Reads a file, and one byte more than `most` at most.
fn read_bounded(path: &Path, most: usize) -> Result<Vec<u8>, StateError> {
    let read = || {
        let mut bytes = Vec::new();
        let mut file = File::open(path)?.take(most as u64 + 1);
        file.read_to_end(&mut bytes).map(|_| bytes)
    };
    read().map_err(|reason| StateError::Read {
        path: path.to_owned(),
        reason,
    })
}
