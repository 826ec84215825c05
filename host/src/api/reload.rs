//! `POST /api/plugins/{name}/reload`: a component is read again and takes over.

use super::{Body, error, json, state};
use crate::{config, gateway::Gateway};
use hyper::{Response, StatusCode};
use std::sync::Arc;

/// The policy may be called `policy`, whatever its component is. Answers with its entry of `/api/plugins`.
pub async fn reload(gateway: &Arc<Gateway>, name: &str) -> Response<Body> {
    let policy = gateway.sessions.arbiter().policy();
    if name != "policy" && name != policy.name {
        if gateway.transports.contains_key(name) {
            let text = format!(
                "the component of the transport `{name}` is read at the start only; restart the gateway"
            );
            return error(true, StatusCode::CONFLICT, &text);
        }
        let policies = [&"policy".to_owned(), &policy.name];
        let known = policies.into_iter().chain(gateway.transports.keys());
        let text = config::unknown("component", name, known);
        return error(true, StatusCode::NOT_FOUND, &text);
    }
    let reading = gateway.clone();
    // Compiling takes a while.
    let read = tokio::task::spawn_blocking(move || reading.reload_policy()).await;
    match read {
        Ok(Ok(())) => json(StatusCode::OK, &state::policy(gateway)),
        // The one in force stays.
        Ok(Err(reason)) => error(true, StatusCode::UNPROCESSABLE_ENTITY, &reason.to_string()),
        Err(_) => error(
            true,
            StatusCode::INTERNAL_SERVER_ERROR,
            "reading the component ended early; the one before is still in force",
        ),
    }
}
