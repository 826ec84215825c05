//! The command line.

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use sluicegate::{
    api, codec,
    config::{Config, EncoderName},
    gateway::{self, Gateway},
    plugin::{Engine, Instance, Limits, Usage, compile},
    source,
    telemetry::{self, LogFormat},
};
use std::{
    io::{ErrorKind, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

/// An edge gateway for live video whose transports are WebAssembly components.
#[derive(Parser)]
#[command(name = "sluicegate", version = env!("CARGO_PKG_VERSION"))]
struct Arguments {
    /// How the log on standard error is written; RUST_LOG says how much of it.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        env = "SLUICEGATE_LOG_FORMAT"
    )]
    log_format: Lines,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Lines {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl From<Lines> for LogFormat {
    fn from(lines: Lines) -> Self {
        match lines {
            Lines::Text => LogFormat::Text,
            Lines::Json => LogFormat::Json,
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Serve streams: those of the config, and a stream for each SOURCE. Without either, a demo.
    Serve {
        /// The config file (TOML).
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Address to listen on, instead of the config's.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
        /// A file, a URL, or another source such as annexb:listen:5000.
        #[arg(value_name = "SOURCE")]
        sources: Vec<String>,
    },
    /// Check a config as `serve` would, without opening a socket.
    Check {
        /// The config file (TOML).
        file: PathBuf,
    },
    /// List the cameras of this machine and what they give.
    Sources,
    /// What `serve` runs to find out whether an encoder works here.
    #[command(hide = true)]
    ProbeEncoder {
        /// libavcodec's name of it.
        name: EncoderName,
    },
    /// What is run to compile a component within limits, from standard input to standard output.
    #[command(hide = true)]
    CompileComponent,
    /// Look at components.
    #[command(subcommand)]
    Plugin(PluginCommand),
}

#[derive(Subcommand)]
enum PluginCommand {
    /// Say what a component is, and whether this gateway can use it.
    Inspect {
        /// A component, or a core module with an embedded component type.
        file: PathBuf,
        /// Options for its `open`, as JSON.
        #[arg(long, default_value = "{}", value_name = "JSON")]
        options: String,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    telemetry::init(arguments.log_format.into());
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match arguments.log_format {
                Lines::Text => eprintln!("sluicegate: {error:#}"),
                Lines::Json => tracing::error!("{error:#}"),
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    // Linux has this very program there, even if another version lies in its place by now.
    compile::compile_with(match cfg!(target_os = "linux") {
        true => "/proc/self/exe".into(),
        false => program.clone(),
    });
    match command {
        Command::Serve {
            config,
            listen,
            sources,
        } => {
            let mut settings = match &config {
                Some(file) => Config::load(file)?,
                None if sources.is_empty() => Config::default(),
                None => Config {
                    streams: Default::default(),
                    ..Config::default()
                },
            };
            if let Some(listen) = listen {
                settings.server.listen = listen;
                settings.server.check_listen().map_err(anyhow::Error::msg)?;
            }
            gateway::add_sources(&mut settings, &sources)?;
            source::devices_with(program.with_file_name("sluicegate-devices"));
            codec::probe_with(program);
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            #[cfg(debug_assertions)]
            telemetry::workers::watch(&mut runtime);
            let runtime = runtime
                .enable_all()
                .build()
                .context("cannot start the runtime")?;
            runtime.block_on(gateway::run(settings, api::respond))?;
            // Connections that would not end are not waited for.
            runtime.shutdown_background();
            Ok(())
        }
        Command::Check { file } => {
            let config = Config::load(&file)?;
            config.require_streams(&file)?;
            let gateway = Gateway::prepare(config).with_context(|| file.display().to_string())?;
            say(&format!(
                "{}: good: {} streams, {} transports\n",
                file.display(),
                gateway.streams.names().len(),
                gateway.transports.len()
            ))
        }
        Command::Sources => say(&source::listing(&source::cameras())),
        Command::ProbeEncoder { name } => {
            codec::answer(name);
            Ok(())
        }
        Command::CompileComponent => {
            compile::answer();
            Ok(())
        }
        Command::Plugin(PluginCommand::Inspect { file, options }) => inspect(&file, &options),
    }
}

fn inspect(file: &Path, options: &str) -> anyhow::Result<()> {
    let engine = Engine::new()?;
    let plugin = engine.load_file(file, Limits::default())?;
    say(&format!(
        "component  {plugin}\nfile       {} ({} bytes)\nsha256     {}\nimports    {}\nexports    {}\n",
        file.display(),
        plugin.size,
        plugin.hash,
        plugin.imports.join(", "),
        plugin.exports.join(", "),
    ))?;
    let (_, profile) = Instance::open(&plugin, "(inspect)", options, Arc::<Usage>::default())?;
    let carriers: Vec<&str> = profile.carriers.iter().map(|known| known.name()).collect();
    let formats: Vec<&str> = profile.formats.iter().map(|known| known.name()).collect();
    say(&format!(
        "carriers   {}\nformats    {}\nlanes      {:?}\nhistory    {} groups of at least {} ms\nsilence    {}\nlatency    {} ms\n",
        carriers.join(", "),
        formats.join(", "),
        profile.lanes,
        profile.history,
        profile.group_ms,
        match profile.repeat {
            Some(after) => format!("the last picture once more after {} ms", after.as_millis()),
            None => "nothing is repeated".into(),
        },
        profile.latency_ms,
    ))
}

/// To standard output, which may be closed.
fn say(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
