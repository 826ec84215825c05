//! `/live/{stream}/{transport}/…`: requests and viewers of a transport.

use super::{Body, ask, error, full, set, whole};
use crate::{
    carrier::{Socket, ViewerBody, WholeBody, websocket},
    gateway::Gateway,
    plugin::muxer::{Refusal, Reply},
    viewer::Carrier,
};
use http_body_util::Either;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, sync::Arc, time::Instant};

/// Serves a GET or a WebSocket handshake below a transport's path.
pub async fn serve(
    gateway: &Arc<Gateway>,
    peer: SocketAddr,
    stream: &str,
    transport: &str,
    rest: &str,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let came = Instant::now();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let (stream, rendition) = ask::split(stream);
    let Some(stream) = gateway.streams.get(stream) else {
        return error(
            false,
            StatusCode::NOT_FOUND,
            &unknown("stream", stream, gateway.streams.keys()),
        );
    };
    if let Some(rendition) = rendition
        && !stream.renditions().any(|known| known == rendition)
    {
        return error(
            false,
            StatusCode::NOT_FOUND,
            &unknown("rendition", rendition, stream.renditions()),
        );
    }
    let Some(transport) = gateway.transports.get(transport) else {
        return error(
            false,
            StatusCode::NOT_FOUND,
            &unknown("transport", transport, gateway.transports.keys()),
        );
    };
    let handshake = websocket::accept(request.method(), request.version(), request.headers());
    let accepted = match handshake {
        Ok(accepted) => Some(accepted),
        Err(websocket::NoHandshake::NotAsked) => None,
        Err(websocket::NoHandshake::Version) => {
            let mut response = error(
                false,
                StatusCode::UPGRADE_REQUIRED,
                "this gateway speaks version 13 of WebSocket",
            );
            set(&mut response, header::SEC_WEBSOCKET_VERSION, "13");
            return response;
        }
        Err(websocket::NoHandshake::Broken(reason)) => {
            return error(false, StatusCode::BAD_REQUEST, reason);
        }
    };
    if gateway.is_draining() {
        return error(
            false,
            StatusCode::SERVICE_UNAVAILABLE,
            "the gateway is shutting down",
        );
    }
    let asked = match ask::read(
        rendition.unwrap_or_default(),
        &query,
        &transport.profile.formats,
    ) {
        Ok(asked) => asked,
        Err(text) => return error(false, StatusCode::BAD_REQUEST, &text),
    };
    let user = match gateway.muxers.enter(stream, &asked.variant, transport) {
        Ok(user) => user,
        Err(refusal) => return refused(&refusal),
    };
    let way = user.muxer().way.clone();
    let place = gateway.viewers.clone();
    if let Some(accepted) = accepted {
        let place = place.enter(way, peer);
        let joined = user.join(place.id, Carrier::WebSocket, rest, &query).await;
        let viewing = match joined {
            Ok(viewing) => viewing,
            Err(refusal) => return refused(&refusal),
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let (meter, drain) = (place.meter(came), gateway.drain());
        tokio::spawn(async move {
            if let Some((socket, first)) = socket(upgrade).await {
                websocket::run(socket, first, viewing, meter, drain).await;
            }
            drop(place);
        });
        return switching(&accepted);
    }
    let content_type = match user.request(rest, &query).await {
        Err(refusal) => return refused(&refusal),
        Ok(Reply::Done(response)) => {
            let (answer, bytes) = whole::respond(&response, request.headers());
            // Elsewhere who watches has joined, and a request is no viewer.
            let asks = transport.profile.lanes.is_empty() && answer.status().is_success();
            let asker = asks.then(|| whole::asker(peer, request.headers()));
            gateway.viewers.answered(way, bytes, asker, Instant::now());
            return answer;
        }
        Ok(Reply::Follow(content_type)) => content_type,
    };
    if request.method() == hyper::Method::HEAD {
        return full(StatusCode::OK, &content_type, "");
    }
    let place = place.enter(way, peer);
    match user.join(place.id, Carrier::Http, rest, &query).await {
        Err(refusal) => refused(&refusal),
        Ok(viewing) => {
            let body = ViewerBody::new(viewing, place, came, asked.pace);
            let mut response = Response::new(Either::Right(Either::Left(body)));
            set(&mut response, header::CONTENT_TYPE, &content_type);
            response
        }
    }
}

/// The socket under an upgraded connection, and what was read of it already.
async fn socket(upgrade: OnUpgrade) -> Option<(Socket, bytes::Bytes)> {
    match upgrade.await {
        Ok(upgraded) => match upgraded.downcast::<TokioIo<Socket>>() {
            Ok(parts) => Some((parts.io.into_inner(), parts.read_buf)),
            Err(_) => {
                tracing::error!(
                    "an upgraded connection is of a kind that the gateway does not serve"
                );
                None
            }
        },
        Err(error) => {
            tracing::debug!("the upgrade failed: {error}");
            None
        }
    }
}

fn switching(accepted: &str) -> Response<Body> {
    let mut response = Response::new(Either::Left(WholeBody::default()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    set(&mut response, header::SEC_WEBSOCKET_ACCEPT, accepted);
    response
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let status = match refusal {
        Refusal::Rejected(_) | Refusal::Carrier(_) => StatusCode::BAD_REQUEST,
        Refusal::Format(_) => StatusCode::NOT_ACCEPTABLE,
        Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = error(false, status, &refusal.to_string());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        set(&mut response, header::RETRY_AFTER, "1");
    }
    response
}

/// "no stream `poch`; did you mean `porch`?"
fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a String> + Clone) -> String {
    let shown: String = name.chars().take(64).collect();
    let nearest = known
        .clone()
        .map(|known| (strsim::damerau_levenshtein(&shown, known), known))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    match nearest {
        Some((_, nearest)) => format!("there is no {kind} `{shown}`; did you mean `{nearest}`?"),
        None if known.clone().next().is_none() => {
            format!("there is no {kind} `{shown}`, nor any other")
        }
        None => {
            let names: Vec<&str> = known.map(String::as_str).take(20).collect();
            format!(
                "there is no {kind} `{shown}`; there are: {}",
                names.join(", ")
            )
        }
    }
}
