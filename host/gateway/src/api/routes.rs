//! The table of all routes, and the lookup of a path in it. Pure.
//!
//! There is one table so that dispatch, access checks, the OpenAPI document and the access tests cannot disagree. Paths
//! are percent-decoded per segment before matching, so two spellings of a path have the same role. Called by `respond`
//! in [`super`].

use super::media_query;
use hyper::Method;
use sluicegate_net::auth::{Media, Permission, Role, Scope};

/// Longest path that is parsed, in bytes.
const MAX_PATH_LEN: usize = 2048;

/// The handler that answers a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Target {
    Dashboard,
    StreamsPage,
    Watch,
    Asset,
    Health,
    Ready,
    Metrics,
    Events,
    TrySource,
    Devices,
    Device,
    Streams,
    PutStream,
    RemoveStream,
    ReloadConfig,
    Sessions,
    Session,
    Plugins,
    AddPlugin,
    RemovePlugin,
    Reload,
    Recording,
    Choice,
    Live,
    Halves,
    HalfFrame,
    HalfModule,
    NalStream,
    Frame,
    Capture,
    CaptureSocket,
    Docs,
    DocsPage,
    OpenApi,
    LoginPage,
    Login,
    Logout,
    OpenLink,
    AccountPage,
    ChangeAccount,
    Account,
    EndSession,
    CreateToken,
    RevokeToken,
    CreateLink,
    RevokeLink,
}

/// What a route is about. Every route has to say it, so that none is forgotten where access depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The gateway as a whole.
    Gateway,
    /// Whichever streams the caller has the role for.
    AnyStream,
    /// The stream that the path names as `{stream}` or `{serial}`.
    Stream,
    /// The transport that the path names as `{transport}`, of its `{stream}`.
    Media,
    /// What the path names by a hash of its content.
    Content,
    /// The session that the path names as `{id}`, and so the stream that it plays.
    Session,
    /// The caller's own account.
    Account,
    /// Signing in and out.
    SignIn,
}

const PUBLIC: Option<Role> = None;
const VIEW: Option<Role> = Some(Role::View);
const CAPTURE: Option<Role> = Some(Role::Capture);
const ADMIN: Option<Role> = Some(Role::Admin);

/// An entry of the table.
#[derive(Debug)]
pub struct Route {
    /// Method of the route; GET routes also answer HEAD.
    pub method: Method,
    /// Path pattern: `{name}` matches one segment that is not empty, `{*rest}` everything that follows.
    pub pattern: &'static str,
    /// Role that the caller needs; `None` if the route is for everybody, or if its subject says more.
    pub role: Option<Role>,
    /// What the route is about.
    pub subject: Subject,
    /// Handler of the route.
    pub target: Target,
}

const fn get(pattern: &'static str, role: Option<Role>, subject: Subject, target: Target) -> Route {
    route(Method::GET, pattern, role, subject, target)
}

const fn post(
    pattern: &'static str,
    role: Option<Role>,
    subject: Subject,
    target: Target,
) -> Route {
    route(Method::POST, pattern, role, subject, target)
}

const fn route(
    method: Method,
    pattern: &'static str,
    role: Option<Role>,
    subject: Subject,
    target: Target,
) -> Route {
    Route {
        method,
        pattern,
        role,
        subject,
        target,
    }
}

/// All routes; the first match wins.
pub const ROUTES: &[Route] = &[
    get("/", VIEW, Subject::AnyStream, Target::Dashboard),
    get("/streams", ADMIN, Subject::AnyStream, Target::StreamsPage),
    get("/watch/{stream}", VIEW, Subject::Stream, Target::Watch),
    get("/docs", VIEW, Subject::AnyStream, Target::Docs),
    get("/docs/{*rest}", VIEW, Subject::AnyStream, Target::DocsPage),
    get("/assets/{name}", PUBLIC, Subject::Gateway, Target::Asset),
    get("/healthz", PUBLIC, Subject::Gateway, Target::Health),
    get("/readyz", PUBLIC, Subject::Gateway, Target::Ready),
    get("/metrics", ADMIN, Subject::Gateway, Target::Metrics),
    get(
        "/api/openapi.json",
        VIEW,
        Subject::AnyStream,
        Target::OpenApi,
    ),
    get("/api/events", VIEW, Subject::AnyStream, Target::Events),
    post("/api/try", ADMIN, Subject::AnyStream, Target::TrySource),
    get("/api/devices", VIEW, Subject::AnyStream, Target::Devices),
    get(
        "/api/devices/{serial}",
        VIEW,
        Subject::Stream,
        Target::Device,
    ),
    get("/api/streams", ADMIN, Subject::AnyStream, Target::Streams),
    route(
        Method::PUT,
        "/api/streams/{stream}",
        ADMIN,
        Subject::Stream,
        Target::PutStream,
    ),
    route(
        Method::DELETE,
        "/api/streams/{stream}",
        ADMIN,
        Subject::Stream,
        Target::RemoveStream,
    ),
    post(
        "/api/config/reload",
        ADMIN,
        Subject::Gateway,
        Target::ReloadConfig,
    ),
    get("/api/sessions", VIEW, Subject::AnyStream, Target::Sessions),
    get(
        "/api/sessions/{id}",
        VIEW,
        Subject::Session,
        Target::Session,
    ),
    get("/api/plugins", ADMIN, Subject::Gateway, Target::Plugins),
    post("/api/plugins", ADMIN, Subject::Gateway, Target::AddPlugin),
    route(
        Method::DELETE,
        "/api/plugins/{name}",
        ADMIN,
        Subject::Gateway,
        Target::RemovePlugin,
    ),
    post(
        "/api/plugins/{name}/reload",
        ADMIN,
        Subject::Gateway,
        Target::Reload,
    ),
    get(
        "/api/plugins/{name}/recording",
        ADMIN,
        Subject::Gateway,
        Target::Recording,
    ),
    get(
        "/api/ws/stream/{serial}",
        VIEW,
        Subject::Stream,
        Target::NalStream,
    ),
    get(
        "/api/ws/capture/{serial}",
        CAPTURE,
        Subject::Stream,
        Target::CaptureSocket,
    ),
    post(
        "/api/devices/{serial}/capture",
        CAPTURE,
        Subject::Stream,
        Target::Capture,
    ),
    get(
        "/live/{stream}/frame.jpg",
        VIEW,
        Subject::Stream,
        Target::Frame,
    ),
    get("/live/{stream}", VIEW, Subject::Stream, Target::Choice),
    get(
        "/live/{stream}/{transport}",
        VIEW,
        Subject::Media,
        Target::Live,
    ),
    get(
        "/live/{stream}/{transport}/{*rest}",
        VIEW,
        Subject::Media,
        Target::Live,
    ),
    get(
        "/api/halves/{stream}",
        VIEW,
        Subject::Stream,
        Target::Halves,
    ),
    get(
        "/halves/{stream}/{transport}",
        VIEW,
        Subject::Media,
        Target::HalfFrame,
    ),
    get(
        "/modules/{name}",
        PUBLIC,
        Subject::Content,
        Target::HalfModule,
    ),
    get("/login", PUBLIC, Subject::SignIn, Target::LoginPage),
    post("/login", PUBLIC, Subject::SignIn, Target::Login),
    post("/logout", PUBLIC, Subject::SignIn, Target::Logout),
    get("/s/{secret}", PUBLIC, Subject::SignIn, Target::OpenLink),
    get("/account", PUBLIC, Subject::Account, Target::AccountPage),
    post("/account", PUBLIC, Subject::Account, Target::ChangeAccount),
    get("/api/account", PUBLIC, Subject::Account, Target::Account),
    route(
        Method::DELETE,
        "/api/account/sessions/{id}",
        PUBLIC,
        Subject::Account,
        Target::EndSession,
    ),
    post(
        "/api/account/tokens",
        PUBLIC,
        Subject::Account,
        Target::CreateToken,
    ),
    route(
        Method::DELETE,
        "/api/account/tokens/{id}",
        PUBLIC,
        Subject::Account,
        Target::RevokeToken,
    ),
    post(
        "/api/account/links",
        PUBLIC,
        Subject::Account,
        Target::CreateLink,
    ),
    route(
        Method::DELETE,
        "/api/account/links/{id}",
        PUBLIC,
        Subject::Account,
        Target::RevokeLink,
    ),
];

/// Decoded values of the placeholders in a route's pattern.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
    /// Value of the placeholder `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The stream in the path, which may be followed by `@` and a rendition; `None` if the route is not about a stream.
    pub fn stream(&self) -> Option<&str> {
        self.get("stream").or(self.get("serial"))
    }
}

impl Route {
    /// What a request with these parameters requires of its caller. `plays` is the stream of the session that they
    /// name.
    pub fn permission<'a>(
        &self,
        parameters: &'a Parameters,
        plays: Option<&'a str>,
    ) -> Permission<'a> {
        let scope = match self.subject {
            Subject::Gateway => Scope::Gateway,
            Subject::AnyStream => Scope::AnyStream,
            Subject::Stream => {
                let name = parameters.stream().unwrap_or_default();
                Scope::Stream(media_query::split(name).0)
            }
            Subject::Media => {
                let name = parameters.stream().unwrap_or_default();
                let (stream, rendition) = media_query::split(name);
                Scope::Media(Media {
                    stream,
                    rendition: rendition.unwrap_or_default(),
                    transport: parameters.get("transport").unwrap_or_default(),
                })
            }
            Subject::Content => Scope::Content,
            Subject::Session => plays.map_or(Scope::AnyStream, Scope::Stream),
            Subject::Account => Scope::Account,
            Subject::SignIn => Scope::SignIn,
        };
        let role = self.role;
        Permission { role, scope }
    }

    /// Id of the session that it is about, if it is about one.
    pub fn session<'a>(&self, parameters: &'a Parameters) -> Option<&'a str> {
        (self.subject == Subject::Session).then(|| parameters.get("id"))?
    }

    /// Methods of all routes with this pattern, as the header `Allow` lists them (RFC 9110 section 10.2.1).
    pub fn allowed(&self) -> String {
        let alike = ROUTES.iter().filter(|route| route.pattern == self.pattern);
        let mut methods: Vec<&str> = alike
            .flat_map(|route| match route.method {
                Method::GET => vec!["GET", "HEAD"],
                ref other => vec![other.as_str()],
            })
            .collect();
        methods.push("OPTIONS");
        methods.join(", ")
    }
}

/// Result of looking up a path.
#[derive(Debug)]
pub enum Found {
    /// A route, with the values of its placeholders.
    Route(&'static Route, Parameters),
    /// The path exists, but only for these methods.
    OtherMethod(String),
    /// The path is malformed, for this reason.
    BadPath(&'static str),
    /// No route matches.
    Nothing,
}

/// Looks up a path, which is percent-encoded and has no query.
pub fn find(method: &Method, path: &str) -> Found {
    if path.len() > MAX_PATH_LEN {
        return Found::BadPath("the path is longer than 2048 characters");
    }
    let Some(segments) = segments(path) else {
        return Found::BadPath(
            "the path is malformed: each % needs two hex digits, decoded text must be UTF-8 without control characters, and no segment may be . or ..",
        );
    };
    let mut other = None;
    for route in ROUTES {
        let Some(parameters) = matches(route.pattern, &segments) else {
            continue;
        };
        if route.method == *method || (route.method == Method::GET && *method == Method::HEAD) {
            return Found::Route(route, parameters);
        }
        other = Some(route.allowed());
    }
    other.map_or(Found::Nothing, Found::OtherMethod)
}

/// Splits a path into decoded segments; `None` if it is malformed.
fn segments(path: &str) -> Option<Vec<String>> {
    path.strip_prefix('/')?.split('/').map(decode).collect()
}

/// Percent-decodes one segment (RFC 3986 section 2.1).
fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains(char::is_control) && !matches!(text.as_str(), "." | ".."))
}

/// Matches segments against a route's pattern.
fn matches(pattern: &'static str, segments: &[String]) -> Option<Parameters> {
    let mut parameters = Parameters::default();
    let mut left = segments;
    for part in pattern.strip_prefix('/')?.split('/') {
        if part == "{*rest}" {
            parameters.0.push(("rest", left.join("/")));
            return Some(parameters);
        }
        let (segment, rest) = left.split_first()?;
        left = rest;
        match part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'))
        {
            Some(_) if segment.is_empty() => return None,
            Some(name) => parameters.0.push((name, segment.clone())),
            None if part == segment => {}
            None => return None,
        }
    }
    left.is_empty().then_some(parameters)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use sluicegate_config::BasePath;

    fn target(path: &str) -> Option<(Target, Vec<String>)> {
        match find(&Method::GET, path) {
            Found::Route(route, parameters) => Some((
                route.target,
                parameters.0.into_iter().map(|(_, value)| value).collect(),
            )),
            _ => None,
        }
    }

    #[test]
    fn paths_match_their_routes() {
        let values = |values: &[&str]| {
            values
                .iter()
                .map(|value| (*value).to_owned())
                .collect::<Vec<_>>()
        };
        for (path, expected) in [
            ("/", Some((Target::Dashboard, values(&[])))),
            ("/watch/porch", Some((Target::Watch, values(&["porch"])))),
            (
                "/live/porch/mjpeg",
                Some((Target::Live, values(&["porch", "mjpeg"]))),
            ),
            (
                "/live/back%20yard/hls/a/b.m3u8",
                Some((Target::Live, values(&["back yard", "hls", "a/b.m3u8"]))),
            ),
            (
                "/live/porch/hls/",
                Some((Target::Live, values(&["porch", "hls", ""]))),
            ),
            (
                "/api/ws/stream/emulator-5554",
                Some((Target::NalStream, values(&["emulator-5554"]))),
            ),
            ("/docs", Some((Target::Docs, values(&[])))),
            ("/docs/", Some((Target::DocsPage, values(&[""])))),
            (
                "/docs/guide/install",
                Some((Target::DocsPage, values(&["guide/install"]))),
            ),
            ("/live//mjpeg", None),
            ("/watch/", None),
            ("/nothing", None),
        ] {
            assert_eq!(target(path), expected, "{path}");
        }
    }

    #[test]
    fn a_route_is_about_what_its_path_names() {
        for route in ROUTES {
            let names = |placeholder: &str| route.pattern.contains(placeholder);
            let expected = match () {
                () if names("{transport}") => [Subject::Media].as_slice(),
                () if names("{stream}") || names("{serial}") => &[Subject::Stream],
                () if names("/account") => &[Subject::Account],
                () if names("{id}") => &[Subject::Session],
                () => &[
                    Subject::Gateway,
                    Subject::AnyStream,
                    Subject::Content,
                    Subject::SignIn,
                ],
            };
            assert!(expected.contains(&route.subject), "{route:?}");
        }
        let scope = |path: &str| match find(&Method::GET, path) {
            Found::Route(route, parameters) => {
                let plays = route.session(&parameters).map(|_| "garden");
                route.permission(&parameters, plays).to_string()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(
            scope("/live/porch@mobile/hls/a.m4s"),
            "view of the stream porch"
        );
        assert_eq!(
            scope("/api/devices/back%20yard"),
            "view of the stream back yard"
        );
        assert_eq!(scope("/api/sessions/ab12"), "view of the stream garden");
        assert_eq!(scope("/api/events"), "view of any stream");
        assert_eq!(scope("/metrics"), "admin");
    }

    #[test]
    fn no_base_path_begins_like_a_route() {
        for route in ROUTES {
            let first = route.pattern.split('/').nth(1).unwrap();
            let is_reserved = BasePath::RESERVED.contains(&first);
            assert!(
                first.is_empty() || is_reserved,
                "add {first} to BasePath::RESERVED"
            );
        }
    }

    #[test]
    fn other_methods_get_the_allowed_ones() {
        assert!(matches!(
            find(&Method::POST, "/healthz"),
            Found::OtherMethod(methods) if methods == "GET, HEAD, OPTIONS"
        ));
        assert!(matches!(
            find(&Method::GET, "/api/plugins/policy/reload"),
            Found::OtherMethod(methods) if methods == "POST, OPTIONS"
        ));
        assert!(matches!(
            find(&Method::PUT, "/api/plugins"),
            Found::OtherMethod(methods) if methods == "GET, HEAD, POST, OPTIONS"
        ));
        assert!(matches!(find(&Method::HEAD, "/healthz"), Found::Route(..)));
    }

    #[test]
    fn malformed_paths_differ_from_missing_ones() {
        for path in [
            "/live/%",
            "/live/%zz/nal",
            "/live/%ff/nal",
            "/live/a%00b/nal",
            "nope",
        ] {
            assert!(
                matches!(find(&Method::GET, path), Found::BadPath(_)),
                "{path}"
            );
        }
        assert!(matches!(
            find(&Method::GET, &format!("/{}", "a".repeat(3000))),
            Found::BadPath(_)
        ));
    }

    proptest! {
        #[test]
        fn any_path_is_answered(path in ".{0,80}") {
            let _ = find(&Method::GET, &path);
        }
    }
}
