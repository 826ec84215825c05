//! Comparable programs, if they are on the PATH: the same load and the same JPEGs.

use crate::{
    bench::{Bench, Measured},
    load::Expected,
    report::Table,
};
use anyhow::Result;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const VIEWERS: [usize; 2] = [50, 300];

/// Cost of each program, or the reason why it was not measured.
pub fn run(bench: &Bench) -> Result<Table> {
    let time = bench.pick(Duration::from_millis(1500), Duration::from_secs(5));
    let viewers = bench.pick(&VIEWERS[..1], &VIEWERS);
    let mut table = Table::new(
        "others",
        &[
            "<program",
            "viewers",
            "% of a core",
            "µs per frame",
            "frames per second and viewer",
            "RSS, MB",
        ],
    );
    for (name, start) in [("go2rtc", go2rtc as Start), ("ustreamer", ustreamer)] {
        let Some(program) = on_path(name) else {
            table.note(format!("`{name}` is not on the PATH: not measured."));
            continue;
        };
        let subject = match start(bench, &program) {
            Ok(subject) => subject,
            Err(reason) => {
                table.note(format!(
                    "`{name}` is installed but was not measured: {reason:#}."
                ));
                continue;
            }
        };
        for &count in viewers {
            match Measured::take(
                subject.id(),
                &Expected::AnyJpegs,
                (subject.address, subject.path),
                count,
                time,
            ) {
                Ok(measured) => table.row([
                    name.to_owned(),
                    count.to_string(),
                    format!("{:.1}", measured.processor() * 100.0),
                    format!("{:.2}", measured.each()),
                    format!(
                        "{:.1}",
                        measured.counts.messages as f64
                            / measured.time.as_secs_f64()
                            / count as f64
                    ),
                    format!("{:.1}", measured.resources.resident as f64 / 1e6),
                ]),
                Err(reason) => table.note(format!("`{name}` at {count} viewers: {reason:#}.")),
            }
        }
    }
    table.note(match on_path("mediamtx") {
        Some(_) => "`mediamtx` is installed, but has no JPEGs over HTTP: not measured.",
        None => "`mediamtx` is not on the PATH: not measured.",
    });
    Ok(table)
}

type Start = fn(&Bench, &Path) -> Result<Program>;

/// A running program; killed when dropped.
pub struct Program {
    child: Child,
    /// Address on which it listens.
    pub address: SocketAddr,
    path: &'static str,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The album through a pipe, forwarded unchanged; ffmpeg reads it and is not counted.
fn go2rtc(bench: &Bench, program: &Path) -> Result<Program> {
    let address = free()?;
    let config = bench.dir.join("go2rtc.yaml");
    fs::write(
        &config,
        format!(
            "api:\n  listen: \"{address}\"\nrtsp:\n  listen: \"\"\nwebrtc:\n  listen: \"\"\nlog:\n  level: error\nstreams:\n  \
             bench: \"exec:ffmpeg -v error -re -stream_loop -1 -i {} -c:v copy -f mjpeg -\"\n",
            bench.album.file.display()
        ),
    )?;
    let mut command = Command::new(program);
    command.arg("-config").arg(&config);
    Program::start(command, address, "/api/stream.mjpeg?src=bench")
}

/// A camera's JPEGs, forwarded unchanged.
fn ustreamer(_: &Bench, program: &Path) -> Result<Program> {
    let device = Path::new("/dev/video0");
    anyhow::ensure!(
        device.exists(),
        "it reads only V4L2 devices, and {} does not exist",
        device.display()
    );
    let address = free()?;
    let mut command = Command::new(program);
    command.arg("--device").arg(device).args([
        "--format",
        "MJPEG",
        "--encoder",
        "HW",
        "--resolution",
        "1280x720",
    ]);
    command.args([
        "--host",
        "127.0.0.1",
        "--port",
        &address.port().to_string(),
        "--log-level",
        "0",
    ]);
    Program::start(command, address, "/stream")
}

impl Program {
    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Starts a program and waits until it listens.
    pub fn start(mut command: Command, address: SocketAddr, path: &'static str) -> Result<Program> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut subject = Program {
            child,
            address,
            path,
        };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            anyhow::ensure!(subject.child.try_wait()?.is_none(), "it exited");
            anyhow::ensure!(
                began.elapsed() < Duration::from_secs(10),
                "it does not listen on {address}"
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(subject)
    }
}

/// An unused local port.
pub fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Path of a program on the PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}
