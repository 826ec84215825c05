//! What config and state together say, in the form in which requests need it. A view never changes; each change makes a
//! new one.

use super::Refused;
use super::external::{Externals, remote};
use super::identity::{Credential, Identity, Limit, Rights};
use super::jwt::Keys;
use super::password::{self, Cost};
use super::random::{Digest, Id};
use super::session::LiveSession;
use super::state::{self, Begun, Owner, State, StateError};
use super::throttle::Place;
use super::ticket::{Reference, Ticket, short_tag};
use ring::hmac;
use sluicegate_config::{Access, Config, Grants, Jwks, Pattern, Role, Secret, User};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
    sync::Arc,
};

/// What the config says.
#[derive(Debug, PartialEq)]
pub(crate) struct Settings {
    pub users: BTreeMap<String, User>,
    pub groups: BTreeMap<String, Grants>,
    pub access: Access,
    open: bool,
    /// Whether only this machine can connect.
    is_loopback: bool,
    pub proxy_secret: Option<Secret>,
}

impl Settings {
    pub(crate) fn of(config: &Config) -> Result<Settings, StateError> {
        let access = config.access.clone();
        let proxy_secret = match &access.proxy_secret_file {
            Some(file) => Some(first_line(file)?),
            None => access.proxy_secret.clone(),
        };
        Ok(Settings {
            users: config.users.clone(),
            groups: config.groups.clone(),
            access,
            open: config.server.open,
            is_loopback: !config.server.is_reachable(),
            proxy_secret,
        })
    }

    /// What everybody may do who presents nothing; `users` are those who can prove who they are.
    fn anonymous(&self, users: &HashMap<String, Account>) -> Grants {
        let access = (&self.proxy_secret, &self.access.jwt);
        let is_for_nobody = users.is_empty() && access == (&None, &None);
        match self.users.get(User::ANONYMOUS) {
            Some(user) => self.with_groups(&user.grants, &user.groups),
            // Without accounts, what connects is this machine, or a proxy on it.
            None if self.open || (self.is_loopback && is_for_nobody) => {
                let mut grants = Grants::of(Role::View, Pattern::all());
                grants.add(&Grants::of(Role::Capture, Pattern::all()));
                grants
            }
            None => Grants::default(),
        }
    }

    fn with_groups<'a>(
        &self,
        own: &Grants,
        groups: impl IntoIterator<Item = &'a String>,
    ) -> Grants {
        let mut all = own.clone();
        // A group that the config does not have any more gives nothing.
        for group in groups.into_iter().filter_map(|name| self.groups.get(name)) {
            all.add(group);
        }
        all
    }
}

/// The secret in a file's first line.
fn first_line(path: &Path) -> Result<Secret, StateError> {
    let read = || {
        let mut line = String::new();
        let file = File::open(path)?.take(4_096);
        BufReader::new(file).read_line(&mut line).map(|_| line)
    };
    let line = read().map_err(|reason| StateError::Read {
        path: path.to_owned(),
        reason,
    })?;
    let secret = line.trim();
    match secret.chars().count() >= Access::LEAST_PROXY_SECRET {
        true => Ok(Secret::new(secret)),
        false => Err(StateError::ProxySecret(path.to_owned())),
    }
}

/// A user of config or state.
#[derive(Debug)]
pub(crate) struct Account {
    /// Hash of the password, and its fingerprint.
    pub password: Option<(Secret, u64)>,
    pub in_config: bool,
    pub groups: Vec<String>,
    /// With those of the groups.
    pub grants: Arc<Grants>,
}

/// What requests are checked against: settings of the config and content of the state file at one moment, with indexes.
pub(crate) struct View {
    pub settings: Arc<Settings>,
    pub state: State,
    /// For tickets and fingerprints.
    pub key: hmac::Key,
    pub accounts: HashMap<String, Account>,
    pub anonymous: Arc<Grants>,
    everything: Arc<Grants>,
    /// What the hashes of users cost to verify.
    costs: Vec<Cost>,
    pub sessions: HashMap<Digest, Arc<LiveSession>>,
    pub session_ids: HashMap<Id, Arc<LiveSession>>,
    tokens: HashMap<Digest, Id>,
    links: HashMap<Digest, Id>,
    /// Fingerprints of what a proxy and a JSON Web Token are believed by; `None` if they are not.
    pub proxy_trust: Option<u64>,
    pub jwt_trust: Option<u64>,
    /// Keys for JSON Web Tokens, which all views share: they change by themselves.
    pub keys: Arc<Keys>,
}

impl View {
    /// Takes the times of use of sessions over from an earlier view.
    pub(crate) fn new(
        settings: Arc<Settings>,
        state: State,
        keys: Arc<Keys>,
        earlier: Option<&View>,
    ) -> View {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &state.key());
        let accounts = accounts(&settings, &state, &key);
        let anonymous = Arc::new(settings.anonymous(&accounts));
        let costs = accounts
            .values()
            .filter_map(|account| account.password.as_ref());
        let mut costs: Vec<Cost> = costs.map(|(hash, _)| password::cost(hash)).collect();
        costs.sort();
        let session_ids: HashMap<Id, Arc<LiveSession>> = state
            .sessions
            .iter()
            .map(|(id, stored)| {
                let known = earlier.and_then(|earlier| earlier.session_ids.get(id));
                let known = known.filter(|known| known.stored.hash == stored.hash);
                match known {
                    Some(known) => {
                        known.touch(stored.seen);
                        (*id, Arc::clone(known))
                    }
                    None => (*id, Arc::new(LiveSession::new(*id, stored.clone()))),
                }
            })
            .collect();
        let sessions = session_ids.values();
        let sessions = sessions.map(|session| (session.stored.hash, Arc::clone(session)));
        let sessions = sessions.collect();
        let tokens = state
            .tokens
            .iter()
            .map(|(id, token)| (token.hash, *id))
            .collect();
        let links = state
            .links
            .iter()
            .map(|(id, link)| (link.hash, *id))
            .collect();
        let secret = settings.proxy_secret.as_ref();
        let proxy_trust =
            secret.map(|secret| short_tag(&key, &[b"proxy", secret.expose().as_bytes()]));
        let jwt_trust = settings.access.jwt.as_ref().map(|jwt| {
            let keys = match &jwt.jwks {
                Jwks::File(path) => path.as_os_str().as_encoded_bytes(),
                Jwks::Url(url) => url.as_bytes(),
            };
            short_tag(
                &key,
                &[b"jwt", jwt.issuer.as_bytes(), jwt.audience.as_bytes(), keys],
            )
        });
        View {
            settings,
            state,
            key,
            accounts,
            anonymous,
            everything: Arc::new(Grants::all()),
            costs,
            sessions,
            session_ids,
            tokens,
            links,
            proxy_trust,
            jwt_trust,
            keys,
        }
    }

    /// The fingerprint of a user's password; `None` if there is no such user, or it has none.
    pub(crate) fn fingerprint(&self, user: &str) -> Option<u64> {
        let account = self.accounts.get(user)?;
        account
            .password
            .as_ref()
            .map(|(_, fingerprint)| *fingerprint)
    }

    /// The hash to verify a user's password against. For a user who does not exist, or has no password, it is one that
    /// no password has, and that costs as much as that of some other user, always the same one.
    pub(crate) fn hash_for(&self, user: &str) -> Result<Secret, StateError> {
        let known = self.accounts.get(user);
        match known.and_then(|account| account.password.as_ref()) {
            Some((hash, _)) => Ok(hash.clone()),
            None => {
                let which = short_tag(&self.key, &[b"dummy", user.as_bytes()]);
                let count = self.costs.len().max(1) as u64;
                let cost = usize::try_from(which % count).ok();
                let cost = cost.and_then(|index| self.costs.get(index));
                password::dummy(cost.copied().unwrap_or_default())
            }
        }
    }

    /// Whether a user has signed in from there before, and the keyed hash of that.
    pub(crate) fn place(&self, user: &str, place: Place) -> (bool, u64) {
        let place = state::place(&self.key, user, place);
        let known = self.state.places.get(user);
        (known.is_some_and(|known| known.contains(&place)), place)
    }

    /// The credential with this secret as a cookie.
    pub(crate) fn session(&self, cookie: &str) -> Option<Credential> {
        let session = self.sessions.get(&Digest::of(cookie))?;
        Some(Credential::Session(Arc::clone(session)))
    }

    /// The credential with this secret as a token.
    pub(crate) fn token(&self, token: &str) -> Option<Credential> {
        self.tokens
            .get(&Digest::of(token))
            .copied()
            .map(Credential::Token)
    }

    /// The link with this secret.
    pub(crate) fn link(&self, link: &str) -> Option<Id> {
        self.links.get(&Digest::of(link)).copied()
    }

    /// The credential that a ticket was issued under.
    pub(crate) fn referred(
        &self,
        reference: Reference,
        externals: &Externals,
        now: u64,
    ) -> Option<Credential> {
        Some(match reference {
            Reference::Nothing => Credential::Nothing,
            Reference::Local => Credential::Local,
            Reference::Session(id) => Credential::Session(Arc::clone(self.session_ids.get(&id)?)),
            Reference::Token(id) => Credential::Token(id),
            Reference::Password { user, fingerprint } => {
                Credential::Password(Owner::Account(user), fingerprint)
            }
            Reference::External(key) => Credential::External(externals.get(key, now)?),
        })
    }

    /// The identity of a client that presents no credentials.
    pub(crate) fn anonymous(&self) -> Identity {
        let rights = Rights {
            owner: Arc::clone(&self.anonymous),
            limit: Limit::Nothing,
            everybody: None,
        };
        Identity::new(None, Credential::Nothing, rights, None)
    }

    /// Who has this credential, and what it may do, now.
    pub(crate) fn identity(
        &self,
        credential: Credential,
        ticket: Option<Ticket>,
        now: u64,
    ) -> Result<Identity, Refused> {
        let (owner, rights) = self.rights(&credential, now)?;
        if let Credential::Session(session) = &credential {
            session.touch(now);
        }
        Ok(Identity::new(owner.cloned(), credential, rights, ticket))
    }

    /// Whose a credential is, `None` for nobody's, and what it gives, now.
    pub(crate) fn rights<'a>(
        &'a self,
        credential: &'a Credential,
        now: u64,
    ) -> Result<(Option<&'a Owner>, Rights), Refused> {
        let rights = |owner: Arc<Grants>, limit: Limit| Rights {
            owner,
            limit,
            everybody: Some(Arc::clone(&self.anonymous)),
        };
        match credential {
            Credential::Nothing => Ok((None, rights(Arc::clone(&self.anonymous), Limit::Nothing))),
            Credential::Local => Ok((
                Some(&Owner::Local),
                rights(Arc::clone(&self.everything), Limit::Nothing),
            )),
            Credential::Password(owner, fingerprint) => {
                let grants = self.user(owner.name(), *fingerprint)?;
                Ok((Some(owner), rights(grants, Limit::Nothing)))
            }
            Credential::Session(session) => {
                // A session that was ended is in no table.
                let known = self.session_ids.get(&session.id);
                known
                    .filter(|known| known.stored.hash == session.stored.hash)
                    .ok_or(Refused::Unknown)?;
                if session.until(&self.settings.access) <= now {
                    return Err(Refused::Expired);
                }
                let owner = &session.stored.owner;
                let rights = match session.stored.begun {
                    Begun::Password(fingerprint) => {
                        rights(self.user(owner.name(), fingerprint)?, Limit::Nothing)
                    }
                    Begun::Link(id) => {
                        let link = self.state.links.get(&id).ok_or(Refused::Unknown)?;
                        if link.until <= now {
                            return Err(Refused::Expired);
                        }
                        let limit = Limit::Stream(link.stream.clone(), link.role);
                        rights(self.grants(owner)?, limit)
                    }
                };
                Ok((Some(owner), rights))
            }
            Credential::Token(id) => {
                let token = self.state.tokens.get(id).ok_or(Refused::Unknown)?;
                if token.until.is_some_and(|until| until <= now) {
                    return Err(Refused::Expired);
                }
                let limit = Limit::Grants(Arc::new(token.grants.clone()));
                Ok((
                    Some(&token.owner),
                    rights(self.grants(&token.owner)?, limit),
                ))
            }
            Credential::External(external) => {
                let trust = match external.owner {
                    Owner::Jwt(_) => self.jwt_trust,
                    _ => self.proxy_trust,
                };
                let signed_by = external.signed_by;
                if trust != Some(external.trust) || signed_by.is_some_and(|key| !self.keys.has(key))
                {
                    return Err(Refused::Unknown);
                }
                if external.until.is_some_and(|until| until <= now) {
                    return Err(Refused::Expired);
                }
                let grants = self.grants(&external.owner)?;
                Ok((Some(&external.owner), rights(grants, Limit::Nothing)))
            }
        }
    }

    /// What a user may do, if its password still has this fingerprint.
    fn user(&self, name: &str, fingerprint: u64) -> Result<Arc<Grants>, Refused> {
        let account = self.accounts.get(name).ok_or(Refused::Unknown)?;
        let own = account.password.as_ref().map(|(_, own)| *own);
        match own == Some(fingerprint) {
            true => Ok(Arc::clone(&account.grants)),
            false => Err(Refused::Unknown),
        }
    }

    /// What somebody may do.
    pub(crate) fn grants(&self, owner: &Owner) -> Result<Arc<Grants>, Refused> {
        match owner {
            Owner::Account(name) => {
                let account = self.accounts.get(name).ok_or(Refused::Unknown)?;
                Ok(Arc::clone(&account.grants))
            }
            Owner::Local => Ok(Arc::clone(&self.everything)),
            Owner::Proxy(_) | Owner::Jwt(_) => {
                let groups = remote(owner).map_or(&[][..], |remote| &remote.groups);
                let map = &self.settings.access.group_map;
                let own: BTreeSet<&String> =
                    groups.iter().filter_map(|name| map.get(name)).collect();
                Ok(Arc::new(self.settings.with_groups(&Grants::default(), own)))
            }
        }
    }

    /// The next time after `after` at which something ends.
    pub(crate) fn next_end(&self, after: u64) -> Option<u64> {
        let access = &self.settings.access;
        let sessions = self
            .session_ids
            .values()
            .map(|session| session.until(access));
        let tokens = self.state.tokens.values().filter_map(|token| token.until);
        let links = self.state.links.values().map(|link| link.until);
        let ends = sessions.chain(tokens).chain(links);
        ends.filter(|until| *until > after).min()
    }
}

fn accounts(settings: &Settings, state: &State, key: &hmac::Key) -> HashMap<String, Account> {
    let account = |name: &String, user: Option<&User>| {
        let stored = state.users.get(name);
        let configured = user.and_then(|user| user.password.as_ref());
        let hash = configured.or(stored.and_then(|stored| stored.password.as_ref()));
        let (grants, groups) = match (user, stored) {
            (Some(user), _) => (&user.grants, &user.groups),
            (None, Some(stored)) => (&stored.grants, &stored.groups),
            (None, None) => return None,
        };
        let account = Account {
            password: hash.map(|hash| (hash.clone(), password::fingerprint(key, name, hash))),
            in_config: user.is_some(),
            groups: groups.clone(),
            grants: Arc::new(settings.with_groups(grants, groups)),
        };
        Some((name.clone(), account))
    };
    let configured = settings
        .users
        .iter()
        .filter(|(name, _)| *name != User::ANONYMOUS);
    let configured = configured.filter_map(|(name, user)| account(name, Some(user)));
    let others = state
        .users
        .keys()
        .filter(|name| !settings.users.contains_key(*name));
    configured
        .chain(others.filter_map(|name| account(name, None)))
        .collect()
}
