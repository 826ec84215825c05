//! `[users.NAME]`, `[groups.NAME]` and `[access]`: who may do what with which streams.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::document::{Problem, Step};
use super::{Secret, Span, text};

/// What a user may do with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Watch it.
    View,
    /// Take and save still images of it.
    Capture,
    /// Talk through its device.
    Talk,
    /// Control its device.
    Control,
    /// Send media to it.
    Publish,
    /// Change it, and everything above.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 6] = [
        Role::View,
        Role::Capture,
        Role::Talk,
        Role::Control,
        Role::Publish,
        Role::Admin,
    ];

    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Role::View => "view",
            Role::Capture => "capture",
            Role::Talk => "talk",
            Role::Control => "control",
            Role::Publish => "publish",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Role::ALL.into_iter().find(|role| role.name() == text);
        known.ok_or_else(|| {
            let text: String = text.chars().take(64).collect();
            let names = Role::ALL.map(Role::name).join(", ");
            format!("there is no role `{text}`; there are: {names}")
        })
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parse(deserializer, "the name of a role", str::parse)
    }
}

/// Which streams: a name, in which each `*` stands for any text, also for none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern that every name matches.
    pub fn all() -> Self {
        Self("*".into())
    }

    /// The pattern that only this name matches, which must be a valid name of a stream: `*` is none in one.
    ///
    /// # Errors
    /// A phrase to be appended to the name: why it can name no stream.
    pub fn of(stream: &str) -> Result<Self, String> {
        super::check_stream_name(stream)?;
        match stream.contains('*') {
            false => Ok(Self(stream.to_owned())),
            true => Err("has a `*`, which means any text in a pattern".into()),
        }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether every name matches.
    pub fn is_all(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }

    /// Whether the name matches, case-sensitively.
    pub fn matches(&self, name: &str) -> bool {
        // The parts between stars occur one behind the other: each as early as possible, the last one at the end.
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        for part in parts {
            let Some(at) = rest.find(part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A star matches nothing, too, so a pattern fits a name if it does without the stars.
        let plain = text.replace('*', "x");
        match super::check_stream_name(&plain) {
            Ok(()) => Ok(Self(text.to_owned())),
            Err(_) => {
                let text: String = text.escape_debug().take(64).collect();
                Err(format!(
                    "`{text}` can match no stream; write the name of one, or \"*\" for all, or e.g. \"porch*\""
                ))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "a stream's name, or a pattern such as \"porch*\" or \"*\"";
        text::parse(deserializer, expecting, str::parse)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// For each role, the streams over which somebody has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table such as { view = [\"*\"] }"
)]
pub struct Grants {
    /// List of streams that may be watched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub view: Vec<Pattern>,
    /// List of streams of which images may be taken and saved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capture: Vec<Pattern>,
    /// List of streams through whose devices one may talk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub talk: Vec<Pattern>,
    /// List of streams whose devices may be controlled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub control: Vec<Pattern>,
    /// List of streams to which media may be sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Pattern>,
    /// List of streams that may be administered, which includes every other role. `"*"`: the gateway, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub admin: Vec<Pattern>,
}

impl Grants {
    /// Every role over everything.
    pub fn all() -> Self {
        Self::of(Role::Admin, Pattern::all())
    }

    /// One role over the streams that match a pattern.
    pub fn of(role: Role, pattern: Pattern) -> Self {
        let mut grants = Self::default();
        grants.patterns_mut(role).push(pattern);
        grants
    }

    /// The streams for which there is this role itself.
    pub fn patterns(&self, role: Role) -> &[Pattern] {
        match role {
            Role::View => &self.view,
            Role::Capture => &self.capture,
            Role::Talk => &self.talk,
            Role::Control => &self.control,
            Role::Publish => &self.publish,
            Role::Admin => &self.admin,
        }
    }

    /// As [`Grants::patterns`], to be changed.
    pub fn patterns_mut(&mut self, role: Role) -> &mut Vec<Pattern> {
        match role {
            Role::View => &mut self.view,
            Role::Capture => &mut self.capture,
            Role::Talk => &mut self.talk,
            Role::Control => &mut self.control,
            Role::Publish => &mut self.publish,
            Role::Admin => &mut self.admin,
        }
    }

    /// Whether they include the role over the stream, or, without one, over the gateway as a whole, which needs `*`.
    pub fn permit(&self, role: Role, stream: Option<&str>) -> bool {
        let fits = |pattern: &Pattern| match stream {
            Some(stream) => pattern.matches(stream),
            None => pattern.is_all(),
        };
        self.patterns(role).iter().any(fits) || self.admin.iter().any(fits)
    }

    /// Whether they include the role over something.
    pub fn permit_any(&self, role: Role) -> bool {
        !self.patterns(role).is_empty() || !self.admin.is_empty()
    }

    /// Whether they include nothing.
    pub fn is_empty(&self) -> bool {
        Role::ALL.iter().all(|role| self.patterns(*role).is_empty())
    }

    /// Adds all that others include.
    pub fn add(&mut self, others: &Grants) {
        for role in Role::ALL {
            let own = self.patterns_mut(role);
            for pattern in others.patterns(role) {
                if !own.contains(pattern) {
                    own.push(pattern.clone());
                }
            }
        }
    }
}

/// `[users.NAME]`: somebody who signs in, or `anonymous`, who does not.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(from = "WrittenUser")]
pub struct User {
    /// Hash of the password, as `sluicegate user hash` prints it. Default: none, or the one in the state file.
    pub password: Option<Secret>,
    /// List of groups whose rights the user has, too. Default: none.
    pub groups: Vec<String>,
    /// The user's own rights, one list of streams for each role: `view`, `capture`, `talk`, `control`, `publish`,
    /// `admin`. Default: none.
    pub grants: Grants,
}

/// The keys of a user, which are those of its rights, too.
#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table such as { groups = [\"family\"], view = [\"*\"] }"
)]
struct WrittenUser {
    password: Option<Secret>,
    groups: Vec<String>,
    view: Vec<Pattern>,
    capture: Vec<Pattern>,
    talk: Vec<Pattern>,
    control: Vec<Pattern>,
    publish: Vec<Pattern>,
    admin: Vec<Pattern>,
}

impl From<WrittenUser> for User {
    fn from(written: WrittenUser) -> Self {
        User {
            password: written.password,
            groups: written.groups,
            grants: Grants {
                view: written.view,
                capture: written.capture,
                talk: written.talk,
                control: written.control,
                publish: written.publish,
                admin: written.admin,
            },
        }
    }
}

impl User {
    /// Name of the user that everybody is who presents nothing.
    pub const ANONYMOUS: &'static str = "anonymous";

    /// Checks what can be checked from the text alone; `groups` are the known ones.
    pub(super) fn check(
        &self,
        name: &str,
        path: &[Step],
        groups: &BTreeMap<String, Grants>,
    ) -> Result<(), Problem> {
        let at = |key: &str| [path, &[key.into()]].concat();
        if let Some(password) = &self.password {
            if name == Self::ANONYMOUS {
                let what = "makes no sense: this is who does not sign in; remove it, or choose another name";
                return Err(Problem::key(at("password"), what));
            }
            check_hash(password).map_err(|what| Problem::value(at("password"), what))?;
        }
        for (index, group) in self.groups.iter().enumerate() {
            if !groups.contains_key(group) {
                let what = super::unknown("group", group, groups.keys());
                let path = [at("groups"), vec![Step::Index(index)]].concat();
                return Err(Problem::value(path, format!("{what}; add [groups.NAME]")));
            }
        }
        check_user_name(name).map_err(|what| Problem::key(path.to_vec(), what))
    }
}

/// Checks that `name` can name a user: 1 to 64 bytes, letters, digits, `-`, `_`, `.`, `@` and `+`, as in names and mail
/// addresses, and no sign at the beginning, which a command line may take for an option.
///
/// # Errors
/// A phrase to be appended to the name: what is wrong and what to do.
pub fn check_user_name(name: &str) -> Result<(), String> {
    let refuse = |why: &str| {
        Err(format!(
            "is not a valid name of a user: {why}; use letters, digits, `-`, `_`, `.`, `@` and `+`"
        ))
    };
    let good = |c: char| c.is_alphanumeric() || "-_.@+".contains(c);
    match name {
        "" => refuse("it is empty"),
        name if name.len() > 64 => refuse("it is longer than 64 bytes"),
        name if !name.starts_with(char::is_alphanumeric) => {
            refuse("it starts with neither a letter nor a digit")
        }
        name => match name.chars().find(|c| !good(*c)) {
            Some(c) => refuse(&format!("it contains `{}`", c.escape_debug())),
            None => Ok(()),
        },
    }
}

/// As [`check_user_name`], for a group.
pub(super) fn check_group_name(name: &str) -> Result<(), String> {
    check_user_name(name).map_err(|what| what.replace("name of a user", "name of a group"))
}

/// Checks that a password is written as a hash that can be verified within bounds. The message has nothing of it.
fn check_hash(password: &Secret) -> Result<(), String> {
    PasswordHash::parse(password)
        .map(drop)
        .map_err(|why| format!("{why}; write a hash that `sluicegate user hash` prints, or none and run `sluicegate user passwd NAME`"))
}

/// The parts of an argon2id hash in the PHC string format, `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`. Salt and hash
/// are base64 without padding.
#[derive(Clone, Copy)]
pub struct PasswordHash<'a> {
    /// Memory in KiB, 8 to 1 GiB.
    pub memory: u32,
    /// Passes over the memory, 1 to 16.
    pub passes: u32,
    /// Lanes, 1 to 16.
    pub lanes: u32,
    /// The salt, in base64; 11 to 86 characters.
    pub salt: &'a str,
    /// The hash, in base64; 22 to 86 characters.
    pub hash: &'a str,
}

impl<'a> PasswordHash<'a> {
    /// Splits a hash.
    ///
    /// # Errors
    /// What is wrong with it, without any of its text.
    pub fn parse(text: &'a Secret) -> Result<Self, &'static str> {
        const NONE: &str = "is not an argon2id hash";
        let number = |text: &str, key: &str, most: u32| {
            let value = text.strip_prefix(key).and_then(|value| value.parse().ok());
            let value: u32 = value.ok_or(NONE)?;
            match (1..=most).contains(&value) {
                true => Ok(value),
                false => Err("is a hash that costs too much to verify"),
            }
        };
        let base64 = |text: &str, least: usize| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
            (least..=86).contains(&text.len()) && text.bytes().all(known)
        };
        let rest = text.expose().strip_prefix("$argon2id$v=19$").ok_or(NONE)?;
        let parts: Vec<&str> = rest.split('$').collect();
        let [costs, salt, hash] = parts[..] else {
            return Err(NONE);
        };
        let costs: Vec<&str> = costs.split(',').collect();
        let [memory, passes, lanes] = costs[..] else {
            return Err(NONE);
        };
        let parsed = Self {
            memory: number(memory, "m=", 1 << 20)?,
            passes: number(passes, "t=", 16)?,
            lanes: number(lanes, "p=", 16)?,
            salt,
            hash,
        };
        match base64(salt, 11) && base64(hash, 22) && parsed.memory >= 8 * parsed.lanes {
            true => Ok(parsed),
            false => Err(NONE),
        }
    }
}

/// `[access]`: how long sign-ins last, and whom else than its own users the gateway believes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub struct Access {
    /// Duration, 1 min to 365 d: how long a sign-in lasts without use. Default 7 d.
    pub session_idle: Span,
    /// Duration, 1 min to 365 d: how long a sign-in lasts at most. Default 30 d.
    pub session_max: Span,
    /// Duration, 10 s to 1 h: how long a ticket in a path is valid without use. Default 60 s.
    pub ticket: Span,
    /// Secret that one of `trusted-proxies` sends along with the name of the user that it has authenticated, at least
    /// 16 characters. Default: none, no proxy is believed about users.
    pub proxy_secret: Option<Secret>,
    /// Path of a file with that secret in its first line, relative to the config file, instead of `proxy-secret`.
    pub proxy_secret_file: Option<PathBuf>,
    /// Name of the header with the secret. Default `X-Proxy-Secret`.
    pub proxy_secret_header: HeaderName,
    /// Name of the header with the user. Default `Remote-User`.
    pub proxy_user_header: HeaderName,
    /// Name of the header with the user's groups, separated by commas. Default `Remote-Groups`.
    pub proxy_groups_header: HeaderName,
    /// Table from the name of a group at a proxy or in a JWT to one of `[groups]`. Groups that are not in it give
    /// nothing. Default: empty.
    pub group_map: BTreeMap<String, String>,
    /// JSON Web Tokens (RFC 7519) that are accepted as `Authorization: Bearer`. Default: none.
    pub jwt: Option<Jwt>,
}

impl Default for Access {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            session_idle: Span::from_duration(DAY * 7),
            session_max: Span::from_duration(DAY * 30),
            ticket: Span::from_duration(Duration::from_secs(60)),
            proxy_secret: None,
            proxy_secret_file: None,
            proxy_secret_header: HeaderName("x-proxy-secret".into()),
            proxy_user_header: HeaderName("remote-user".into()),
            proxy_groups_header: HeaderName("remote-groups".into()),
            group_map: BTreeMap::new(),
            jwt: None,
        }
    }
}

impl Access {
    /// Fewest characters of a proxy's secret.
    pub const LEAST_PROXY_SECRET: usize = 16;

    /// Resolves relative paths against `dir`.
    pub(super) fn resolve(&mut self, dir: &Path) {
        if let Some(file) = &mut self.proxy_secret_file {
            *file = dir.join(&file);
        }
        if let Some(Jwt { jwks, .. }) = &mut self.jwt
            && let Jwks::File(file) = jwks
        {
            *file = dir.join(&file);
        }
    }

    /// Checks what can be checked from the text alone; `groups` are the known ones.
    pub(super) fn check(
        &self,
        path: &[Step],
        groups: &BTreeMap<String, Grants>,
    ) -> Result<(), Problem> {
        let at = |key: &str| [path, &[key.into()]].concat();
        const MINUTE: Span = Span::from_duration(Duration::from_secs(60));
        const HOUR: Span = Span::from_duration(Duration::from_secs(3_600));
        const YEAR: Span = Span::from_duration(Duration::from_secs(365 * 86_400));
        const TEN_SECONDS: Span = Span::from_duration(Duration::from_secs(10));
        for (key, span, least, most) in [
            ("session-idle", self.session_idle, MINUTE, YEAR),
            ("session-max", self.session_max, MINUTE, YEAR),
            ("ticket", self.ticket, TEN_SECONDS, HOUR),
        ] {
            if !(least..=most).contains(&span) {
                let what = format!("{span} is out of range; write \"{least}\" to \"{most}\"");
                return Err(Problem::value(at(key), what));
            }
        }
        if let Some(secret) = &self.proxy_secret {
            if self.proxy_secret_file.is_some() {
                let what = "says the same as `proxy-secret-file`; remove one of the two";
                return Err(Problem::key(at("proxy-secret"), what));
            }
            if secret.expose().chars().count() < Self::LEAST_PROXY_SECRET {
                let what = format!(
                    "is too short to be a secret; write at least {} characters",
                    Self::LEAST_PROXY_SECRET
                );
                return Err(Problem::value(at("proxy-secret"), what));
            }
        }
        for (remote, group) in &self.group_map {
            if !groups.contains_key(group) {
                let what = super::unknown("group", group, groups.keys());
                let path = [at("group-map"), vec![remote.into()]].concat();
                return Err(Problem::value(path, format!("{what}; add [groups.NAME]")));
            }
        }
        match &self.jwt {
            Some(jwt) => jwt.check(&at("jwt")),
            None => Ok(()),
        }
    }
}

/// `jwt = { … }` of `[access]`: which JSON Web Tokens are accepted. Their groups give rights by `group-map`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table such as { jwks = \"keys.json\", issuer = \"https://id.example\", audience = \"sluicegate\" }"
)]
pub struct Jwt {
    /// Public keys (JWK Set, RFC 7517): path of a file, relative to the config file and read again when it changes, or
    /// a URL, fetched every ten minutes. Required.
    pub jwks: Jwks,
    /// The claim `iss` that tokens must have. Required.
    pub issuer: String,
    /// The value that the claim `aud` must have or contain. Required.
    pub audience: String,
    /// Name of the claim with the user. Default `sub`.
    #[serde(default = "user_claim")]
    pub user_claim: String,
    /// Name of the claim with the groups: a list, or one text in which they are separated by commas or spaces. Default
    /// `groups`.
    #[serde(default = "groups_claim")]
    pub groups_claim: String,
}

fn user_claim() -> String {
    "sub".into()
}

fn groups_claim() -> String {
    "groups".into()
}

impl Jwt {
    fn check(&self, path: &[Step]) -> Result<(), Problem> {
        for (key, value) in [
            ("issuer", &self.issuer),
            ("audience", &self.audience),
            ("user-claim", &self.user_claim),
            ("groups-claim", &self.groups_claim),
        ] {
            if value.is_empty() {
                let what = "is empty, so that any token would do; write what tokens must have";
                return Err(Problem::value([path, &[key.into()]].concat(), what));
            }
        }
        Ok(())
    }
}

/// Where the keys for JSON Web Tokens are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jwks {
    /// In this file.
    File(PathBuf),
    /// At this http or https URL.
    Url(String),
}

impl<'de> Deserialize<'de> for Jwks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parse(deserializer, "a path or a URL", |text| {
            let http = text.starts_with("http://") || text.starts_with("https://");
            match text {
                "" => Err("it is empty; write the path or URL of a JWK Set".into()),
                _ if http => Ok(Jwks::Url(text.to_owned())),
                _ if text.contains("://") => {
                    Err("write a path, or a URL with http or https".into())
                }
                _ => Ok(Jwks::File(text.into())),
            }
        })
    }
}

/// Name of an HTTP header, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderName(String);

impl HeaderName {
    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for HeaderName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "the name of a header such as \"Remote-User\"";
        text::parse(deserializer, expecting, |text| {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            match (1..=64).contains(&text.len()) && text.bytes().all(good) {
                true => Ok(Self(text.to_ascii_lowercase())),
                false => {
                    let text: String = text.escape_debug().take(64).collect();
                    Err(format!(
                        "`{text}` is not the name of a header; write e.g. \"Remote-User\""
                    ))
                }
            }
        })
    }
}
