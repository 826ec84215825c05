//! `/api/streams`: the streams that there are, and those that are added, changed and removed while the gateway runs;
//! `POST /api/config/reload`.
//!
//! What is added here is kept in the state file, never written into the config. The checks are in
//! [`Gateway`](crate::gateway::Gateway).

use super::{Body, Visitor, error, json, read_body, set};
use crate::gateway::{Gateway, ReloadError, StreamChangeError};
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use serde_json::Value;
use sluicegate_net::auth::Role;
use std::sync::Arc;

/// Largest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 64 << 10;

/// Lists the streams that the caller administers.
pub fn list(gateway: &Gateway, visitor: &Visitor) -> Response<Body> {
    let mut entries = gateway.stream_entries();
    entries.retain(|entry| visitor.identity.permits(Role::Admin, Some(&entry.name)));
    json(StatusCode::OK, &entries)
}

/// Adds a stream, or gives it other settings.
pub async fn put(
    gateway: &Arc<Gateway>,
    visitor: &Visitor,
    name: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    // RFC 9110 section 13.1.2: nothing of that name may be there.
    let condition = request.headers().get(header::IF_NONE_MATCH);
    let must_be_new = condition.is_some_and(|value| value == "*");
    let body = match read_body(request, MAX_BODY_BYTES).await {
        Ok(body) => body,
        Err(reason) => return error(true, StatusCode::BAD_REQUEST, &reason),
    };
    let keys = match serde_json::from_slice::<serde_json::Map<String, Value>>(&body) {
        Ok(keys) => keys,
        Err(reason) => {
            let text = format!(
                "the body must be a JSON object such as {{\"source\": \"rtsp://camera.local/stream1\"}}: {reason}"
            );
            return error(true, StatusCode::BAD_REQUEST, &text);
        }
    };
    let administers = administers(visitor);
    let (changing, name) = (gateway.clone(), name.to_owned());
    let put = async move {
        changing
            .put_stream(&name, keys, must_be_new, administers)
            .await
    };
    match to_the_end(gateway, put).await {
        Ok(Ok((entry, true))) => json(StatusCode::CREATED, &entry),
        Ok(Ok((entry, false))) => json(StatusCode::OK, &entry),
        Ok(Err(reason)) => refusal(&reason, administers),
        Err(response) => *response,
    }
}

/// Removes a stream.
pub async fn remove(gateway: &Arc<Gateway>, visitor: &Visitor, name: &str) -> Response<Body> {
    let (changing, name) = (gateway.clone(), name.to_owned());
    match to_the_end(gateway, async move { changing.delete_stream(&name).await }).await {
        Ok(Ok(entry)) => json(StatusCode::OK, &entry),
        Ok(Err(reason)) => refusal(&reason, administers(visitor)),
        Err(response) => *response,
    }
}

/// Reads the config file again.
pub async fn reload_config(gateway: &Arc<Gateway>, visitor: &Visitor) -> Response<Body> {
    let by = format!("{} over the API", visitor.identity.user());
    let changing = gateway.clone();
    match to_the_end(gateway, async move { changing.reload(&by).await }).await {
        Ok(Ok(reloaded)) => json(StatusCode::OK, &reloaded),
        Ok(Err(reason)) => error(true, reload_status(&reason), &reason.to_string()),
        Err(response) => *response,
    }
}

/// Whether the caller administers the gateway as a whole.
fn administers(visitor: &Visitor) -> bool {
    visitor.identity.permits(Role::Admin, None)
}

/// Makes a change to its end, whatever becomes of the client.
///
/// # Errors
/// The answer if too many changes wait, or if it panicked, which was logged.
async fn to_the_end<T: Send + 'static>(
    gateway: &Gateway,
    change: impl Future<Output = T> + Send + 'static,
) -> Result<T, Box<Response<Body>>> {
    let Some(place) = gateway.changing.place() else {
        let text = "too many changes wait already; try again in a few seconds";
        let mut response = error(true, StatusCode::SERVICE_UNAVAILABLE, text);
        set(&mut response, header::RETRY_AFTER, "2");
        return Err(Box::new(response));
    };
    let change = async move {
        let changed = change.await;
        drop(place);
        changed
    };
    tokio::spawn(change).await.map_err(|_| {
        let text = "the change failed by an internal error; the gateway's log tells more";
        Box::new(error(true, StatusCode::INTERNAL_SERVER_ERROR, text))
    })
}

fn reload_status(reason: &ReloadError) -> StatusCode {
    match reason {
        ReloadError::Mistakes(_) | ReloadError::Blank(_) | ReloadError::NotRegular(_) => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        ReloadError::NoFile => StatusCode::CONFLICT,
        ReloadError::Draining => StatusCode::SERVICE_UNAVAILABLE,
        ReloadError::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The answer to a change that was not made. What is wrong with the config is for those who administer it.
fn refusal(reason: &StreamChangeError, administers: bool) -> Response<Body> {
    use sluicegate_accounts::ChangeError;
    let status = match reason {
        StreamChangeError::Invalid(_) => StatusCode::BAD_REQUEST,
        StreamChangeError::NotPermitted(_) => StatusCode::FORBIDDEN,
        StreamChangeError::NotFound(_) => StatusCode::NOT_FOUND,
        StreamChangeError::Exists(_) => StatusCode::PRECONDITION_FAILED,
        StreamChangeError::Elsewhere(_) | StreamChangeError::Store(ChangeError::Full(_)) => {
            StatusCode::CONFLICT
        }
        StreamChangeError::Store(ChangeError::Busy { .. }) => StatusCode::SERVICE_UNAVAILABLE,
        StreamChangeError::Store(ChangeError::Invalid(_)) => StatusCode::BAD_REQUEST,
        StreamChangeError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        StreamChangeError::Reload(reason) => reload_status(reason),
    };
    let mut text = reason.to_string();
    if let (StreamChangeError::Reload(ReloadError::Mistakes(_)), false) = (reason, administers) {
        tracing::warn!("a change of a stream was refused: {text}");
        text = "the config of the gateway does not go with this change; its log tells why".into();
    }
    let mut response = error(true, status, &text);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        set(&mut response, header::RETRY_AFTER, "2");
    }
    response
}
