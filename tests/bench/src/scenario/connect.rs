//! Time from a viewer's `connect` to its first frame, while the stream runs and others watch.

use super::webtransport::{PATH, Programs};
use crate::{
    bench::{Bench, Pair, Transport},
    clock::{Histogram, now},
    film::Film,
    load::{Load, request},
    record::{HEAD, is_catalogue},
    report::{Table, ms},
    sessions::{Sessions, client},
    wire::{Cutter, Kind},
};
use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Target in milliseconds.
const AIM: f64 = 5.0;
const WATCHING: usize = 50;

/// Measures one viewer after the other on each transport.
pub fn run(bench: &Bench) -> Result<Table> {
    let count = bench.pick(30, 300);
    let mut table = Table::new(
        "connect",
        &[
            "<transport",
            "viewers",
            "first byte p50 ms",
            "p99 ms",
            "first byte of the first frame p50 ms",
            "p99 ms",
            "last byte of the first frame p50 ms",
            "p99 ms",
        ],
    );
    let mut aims = Vec::new();
    for transport in [Transport::Nal, Transport::Mjpeg] {
        let pair = Pair::start(bench, transport)?;
        let mut load = Load::new(pair.show.clone())?;
        load.open(pair.gateway.address, &pair.path, WATCHING)?;
        load.settled(Duration::from_secs(20))?;
        let kind = match transport {
            Transport::Nal | Transport::Mse => Kind::WebSocket,
            Transport::Mjpeg => Kind::Multipart,
        };
        let viewer = || time_viewer(pair.gateway.address, &pair.path, kind);
        aims.push(times(&mut table, transport.name(), count, viewer)?);
    }
    let programs = Programs::start(bench)?;
    let (address, film) = (programs.gateway.address, &bench.film);
    let load = Sessions::start(film.clone(), address, PATH, WATCHING, None)?;
    load.settled(Duration::from_secs(20))?;
    let name = "`webcodecs` by WebTransport";
    aims.push(times(&mut table, name, count, || {
        time_session(address, film)
    })?);
    for (name, half, most) in aims {
        table.aim(
            &format!("connect to first byte on {name}, p50"),
            half,
            AIM,
            |ms| format!("{ms:.2} ms"),
        );
        table.aim("the same, p99", most, AIM, |ms| format!("{ms:.2} ms"));
    }
    Ok(table)
}

/// Times of `count` viewers: adds a row, and returns the name with p50 and p99 to the first byte in milliseconds.
fn times<'a>(
    table: &mut Table,
    name: &'a str,
    count: usize,
    viewer: impl Fn() -> Result<[u64; 3]>,
) -> Result<(&'a str, f64, f64)> {
    let mut times: [Histogram; 3] = Default::default();
    for _ in 0..count {
        for (histogram, nanos) in times.iter_mut().zip(viewer()?) {
            histogram.add(nanos);
        }
    }
    let cells = times
        .iter()
        .flat_map(|times| [0.5, 0.99].map(|part| ms(times.quantile(part))));
    let row = [name.to_owned(), count.to_string()];
    table.row(row.into_iter().chain(cells));
    let first = |part| times[0].quantile(part).as_secs_f64() * 1e3;
    Ok((name, first(0.5), first(0.99)))
}

/// The same over WebTransport; from before the handshake.
fn time_session(address: SocketAddr, film: &Film) -> Result<[u64; 3]> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = client()?;
        let began = now();
        let session = client.connect(format!("https://{address}{PATH}")).await?;
        let mut stream = session.accept_uni().await?;
        let (mut cutter, mut times) = (Cutter::new(Kind::Records, HEAD), [None; 3]);
        while times[2].is_none() {
            let chunk = stream
                .quic_stream_mut()
                .read_chunk(usize::MAX, true)
                .await?;
            let chunk = chunk.context("the stream ended")?;
            let at = now() - began;
            times[0].get_or_insert(at);
            let mut whole = false;
            cutter.take(&chunk.bytes, &mut |head, length| {
                whole |= film.recognise_record(head, length, false).is_ok();
            })?;
            if whole || cutter.inside_of(|head| head.len() > 4 && !is_catalogue(head)) {
                times[1].get_or_insert(at);
            }
            if whole {
                times[2].get_or_insert(at);
            }
        }
        client.close(0u32.into(), b"");
        Ok(times.map(Option::unwrap_or_default))
    })
}

/// Nanoseconds from `connect` to the first byte, to the first byte of a frame, and to the end of the first frame.
fn time_viewer(address: SocketAddr, path: &str, kind: Kind) -> Result<[u64; 3]> {
    let began = now();
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.write_all(request(kind, address, path).as_bytes())?;
    let (mut cutter, mut buffer) = (Cutter::new(kind, 5), vec![0; 64 << 10]);
    let mut times = [None; 3];
    while times[2].is_none() {
        let size = socket.read(&mut buffer)?;
        ensure!(size > 0, "the viewer was disconnected");
        let at = now() - began;
        times[0].get_or_insert(at);
        let mut whole = false;
        cutter.take(buffer.get(..size).unwrap_or_default(), &mut |head, _| {
            // Parameter sets are not a frame.
            whole |= !head.starts_with(&[0, 0, 0, 1, 0x67]);
        })?;
        if whole || cutter.inside_of(|head| !head.starts_with(&[0, 0, 0, 1, 0x67])) {
            times[1].get_or_insert(at);
        }
        if whole {
            times[2].get_or_insert(at);
        }
    }
    Ok(times.map(Option::unwrap_or_default))
}
