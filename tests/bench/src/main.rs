//! `make bench`: what the gateway costs and how fast it is, beside a bare program that writes the same bytes to the same number
//! of sockets.

mod clock;
mod fanout;
mod feeder;
mod film;
mod load;
mod process;
mod server;
mod wire;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take runs of bytes from an address and write each to all viewers.
    Serve { way: server::Way, source: SocketAddr },
    /// Compare ways to write to many sockets.
    Fanout {
        #[arg(long, default_values_t = [300, 1000])]
        viewers: Vec<usize>,
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Serve { way, source } => server::serve(way, source),
        Command::Fanout { viewers, rounds, seconds } => {
            let dir = Path::new("target/bench");
            std::fs::create_dir_all(dir)?;
            let film = film::Film::make(dir, film::Shape { size: (1280, 720), rate: 30, bits: 2_500_000 })?;
            fanout::run(&Arc::new(film), &viewers, rounds, Duration::from_secs(seconds))
        }
    }
}
