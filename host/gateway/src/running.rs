//! What the commands ask a running gateway for.

use crate::{count, print};
use anyhow::Context;
use hyper::{Method, StatusCode};
use sluicegate_config::Config;
use sluicegate_net::client::{self, Answer, GatewayUrl};
use sluicegate_plugin::{Guest, World as _, bindings::PolicyPluginPre};
use sluicegate_source as source;
use std::{
    io::{self, Write},
    path::PathBuf,
    pin::pin,
    time::Duration,
};
use tokio::time::timeout;

/// After so long people are told that a gateway has not answered yet.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub struct RunningGateway {
    /// Address of the gateway, which must run on this machine: a URL, perhaps with a path, or unix:PATH.
    #[arg(long, default_value_t, value_name = "URL")]
    pub url: GatewayUrl,
}

#[derive(clap::Args)]
pub struct Health {
    #[command(flatten)]
    gateway: RunningGateway,
    /// The config of the gateway, which says where it listens, instead of its address.
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    config: Option<PathBuf>,
}

/// Requests a change of the components of a running gateway; prints what it then uses.
///
/// # Errors
/// There is no gateway, or it refuses the change, for its reason.
pub fn change(
    url: &GatewayUrl,
    method: Method,
    path: &str,
    json: Option<String>,
    purpose: &str,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let is_removal = method == Method::DELETE;
    let tls = source::unverified_tls().context("cannot set up TLS")?;
    let answered = client::request(url, method, path, json, tls);
    let (status, body) = runtime.block_on(answer_in_time(url, purpose, answered))?;
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |key: &str| answer[key].as_str().unwrap_or_default();
    let (name, component) = (text("name"), text("component"));
    if !status.is_success() || component.is_empty() {
        return Err(refused(url, status, &body));
    }
    let hash = text("hash").get(..12).unwrap_or_default();
    let muxers = answer["muxers"].as_array().map_or(0, Vec::len);
    let muxers = count(muxers, "muxer");
    let is_added = path == "/api/plugins";
    let outcome = match (is_removal, answer["swap"]["state"].as_str()) {
        (true, _) => "removed".to_owned(),
        (false, Some(state)) => match answer["swap"]["reason"].as_str().unwrap_or_default() {
            "" => format!("{state}, {muxers}"),
            reason => format!("{state}: {reason}"),
        },
        (false, None) if is_added => {
            format!("added; watch it at {url}/live/STREAM/{name}")
        }
        (false, None) if answer["kind"] == PolicyPluginPre::<Guest>::KIND.name => "in use".into(),
        (false, None) => format!("in use by {muxers}"),
    };
    print(&format!("{name}: {component} ({hash}), {outcome}\n"))
}

/// Waits for the answer of a gateway, and says for what if that takes long.
async fn answer_in_time<R>(
    url: &GatewayUrl,
    purpose: &str,
    answered: impl Future<Output = R>,
) -> R {
    let mut answered = pin!(answered);
    if let Ok(answer) = timeout(ANSWER_PATIENCE, &mut answered).await {
        return answer;
    }
    let _ = writeln!(io::stderr(), "waiting for {url} to {purpose}…");
    answered.await
}

/// The error of a running gateway that refuses a request.
fn refused(url: &GatewayUrl, status: StatusCode, body: &[u8]) -> anyhow::Error {
    let answer: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let body = String::from_utf8_lossy(body);
    let reason = match answer["error"].as_str() {
        Some(reason) => reason,
        // The page of another server is of no use here; a gateway with TLS answers with a line of text.
        None if body.trim_end().contains('\n') || body.starts_with('<') || body.is_empty() => {
            "not as a gateway does; is another server there? (--url)"
        }
        None => body.trim_end(),
    };
    anyhow::anyhow!("{url} answers {status}: {reason}")
}

/// Prints what the running gateway says about its health.
///
/// # Errors
/// There is no gateway, or it refuses, for its reason.
pub fn health(asked: &Health) -> anyhow::Result<()> {
    let url = match &asked.config {
        Some(file) => GatewayUrl::of(&Config::load(file)?.server),
        None => asked.gateway.url.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let answered = async { anyhow::Ok(get(&url, "/healthz").await?.collect().await?) };
    let body = runtime.block_on(answered)?;
    print(&format!("{}\n", String::from_utf8_lossy(&body)))
}

/// Requests a path of the running gateway.
///
/// # Errors
/// There is no gateway, or it refuses, for its reason.
pub async fn get(url: &GatewayUrl, path: &str) -> anyhow::Result<Answer> {
    let tls = source::unverified_tls().context("cannot set up TLS")?;
    let answered = client::open(url, Method::GET, path, None, tls);
    let answer = answer_in_time(url, "answer", answered).await?;
    if answer.status.is_success() {
        return Ok(answer);
    }
    let status = answer.status;
    Err(refused(url, status, &answer.collect().await?))
}
