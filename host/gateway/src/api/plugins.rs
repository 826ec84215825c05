//! Changes of components while the gateway runs: `POST /api/plugins/{name}/reload` reads the component of a transport
//! or of the policy again, `POST /api/plugins` adds a transport and `DELETE /api/plugins/{name}` removes one.
//!
//! One change at a time, on a blocking thread, since compiling takes seconds. Viewers of a transport stay while it is
//! exchanged, and sessions keep what they play when the policy changes. What was added is not written to the config.

use super::{Body, error, json, read_body, set, state};
use crate::gateway::{ChangeError, Gateway};
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use sluicegate_config as config;
use std::sync::Arc;

/// Largest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 64 << 10;

/// Reloads the component `name`: `policy`, a transport's name, or the policy's own name. With `force=true` a transport
/// is not compared with the one in use. Answers with its entry of `/api/plugins`.
pub async fn reload(gateway: &Arc<Gateway>, name: &str, query: Option<&str>) -> Response<Body> {
    let is_forced = match query.unwrap_or_default() {
        "" | "force=false" => false,
        "force=true" => true,
        other => {
            let text = format!("`{other}` is not known here; there is `force=true`");
            return error(true, StatusCode::BAD_REQUEST, &text);
        }
    };
    let policy = gateway.sessions.policy_actor().policy();
    let transport = gateway.transports.get(name).filter(|_| name != "policy");
    if transport.is_none() && name != "policy" && name != policy.name {
        let transports = gateway.transports.all();
        let policies = [&"policy".to_owned(), &policy.name];
        let known = policies.into_iter().chain(transports.keys());
        let text = config::unknown("component", name, known);
        return error(true, StatusCode::NOT_FOUND, &text);
    }
    if transport.as_ref().is_some_and(|known| known.built_in) {
        let text = format!(
            "the transport `{name}` is part of the binary, there is no file to read again; set `plugin` under \
             [transports.{name}] to replace it"
        );
        return error(true, StatusCode::CONFLICT, &text);
    }
    let what = format!("a request reloads `{name}`");
    change(gateway, what, move |gateway| match transport {
        Some(before) => gateway.reload_transport(&before.name, is_forced).map(|()| {
            let current = gateway.transports.get(&before.name).unwrap_or(before);
            state::transport(gateway, &current)
        }),
        None => gateway.reload_policy().map(|()| state::policy(gateway)),
    })
    .await
}

/// Adds a transport, whose `name` and other keys as under `[transports.NAME]` are the JSON object in the body. Answers
/// with its entry of `/api/plugins`.
pub async fn add(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Response<Body> {
    let bad = |text: &str| error(true, StatusCode::BAD_REQUEST, text);
    let body = match read_body(request, MAX_BODY_BYTES).await {
        Ok(body) => body,
        Err(reason) => return bad(&reason),
    };
    let keys = serde_json::from_slice::<serde_json::Map<_, _>>(&body);
    let mut keys = match keys {
        Ok(keys) => keys,
        Err(reason) => {
            return bad(&format!(
                "the body must be a JSON object such as {{\"name\": \"flv\", \"plugin\": \"/srv/flv.wasm\"}}: {reason}"
            ));
        }
    };
    let name = match keys.remove("name") {
        Some(serde_json::Value::String(name)) => name,
        Some(other) => {
            return bad(&format!(
                "`name` is {other}, and must be a string: the name of the new transport"
            ));
        }
        None => return bad("the key `name` is missing: the name of the new transport"),
    };
    let mut transport = match config::Transport::from_json(&name, keys.into()) {
        Ok(transport) => transport,
        Err(reason) => return bad(&reason),
    };
    let Some(plugin) = transport.plugin.take() else {
        let advice = transport.misspelled().unwrap_or_default();
        return bad(format!(
            "the key `plugin` is missing: the path of the component's .wasm file. {advice}"
        )
        .trim_end());
    };
    transport.plugin = Some(gateway.config().dir.join(plugin));
    if gateway.transports.get(&name).is_some() {
        let text = match gateway.transports.is_built_in(&name) {
            true => format!(
                "a transport `{name}` is part of the binary; choose another name, or set `plugin` under \
                 [transports.{name}] in the config"
            ),
            false => format!("there is a transport `{name}` already; reload or remove it instead"),
        };
        return error(true, StatusCode::CONFLICT, &text);
    }
    let what = format!("a request adds `{name}`");
    change(gateway, what, move |gateway| {
        let added = gateway.add_transport(&name, transport)?;
        Ok(state::transport(gateway, &added))
    })
    .await
}

/// Removes a transport, whose viewers are disconnected with a reason. Answers with the entry that it had in
/// `/api/plugins`.
pub async fn remove(gateway: &Arc<Gateway>, name: &str) -> Response<Body> {
    let Some(transport) = gateway.transports.get(name) else {
        let transports = gateway.transports.all();
        let text = config::unknown("transport", name, transports.keys());
        return error(true, StatusCode::NOT_FOUND, &text);
    };
    if gateway.transports.is_built_in(name) {
        let text = format!("a transport `{name}` is part of the binary and cannot be removed");
        return error(true, StatusCode::CONFLICT, &text);
    }
    let what = format!("a request removes `{name}`");
    change(gateway, what, move |gateway| {
        let entry = state::transport(gateway, &transport);
        gateway.remove_transport(&transport.name);
        Ok(entry)
    })
    .await
}

/// Makes a change, `what` in words, if no other one is being made; answers with the entry of `/api/plugins` that it
/// returns.
async fn change(
    gateway: &Arc<Gateway>,
    what: String,
    make: impl FnOnce(&Gateway) -> Result<state::Plugin, ChangeError> + Send + 'static,
) -> Response<Body> {
    let ending = || {
        let text = "the gateway is shutting down; try again when it runs again";
        error(true, StatusCode::SERVICE_UNAVAILABLE, text)
    };
    if gateway.is_draining() {
        return ending();
    }
    // The guard moves to the blocking thread, so the change is completed even if the client disconnects.
    let turn = match gateway.changing.take(what) {
        Ok(turn) => turn,
        Err(other) => {
            let text = format!(
                "another component is being loaded or compared: {other}; try again in a few seconds"
            );
            let mut response = error(true, StatusCode::CONFLICT, &text);
            set(&mut response, header::RETRY_AFTER, "1");
            return response;
        }
    };
    let changing = gateway.clone();
    // Compiling may take seconds.
    let made = tokio::task::spawn_blocking(move || {
        let made = make(&changing);
        drop(turn);
        made
    });
    let mut drain = gateway.drain();
    let made = tokio::select! {
        biased;
        // The thread ends with the process, and what it compares or compiles with the muxers and the compiler.
        () = drain.wait() => return ending(),
        made = made => made,
    };
    match made {
        Ok(Ok(plugin)) => json(StatusCode::OK, &plugin),
        // What was in use stays.
        Ok(Err(reason)) => {
            let text = reason.to_string();
            tracing::warn!("a component was refused: {text}");
            error(true, StatusCode::UNPROCESSABLE_ENTITY, &text)
        }
        Err(_) => error(
            true,
            StatusCode::INTERNAL_SERVER_ERROR,
            "the change failed, see the log; /api/plugins tells which component is in use",
        ),
    }
}
