//! `make bench`: cost and speed of the gateway, compared with a baseline program that writes the same bytes to the same
//! number of sockets. Method and results are in docs/benchmarks.md.

mod answer;
mod bench;
mod client;
mod clock;
mod feeder;
mod film;
mod fragment;
mod hls;
mod load;
mod native;
mod network;
mod players;
mod process;
mod quic;
mod readiness;
mod record;
mod report;
mod scenario;
mod scene;
mod server;
mod sessions;
mod shots;
mod storm;
mod tally;
mod wire;

use anyhow::{Context, Result, ensure};
use bench::{Bench, Transport};
use clap::{Parser, Subcommand, ValueEnum};
use report::Table;
use scenario::{
    bandwidth, captures, congestion, connect, devices, exchange, fanout, hls as hls_players,
    latency, loss, moves, others, page, policy, profile, sandbox, start, streams, viewers,
    webtransport,
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

#[derive(Parser)]
struct Arguments {
    /// Release build of the gateway.
    #[arg(long, default_value = "target/release/sluicegate", global = true)]
    gateway: PathBuf,
    /// Directory of the built components.
    #[arg(long, default_value = "target/plugins", global = true)]
    components: PathBuf,
    /// Directory in which films and configs are kept.
    #[arg(long, default_value = "target/bench", global = true)]
    dir: PathBuf,
    /// Script that opens pages in a browser.
    #[arg(long, default_value = "tests/browser/latency.mjs", global = true)]
    page: PathBuf,
    /// Script that opens pages on the other side of a link.
    #[arg(long, default_value = "tests/browser/loss.mjs", global = true)]
    loss: PathBuf,
    /// Script that opens pages behind a changing link.
    #[arg(long, default_value = "tests/browser/moves.mjs", global = true)]
    moves: PathBuf,
    /// File whose tables are replaced by the results.
    #[arg(long, global = true)]
    write: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the benchmarks.
    Run {
        /// Short run that only shows whether the benchmarks work; its figures are meaningless.
        #[arg(long)]
        quick: bool,
        /// Run only these benchmarks.
        #[arg(long, value_delimiter = ',')]
        only: Vec<Question>,
    },
    /// Show where the time of a delivery is spent.
    Profile {
        #[arg(long, default_value_t = 300)]
        viewers: usize,
        #[arg(long, default_value = "nal")]
        transport: Transport,
        #[arg(long, default_value_t = 8)]
        seconds: u64,
    },
    /// Forward runs of bytes from an address to all viewers: the program with which the gateway is compared.
    Serve {
        way: server::FanOut,
        source: SocketAddr,
    },
    /// The same over QUIC.
    ServeQuic { source: SocketAddr },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Question {
    Nal,
    Mse,
    Hls,
    Mjpeg,
    Webtransport,
    Sandbox,
    Components,
    Latency,
    Page,
    Loss,
    Congestion,
    Moves,
    Captures,
    Bytes,
    Connect,
    Start,
    Streams,
    Devices,
    Others,
    Fanout,
    Policy,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluicegate-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let write = arguments.write.as_deref();
    match &arguments.command {
        Command::Serve { way, source } => server::serve(*way, *source),
        Command::ServeQuic { source } => quic::serve(*source),
        Command::Run { quick, only } => {
            raise_descriptor_limit()?;
            let bench = Bench::new(&arguments.dir, &arguments.gateway, *quick)?;
            let began = Instant::now();
            let machine = report::machine()?;
            println!("{machine}");
            if let (Some(file), true) = (write, only.is_empty()) {
                report::replace(file, "machine", &format!("{machine}\n"))?;
            }
            let mut missed = Vec::new();
            for question in Question::value_variants() {
                if !only.is_empty() && !only.contains(question) {
                    continue;
                }
                let tables =
                    ask(&bench, *question, &arguments).with_context(|| format!("{question:?}"))?;
                for mut table in tables {
                    // The other tables were measured elsewhere, or at another time.
                    if !only.is_empty() {
                        table.note(&machine);
                    }
                    show(&table, write)?;
                    if table.missed() {
                        missed.push(table.name);
                    }
                }
            }
            println!(
                "\nMeasured in {:.0} s. Targets missed in: {}.",
                began.elapsed().as_secs_f64(),
                if missed.is_empty() {
                    "none".into()
                } else {
                    missed.join(", ")
                }
            );
            Ok(())
        }
        Command::Profile {
            viewers,
            transport,
            seconds,
        } => {
            raise_descriptor_limit()?;
            let bench = Bench::new(&arguments.dir, &arguments.gateway, false)?;
            for table in profile::run(&bench, *transport, *viewers, Duration::from_secs(*seconds))?
            {
                show(&table, write)?;
            }
            Ok(())
        }
    }
}

fn ask(bench: &Bench, question: Question, arguments: &Arguments) -> Result<Vec<Table>> {
    Ok(match question {
        Question::Nal => viewers::run(bench, Transport::Nal)?.into(),
        Question::Mse => viewers::run(bench, Transport::Mse)?.into(),
        Question::Hls => hls_players::run(bench)?.into(),
        Question::Mjpeg => viewers::run(bench, Transport::Mjpeg)?.into(),
        Question::Webtransport => webtransport::run(bench)?.into(),
        Question::Sandbox => vec![sandbox::run(bench, &arguments.components)?],
        Question::Components => vec![
            exchange::costs(bench, &arguments.components)?,
            exchange::exchanges(bench, &arguments.components)?,
        ],
        Question::Latency => vec![latency::run(bench)?],
        Question::Page => vec![page::run(bench, &arguments.page)?],
        Question::Loss => vec![loss::run(bench, &arguments.loss)?],
        Question::Congestion => vec![congestion::run(bench)?],
        Question::Moves => vec![moves::run(bench, &arguments.moves)?],
        Question::Captures => captures::run(bench)?.into(),
        Question::Bytes => bandwidth::run(bench)?.into(),
        Question::Connect => vec![connect::run(bench)?],
        Question::Start => vec![start::run(bench)?],
        Question::Streams => vec![streams::run(bench)?],
        Question::Devices => vec![devices::run(bench)?],
        Question::Others => vec![others::run(bench)?],
        Question::Fanout => {
            let (viewers, rounds, time) = bench.pick(
                (&[50][..], 1, Duration::from_secs(1)),
                (&[300, 1000], 3, Duration::from_secs(4)),
            );
            vec![fanout::run(bench, viewers, rounds, time)?]
        }
        Question::Policy => vec![policy::run(bench)?],
    })
}

fn show(table: &Table, write: Option<&Path>) -> Result<()> {
    println!("\n== {}\n\n{}", table.name, table.markdown());
    write.map_or(Ok(()), |file| table.put(file))
}

/// Each viewer takes one descriptor here and one in the process under measurement.
fn raise_descriptor_limit() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const WANTED: u64 = 4096;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= WANTED) {
        return Ok(());
    }
    ensure!(
        limit.maximum.is_none_or(|most| most >= WANTED),
        "{WANTED} open files are needed: raise the hard limit (ulimit -Hn)"
    );
    Ok(setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(WANTED),
            maximum: limit.maximum,
        },
    )?)
}
