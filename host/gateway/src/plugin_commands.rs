//! The commands `sluicegate plugin …`: those for authors of components, and those that change the components of a running
//! gateway.

mod record;

use super::{
    count, print,
    running::{RunningGateway, change},
};
use anyhow::Context;
use clap::Subcommand;
use hyper::Method;
use record::{Record, record};
use sluicegate::gateway::built_in;
use sluicegate_config as config;
use sluicegate_kit::{
    Finding, RecordingFile, Verdict,
    project::{self, Language},
    replay, test_component, try_component,
};
use sluicegate_plugin::{
    BrowserModule, Engine, Guest, Instance, Limits, LoadError, Plugin, Profile, World,
    bindings::PolicyPluginPre,
};
use sluicegate_viewer::LaneRule;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

/// Bytes of samples that `test` takes from a recording.
const MAX_RECORDED_BYTES: usize = 256 << 20;
/// After so long people are told that a component is being compiled.
const PATIENCE: Duration = Duration::from_secs(2);

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
pub struct Replay {
    /// File that `plugin record` has written.
    recording: PathBuf,
    #[command(flatten)]
    component: Component,
}

/// A component of either kind.
enum Loaded {
    Transport(Arc<Plugin>),
    Policy(Arc<Plugin<PolicyPluginPre<Guest>>>),
}

impl Component {
    fn load(&self) -> anyhow::Result<Loaded> {
        let engine = Engine::new()?;
        let loaded = self.patiently(|| engine.load_file(&self.file, self.limits()));
        match loaded {
            Ok(transport) => Ok(Loaded::Transport(transport)),
            Err(wrong @ LoadError::OtherWorld { .. }) => {
                let loaded = self.patiently(|| engine.load_file(&self.file, self.limits()));
                // If it is neither, what it lacks as a transport is more likely of interest.
                Ok(Loaded::Policy(loaded.map_err(|_| wrong)?))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Loads a transport, for a command that takes no other component.
    fn load_transport(&self, command: &str) -> anyhow::Result<Arc<Plugin>> {
        match self.load()? {
            Loaded::Transport(transport) => Ok(transport),
            Loaded::Policy(policy) => anyhow::bail!(
                "{}: {policy} is a policy; `plugin {command}` takes transports",
                self.file.display()
            ),
        }
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

/// Prints what a component is; opens a transport once to print its profile.
fn inspect(arguments: &Check) -> anyhow::Result<()> {
    let file = &arguments.component.file;
    let began = Instant::now();
    match arguments.component.load()? {
        Loaded::Transport(plugin) => {
            print_file(file, &plugin)?;
            inspect_transport(arguments, &plugin, began.elapsed())
        }
        Loaded::Policy(plugin) => {
            print_file(file, &plugin)?;
            print(&format!(
                "{}costs      loaded in {:.0?}\n",
                needs(&plugin),
                began.elapsed()
            ))
        }
    }
}

/// Prints what there is to say about any component.
fn print_file<W: World>(file: &Path, plugin: &Plugin<W>) -> anyhow::Result<()> {
    print(&format!(
        "component  {plugin}, a {}\nfile       {} ({} bytes)\nsha256     {}\nimports    {}\nexports    {}\n",
        W::KIND.name,
        file.display(),
        plugin.size,
        plugin.hash,
        plugin.imports.join(", "),
        plugin.exports.join(", "),
    ))
}

/// The line on the version of the interface.
fn needs<W>(plugin: &Plugin<W>) -> String {
    let needed = plugin.needed();
    format!(
        "needs      interface {needed} or newer of {}.{}\n",
        needed.major, needed.minor
    )
}

fn inspect_transport(
    arguments: &Check,
    plugin: &Arc<Plugin>,
    loaded: Duration,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let options = arguments.options.to_string();
    let opened = Instance::open(plugin, "(inspect)", &options, Arc::default());
    let (mut instance, profile) = opened?;
    let opened = began.elapsed();
    let browser = BrowserModule::of(plugin, Arc::default())?;
    let carriers: Vec<&str> = profile.carriers.iter().map(|known| known.name()).collect();
    let formats: Vec<&str> = profile.formats.iter().map(|known| known.name()).collect();
    let embeds: Vec<&str> = profile.embeds.iter().map(|known| known.name()).collect();
    print(&format!(
        "label      {}\nentry      {}\nembeds     {}\ncarriers   {}\nformats    {}\nlanes      {}\nhistory    {}{}\nsilence    {}\nlatency    {} ms\nbrowser    {}\nignored    {}\n{}costs      loaded in {loaded:.0?}, opened in {opened:.0?} with {} KiB of memory; `plugin test` measures its calls\n",
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
        needs(plugin),
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
    let file = arguments.component.file.display();
    let plugin = match arguments.component.load()? {
        Loaded::Transport(transport) => transport,
        Loaded::Policy(policy) => {
            return print(&format!(
                "{file}: valid: {policy} is a policy; name it under [policy] in a config\n"
            ));
        }
    };
    let (profile, failure) = try_component(&plugin, &arguments.options.to_string())?;
    if let Some(failure) = failure {
        anyhow::bail!("{file}: {failure}");
    }
    let half = BrowserModule::of(&plugin, Arc::default())?;
    let half = half.map(
        |_| "nothing here looks into its half in the browser: /watch/STREAM?transport=NAME runs it",
    );
    let half = half.into_iter().map(str::to_owned);
    for note in lacks(&profile).into_iter().chain(half) {
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
            "it has no `embeds` that this gateway knows: /live/STREAM redirects no media player to it, and `<img>` cannot show it".into(),
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
    let plugin = check.component.load_transport("test")?;
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

/// Repeats a recording with a component.
///
/// # Errors
/// It cannot be repeated, or the component answers differently.
pub fn replay_recording(arguments: &Replay) -> anyhow::Result<()> {
    let plugin = arguments.component.load_transport("replay")?;
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
