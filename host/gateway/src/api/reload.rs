//! `POST /api/plugins/{name}/reload`: reads the component of a transport or of the policy again and puts it in force.
//!
//! One reload at a time, on a blocking thread, since compiling takes seconds. Viewers of a replaced transport are
//! disconnected with a reason and come back to the new component; sessions keep what they play when the policy changes.

use super::{Body, error, json, set, state};
use crate::gateway::Gateway;
use hyper::{Response, StatusCode, header};
use sluicegate_config as config;
use std::sync::Arc;

/// Reloads the component `name`: `policy`, a transport's name, or the policy's own name. Answers with its entry of
/// `/api/plugins`.
pub async fn reload(gateway: &Arc<Gateway>, name: &str) -> Response<Body> {
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
    // The guard moves to the blocking thread, so the reload completes alone even if the client disconnects.
    let Ok(turn) = gateway.reloading.clone().try_lock_owned() else {
        let text = format!("a component is already being reloaded; try again to reload `{name}`");
        let mut response = error(true, StatusCode::CONFLICT, &text);
        set(&mut response, header::RETRY_AFTER, "1");
        return response;
    };
    let reading = gateway.clone();
    // Compiling may take seconds.
    let read = tokio::task::spawn_blocking(move || {
        let read = match transport {
            Some(transport) => reading
                .reload_transport(&transport.name)
                .map(|current| state::transport(&current, &reading.muxers.list())),
            None => reading.reload_policy().map(|()| state::policy(&reading)),
        };
        drop(turn);
        read
    });
    match read.await {
        Ok(Ok(plugin)) => json(StatusCode::OK, &plugin),
        // What was in use stays.
        Ok(Err(reason)) => error(true, StatusCode::UNPROCESSABLE_ENTITY, &reason.to_string()),
        Err(_) => error(
            true,
            StatusCode::INTERNAL_SERVER_ERROR,
            "the reload failed, see the log; /api/plugins tells which component is in use",
        ),
    }
}
