//! `/api/openapi.json`: the OpenAPI 3.1 document (<https://spec.openapis.org/oas/v3.1.1.html>) of all routes.
//!
//! It is generated from the table of routes, the types that are sent (their doc comments become descriptions) and the
//! texts in `operations`, so it cannot disagree with the code. OpenAPI cannot describe WebSockets: such a path is a GET
//! that answers 101, and the extension `x-websocket` describes its messages.

mod config;
mod operations;

use super::{ROUTES, Route, Subject, Target};
use hyper::Method;
use operations::{Kind, Operation, describe};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};
use sluicegate_config::BasePath;
use std::{borrow::Cow, sync::LazyLock};

/// Generated once, since it does not change while the gateway runs.
static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

/// Description of the whole interface.
const ABOUT: &str = "Live video in the form that suits each viewer. Unless a field says otherwise, times are Unix \
milliseconds, rates bits per second, and sizes bytes or pixels.\n\n\
Requests must name the gateway by one of its host names (421 for others, 400 for none or several). Web pages may call it \
if they are its own or from one of the configured `origins` (403 for others); pages of `origins` may watch and take \
captures, and get CORS preflights answered.\n\n\
`x-role` is what a caller needs: a role over the stream that the path names, over any stream, or, for what is about the \
gateway, over all. Who has not proved to be somebody with that role gets 401, or is sent to `/login` if it is a browser \
that asks for a page; somebody without it gets 403. A stream that the caller may not view does not exist for it: 404, \
and no list or event has it. A caller proves who it is by the cookie of `/login` or of a share link, by \
`Authorization: Basic` or `Bearer` (an API token, or a JSON Web Token), by a trusted proxy, or by a ticket in the path \
(`/live/~TICKET/NAME/…`). Too many wrong passwords are a 429 with `Retry-After`. A malformed path is a 400, an unknown one a 404, another method a 405. Errors \
below `/api/` are JSON, elsewhere plain text; each says what to do.\n\n\
A stream is named by its `serial`: the name in the config, or an Android device's serial number. In a path it is \
percent-encoded (RFC 3986). `NAME@RENDITION` names a rendition.";

/// The OpenAPI 3.1 document of all routes, generated at the first call.
pub fn openapi() -> &'static Value {
    &DOCUMENT
}

/// The document for a client that sees the gateway below this path.
pub fn openapi_below(base_path: &BasePath) -> Cow<'static, Value> {
    let mut document = Cow::Borrowed(openapi());
    if !base_path.is_root() {
        document.to_mut()["servers"] = json!([{ "url": base_path.as_str() }]);
    }
    document
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = Schemas(settings.into_generator());
    let mut paths = Map::new();
    for route in ROUTES {
        let path = route.pattern.replace("{*rest}", "{rest}");
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[method(route)] = operation(route, &mut schemas);
    }
    let tags: Vec<Value> = operations::TAGS
        .iter()
        .map(|(name, description)| json!({ "name": name, "description": description }))
        .collect();
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Sluicegate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": { "schemas": schemas.0.take_definitions(true) },
    })
}

/// Collects the schemas of types and refers to them in the document's components.
struct Schemas(SchemaGenerator);

impl Schemas {
    fn of<T: JsonSchema>(&mut self) -> Schema {
        self.0.subschema_for::<T>()
    }
}

fn method(route: &Route) -> &'static str {
    match route.method {
        Method::POST => "post",
        Method::PUT => "put",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// Value of `x-role` where no role is needed.
const PUBLIC: &str = "public";

/// What the caller needs, in a word.
fn role_name(route: &Route) -> &'static str {
    match (route.role, route.subject) {
        (Some(role), _) => role.name(),
        (None, Subject::Account) => "account",
        (None, _) => PUBLIC,
    }
}

fn operation(route: &Route, schemas: &mut Schemas) -> Value {
    let Operation {
        tag,
        summary,
        about,
        query,
        kind,
        mut failures,
    } = describe(route.target, schemas);
    let names = route.pattern.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        Some(name.trim_start_matches('*'))
    });
    let names: Vec<&str> = names.collect();
    if !names.is_empty() && failures.iter().all(|(status, ..)| *status != 400) {
        failures.push((400, "The path is malformed.", None));
    }
    let parameters: Vec<Value> = names
        .into_iter()
        .map(|name| {
            json!({ "name": name, "in": "path", "required": true, "description": path_parameter(name),
                    "schema": { "type": "string" } })
        })
        .chain(query.iter().map(|(name, description, schema)| {
            json!({ "name": name, "in": "query", "description": description, "schema": schema })
        }))
        .collect();
    let mut responses = Map::new();
    let mut operation = json!({
        "operationId": format!("{:?}", route.target),
        "tags": [tag],
        "summary": summary,
        "description": about,
        "parameters": parameters,
        "x-role": role_name(route),
    });
    let content = |kinds: &[(&str, Value)]| -> Value {
        let kinds = kinds
            .iter()
            .map(|(kind, schema)| ((*kind).to_owned(), json!({ "schema": schema })));
        Value::Object(kinds.collect())
    };
    let done = |kinds: &[(&str, Value)], description: &str| {
        let mut response = json!({ "description": description, "content": content(kinds) });
        if route.target == Target::Frame || route.target == Target::Capture {
            response["headers"] = operations::image_headers();
        }
        response
    };
    match kind {
        Kind::Body(kinds) => {
            responses.insert("200".into(), done(&kinds, "Success."));
        }
        Kind::Request(body, kinds) => {
            operation["requestBody"] =
                json!({ "content": { "application/json": { "schema": body } } });
            responses.insert("200".into(), done(&kinds, "Success."));
        }
        Kind::Events(events) => {
            responses.insert(
                "200".into(),
                json!({ "description": "Events, until the client disconnects or the gateway shuts down.",
                        "content": { "text/event-stream": {} } }),
            );
            operation["x-events"] = events;
        }
        Kind::Socket(socket) => {
            responses.insert(
                "101".into(),
                json!({ "description": "The WebSocket handshake succeeded." }),
            );
            operation["x-websocket"] = socket;
        }
        Kind::BodyOrSocket(kinds, socket) => {
            responses.insert("200".into(), done(&kinds, "Answer to an ordinary GET."));
            responses.insert(
                "101".into(),
                json!({ "description": "The WebSocket handshake succeeded." }),
            );
            operation["x-websocket"] = socket;
        }
    }
    // Transports refuse in plain text, also below `/api/`.
    let json_errors = route.pattern.starts_with("/api/") && route.target != Target::NalStream;
    // What a form is answered with is a page.
    let is_form = matches!(route.target, Target::Login | Target::ChangeAccount);
    for (status, description, schema) in failures {
        let content = match schema {
            Some(schema) => content(&[("application/json", schema)]),
            None if json_errors => content(&[(
                "application/json",
                schemas.of::<super::ErrorBody<'_>>().to_value(),
            )]),
            None if is_form => content(&[
                ("text/html", json!({ "type": "string" })),
                ("text/plain", json!({ "type": "string" })),
            ]),
            None => content(&[("text/plain", json!({ "type": "string" }))]),
        };
        let mut response = json!({ "description": description });
        // The content of a redirect is its header.
        if status >= 400 {
            response["content"] = content;
        }
        responses.insert(status.to_string(), response);
    }
    if role_name(route) != PUBLIC {
        for (status, description) in [
            (
                "401",
                "The caller has to prove who it is, or what it presents is not valid.",
            ),
            ("403", "The caller is somebody who may not."),
        ] {
            let response = || json!({ "description": description });
            responses.entry(status).or_insert_with(response);
        }
    }
    operation["responses"] = Value::Object(responses);
    operation
}

fn path_parameter(name: &str) -> &'static str {
    match name {
        "serial" => "Name of the stream, as `/api/devices` lists it.",
        "stream" => "Name of the stream, or `NAME@RENDITION`.",
        "transport" => "Name of a transport, as `/api/devices` lists them.",
        "rest" => {
            "Rest of the path: a page of the documentation, or a file of the transport such as a playlist or segment."
        }
        "id" => {
            "Id of the session (secret, from the answer of `/live/{stream}`), or of what `/api/account` lists."
        }
        "secret" => "Secret of the share link.",
        "name" => "Name of the file or component.",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    found.insert(reference.clone());
                }
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_is_described_and_every_reference_leads_somewhere() {
        let document = openapi();
        for route in ROUTES {
            let path = route.pattern.replace("{*rest}", "{rest}");
            let operation = &document["paths"][&path][method(route)];
            for field in ["summary", "description", "operationId"] {
                let text = operation[field].as_str().unwrap_or_default();
                assert!(!text.is_empty(), "{path}: {field}");
            }
            let responses = operation["responses"].as_object().unwrap();
            assert!(!responses.is_empty(), "{path}");
        }
        let mut found = BTreeSet::new();
        references(document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            let name = reference.strip_prefix("#/components/schemas/").unwrap();
            assert!(
                document["components"]["schemas"][name].is_object(),
                "{reference}"
            );
        }
    }

    #[test]
    fn names_of_operations_are_unique() {
        let mut seen = BTreeSet::new();
        for route in ROUTES {
            let of_path = format!("{:?}", route.target);
            if route.target != Target::Live {
                assert!(seen.insert(of_path), "{:?}", route.target);
            }
        }
    }
}
