//! One's own account: sign-ins, API tokens and share links, as the page `/account`, which works without script, and as
//! JSON below `/api/account`.
//!
//! Both call the same functions of [`Accounts`](sluicegate_accounts::Accounts), which checks what the caller may make,
//! see and end. A secret is shown in the answer that makes it and nowhere else.

use super::{
    Body, Visitor, error, json, login, pages,
    pages::escaped,
    read_body,
    visitor::{see_other, set_retry_after},
};
use crate::gateway::Gateway;
use bytes::Bytes;
use form_urlencoded::parse;
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluicegate_accounts::{
    ChangeError, Grants, Identity, Link, Pattern, Proof, Refused, Role, Secret, Session, Token,
};
use sluicegate_capture::store::rfc3339;
use sluicegate_config::BasePath;
use sluicegate_telemetry::unix_ms;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 16 << 10;
/// Choices of the page how long a link or token is valid: hours, text.
const LINK_HOURS: [(u64, &str); 5] = [
    (1, "1 hour"),
    (8, "8 hours"),
    (24, "1 day"),
    (7 * 24, "1 week"),
    (30 * 24, "30 days"),
];
const TOKEN_HOURS: [(u64, &str); 4] = [
    (0, "no end"),
    (30 * 24, "30 days"),
    (90 * 24, "90 days"),
    (365 * 24, "1 year"),
];
const HOUR: Duration = Duration::from_secs(3600);

/// The caller's account.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Account")]
pub struct Account {
    /// Name of the user; "local" for a client on the gateway's own machine that has not signed in.
    user: String,
    /// How the caller proved who it is: "session", "link", "password", "token", "ticket", "proxy", "jwt" or "local".
    proof: &'static str,
    /// The roles that the caller has over at least one stream.
    roles: Vec<&'static str>,
    /// Sign-ins of the user; of all users for an administrator of the gateway.
    sessions: Vec<SignIn>,
    /// API tokens of the user; of all users for an administrator of the gateway.
    tokens: Vec<TokenView>,
    /// Share links of the user; of all users for an administrator of the gateway.
    links: Vec<LinkView>,
}

/// A sign-in.
#[derive(Serialize, JsonSchema)]
pub struct SignIn {
    /// Identifies it, for `DELETE /api/account/sessions/{id}`. Not secret.
    id: String,
    /// Name of the user.
    user: String,
    /// Id of the share link that was opened; null for a sign-in with a password.
    link: Option<String>,
    /// Whether it is the one of this request.
    current: bool,
    /// When it began, Unix milliseconds.
    created: u64,
    /// When it was last used, to a minute, Unix milliseconds.
    seen: u64,
    /// When it ends unless it is used, Unix milliseconds.
    until: u64,
    /// Address of the client at the beginning.
    address: String,
    /// Program of the client, as it calls itself.
    agent: String,
}

/// An API token, without its secret.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Token")]
pub struct TokenView {
    /// Identifies it, for `DELETE /api/account/tokens/{id}`. Not secret.
    id: String,
    /// Its name.
    name: String,
    /// Name of the user that it acts for.
    user: String,
    /// What it may do at most: for each role, patterns of streams.
    #[schemars(with = "GrantsSchema")]
    grants: Grants,
    /// When it was made, Unix milliseconds.
    created: u64,
    /// Until when it is valid, Unix milliseconds; null if it has no end.
    until: Option<u64>,
}

/// A share link, without its secret.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Link")]
pub struct LinkView {
    /// Identifies it, for `DELETE /api/account/links/{id}`. Not secret.
    id: String,
    /// Name of the user who made it.
    user: String,
    /// Name of the stream.
    stream: String,
    /// "view", or "talk", which includes watching.
    role: &'static str,
    /// When it was made, Unix milliseconds.
    created: u64,
    /// Until when it is valid, Unix milliseconds.
    until: u64,
}

/// For each role, patterns of the streams over which somebody has it: a name, in which `*` stands for any text.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Grants")]
#[allow(dead_code)]
struct GrantsSchema {
    #[serde(default)]
    view: Vec<String>,
    #[serde(default)]
    capture: Vec<String>,
    #[serde(default)]
    talk: Vec<String>,
    #[serde(default)]
    control: Vec<String>,
    #[serde(default)]
    publish: Vec<String>,
    #[serde(default)]
    admin: Vec<String>,
}

/// A request for a token.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Its name, for the list.
    name: String,
    /// What it may do: for each role, patterns of streams. It never may more than its user.
    #[schemars(with = "GrantsSchema")]
    grants: Grants,
    /// Until when it is valid, Unix milliseconds. Default: null, no end.
    #[serde(default)]
    until: Option<u64>,
}

/// A request for a share link.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLink {
    /// Name of the stream.
    stream: String,
    /// "view" (the default), or "talk", which includes watching.
    #[serde(default)]
    role: LinkRole,
    /// Until when it is valid, Unix milliseconds.
    until: u64,
}

/// A role that a share link can have.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum LinkRole {
    /// Watching.
    #[default]
    View,
    /// Watching and talking.
    Talk,
}

impl From<LinkRole> for Role {
    fn from(role: LinkRole) -> Role {
        match role {
            LinkRole::View => Role::View,
            LinkRole::Talk => Role::Talk,
        }
    }
}

/// A token that was just made.
#[derive(Serialize, JsonSchema)]
pub struct MadeToken {
    /// The token.
    token: TokenView,
    /// Its secret, for `Authorization: Bearer`. It is not shown again.
    secret: String,
}

/// A share link that was just made.
#[derive(Serialize, JsonSchema)]
pub struct MadeLink {
    /// The link.
    link: LinkView,
    /// Path that opens it, "/s/SECRET", below the gateway's base path. It is not shown again.
    path: String,
}

impl From<Token> for TokenView {
    fn from(token: Token) -> TokenView {
        TokenView {
            id: token.id,
            name: token.name,
            user: token.user,
            grants: token.grants,
            created: unix_ms(token.created),
            until: token.until.map(unix_ms),
        }
    }
}

impl From<Link> for LinkView {
    fn from(link: Link) -> LinkView {
        LinkView {
            id: link.id,
            user: link.user,
            stream: link.stream,
            role: link.role.name(),
            created: unix_ms(link.created),
            until: unix_ms(link.until),
        }
    }
}

impl Account {
    fn of(gateway: &Gateway, identity: &Identity) -> Account {
        let accounts = &gateway.accounts;
        let own = identity.credential();
        let sign_in = |session: Session| SignIn {
            current: own == Some(session.id.as_str()),
            id: session.id,
            user: session.user,
            link: session.link,
            created: unix_ms(session.created),
            seen: unix_ms(session.seen),
            until: unix_ms(session.until),
            address: session.from.to_string(),
            agent: session.agent,
        };
        let roles = Role::ALL.into_iter();
        let roles = roles.filter(|role| identity.permits_any(*role));
        let sessions = accounts.sessions_of(identity, SystemTime::now());
        let (tokens, links) = (accounts.tokens_of(identity), accounts.links_of(identity));
        Account {
            user: identity.user().to_owned(),
            proof: proof(identity.proof()),
            roles: roles.map(Role::name).collect(),
            sessions: sessions.into_iter().map(sign_in).collect(),
            tokens: tokens.into_iter().map(TokenView::from).collect(),
            links: links.into_iter().map(LinkView::from).collect(),
        }
    }
}

fn proof(proof: Proof) -> &'static str {
    match proof {
        Proof::Nothing => "nothing",
        Proof::Local => "local",
        Proof::Session => "session",
        Proof::Link => "link",
        Proof::Password => "password",
        Proof::Token => "token",
        Proof::Ticket => "ticket",
        Proof::Proxy => "proxy",
        Proof::Jwt => "jwt",
    }
}

/// Why a request changes nothing: status and text, and when to try again.
struct Failure {
    status: StatusCode,
    text: String,
    busy: Option<Refused>,
}

impl Failure {
    fn bad_request(text: impl Into<String>) -> Failure {
        Failure {
            status: StatusCode::BAD_REQUEST,
            text: text.into(),
            busy: None,
        }
    }

    fn with_retry(&self, mut response: Response<Body>) -> Response<Body> {
        if let Some(busy) = &self.busy {
            set_retry_after(&mut response, busy);
        }
        response
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Failure {
        let status = match error {
            ChangeError::NotFound(_) => StatusCode::NOT_FOUND,
            ChangeError::NotPermitted(_) => StatusCode::FORBIDDEN,
            ChangeError::Invalid(_) => StatusCode::BAD_REQUEST,
            ChangeError::Full(_) => StatusCode::CONFLICT,
            ChangeError::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
            ChangeError::State(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let busy = match error {
            ChangeError::Busy { retry_after } => Some(Refused::Busy { retry_after }),
            _ => None,
        };
        Failure {
            status,
            text: error.to_string(),
            busy,
        }
    }
}

/// The JSON of a result.
fn answer<T: Serialize>(made: Result<T, Failure>) -> Response<Body> {
    match made {
        Ok(made) => json(StatusCode::OK, &made),
        Err(failure) => failure.with_retry(error(true, failure.status, &failure.text)),
    }
}

async fn read<T: for<'de> Deserialize<'de>>(request: Request<Incoming>) -> Result<T, Failure> {
    let body = read_body(request, MAX_BODY_BYTES).await;
    let body = body.map_err(Failure::bad_request)?;
    serde_json::from_slice(&body)
        .map_err(|error| Failure::bad_request(format!("the body is not valid: {error}")))
}

fn from_unix_ms(at: u64) -> Result<SystemTime, Failure> {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(at));
    at.ok_or_else(|| Failure::bad_request("`until` is too large; write Unix milliseconds"))
}

async fn make_token(
    gateway: &Gateway,
    visitor: &Visitor,
    new: NewToken,
) -> Result<(Token, Secret), Failure> {
    let until = new.until.map(from_unix_ms).transpose()?;
    let (accounts, now) = (&gateway.accounts, SystemTime::now());
    let NewToken { name, grants, .. } = new;
    let made = accounts.create_token(&visitor.identity, &name, grants, until, now);
    Ok(made.await?)
}

/// Makes a link for a stream that the visitor sees; one that it does not see is unknown.
async fn make_link(
    gateway: &Gateway,
    visitor: &Visitor,
    new: NewLink,
) -> Result<(Link, Secret), Failure> {
    let until = from_unix_ms(new.until)?;
    super::live::stream(gateway, visitor, &new.stream, None).map_err(|text| Failure {
        status: StatusCode::NOT_FOUND,
        text,
        busy: None,
    })?;
    let (accounts, now) = (&gateway.accounts, SystemTime::now());
    let (stream, role) = (&new.stream, new.role.into());
    let made = accounts.create_link(&visitor.identity, stream, role, until, now);
    Ok(made.await?)
}

fn link_path(base_path: &BasePath, secret: &Secret) -> String {
    format!("{base_path}/s/{}", secret.expose())
}

/// Answers with the account as JSON.
pub fn describe(gateway: &Gateway, visitor: &Visitor) -> Response<Body> {
    json(StatusCode::OK, &Account::of(gateway, &visitor.identity))
}

/// Makes a token; the request has a JSON body.
pub async fn create_token(
    gateway: &Gateway,
    visitor: &Visitor,
    request: Request<Incoming>,
) -> Response<Body> {
    let made = async {
        let (token, secret) = make_token(gateway, visitor, read(request).await?).await?;
        Ok(MadeToken {
            token: token.into(),
            secret: secret.expose().to_owned(),
        })
    };
    answer(made.await)
}

/// Makes a share link; the request has a JSON body.
pub async fn create_link(
    gateway: &Gateway,
    visitor: &Visitor,
    base_path: &BasePath,
    request: Request<Incoming>,
) -> Response<Body> {
    let made = async {
        let (link, secret) = make_link(gateway, visitor, read(request).await?).await?;
        Ok(MadeLink {
            link: link.into(),
            path: link_path(base_path, &secret),
        })
    };
    answer(made.await)
}

/// Ends a sign-in; answers with the account as it is then.
pub async fn end_session(gateway: &Gateway, visitor: &Visitor, id: &str) -> Response<Body> {
    let ended = gateway.accounts.end_session(&visitor.identity, id).await;
    left(gateway, visitor, ended)
}

/// Revokes a token; answers with the account as it is then.
pub async fn revoke_token(gateway: &Gateway, visitor: &Visitor, id: &str) -> Response<Body> {
    let ended = gateway.accounts.revoke_token(&visitor.identity, id).await;
    left(gateway, visitor, ended)
}

/// Revokes a share link; answers with the account as it is then.
pub async fn revoke_link(gateway: &Gateway, visitor: &Visitor, id: &str) -> Response<Body> {
    let ended = gateway.accounts.revoke_link(&visitor.identity, id).await;
    left(gateway, visitor, ended)
}

fn left(gateway: &Gateway, visitor: &Visitor, ended: Result<(), ChangeError>) -> Response<Body> {
    answer(
        ended
            .map(|()| Account::of(gateway, &visitor.identity))
            .map_err(Failure::from),
    )
}

/// What the page shows above the lists.
#[derive(Default)]
struct Notice {
    /// Why the last change failed.
    problem: String,
    /// What was made: a text, and the secret.
    made: Option<(&'static str, String)>,
}

/// Shows the account as a page. `?stream=` is the stream that the form for a link begins with.
pub fn page(gateway: &Gateway, visitor: &Visitor, query: Option<&str>) -> Response<Body> {
    let mut pairs = parse(query.unwrap_or_default().as_bytes());
    let stream = pairs.find(|(name, _)| name == "stream");
    let stream = stream.map(|(_, stream)| stream).unwrap_or_default();
    show(
        gateway,
        visitor,
        StatusCode::OK,
        &stream,
        &Notice::default(),
    )
}

/// Changes what a form of the page asks for. What has a secret is shown at once; else the page is loaded again, so that
/// loading it once more changes nothing.
pub async fn change(
    gateway: &Gateway,
    visitor: &Visitor,
    base_path: &BasePath,
    request: Request<Incoming>,
) -> Response<Body> {
    let origin = request.headers().get(header::ORIGIN);
    let origin = origin.and_then(|origin| origin.to_str().ok());
    let home = format!("{}{base_path}", origin.unwrap_or_default());
    let form = read_body(request, MAX_BODY_BYTES).await.map(Form);
    // It stays chosen for the next link.
    let stream = form.as_ref().map(|form| form.field("stream"));
    let stream = stream.unwrap_or_default();
    let changed = match &form {
        Ok(form) => change_as(gateway, visitor, form, &home).await,
        Err(reason) => Err(Failure::bad_request(reason.as_str())),
    };
    match changed {
        Ok(None) => see_other("account"),
        Ok(made) => {
            let problem = String::new();
            let notice = Notice { problem, made };
            show(gateway, visitor, StatusCode::OK, &stream, &notice)
        }
        Err(failure) => {
            let notice = Notice {
                problem: failure.text.clone(),
                made: None,
            };
            let response = show(gateway, visitor, failure.status, &stream, &notice);
            failure.with_retry(response)
        }
    }
}

/// The fields of a form.
struct Form(Bytes);

impl Form {
    fn field(&self, name: &str) -> String {
        self.fields(name).next().unwrap_or_default()
    }

    fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        parse(&self.0)
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The end of the time that was chosen, in Unix milliseconds; `None` if there is none.
    fn until(&self) -> Result<Option<u64>, Failure> {
        let hours: u32 = self
            .field("hours")
            .parse()
            .map_err(|_| Failure::bad_request("choose how long it is to be valid"))?;
        let end = || unix_ms(SystemTime::now() + HOUR * hours);
        Ok((hours > 0).then(end))
    }
}

/// Makes the change; returns what was made, if that has a secret. `home` is the gateway's address.
async fn change_as(
    gateway: &Gateway,
    visitor: &Visitor,
    form: &Form,
    home: &str,
) -> Result<Option<(&'static str, String)>, Failure> {
    let (accounts, identity) = (&gateway.accounts, &visitor.identity);
    let id = form.field("id");
    match form.field("action").as_str() {
        "end-session" => accounts.end_session(identity, &id).await?,
        "revoke-token" => accounts.revoke_token(identity, &id).await?,
        "revoke-link" => accounts.revoke_link(identity, &id).await?,
        "create-link" => {
            let role = match form.field("role").as_str() {
                "talk" => LinkRole::Talk,
                _ => LinkRole::View,
            };
            let until = form.until()?.unwrap_or_default();
            let stream = form.field("stream");
            let new = NewLink {
                stream,
                role,
                until,
            };
            let (_, secret) = make_link(gateway, visitor, new).await?;
            let address = format!("{home}{}", link_path(&BasePath::default(), &secret));
            let text = "Whoever has this address can open the stream. It is shown once:";
            return Ok(Some((text, address)));
        }
        "create-token" => {
            let new = NewToken {
                name: form.field("name"),
                grants: grants(form)?,
                until: form.until()?,
            };
            let (_, secret) = make_token(gateway, visitor, new).await?;
            let text = "The token, for the header Authorization: Bearer. It is shown once:";
            return Ok(Some((text, secret.expose().to_owned())));
        }
        _ => return Err(Failure::bad_request("the form has no known `action`")),
    }
    Ok(None)
}

/// The rights that the form for a token asks for: the checked roles over the named streams.
fn grants(form: &Form) -> Result<Grants, Failure> {
    let streams = form.field("streams");
    let names = streams.split(',').map(str::trim);
    let patterns = names.filter(|name| !name.is_empty()).map(str::parse);
    let patterns: Result<Vec<Pattern>, String> = patterns.collect();
    let patterns = patterns.map_err(Failure::bad_request)?;
    let mut grants = Grants::default();
    for role in form.fields("role") {
        let role: Role = role.parse().map_err(Failure::bad_request)?;
        let list = match role {
            Role::View => &mut grants.view,
            Role::Capture => &mut grants.capture,
            Role::Talk => &mut grants.talk,
            Role::Control => &mut grants.control,
            Role::Publish => &mut grants.publish,
            Role::Admin => &mut grants.admin,
        };
        list.clone_from(&patterns);
    }
    Ok(grants)
}

fn show(
    gateway: &Gateway,
    visitor: &Visitor,
    status: StatusCode,
    stream: &str,
    notice: &Notice,
) -> Response<Body> {
    let identity = &visitor.identity;
    let account = Account::of(gateway, identity);
    let problem = match notice.problem.as_str() {
        "" => String::new(),
        text => login::banner(text),
    };
    let made = notice.made.as_ref().map(|(text, secret)| {
        let secret = escaped(secret);
        format!(
            "<div class=\"note\" role=\"status\"><label>{text} <input readonly value=\"{secret}\"></label></div>"
        )
    });
    let sign_out = match identity.proof() {
        Proof::Session | Proof::Link => {
            "<form method=\"post\" action=\"logout\"><button type=\"submit\" class=\"quiet\">Sign out</button></form>"
        }
        Proof::Local => "<a class=\"button quiet\" href=\"login\">Sign in</a>",
        _ => "",
    };
    let mut streams = gateway.streams.names();
    streams.retain(|name| visitor.sees(name));
    let may_make = identity.may_delegate();
    let values = [
        ("user", escaped(&account.user)),
        ("about", about(&account)),
        ("sign-out", sign_out.to_owned()),
        ("problem", problem),
        ("made", made.unwrap_or_default()),
        ("links", links(&account.links, may_make, &streams, stream)),
        ("tokens", tokens(&account.tokens, may_make, &account.roles)),
        ("sessions", sessions(&account.sessions)),
    ];
    let values = values
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    pages::filled("account.html", status, &values)
}

/// Who the caller is, as a sentence.
fn about(account: &Account) -> String {
    let how = match account.proof {
        "local" => "You are on the gateway's own machine and need not sign in.",
        "session" => "You have signed in.",
        "link" => "You have opened a share link.",
        "proxy" => "You have signed in at the proxy in front of this gateway.",
        _ => "",
    };
    let roles = match account.roles.is_empty() {
        true => "none".to_owned(),
        false => account.roles.join(", "),
    };
    format!("{how} Roles: {roles}.")
}

/// A section with a heading, a form and a list of items, or a text if there are none.
fn section(id: &str, title: &str, form: &str, items: &[String], none: &str) -> String {
    let list = match items {
        [] => format!("<p class=\"source\">{none}</p>"),
        items => format!("<ul class=\"items\">{}</ul>", items.concat()),
    };
    format!("<section aria-labelledby=\"{id}\"><h2 id=\"{id}\">{title}</h2>{form}{list}</section>")
}

/// An item of a list with a button that posts this action. `what` and `details` are HTML.
fn item(what: &str, details: &str, action: &str, id: &str, button: &str, label: &str) -> String {
    let (id, label) = (escaped(id), escaped(label));
    format!(
        "<li><div><strong>{what}</strong><small>{details}</small></div><form method=\"post\" action=\"account\">\
         <input type=\"hidden\" name=\"action\" value=\"{action}\"><input type=\"hidden\" name=\"id\" value=\"{id}\">\
         <button type=\"submit\" class=\"quiet\" aria-label=\"{button} {label}\">{button}</button></form></li>"
    )
}

fn options<T: AsRef<str>>(choices: &[(T, T)], selected: &str) -> String {
    let option = |(value, text): &(T, T)| {
        let (value, text) = (value.as_ref(), text.as_ref());
        let mark = if value == selected { " selected" } else { "" };
        let (value, text) = (escaped(value), escaped(text));
        format!("<option value=\"{value}\"{mark}>{text}</option>")
    };
    choices.iter().map(option).collect()
}

fn hours(choices: &[(u64, &str)], selected: u64) -> String {
    let choices: Vec<_> = choices
        .iter()
        .map(|(hours, text)| (hours.to_string(), (*text).to_owned()))
        .collect();
    let options = options(&choices, &selected.to_string());
    format!("<label>Valid for <select name=\"hours\">{options}</select></label>")
}

fn links(links: &[LinkView], may_make: bool, streams: &[String], selected: &str) -> String {
    let form = match may_make && !streams.is_empty() {
        true => {
            let streams: Vec<_> = streams.iter().map(|name| (name, name)).collect();
            let streams = options(&streams, selected);
            let roles = options(&[("view", "watch"), ("talk", "watch and talk")], "view");
            let hours = hours(&LINK_HOURS, 24);
            format!(
                "<form class=\"form\" method=\"post\" action=\"account\"><input type=\"hidden\" name=\"action\" value=\"create-link\">\
                 <label>Stream <select name=\"stream\">{streams}</select></label>\
                 <label>To <select name=\"role\">{roles}</select></label>{hours}\
                 <button type=\"submit\">Create link</button></form>"
            )
        }
        false => String::new(),
    };
    let row = |link: &LinkView| {
        let what = match link.role {
            "talk" => "watch and talk",
            _ => "watch",
        };
        let (stream, user) = (escaped(&link.stream), escaped(&link.user));
        let (created, until) = (time(link.created), time(link.until));
        let details = format!("{what}, until {until}, made by {user} on {created}");
        let label = format!("the link to {}", link.stream);
        item(&stream, &details, "revoke-link", &link.id, "Revoke", &label)
    };
    let items: Vec<String> = links.iter().map(row).collect();
    section("links", "Share links", &form, &items, "There are no links.")
}

fn tokens(tokens: &[TokenView], may_make: bool, roles: &[&str]) -> String {
    let form = match may_make {
        true => {
            let role = |role: &&str| {
                let checked = if *role == "view" { " checked" } else { "" };
                format!(
                    "<label><input type=\"checkbox\" name=\"role\" value=\"{role}\"{checked}> {role}</label>"
                )
            };
            let roles: String = roles.iter().map(role).collect();
            let hours = hours(&TOKEN_HOURS, 0);
            format!(
                "<form class=\"form\" method=\"post\" action=\"account\"><input type=\"hidden\" name=\"action\" value=\"create-token\">\
                 <label>Name <input name=\"name\" maxlength=\"64\" required></label>\
                 <label>Streams, separated by commas <input name=\"streams\" value=\"*\" required></label>{hours}\
                 <fieldset><legend>Roles</legend>{roles}</fieldset>\
                 <button type=\"submit\">Create token</button></form>"
            )
        }
        false => String::new(),
    };
    let row = |token: &TokenView| {
        let until = match token.until {
            Some(until) => format!("until {}", time(until)),
            None => "no end".to_owned(),
        };
        let (name, user) = (escaped(&token.name), escaped(&token.user));
        let details = format!("{}, {until}, of {user}", granted(&token.grants));
        let label = format!("the token {}", token.name);
        item(&name, &details, "revoke-token", &token.id, "Revoke", &label)
    };
    let items: Vec<String> = tokens.iter().map(row).collect();
    section(
        "tokens",
        "API tokens",
        &form,
        &items,
        "There are no tokens.",
    )
}

/// Rights as a text, such as "view of *".
fn granted(grants: &Grants) -> String {
    let lists = [
        (Role::View, &grants.view),
        (Role::Capture, &grants.capture),
        (Role::Talk, &grants.talk),
        (Role::Control, &grants.control),
        (Role::Publish, &grants.publish),
        (Role::Admin, &grants.admin),
    ];
    let lists = lists.iter().filter(|(_, list)| !list.is_empty());
    let texts = lists.map(|(role, list)| {
        let names: Vec<&str> = list.iter().map(Pattern::as_str).collect();
        escaped(&format!("{role} of {}", names.join(", ")))
    });
    texts.collect::<Vec<_>>().join("; ")
}

fn sessions(sessions: &[SignIn]) -> String {
    let row = |session: &SignIn| {
        let mark = if session.current { " (this one)" } else { "" };
        let kind = match session.link {
            Some(_) => "Share link",
            None => "Sign-in",
        };
        let (user, address) = (escaped(&session.user), escaped(&session.address));
        let agent: String = session.agent.chars().take(120).collect();
        let details = format!(
            "from {address} on {}, last used {}; {}",
            time(session.created),
            time(session.seen),
            escaped(&agent)
        );
        let what = format!("{kind} of {user}{mark}");
        let label = format!("the session of {} from {}", session.user, session.address);
        item(&what, &details, "end-session", &session.id, "End", &label)
    };
    let items: Vec<String> = sessions.iter().map(row).collect();
    section("sessions", "Sign-ins", "", &items, "Nobody has signed in.")
}

/// A time as HTML, to the minute.
fn time(unix_ms: u64) -> String {
    let text = rfc3339(unix_ms.saturating_mul(1000));
    let minute = text.get(..16).unwrap_or_default().replace('T', " ");
    format!("<time datetime=\"{text}\">{minute} UTC</time>")
}
