//! The state file: users that the command line adds, sign-ins, tokens, links, the key of tickets, and streams that were
//! added while the gateway runs.
//!
//! One JSON file, closed to everybody else. It is replaced as a whole, by one process at a time: who changes it holds a
//! lock, and reads it again if another process has changed it. A file that cannot be read is never replaced.

use super::random::{Digest, Id};
use super::throttle::Place;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, Serializer};
use sluicegate_config::{self as config, Grants, PasswordHash, Role, Secret, private};
use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{self, Read},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Version of the format.
const VERSION: u32 = 1;
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 64 << 20;
/// Most users in the file.
pub(crate) const MAX_USERS: usize = 10_000;
/// Most sign-ins of a user, and most openings of a link.
pub(crate) const MAX_SESSIONS_OF_ONE: usize = 100;
/// Most sign-ins and openings in all.
pub(crate) const MAX_SESSIONS: usize = 20_000;
/// Largest number of API tokens of all users together.
pub(crate) const MAX_TOKENS: usize = 1_000;
/// Largest number of share links of all users together.
pub(crate) const MAX_LINKS: usize = 1_000;
/// Most streams in the file.
pub(crate) const MAX_STREAMS: usize = 2_000;
/// Longest settings of one of them, in bytes of JSON.
pub(crate) const MAX_STREAM_BYTES: usize = 8 << 10;
/// Most places of a user that are remembered.
pub(crate) const MAX_PLACES: usize = 16;

/// Why the state of the accounts, or a file with secrets or keys, cannot be read or kept. `Display` says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StateError {
    /// It cannot be read.
    #[error("cannot read {}: {reason}; let the user that runs the gateway read it", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        reason: io::Error,
    },
    /// Others may read or write it.
    #[error(
        "{} must belong to the user that runs the gateway and be closed to everybody else, since it has secrets; run `chmod 600` on it as that user", .0.display()
    )]
    Exposed(PathBuf),
    /// Its content is not what the gateway writes.
    #[error(
        "{} is damaged: {what}; restore it from a backup, or move it away to begin without the users, sign-ins, tokens and links that are in it", path.display()
    )]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong, without any of the content.
        what: String,
    },
    /// It was written by a later version.
    #[error(
        "{} was written by a later version of the gateway; use that version, or name another file with `state` under [server]", .0.display()
    )]
    Later(PathBuf),
    /// It cannot be written.
    #[error(
        "cannot write {}: {reason}; let the user that runs the gateway write to its folder, or name another file with `state` under [server]", path.display()
    )]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        reason: io::Error,
    },
    /// The file with a proxy's secret has none.
    #[error(
        "{} has no secret in its first line: write at least {} characters there, which the proxy sends, too", .0.display(), config::Access::LEAST_PROXY_SECRET
    )]
    ProxySecret(PathBuf),
    /// The file with the keys for JSON Web Tokens is none.
    #[error("{}: {reason}", path.display())]
    Jwks {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        reason: super::JwksError,
    },
    /// The system has no random numbers.
    #[error("the system gives no random numbers, without which there are no secrets")]
    NoRandomness,
    /// A mistake in the gateway itself.
    #[error("internal error; the gateway's log tells more")]
    Internal,
}

/// What is kept. Times are Unix times in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct State {
    version: u32,
    /// Key of tickets and fingerprints, 256 random bits in base64url.
    #[serde(serialize_with = "exposed")]
    key: Secret,
    /// Users that are not in the config, and passwords of those that are.
    #[serde(default)]
    pub users: BTreeMap<String, StoredUser>,
    #[serde(default)]
    pub sessions: BTreeMap<Id, StoredSession>,
    #[serde(default)]
    pub tokens: BTreeMap<Id, StoredToken>,
    #[serde(default)]
    pub links: BTreeMap<Id, StoredLink>,
    /// For each user, keyed hashes of the places of its latest sign-ins, the newest last.
    #[serde(default)]
    pub places: BTreeMap<String, Vec<u64>>,
    /// Settings of the streams that are not in the config.
    #[serde(default)]
    pub streams: BTreeMap<String, StoredStream>,
}

/// Settings of a stream, as keys of `[streams.NAME]`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct StoredStream(pub serde_json::Value);

/// Its source may contain a password.
impl fmt::Debug for StoredStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredStream(…)")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct StoredUser {
    /// Hash of the password.
    #[serde(default, serialize_with = "exposed_or_null")]
    pub password: Option<Secret>,
    #[serde(default)]
    pub groups: Vec<String>,
    #[serde(default)]
    pub grants: Grants,
}

/// In whose name something was made, so whose rights it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Owner {
    /// A user of the gateway.
    Account(String),
    /// Somebody on this machine.
    Local,
    /// Somebody whom a proxy has authenticated, with the groups of that time.
    Proxy(Remote),
    /// Somebody with a JSON Web Token, with the groups of that time.
    Jwt(Remote),
}

/// A user that somebody else vouches for, and its groups there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Remote {
    pub user: String,
    pub groups: Vec<String>,
}

impl Owner {
    /// Name of the user, to be shown.
    pub(crate) fn name(&self) -> &str {
        match self {
            Owner::Account(name) => name,
            Owner::Local => "local",
            Owner::Proxy(remote) | Owner::Jwt(remote) => &remote.user,
        }
    }

    /// Whether it is the same somebody, with whichever groups.
    pub(crate) fn is(&self, other: &Owner) -> bool {
        match (self, other) {
            (Owner::Proxy(own), Owner::Proxy(other)) => own.user == other.user,
            (Owner::Jwt(own), Owner::Jwt(other)) => own.user == other.user,
            (own, other) => own == other,
        }
    }
}

/// What a session began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Begun {
    /// The password whose hash had this fingerprint.
    Password(u64),
    /// The share link with this id.
    Link(Id),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct StoredSession {
    /// Of the cookie's value.
    pub hash: Digest,
    /// The user; for a link, the one who made it.
    pub owner: Owner,
    pub begun: Begun,
    pub created: u64,
    pub seen: u64,
    pub from: IpAddr,
    pub agent: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct StoredToken {
    pub hash: Digest,
    pub owner: Owner,
    pub name: String,
    pub grants: Grants,
    pub created: u64,
    #[serde(default)]
    pub until: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct StoredLink {
    pub hash: Digest,
    pub owner: Owner,
    pub stream: String,
    pub role: Role,
    pub created: u64,
    pub until: u64,
}

fn exposed<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

fn exposed_or_null<S: Serializer>(
    secret: &Option<Secret>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => exposed(secret, serializer),
        None => serializer.serialize_none(),
    }
}

impl State {
    /// The state of a gateway that has none yet.
    pub(crate) fn new() -> Result<State, StateError> {
        Ok(State {
            version: VERSION,
            key: super::random::secret("")?,
            users: BTreeMap::new(),
            sessions: BTreeMap::new(),
            tokens: BTreeMap::new(),
            links: BTreeMap::new(),
            places: BTreeMap::new(),
            streams: BTreeMap::new(),
        })
    }

    /// Bytes of the key.
    pub(crate) fn key(&self) -> Vec<u8> {
        let decoded = BASE64_URL_SAFE_NO_PAD.decode(self.key.expose());
        // A key that is none was refused when the file was read.
        decoded.unwrap_or_default()
    }

    /// Reads what [`State::write`] wrote.
    ///
    /// # Errors
    /// What is wrong with it, without any of the content.
    pub(crate) fn read(text: &[u8]) -> Result<State, Unreadable> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }

        let place = |error: serde_json::Error| {
            let (line, column) = (error.line(), error.column());
            let what = match error.classify() {
                serde_json::error::Category::Eof => "it ends too early",
                serde_json::error::Category::Data => {
                    "a value is missing, unknown or of another kind"
                }
                _ => "this is not JSON",
            };
            Unreadable::Damaged(format!("{what}, at line {line}, column {column}"))
        };
        let Version { version } = serde_json::from_slice(text).map_err(place)?;
        match version {
            VERSION => {}
            0 => return Err(Unreadable::Damaged("there is no version 0".into())),
            _ => return Err(Unreadable::Later),
        }
        let state: State = serde_json::from_slice(text).map_err(place)?;
        state.check().map_err(Unreadable::Damaged)?;
        Ok(state)
    }

    fn check(&self) -> Result<(), String> {
        let bounds = [
            ("users", self.users.len(), MAX_USERS),
            ("sessions", self.sessions.len(), MAX_SESSIONS),
            ("tokens", self.tokens.len(), MAX_TOKENS),
            ("links", self.links.len(), MAX_LINKS),
            ("places", self.places.len(), 2 * MAX_USERS),
            ("streams", self.streams.len(), MAX_STREAMS),
        ];
        for (what, found, most) in bounds {
            if found > most {
                return Err(format!(
                    "there are {found} {what}, and at most {most} are possible"
                ));
            }
        }
        if self.key().len() != 32 {
            return Err("the key does not have 256 bits".into());
        }
        for (name, user) in &self.users {
            config::check_user_name(name)
                .map_err(|what| format!("`{}` {what}", name.escape_debug()))?;
            if let Some(Err(why)) = user.password.as_ref().map(PasswordHash::parse) {
                return Err(format!("the password of `{name}` {why}"));
            }
        }
        Ok(())
    }

    /// The content of the file, as JSON.
    pub(crate) fn write(&self) -> Vec<u8> {
        // Writing to memory cannot fail, and all keys are strings.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// Remembers where a user has signed in.
    pub(crate) fn add_place(&mut self, user: &str, place: u64) {
        if !self.places.contains_key(user) && self.places.len() >= 2 * MAX_USERS {
            return;
        }
        let places = self.places.entry(user.to_owned()).or_default();
        places.retain(|known| *known != place);
        places.push(place);
        let over = places.len().saturating_sub(MAX_PLACES);
        places.drain(..over);
    }
}

/// Why a text is no state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Damaged(String),
    /// A later version wrote it.
    Later,
}

/// Keyed hash of a place where a user signed in, which tells nobody the address.
pub(crate) fn place(key: &ring::hmac::Key, user: &str, place: Place) -> u64 {
    super::ticket::short_tag(key, &[b"place", user.as_bytes(), &place.bytes()])
}

/// The state file, by its path.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
}

/// By which a file that was replaced is told from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// The stamp of the file at `path`; `None` if there is no such file.
    pub(crate) fn of(path: &Path) -> Option<Stamp> {
        fs::metadata(path).ok().as_ref().map(Stamp::from)
    }
}

impl From<&fs::Metadata> for Stamp {
    fn from(found: &fs::Metadata) -> Stamp {
        Stamp {
            inode: found.ino(),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }
}

/// Held while the file is changed.
pub(crate) struct Lock {
    _file: File,
}

impl StateFile {
    pub(crate) fn new(path: PathBuf) -> StateFile {
        StateFile { path }
    }

    pub(crate) fn stamp(&self) -> Option<Stamp> {
        Stamp::of(&self.path)
    }

    /// Reads the file; `None` if there is none.
    pub(crate) fn read(&self) -> Result<Option<(State, Stamp)>, StateError> {
        let failed = |reason| StateError::Read {
            path: self.path.clone(),
            reason,
        };
        let damaged = |what| StateError::Damaged {
            path: self.path.clone(),
            what,
        };
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(damaged("it is no file".into()));
        }
        if !private::is_own(&found) {
            return Err(StateError::Exposed(self.path.clone()));
        }
        let mut text = Vec::new();
        file.take(MAX_FILE + 1)
            .read_to_end(&mut text)
            .map_err(failed)?;
        if text.len() as u64 > MAX_FILE {
            return Err(damaged(format!("it is larger than {} MiB", MAX_FILE >> 20)));
        }
        match State::read(&text) {
            Ok(state) => Ok(Some((state, Stamp::from(&found)))),
            Err(Unreadable::Damaged(what)) => Err(damaged(what)),
            Err(Unreadable::Later) => Err(StateError::Later(self.path.clone())),
        }
    }

    /// Waits until no other process changes the file.
    pub(crate) fn lock(&self) -> Result<Lock, StateError> {
        let lock = || {
            if let Some(dir) = self.path.parent().filter(|dir| *dir != Path::new("")) {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(dir)?;
            }
            let file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(self.path.with_extension("lock"))?;
            file.lock()?;
            Ok(Lock { _file: file })
        };
        lock().map_err(|reason| self.cannot_write(reason))
    }

    /// Replaces the file, or creates it.
    pub(crate) fn write(&self, state: &State, _: &Lock) -> Result<Option<Stamp>, StateError> {
        let text = state.write();
        if text.len() as u64 > MAX_FILE {
            // It could not be read again.
            let what = format!("it would be larger than {} MiB", MAX_FILE >> 20);
            return Err(self.cannot_write(io::Error::new(io::ErrorKind::FileTooLarge, what)));
        }
        private::write_durably(&self.path, &[&text]).map_err(|reason| self.cannot_write(reason))?;
        Ok(self.stamp())
    }

    fn cannot_write(&self, reason: io::Error) -> StateError {
        StateError::Write {
            path: self.path.clone(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full() -> State {
        let mut state = State::new().unwrap();
        let user = StoredUser {
            password: Some(super::super::password::dummy(Default::default()).unwrap()),
            groups: vec!["family".into()],
            grants: Grants::all(),
        };
        state.users.insert("eva".into(), user);
        let remote = Remote {
            user: "kim".into(),
            groups: vec!["staff".into()],
        };
        state.sessions.insert(
            Id(1),
            StoredSession {
                hash: Digest::of("cookie"),
                owner: Owner::Account("eva".into()),
                begun: Begun::Password(7),
                created: 1_000,
                seen: 2_000,
                from: "10.0.0.1".parse().unwrap(),
                agent: "Firefox".into(),
            },
        );
        state.tokens.insert(
            Id(2),
            StoredToken {
                hash: Digest::of("token"),
                owner: Owner::Jwt(remote.clone()),
                name: "recorder".into(),
                grants: Grants::of(Role::View, "porch*".parse().unwrap()),
                created: 1_000,
                until: None,
            },
        );
        for (id, owner) in [(3, Owner::Local), (4, Owner::Proxy(remote))] {
            state.links.insert(
                Id(id),
                StoredLink {
                    hash: Digest::of("link"),
                    owner,
                    stream: "porch".into(),
                    role: Role::Talk,
                    created: 1_000,
                    until: 2_000,
                },
            );
        }
        state.add_place("eva", 9);
        let settings =
            serde_json::json!({ "source": "rtsp://eva:hunter2@camera/", "always-on": true });
        state.streams.insert("door".into(), StoredStream(settings));
        state
    }

    #[test]
    fn what_is_written_reads_back_as_itself() {
        for state in [State::new().unwrap(), full()] {
            assert_eq!(State::read(&state.write()), Ok(state));
        }
    }

    #[test]
    fn a_damaged_state_is_refused_without_its_content() {
        let text = String::from_utf8(full().write()).unwrap();
        for (from, to, why) in [
            ("\"version\": 1", "\"version\": 0", "no version 0"),
            ("\"users\"", "\"usars\"", "unknown"),
            ("$argon2id", "hunter2", "the password of `eva` is not"),
            ("\"eva\": {", "\"e a\": {", "not a valid name"),
            ("}", "", "ends too early"),
            ("\"seen\": 2000", "\"seen\": \"hunter2\"", "of another kind"),
            ("\"key\": \"", "\"key\": \"x", "256 bits"),
        ] {
            assert!(text.contains(from), "{from}");
            let changed = match to {
                "" => text.rsplitn(2, from).last().unwrap().to_owned(),
                to => text.replacen(from, to, 1),
            };
            let Err(Unreadable::Damaged(what)) = State::read(changed.as_bytes()) else {
                panic!("{from} {to}");
            };
            assert!(what.contains(why), "{what}");
            assert!(!what.contains("hunter2"), "{what}");
        }
        let later = text.replacen("\"version\": 1", "\"version\": 2, \"new\": 3", 1);
        assert_eq!(State::read(later.as_bytes()), Err(Unreadable::Later));
    }

    #[test]
    fn the_latest_places_of_a_user_are_kept() {
        let mut state = State::new().unwrap();
        for place in 0..20 {
            state.add_place("eva", place);
        }
        state.add_place("eva", 5);
        let places = &state.places["eva"];
        assert_eq!(places.len(), MAX_PLACES);
        assert_eq!(places.last(), Some(&5));
        assert!(!places.contains(&3));
    }

    #[test]
    fn a_shown_state_has_no_secrets() {
        let state = full();
        let shown = format!("{state:?}");
        assert!(
            ["argon2id", "hunter2", state.key.expose()]
                .iter()
                .all(|secret| !shown.contains(secret)),
            "{shown}"
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}", at in 0_usize..2_000, with in "\\PC{0,3}") {
            let _ = State::read(text.as_bytes());
            let mut changed = full().write();
            let at = at.min(changed.len());
            changed.splice(at..at, with.bytes());
            if let Ok(state) = State::read(&changed) {
                prop_assert_eq!(State::read(&state.write()), Ok(state));
            }
        }
    }
}
