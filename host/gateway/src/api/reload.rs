//! `POST /api/plugins/{name}/reload`: a component is read again and takes over.

use super::{Body, error, json, set, state};
use crate::gateway::Gateway;
use hyper::{Response, StatusCode, header};
use sluicegate_config as config;
use std::sync::Arc;

/// The policy may be called `policy`, whatever its component is. Answers with its entry of `/api/plugins`.
pub async fn reload(gateway: &Arc<Gateway>, name: &str) -> Response<Body> {
    let policy = gateway.sessions.policy_actor().policy();
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
    // It stays with the reading, should the client not wait for that.
    let Ok(turn) = gateway.reloading.clone().try_lock_owned() else {
        let text = format!(
            "the component of `{name}` is being read already; ask again when that has ended"
        );
        let mut response = error(true, StatusCode::CONFLICT, &text);
        set(&mut response, header::RETRY_AFTER, "1");
        return response;
    };
    let reading = gateway.clone();
    // Compiling takes a while.
    let read = tokio::task::spawn_blocking(move || {
        let read = reading.reload_policy();
        drop(turn);
        read
    });
    let read = read.await;
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
