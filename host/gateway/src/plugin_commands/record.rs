//! `sluicegate plugin record`: writes what the running gateway records to a file.

use crate::{
    print,
    running::{RunningGateway, get},
};
use anyhow::Context;
use sluicegate::api::recording::{MAX_BYTES, MAX_SECONDS};
use sluicegate_config as config;
use sluicegate_kit::RecordingFile;
use sluicegate_net::client::Answer;
use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

#[derive(clap::Args)]
pub struct Record {
    /// Stream that is being watched, such as `porch` or `porch@mobile`.
    stream: String,
    /// Transport to record; needed if the stream is being watched by several.
    #[arg(long, value_name = "NAME")]
    transport: Option<String>,
    /// File to write; it must not exist. Default: STREAM-TRANSPORT.jsonl.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Length of the recording, at most 1h.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = recording_length)]
    duration: config::Span,
    /// Size at which it ends, at most 1GiB.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = recording_size)]
    max_size: config::ByteSize,
    #[command(flatten)]
    gateway: RunningGateway,
}

/// Records a muxer of the running gateway to a file.
pub fn record(arguments: &Record) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let transport = match &arguments.transport {
            Some(name) => name.clone(),
            None => only_transport(arguments).await?,
        };
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("stream", &arguments.stream)
            .append_pair("seconds", &whole_seconds(arguments.duration.duration()))
            .append_pair("bytes", &arguments.max_size.bytes().to_string())
            .finish();
        let name = config::path_segment(&transport);
        let answer = get(
            &arguments.gateway.url,
            &format!("/api/plugins/{name}/recording?{query}"),
        )
        .await?;
        let path = match &arguments.output {
            Some(path) => path.clone(),
            None => default_file(&arguments.stream, &transport),
        };
        write(answer, &path).await
    })
}

/// Reads `--duration`.
fn recording_length(text: &str) -> Result<config::Span, String> {
    let span: config::Span = text.parse()?;
    let is_fine = !span.duration().is_zero() && span.duration() <= Duration::from_secs(MAX_SECONDS);
    is_fine.then_some(span).ok_or_else(|| {
        let most = config::Span::from_duration(Duration::from_secs(MAX_SECONDS));
        format!("a recording is longer than 0s and at most {most} long")
    })
}

/// Reads `--max-size`.
fn recording_size(text: &str) -> Result<config::ByteSize, String> {
    let size: config::ByteSize = text.parse()?;
    let is_fine = (1..=MAX_BYTES).contains(&size.bytes());
    is_fine.then_some(size).ok_or_else(|| {
        let most = config::ByteSize::from_bytes(MAX_BYTES);
        format!("a recording has more than 0B and at most {most}")
    })
}

/// Rounded up, since 0 is no recording.
fn whole_seconds(duration: Duration) -> String {
    duration.as_millis().div_ceil(1000).to_string()
}

/// `STREAM-TRANSPORT.jsonl`, without what file names cannot have.
fn default_file(stream: &str, transport: &str) -> PathBuf {
    let name = format!("{stream}-{transport}.jsonl");
    name.replace(|c: char| "/\\?&=".contains(c), "_").into()
}

/// The transport by which the stream is being watched.
///
/// # Errors
/// There is none, or there are several.
async fn only_transport(arguments: &Record) -> anyhow::Result<String> {
    let body = get(&arguments.gateway.url, "/api/plugins")
        .await?
        .collect()
        .await?;
    let plugins: serde_json::Value = serde_json::from_slice(&body)?;
    let plugins = plugins.as_array().map(Vec::as_slice).unwrap_or_default();
    let stream = arguments.stream.as_str();
    let runs = |plugin: &&serde_json::Value| {
        let muxers = plugin["muxers"].as_array().map(Vec::as_slice);
        let mut muxers = muxers.unwrap_or_default().iter();
        muxers.any(|muxer| muxer["stream"].as_str() == Some(stream))
    };
    let names: Vec<&str> = plugins
        .iter()
        .filter(runs)
        .filter_map(|plugin| plugin["name"].as_str())
        .collect();
    match names[..] {
        [name] => Ok(name.to_owned()),
        [] => {
            // Refused if there is no such stream.
            let name = stream.split(['@', '?']).next().unwrap_or_default();
            let name = config::path_segment(name);
            get(&arguments.gateway.url, &format!("/api/devices/{name}")).await?;
            anyhow::bail!(
                "nobody watches `{stream}` now, and only what runs can be recorded; open {0}/watch/{name}?transport=NAME, \
                 or run `curl -o /dev/null {0}/live/{name}/NAME`, first",
                arguments.gateway.url
            )
        }
        _ => anyhow::bail!(
            "`{stream}` is being watched by several transports; say which by --transport: {}",
            names.join(", ")
        ),
    }
}

/// Writes a recording to a new file.
async fn write(mut answer: Answer, path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let file = File::create_new(path)
        .with_context(|| format!("cannot write {shown}; --output names another file"))?;
    let mut file = BufWriter::new(file);
    let mut bytes = 0;
    while let Some(data) = answer.next().await? {
        file.write_all(&data)
            .with_context(|| format!("cannot write {shown}"))?;
        bytes += data.len();
    }
    file.flush()
        .with_context(|| format!("cannot write {shown}"))?;
    // Without a call the file is of no use, and its name can be used again.
    let discard = || drop(fs::remove_file(path));
    let mut recording = RecordingFile::open(path).inspect_err(|_| discard())?;
    let mut calls = 0;
    while recording.next_record()?.is_some() {
        calls += 1;
    }
    // The last line says why it ended, which is of interest if that was too early.
    let end = recording.end.context("the recording was cut off");
    if calls == 0 {
        discard();
        anyhow::bail!("no call was recorded: it ended because {}", end?);
    }
    print(&format!("{shown}: {calls} calls, {bytes} bytes\n"))?;
    print(&format!("it ended because {}\n", end?))
}
