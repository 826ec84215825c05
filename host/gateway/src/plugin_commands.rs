//! The commands `sluicegate plugin …`: those for authors of components, and those that change the components of a running
//! gateway.

use super::{count, print};
use anyhow::Context;
use clap::Subcommand;
use hyper::{Method, StatusCode};
use sluicegate::{
    api::recording::{MAX_BYTES, MAX_SECONDS},
    gateway::built_in,
};
use sluicegate_config as config;
use sluicegate_kit::{
    Finding, RecordingFile, Verdict,
    project::{self, Language},
    replay, test_component, try_component,
};
use sluicegate_net::client::{self, Answer, GatewayUrl};
use sluicegate_plugin::{
    BrowserModule, Engine, Guest, Instance, Limits, LoadError, Plugin, Profile, World as _,
    bindings::PolicyPluginPre,
};
use sluicegate_source as source;
use sluicegate_viewer::LaneRule;
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    pin::pin,
    str::FromStr,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Bytes of samples that `test` takes from a recording.
const MAX_RECORDED_BYTES: usize = 256 << 20;
/// After so long people are told that a component is being compiled.
const PATIENCE: Duration = Duration::from_secs(2);
/// After so long people are told that a gateway has not answered yet.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Subcommand)]
pub enum PluginCommand {
    /// Print what a component is, and whether this gateway can use it.
    Inspect(Check),
    /// Make a new project for a component, with all that it needs besides the language's own tools.
    New(New),
    /// Check whether this gateway can use a component, and say what it lacks.
    Check(Check),
    /// Test a transport in the engine of the gateway, on generated and recorded streams.
    Test(Test),
    /// Record the calls and answers of a component that is in use, to a file.
    Record(Record),
    /// Repeat a recording with a component, and find the first difference.
    Replay(Replay),
    /// Let the running gateway read a component again, and compare it with the one in use before it takes over.
    Reload {
        /// Name of the transport, or `policy`.
        name: String,
        /// Do not compare it: disconnect the viewers, who come back to the new one.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        gateway: RunningGateway,
    },
    /// Add a transport to the running gateway, until it ends.
    Add {
        /// Name of the new transport, for the URL /live/STREAM/NAME.
        name: String,
        /// The component's file.
        file: PathBuf,
        /// Its options and other keys as under [transports.NAME], as a JSON object.
        #[arg(long, default_value = "{}", value_name = "JSON")]
        options: JsonObject,
        #[command(flatten)]
        gateway: RunningGateway,
    },
    /// Remove a transport from the running gateway, until it ends.
    Remove {
        /// Name of the transport.
        name: String,
        #[command(flatten)]
        gateway: RunningGateway,
    },
}

#[derive(clap::Args)]
pub struct RunningGateway {
    /// Address of the gateway, which must run on this machine.
    #[arg(long, default_value_t, value_name = "URL")]
    url: GatewayUrl,
}

#[derive(clap::Args)]
pub struct New {
    /// Language of the project.
    #[arg(long, value_enum)]
    lang: Lang,
    /// Folder to make; its last part is the component's name.
    folder: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Lang {
    /// Rust, built with cargo.
    Rust,
    /// JavaScript, built with npm.
    Js,
}

/// A component and its limits.
#[derive(clap::Args)]
pub struct Component {
    /// A component, or a core module with an embedded component type.
    file: PathBuf,
    /// Memory of each instance, as `limits.memory` in the config.
    #[arg(long, value_name = "SIZE", value_parser = memory_limit)]
    memory: Option<config::ByteSize>,
    /// Processor time of each call, as `limits.call` in the config.
    #[arg(long, value_name = "TIME", value_parser = call_limit)]
    call: Option<config::Span>,
}

#[derive(clap::Args)]
pub struct Test {
    #[command(flatten)]
    check: Check,
    /// Test it on the stream of this recording, too; may be given several times.
    #[arg(long, value_name = "FILE")]
    recording: Vec<PathBuf>,
}

#[derive(clap::Args)]
pub struct Check {
    #[command(flatten)]
    component: Component,
    /// Options that its `open` gets, as a JSON object.
    #[arg(long, default_value = "{}", value_name = "JSON")]
    options: JsonObject,
}

/// A JSON object, given as text.
#[derive(Clone, Debug)]
pub struct JsonObject(serde_json::Map<String, serde_json::Value>);

impl FromStr for JsonObject {
    type Err = String;

    fn from_str(text: &str) -> Result<JsonObject, String> {
        let object = serde_json::from_str(text).map(JsonObject);
        object.map_err(|error| {
            format!("it is not a JSON object such as {{\"stale\": \"2s\"}}: {error}")
        })
    }
}

impl std::fmt::Display for JsonObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::Value::from(self.0.clone()).to_string())
    }
}

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

#[derive(clap::Args)]
pub struct Replay {
    /// File that `plugin record` has written.
    recording: PathBuf,
    #[command(flatten)]
    component: Component,
}

impl Component {
    fn load(&self) -> anyhow::Result<Arc<Plugin>> {
        let engine = Engine::new()?;
        Ok(self.patiently(|| engine.load_file(&self.file, self.limits()))?)
    }

    /// Loads it in this way, and says so if that takes long.
    fn patiently<R>(&self, load: impl FnOnce() -> R) -> R {
        let (loaded, waiting) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                if waiting.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                    let file = self.file.display();
                    let _ = writeln!(
                        io::stderr(),
                        "{file}: is being compiled, once for each build of it"
                    );
                }
            });
            let result = load();
            drop(loaded);
            result
        })
    }

    fn limits(&self) -> Limits {
        let usual = Limits::default();
        let memory = self.memory.map(|memory| memory.bytes());
        let memory = memory.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let call = self.call.map(config::Span::duration);
        Limits {
            memory: memory.unwrap_or(usual.memory),
            call: call.unwrap_or(usual.call),
            ..usual
        }
    }
}

/// Reads `--memory`.
fn memory_limit(text: &str) -> Result<config::ByteSize, String> {
    let memory = text.parse()?;
    config::Limits::check_memory(memory).map(|()| memory)
}

/// Reads `--call`.
fn call_limit(text: &str) -> Result<config::Span, String> {
    let call = text.parse()?;
    config::Limits::check_call(call).map(|()| call)
}

impl PluginCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// For people.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            PluginCommand::Inspect(arguments) => inspect(&arguments),
            PluginCommand::New(arguments) => new(&arguments),
            PluginCommand::Check(arguments) => check(&arguments),
            PluginCommand::Test(arguments) => test(&arguments),
            PluginCommand::Record(arguments) => record(&arguments),
            PluginCommand::Replay(arguments) => replay_recording(&arguments),
            PluginCommand::Reload {
                name,
                force,
                gateway,
            } => {
                let force = if force { "?force=true" } else { "" };
                let path = format!("/api/plugins/{}/reload{force}", config::path_segment(&name));
                let purpose = "compile and compare the component";
                change(&gateway.url, Method::POST, &path, None, purpose)
            }
            PluginCommand::Add {
                name,
                file,
                options,
                gateway,
            } => {
                let JsonObject(mut keys) = options;
                let file = std::path::absolute(&file).context("cannot resolve the file's path")?;
                keys.insert("name".into(), name.into());
                keys.insert("plugin".into(), file.display().to_string().into());
                let keys = serde_json::Value::from(keys).to_string();
                let (path, purpose) = ("/api/plugins", "compile the component");
                change(&gateway.url, Method::POST, path, Some(keys), purpose)
            }
            PluginCommand::Remove { name, gateway } => {
                let path = format!("/api/plugins/{}", config::path_segment(&name));
                let purpose = "remove the transport";
                change(&gateway.url, Method::DELETE, &path, None, purpose)
            }
        }
    }
}

/// Requests a change of the components of a running gateway; prints what it then uses.
///
/// # Errors
/// There is no gateway, or it refuses the change, for its reason.
fn change(
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
        (false, Some(state)) => format!("{state}, {muxers}"),
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

/// Prints what a component is; opens it once to print its profile.
fn inspect(arguments: &Check) -> anyhow::Result<()> {
    let file = &arguments.component.file;
    let began = Instant::now();
    let plugin = arguments.component.load()?;
    let loaded = began.elapsed();
    let needed = plugin.needed();
    print(&format!(
        "component  {plugin}\nfile       {} ({} bytes)\nsha256     {}\nimports    {}\nexports    {}\n",
        file.display(),
        plugin.size,
        plugin.hash,
        plugin.imports.join(", "),
        plugin.exports.join(", "),
    ))?;
    let began = Instant::now();
    let options = arguments.options.to_string();
    let opened = Instance::open(&plugin, "(inspect)", &options, Arc::default());
    let (mut instance, profile) = opened?;
    let opened = began.elapsed();
    let browser = BrowserModule::of(&plugin, Arc::default())?;
    let carriers: Vec<&str> = profile.carriers.iter().map(|known| known.name()).collect();
    let formats: Vec<&str> = profile.formats.iter().map(|known| known.name()).collect();
    let embeds: Vec<&str> = profile.embeds.iter().map(|known| known.name()).collect();
    print(&format!(
        "label      {}\nentry      {}\nembeds     {}\ncarriers   {}\nformats    {}\nlanes      {}\nhistory    {}{}\nsilence    {}\nlatency    {} ms\nbrowser    {}\nignored    {}\nneeds      interface {} or newer of {}.{}\ncosts      loaded in {loaded:.0?}, opened in {opened:.0?} with {} KiB of memory; `plugin test` measures its calls\n",
        or_none(&profile.label),
        or_none(&profile.entry),
        or_none(&embeds.join(", ")),
        carriers.join(", "),
        formats.join(", "),
        lanes(&profile.lanes),
        count(profile.history as usize, "group"),
        match profile.group_ms {
            0 => String::new(),
            group_ms => format!(" of at least {group_ms} ms"),
        },
        match profile.repeat {
            Some(after) => format!("repeats the last frame after {} ms", after.as_millis()),
            None => "repeats nothing".into(),
        },
        profile.latency_ms,
        match browser {
            Some(module) => format!("a module of {} bytes", module.size()),
            None => or_none("").into(),
        },
        or_none(&profile.ignored.join(", ")),
        needed,
        needed.major,
        needed.minor,
        instance.holds().memory >> 10,
    ))
}

/// Describes the lanes of a profile.
fn lanes(lanes: &[LaneRule]) -> String {
    let each = lanes.iter().map(|lane| {
        let datagrams = if lane.datagrams { ", by datagrams" } else { "" };
        match lane.max_lag.as_millis() {
            0 => format!("viewers get the newest{datagrams}"),
            stale => {
                format!("viewers more than {stale} ms behind jump to the newest{datagrams}")
            }
        }
    });
    match lanes {
        [] => "(none): it only answers requests".into(),
        _ => format!("{}: {}", lanes.len(), each.collect::<Vec<_>>().join("; ")),
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "(none)" } else { text }
}

/// Makes a new project.
pub fn new(arguments: &New) -> anyhow::Result<()> {
    let language = match arguments.lang {
        Lang::Rust => Language::Rust,
        Lang::Js => Language::JavaScript,
    };
    let transports = built_in::TRANSPORTS.names();
    let taken: Vec<&str> = transports.chain(built_in::POLICIES.names()).collect();
    let steps = project::create(language, &arguments.folder, &taken)?;
    let folder = arguments.folder.display();
    print(&format!("{folder}: made. Build and watch it:\n\n{steps}"))
}

/// Says whether the gateway can use a component, and what it lacks.
pub fn check(arguments: &Check) -> anyhow::Result<()> {
    let component = &arguments.component;
    let (path, limits) = (&component.file, component.limits());
    let file = path.display();
    let engine = Engine::new()?;
    let loaded = component.patiently(|| engine.load_file(path, limits));
    let plugin: Arc<Plugin> = match loaded {
        Ok(plugin) => plugin,
        Err(wrong @ LoadError::OtherWorld { .. }) => {
            match engine.load_file::<PolicyPluginPre<Guest>>(path, limits) {
                Ok(policy) => {
                    return print(&format!(
                        "{file}: valid: {policy} is a policy; name it under [policy] in a config\n"
                    ));
                }
                // Neither; what it lacks as a transport is more likely of interest.
                Err(_) => return Err(wrong.into()),
            }
        }
        Err(error) => return Err(error.into()),
    };
    let (profile, failure) = try_component(&plugin, &arguments.options.to_string())?;
    if let Some(failure) = failure {
        anyhow::bail!("{file}: {failure}");
    }
    for note in lacks(&profile) {
        print(&format!("{file}: note: {note}\n"))?;
    }
    print(&format!(
        "{file}: valid: {plugin} is a transport for version {} of the interface or newer\n",
        plugin.needed()
    ))
}

/// What a transport could have and does not, in words.
fn lacks(profile: &Profile) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for ignored in &profile.ignored {
        notes.push(format!("this gateway ignores {ignored}"));
    }
    if profile.label.is_empty() {
        notes.push("it has no `label`: people see the name that the config gives it".into());
    }
    if profile.embeds.is_empty() {
        notes.push(
            "it has no `embeds`: /live/STREAM redirects no media player to it, and `<img>` cannot show it".into(),
        );
    }
    if profile.output.is_empty() {
        notes.push(
            "it has no `output`: when it is exchanged, viewers wait for a start point, and bytes are not compared"
                .into(),
        );
    }
    if profile.latency_ms == 0 {
        notes.push("its `latency-ms` is 0: the policy takes it for the fastest transport".into());
    }
    notes
}

/// Tests a component.
///
/// # Errors
/// It cannot be tested, or a check failed.
pub fn test(arguments: &Test) -> anyhow::Result<()> {
    let Test { check, recording } = arguments;
    let plugin = check.component.load()?;
    let mut recorded = Vec::new();
    for path in recording {
        recorded.push(RecordingFile::open(path)?.script(MAX_RECORDED_BYTES)?);
    }
    print(&format!("{plugin}, {} bytes\n", plugin.size))?;
    let mut printed = Ok(());
    let mut tell = |finding: &Finding| {
        let verdict = match finding.verdict {
            Verdict::Passed => "ok  ",
            Verdict::Note => "note",
            Verdict::Failed => "FAIL",
        };
        if printed.is_ok() {
            printed = print(&format!("{verdict}  {}\n", finding.text));
        }
    };
    let options = check.options.to_string();
    let report = test_component(&plugin, &options, recorded, &mut tell)?;
    printed?;
    match report.failed {
        0 => print(&format!("{} checks passed\n", report.checks)),
        failed => anyhow::bail!("{failed} of {} checks failed", report.checks),
    }
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
        let answer = get(arguments, &format!("/api/plugins/{name}/recording?{query}")).await?;
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

/// Requests a path of the running gateway.
///
/// # Errors
/// There is no gateway, or it refuses, for its reason.
async fn get(arguments: &Record, path: &str) -> anyhow::Result<Answer> {
    let url = &arguments.gateway.url;
    let tls = source::unverified_tls().context("cannot set up TLS")?;
    let answered = client::open(url, Method::GET, path, None, tls);
    let answer = answer_in_time(url, "answer", answered).await?;
    if answer.status.is_success() {
        return Ok(answer);
    }
    let status = answer.status;
    Err(refused(url, status, &answer.collect().await?))
}

/// The transport by which the stream is being watched.
///
/// # Errors
/// There is none, or there are several.
async fn only_transport(arguments: &Record) -> anyhow::Result<String> {
    let body = get(arguments, "/api/plugins").await?.collect().await?;
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
            get(arguments, &format!("/api/devices/{name}")).await?;
            anyhow::bail!(
                "nobody watches `{stream}` now, and only what runs can be recorded; open {}/watch/{name} first",
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

/// Repeats a recording with a component.
///
/// # Errors
/// It cannot be repeated, or the component answers differently.
pub fn replay_recording(arguments: &Replay) -> anyhow::Result<()> {
    let plugin = arguments.component.load()?;
    let replayed = replay(&arguments.recording, &plugin)?;
    let (component, hash) = &replayed.recorded;
    let is_same = *hash == plugin.hash;
    let of = match is_same {
        true => "the recorded component".to_owned(),
        false => format!("{plugin}, recorded of {component}"),
    };
    let shown = arguments.recording.display();
    if let Some(difference) = replayed.difference {
        anyhow::bail!(
            "{shown}, line {}: {}: {}",
            difference.line,
            difference.call,
            difference.what
        );
    }
    if replayed.compared == 0 {
        anyhow::bail!("{shown}: it has no answers to compare; record for longer");
    }
    let cut = match replayed.end {
        Some(_) => "",
        None => "; the recording was cut off",
    };
    print(&format!(
        "{shown}: no difference in {} answers of {} calls ({of}){cut}\n",
        replayed.compared, replayed.calls
    ))
}
