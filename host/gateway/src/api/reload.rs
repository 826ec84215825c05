//! `POST /api/plugins/{name}/reload`: reads the policy's component again and puts it in force.
//!
//! One reload at a time, on a blocking thread, since compiling takes seconds. Transports cannot be reloaded: their
//! profile is fixed when the gateway starts.

use super::{Body, error, json, set, state};
use crate::gateway::Gateway;
use hyper::{Response, StatusCode, header};
use sluicegate_config as config;
use std::sync::Arc;

/// Reloads the component `name`, which is `policy` or the policy's own name; answers with its entry of `/api/plugins`.
pub async fn reload(gateway: &Arc<Gateway>, name: &str) -> Response<Body> {
    let policy = gateway.sessions.policy_actor().policy();
    if name != "policy" && name != policy.name {
        if gateway.transports.contains_key(name) {
            let text = format!(
                "the component of the transport `{name}` is only read at start; restart the gateway to read it again"
            );
            return error(true, StatusCode::CONFLICT, &text);
        }
        let policies = [&"policy".to_owned(), &policy.name];
        let known = policies.into_iter().chain(gateway.transports.keys());
        let text = config::unknown("component", name, known);
        return error(true, StatusCode::NOT_FOUND, &text);
    }
    // The guard moves to the blocking thread, so the reload completes alone even if the client disconnects.
    let Ok(turn) = gateway.reloading.clone().try_lock_owned() else {
        let text = format!("the component of `{name}` is already being read; try again later");
        let mut response = error(true, StatusCode::CONFLICT, &text);
        set(&mut response, header::RETRY_AFTER, "1");
        return response;
    };
    let reading = gateway.clone();
    // Compiling may take seconds.
    let read = tokio::task::spawn_blocking(move || {
        let read = reading.reload_policy();
        drop(turn);
        read
    });
    let read = read.await;
    match read {
        Ok(Ok(())) => json(StatusCode::OK, &state::policy(gateway)),
        // The current policy stays in force.
        Ok(Err(reason)) => error(true, StatusCode::UNPROCESSABLE_ENTITY, &reason.to_string()),
        Err(_) => error(
            true,
            StatusCode::INTERNAL_SERVER_ERROR,
            "reading the component failed, see the log; the previous one stays in force",
        ),
    }
}
