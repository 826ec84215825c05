//! Cost of an HLS player, compared with the baseline, which pushes the same bytes, and with nginx, which serves the
//! same files; and the number of guest calls.

use super::others::{Program, free, on_path};
use crate::{
    bench::{Bench, Measured, get},
    client::Client,
    feeder::{Feeder, Media},
    hls::{Player, ResponseKind},
    load::{Expected, Load},
    players::{Pace, Players},
    process::Process,
    report::{Table, median, ms, spread},
    server::FanOut,
};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// The transport's default part duration.
const PART: Duration = Duration::from_millis(200);
const FOLDER: &str = "/live/cam/hls/";
/// Longer than the first segment takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time for the players' initial requests to finish.
const SETTLE: Duration = Duration::from_millis(700);
/// Highest ratio of guest calls at the most players to those at one.
const AIM: f64 = 1.1;

/// Tables of processor time per delivered part and of guest calls.
pub fn run(bench: &Bench) -> Result<[Table; 2]> {
    let counts = bench.pick(&[1, 20][..], &[1, 50, 300]);
    let (rounds, time) = bench.pick(
        (1, Duration::from_millis(1500)),
        (3, Duration::from_secs(5)),
    );
    let mut cpu = Table::new(
        "cpu-hls",
        &[
            "players",
            "gateway CPU, % of a core",
            "gateway, µs per part",
            "baseline, µs per part",
            "nginx, µs per part",
            "gateway / baseline",
            "gateway / nginx",
            "gateway, kernel time",
            "age of the newest frame, p50 ms",
            "p99 ms",
            "load generator, µs per part",
        ],
    );
    let mut guest = Table::new(
        "guest-hls",
        &["players", "calls per second", "parts per second"],
    );
    let servers = Servers::start(bench, time)?;
    let mut asked = Vec::new();
    for &count in counts {
        let mut all: [Vec<Measured>; 3] = Default::default();
        let mut calls = Vec::new();
        for _ in 0..rounds {
            let (gateway, rate) = servers.gateway(bench, count, time)?;
            all[0].push(gateway);
            calls.push(rate);
            all[1].push(servers.bare(bench, count, time)?);
            if let Some(nginx) = &servers.nginx {
                all[2].push(nginx.measure(bench, count, time)?);
            }
        }
        let each = |nth: usize| -> Vec<f64> { all[nth].iter().map(Measured::each).collect() };
        let ratio = |nth: usize| -> Vec<f64> {
            let pairs = all[0].iter().zip(&all[nth]);
            pairs
                .map(|(one, other)| one.each() / other.each())
                .collect()
        };
        let of = |value: &dyn Fn(&Measured) -> f64| -> f64 {
            median(&all[0].iter().map(value).collect::<Vec<_>>())
        };
        let shown = |values: &[f64], show: &dyn Fn(&[f64]) -> String| match values {
            [] => "not installed".to_owned(),
            values => show(values),
        };
        let middle = |values: &[f64]| format!("{:.2}", median(values));
        let mut ages = crate::clock::Histogram::default();
        all[0].iter().for_each(|one| ages.merge(&one.counts.delays));
        cpu.row([
            count.to_string(),
            format!("{:.1}", of(&|one| one.processor() * 100.0)),
            middle(&each(0)),
            middle(&each(1)),
            shown(&each(2), &middle),
            spread(&ratio(1)),
            shown(&ratio(2), &spread),
            format!("{:.0} %", of(&|one| one.used.kernel_share() * 100.0)),
            ms(ages.quantile(0.5)),
            ms(ages.quantile(0.99)),
            format!(
                "{:.2}",
                of(&|one| one.load.as_secs_f64() * 1e6 / one.counts.messages as f64)
            ),
        ]);
        let parts = of(&|one| one.counts.messages as f64 / one.time.as_secs_f64());
        guest.row([
            count.to_string(),
            format!("{:.1}", median(&calls)),
            format!("{parts:.0}"),
        ]);
        asked.push(median(&calls));
    }
    if servers.nginx.is_none() {
        cpu.note("`nginx` is not installed: not measured.");
    }
    if let ([one, .., most], Some(count)) = (&asked[..], counts.last()) {
        guest.aim(
            &format!("calls at {count} players, relative to one player,"),
            most / one,
            AIM,
            |ratio| format!("{ratio:.2}"),
        );
    }
    Ok([cpu, guest])
}

/// The three servers compared.
struct Servers {
    gateway: Process,
    bare: Process,
    nginx: Option<Nginx>,
    _feeders: [Feeder; 2],
}

impl Servers {
    fn start(bench: &Bench, time: Duration) -> Result<Servers> {
        let film = &bench.film;
        let camera = Feeder::start(Media::Camera(film.clone()))?;
        let gateway = bench.serve(&format!(
            "[streams.cam]\nsource = \"annexb:tcp://{}\"\n\n[transports.hls]\npart = \"{}ms\"\n",
            camera.address,
            PART.as_millis()
        ))?;
        let frames = (u128::from(film.rate) * PART.as_millis() / 1000) as u32;
        let passed = Feeder::start(Media::Fragments(film.clone(), frames))?;
        let bare = bench.start_bare(FanOut::Bare, &passed)?;
        // All parts that players request while they are measured, and some more.
        let parts = (time + SETTLE + Duration::from_secs(3)).as_millis() / PART.as_millis();
        let nginx = Nginx::find()
            .map(|program| Nginx::start(bench, &program, gateway.address, parts as usize))
            .transpose()?;
        Ok(Servers {
            gateway,
            bare,
            nginx,
            _feeders: [camera, passed],
        })
    }

    /// Measures the gateway with `count` players; also returns guest calls per second.
    fn gateway(&self, bench: &Bench, count: usize, time: Duration) -> Result<(Measured, f64)> {
        let address = self.gateway.address;
        let film = bench.film.clone();
        let players = Players::start(film, address, FOLDER, count, Pace::Server)?;
        players.settled(PATIENCE)?;
        thread::sleep(SETTLE);
        let (before, began) = (calls(address)?, Instant::now());
        let measured = Measured::of(self.gateway.id(), &players, time)?;
        let made = calls(address)? - before;
        Ok((measured, made / began.elapsed().as_secs_f64()))
    }

    fn bare(&self, bench: &Bench, count: usize, time: Duration) -> Result<Measured> {
        let mut load = Load::new(Expected::Fragments(bench.film.clone()))?;
        load.open(self.bare.address, "/", count)?;
        load.settled(PATIENCE)?;
        thread::sleep(SETTLE);
        Measured::of(self.bare.id(), &load, time)
    }
}

/// nginx with the responses of the gateway to one player as files: every playlist and every part.
struct Nginx(Program);

impl Nginx {
    /// `/usr/sbin` is not in every user's PATH.
    fn find() -> Option<PathBuf> {
        let administrators = Path::new("/usr/sbin/nginx");
        on_path("nginx").or_else(|| administrators.exists().then(|| administrators.to_owned()))
    }

    fn start(bench: &Bench, program: &Path, gateway: SocketAddr, parts: usize) -> Result<Nginx> {
        let dir = bench.dir.join("nginx");
        let files = dir.join("files");
        if files.exists() {
            fs::remove_dir_all(&files)?;
        }
        fs::create_dir_all(&files)?;
        record(gateway, &files, parts)?;
        let address = free()?;
        fs::write(dir.join("nginx.conf"), config(&dir, address))?;
        let mut command = Command::new(program);
        command
            .arg("-p")
            .arg(&dir)
            .args(["-c", "nginx.conf", "-e", "error.log"]);
        Ok(Nginx(Program::start(command, address, "/")?))
    }

    fn measure(&self, bench: &Bench, count: usize, time: Duration) -> Result<Measured> {
        let (film, address) = (bench.film.clone(), self.0.address);
        let players = Players::start(film, address, "/", count, Pace::Every(PART))?;
        players.settled(PATIENCE)?;
        thread::sleep(SETTLE);
        Measured::of(self.0.id(), &players, time)
    }
}

/// A single process, so that processor times are comparable; files are sent from the page cache and their descriptors
/// kept open.
fn config(dir: &Path, address: SocketAddr) -> String {
    let dir = dir.display();
    format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n\
         events {{ worker_connections 2048; }}\n\
         http {{\n\
           access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; open_file_cache max=1000;\n\
           types {{ application/vnd.apple.mpegurl m3u8; video/iso.segment m4s; }}\n\
           client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;\n\
           uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
           server {{\n\
             listen {address} backlog=1024; root {dir}/files;\n\
             location = /media.m3u8 {{ try_files /media-$arg__HLS_msn-$arg__HLS_part.m3u8 =404; }}\n\
           }}\n\
         }}\n"
    )
}

/// Plays `parts` parts and saves every response as a file.
fn record(address: SocketAddr, files: &Path, parts: usize) -> Result<()> {
    let (mut client, mut player, mut kept) = (Client::connect(address)?, Player::new(), 0);
    while kept < parts {
        let (path, _) = player.ask()?;
        let (status, body) = client.get(&format!("{FOLDER}{path}"))?;
        if let ResponseKind::Part(_) = player.answered(status, &body)? {
            kept += 1;
        }
        fs::write(files.join(file_name(&path)), body)?;
    }
    Ok(())
}

/// File name under which the config finds the response to a request.
fn file_name(path: &str) -> String {
    let Some((name, query)) = path.split_once('?') else {
        return match path {
            crate::hls::MEDIA => "media--.m3u8".to_owned(),
            other => other.to_owned(),
        };
    };
    let numbers = query.split('&').filter_map(|pair| pair.split('=').nth(1));
    let numbers: Vec<&str> = numbers.collect();
    format!(
        "{}-{}.m3u8",
        name.trim_end_matches(".m3u8"),
        numbers.join("-")
    )
}

/// Number of guest calls so far.
fn calls(address: SocketAddr) -> Result<f64> {
    counted(&get(address, "/metrics")?)
}

fn counted(metrics: &str) -> Result<f64> {
    let lines = metrics.lines().filter_map(|line| {
        let (labels, count) = line
            .strip_prefix("sluicegate_guest_calls_total{")?
            .rsplit_once(' ')?;
        let ours = labels.contains("stream=\"cam\"") && labels.contains("transport=\"hls\"");
        ours.then_some(count)
    });
    let counts: Vec<&str> = lines.collect();
    ensure!(
        !counts.is_empty(),
        "/metrics has no sluicegate_guest_calls_total of hls"
    );
    let mut sum = 0.0;
    for count in counts {
        sum += count.parse::<f64>().context("no count")?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_are_named_as_the_config_asks_for_them() {
        for (path, name) in [
            ("media.m3u8", "media--.m3u8"),
            ("media.m3u8?_HLS_msn=12&_HLS_part=3", "media-12-3.m3u8"),
            ("1a-12.3.m4s", "1a-12.3.m4s"),
        ] {
            assert_eq!(file_name(path), name);
        }
    }

    #[test]
    fn calls_are_summed_over_the_renditions_of_the_transport() {
        let line = |stream: &str, transport: &str, count: u32| {
            format!(
                "sluicegate_guest_calls_total{{stream=\"{stream}\",rendition=\"\",transport=\"{transport}\"}} {count}\n"
            )
        };
        let text = line("cam", "hls", 5) + &line("cam", "nal", 7) + &line("cam", "hls", 6);
        assert_eq!(counted(&text).unwrap(), 11.0);
        assert!(counted(&line("cam", "nal", 7)).is_err());
    }
}
