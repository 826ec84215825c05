//! The command line: parses arguments, loads the config and runs the gateway or one of the small commands.
//!
//! Two hidden commands run in child processes of the gateway itself, `probe-encoder` and `compile-component`, because
//! drivers may crash and compiling needs limits. Everything else is in the library crates.

mod account_commands;
mod plugin_commands;
mod running;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use sluicegate::api;
use sluicegate::gateway::{self, CommandLine, Gateway, Loaded, StartError};
use sluicegate_codec as codec;
use sluicegate_config as config;
use sluicegate_config::{Config, EncoderName, Listen};
use sluicegate_net::Passed;
use sluicegate_plugin::compile;
use sluicegate_source as source;
use sluicegate_telemetry as telemetry;
use sluicegate_telemetry::{Chain, LogFormat};
use std::{
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// An edge gateway for live video whose transports are WebAssembly components.
#[derive(Parser)]
#[command(
    name = "sluicegate",
    version = env!("CARGO_PKG_VERSION"),
    arg_required_else_help = true,
    override_usage = "sluicegate [OPTIONS] [SOURCE]...\n       sluicegate <COMMAND>"
)]
struct Arguments {
    /// Format of the log on standard error; RUST_LOG sets its level.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        env = "SLUICEGATE_LOG_FORMAT"
    )]
    log_format: LogFormatArg,
    /// Arguments of `serve`, which also runs if no command is given.
    #[command(flatten)]
    serve: Serve,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Args, Default, PartialEq)]
struct Serve {
    /// The config file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Port, address or both to listen on, or unix:PATH, instead of the config's `listen`; a port alone keeps the
    /// configured address, an address alone keeps the port. May be repeated.
    #[arg(long, value_name = "[ADDRESS:]PORT")]
    listen: Vec<Listen>,
    /// Let other machines connect: listen on all addresses, or on the one given. Everybody who can connect may watch.
    #[arg(long)]
    open: bool,
    /// File, URL or another source such as annexb:listen:5000; NAME=SOURCE sets the stream's name.
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum LogFormatArg {
    /// Plain text, one event per line.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl From<LogFormatArg> for LogFormat {
    fn from(lines: LogFormatArg) -> Self {
        match lines {
            LogFormatArg::Text => LogFormat::Text,
            LogFormatArg::Json => LogFormat::Json,
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Serve the streams of the config and one for each SOURCE; without either, a demo stream.
    Serve(Serve),
    /// Check a config as `serve` would, without opening a socket, and report all mistakes.
    #[command(override_usage = "sluicegate check FILE")]
    Check {
        /// The config file (TOML).
        #[arg(required_unless_present = "config")]
        file: Option<PathBuf>,
        /// The same, as `serve` takes it.
        #[arg(long, value_name = "FILE", conflicts_with = "file", hide = true)]
        config: Option<PathBuf>,
    },
    /// List the cameras of this machine with the formats that they offer.
    Sources,
    /// Test whether an encoder works on this machine; run by `serve`.
    #[command(hide = true)]
    ProbeEncoder {
        /// Name of the encoder in libavcodec.
        name: EncoderName,
    },
    /// Compile a component within limits, from standard input to standard output; run by `serve`.
    #[command(hide = true)]
    CompileComponent,
    /// Inspect components, and exchange those of a running gateway.
    #[command(subcommand)]
    Plugin(plugin_commands::PluginCommand),
    /// Add, list and remove users, and change their passwords.
    #[command(subcommand)]
    User(account_commands::UserCommand),
    /// Ask the running gateway whether it answers; the exit code is 0 if it does.
    Health(running::Health),
    /// Print the completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages, one per command, into an existing folder; run when a package is built.
    #[command(hide = true)]
    ManPages {
        /// The folder.
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    telemetry::init(arguments.log_format.into());
    let command = match (arguments.command, arguments.serve) {
        (Some(command), serve) if serve == Serve::default() => command,
        (Some(_), _) => {
            usage("options of `serve` go after `serve`, and other commands do not take them")
        }
        (None, serve) => Command::Serve(serve_arguments(serve)),
    };
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match arguments.log_format {
                LogFormatArg::Text => {
                    // Standard error may be closed; there is no other place to report to.
                    let _ = writeln!(std::io::stderr(), "sluicegate: {error:#}");
                }
                LogFormatArg::Json => tracing::error!("{error:#}"),
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    // On Linux this is the running program, even if its file has been replaced by another version since.
    let running = match cfg!(target_os = "linux") {
        true => "/proc/self/exe".into(),
        false => program.clone(),
    };
    compile::set_compiler_program(running.clone());
    match command {
        Command::Serve(Serve {
            config,
            listen,
            open,
            sources,
        }) => {
            // First, while there is one thread only.
            let passed = Passed::take()?;
            let command_line = CommandLine {
                config,
                listen,
                open,
                sources,
            };
            source::set_devices_program(program.with_file_name("sluicegate-devices"));
            codec::set_probe_program(running);
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            #[cfg(debug_assertions)]
            telemetry::workers::watch(&mut runtime);
            let runtime = runtime
                .enable_all()
                .build()
                .context("cannot start the runtime")?;
            runtime.block_on(gateway::run(
                command_line,
                passed,
                api::respond,
                api::connect,
            ))?;
            // Does not wait for connections that missed the shutdown's deadline.
            runtime.shutdown_background();
            Ok(())
        }
        Command::Check { file, config } => check(&file.or(config).unwrap_or_default()),
        Command::Sources => print(&source::listing(&source::cameras())),
        Command::ProbeEncoder { name } => {
            codec::answer(name);
            Ok(())
        }
        Command::CompileComponent => {
            compile::answer();
            Ok(())
        }
        Command::Plugin(command) => command.run(),
        Command::User(command) => command.run(),
        Command::Health(asked) => running::health(&asked),
        Command::Completions { shell } => {
            let mut completions = Vec::new();
            let mut commands = visible_commands();
            clap_complete::generate(shell, &mut commands, "sluicegate", &mut completions);
            print(&String::from_utf8_lossy(&completions))
        }
        Command::ManPages { folder } => clap_mangen::generate_to(Arguments::command(), &folder)
            .with_context(|| format!("cannot write manual pages to {}", folder.display())),
    }
}

/// The command line without hidden commands, which completions would offer.
fn visible_commands() -> clap::Command {
    let all = Arguments::command();
    let visible = all.get_subcommands().filter(|known| !known.is_hide_set());
    clap::Command::new("sluicegate")
        .args(all.get_arguments().cloned())
        .subcommands(visible.cloned())
}

/// A number of things, as in "1 muxer" and "2 muxers".
fn count(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// Returns the arguments of `sluicegate` without a command. Exits with a usage error if the first source is no existing
/// path and within two edits of a command's name, since it is then a misspelled command.
fn serve_arguments(serve: Serve) -> Serve {
    let mut commands = Arguments::command();
    commands.build();
    let names = commands.get_subcommands().map(|known| known.get_name());
    if let Some(word) = serve.sources.first()
        && !Path::new(word).exists()
        && let Some(meant) = names
            .filter(|name| strsim::damerau_levenshtein(name, word) <= 2)
            .min_by_key(|name| strsim::damerau_levenshtein(name, word))
    {
        usage(&format!(
            "there is no command `{word}`; did you mean `sluicegate {meant}`?"
        ));
    }
    serve
}

/// Exits with a usage error.
fn usage(what: &str) -> ! {
    Arguments::command()
        .error(clap::error::ErrorKind::InvalidSubcommand, what)
        .exit()
}

/// Prints a summary of a valid config.
///
/// # Errors
/// All mistakes, one per line: those of the file, then those found by preparing the gateway.
fn check(file: &Path) -> anyhow::Result<()> {
    let (config, mut found) = match Config::load(file) {
        Ok(config) => (Some(config), Vec::new()),
        Err(config::Error::Invalid(mistakes)) => {
            let found = mistakes.found.iter().map(ToString::to_string).collect();
            (mistakes.rest.map(|rest| *rest), found)
        }
        Err(error) => return Err(error.into()),
    };
    let file_mistakes = found.len();
    let mut good = None;
    if let Some(config) = config {
        match Gateway::prepare(Loaded::from_file(config), None, |_| ()) {
            Ok(gateway) => good = Some(gateway),
            Err(errors) => {
                let errors = errors.into_errors();
                // The part of the file that could be read is checked, too. Errors that may only follow from the part
                // that could not are left out.
                let errors = errors
                    .iter()
                    .filter(|error| file_mistakes == 0 || error.is_independent());
                found.extend(errors.map(|error| match error {
                    StartError::At { .. } => Chain(error).to_string(),
                    _ => format!("{}: {}", file.display(), Chain(error)),
                }));
            }
        }
    }
    match good.filter(|_| found.is_empty()) {
        Some(gateway) => {
            let transports = gateway.transports.all();
            for note in transports.values().flat_map(|known| known.notes()) {
                print(&format!("{}: note: {note}\n", file.display()))?;
            }
            let config = gateway.config();
            if config.shows_nothing() {
                let file = file.display();
                print(&format!(
                    "{file}: note: it has no streams; add one, e.g. [streams.porch] with source = \
                     \"rtsp://camera.local/stream1\", or on the page /streams\n"
                ))?;
            }
            for (name, stream) in &config.streams {
                let spec = source::Spec::parse(stream.source.expose(), &config.dir);
                if let Ok(spec) = spec
                    && let Some(path) = spec.missing()
                {
                    let (file, path) = (file.display(), path.display());
                    print(&format!(
                        "{file}: note: [streams.{name}]: {path} does not exist now\n"
                    ))?;
                }
            }
            let streams = count(gateway.streams.names().len(), "stream");
            let transports = count(transports.len(), "transport");
            print(&format!(
                "{}: valid: {streams}, {transports}\n",
                file.display()
            ))
        }
        None => Err(anyhow::Error::msg(found.join("\n"))),
    }
}

/// Writes to standard output; a closed pipe is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
