//! What is needed on a device to run scrcpy's server: its file, its shell and its socket. Used by `run`; everything
//! goes through connections of `adb`.

use super::{
    super::{Stop, annexb::CHUNK, readable},
    adb::{AdbError, Connection},
    fleet::Fleet,
    list::Presence,
    shell::Output,
};
use sluicegate_config::{Android, ScrcpyVersion};
use std::time::{Duration, Instant, SystemTime};

/// How long scrcpy may take to open its socket.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// Interval between attempts to connect to it.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// A directory that the shell may write to on all devices.
const DEVICE_DIR: &str = "/data/local/tmp";

/// Why mirroring a device failed.
pub enum Failure {
    /// Not attempted: the configuration is incomplete.
    Setup(String),
    /// It did not start.
    Open(String),
    /// It failed after it had started.
    Read(String),
}

impl From<AdbError> for Failure {
    fn from(error: AdbError) -> Failure {
        Failure::Open(error.to_string())
    }
}

/// A device behind the adb server.
#[derive(Clone, Copy)]
pub struct Device<'a> {
    /// `[android]`, with the adb server's address.
    pub settings: &'a Android,
    /// Serial of the device.
    pub serial: &'a str,
    /// Ends every wait.
    pub stop: &'a Stop,
}

impl<'a> Device<'a> {
    /// Connects to a service on the device.
    pub fn service(&self, service: &str) -> Result<Connection<'a>, AdbError> {
        Connection::service(&self.settings.adb, self.serial, service, self.stop)
    }

    /// Writes the server to a file of this run's own, so that other runs and other gateways are not disturbed.
    pub fn push(self, id: u32, content: &[u8]) -> Result<PushedServer<'a>, Failure> {
        let path = format!("{DEVICE_DIR}/sluicegate-{id:08x}.jar");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |passed| passed.as_secs() as u32);
        let jar = PushedServer {
            device: self,
            path,
            is_there: true,
        };
        let pushed = self
            .service("sync:")
            .and_then(|mut sync| sync.push(&jar.path, content, now));
        match pushed {
            Ok(()) => Ok(jar),
            Err(error) => Err(Failure::Open(format!(
                "cannot push the scrcpy-server to {}: {error}",
                jar.path
            ))),
        }
    }

    /// Runs a command.
    pub fn shell(&self, command: &str) -> Result<Shell<'a>, AdbError> {
        match self.service(&format!("shell,v2,raw:{command}")) {
            // Android 6 and older lack this service. Their shell has a terminal, which also hangs up at the end.
            Err(AdbError::Refused(_)) => Ok(Shell::new(
                self.service(&format!("shell:{command}"))?,
                Output::new(false),
            )),
            opened => Ok(Shell::new(opened?, Output::new(true))),
        }
    }

    /// Connects to the server's video socket as soon as that exists.
    pub fn video(
        &self,
        socket: &str,
        shell: &mut Shell<'_>,
        version: &ScrcpyVersion,
        fleet: &Fleet,
    ) -> Result<Connection<'a>, Failure> {
        let began = Instant::now();
        loop {
            let refused = match self.service(socket) {
                Err(AdbError::Refused(reason)) => reason,
                opened => return Ok(opened?),
            };
            let gone = !matches!(fleet.presence(self.serial), None | Some(Presence::Ready));
            if gone {
                return Err(Failure::Open(format!("adb: {refused}")));
            }
            if !shell.listen(RETRY_INTERVAL) {
                return Err(Failure::Open(shell.output.explain_exit(version)));
            }
            if began.elapsed() > START_TIMEOUT {
                return Err(Failure::Open(format!(
                    "scrcpy did not start within {} s: {}",
                    START_TIMEOUT.as_secs(),
                    shell.output.explain_exit(version)
                )));
            }
        }
    }
}

/// The server's file on the device; removed when dropped.
pub struct PushedServer<'a> {
    device: Device<'a>,
    /// Path on the device.
    pub path: String,
    is_there: bool,
}

impl PushedServer<'_> {
    /// Removes the file, and those left by runs that were killed while starting. A file that remains does no harm.
    pub fn remove(&mut self) {
        self.is_there = false;
        // Works even if the source is being stopped.
        let stop = Stop::default();
        let device = Device {
            stop: &stop,
            ..self.device
        };
        let command = format!(
            "rm -f {}; find {DEVICE_DIR} -maxdepth 1 -name 'sluicegate-*.jar' -mtime +0 -exec rm -f {{}} + 2>/dev/null",
            self.path
        );
        let removed = device
            .shell(&command)
            .and_then(|mut shell| shell.connection.rest(CHUNK));
        if let Err(error) = removed {
            tracing::debug!(
                "cannot remove {} from android:{}: {error}",
                self.path,
                device.serial
            );
        }
    }
}

impl Drop for PushedServer<'_> {
    fn drop(&mut self) {
        if self.is_there {
            self.remove();
        }
    }
}

/// The server's process, seen through its shell.
pub struct Shell<'a> {
    /// Connection to the shell.
    pub connection: Connection<'a>,
    /// Output so far.
    pub output: Output,
    /// The process has exited, or the connection ended.
    pub ended: bool,
}

impl<'a> Shell<'a> {
    fn new(connection: Connection<'a>, output: Output) -> Shell<'a> {
        Shell {
            connection,
            output,
            ended: false,
        }
    }

    /// Reads its output for up to `wait`; returns false once it has ended.
    pub fn listen(&mut self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        while !self.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            match readable(&self.connection, left) {
                Ok(true) => self.read(),
                Ok(false) if left.is_zero() => break,
                Ok(false) => {}
                Err(_) => self.ended = true,
            }
        }
        !self.ended
    }

    /// Reads the available output.
    pub fn read(&mut self) {
        let mut buffer = [0; 4096];
        match self.connection.read(&mut buffer) {
            Ok(size) if size > 0 => self.output.push(buffer.get(..size).unwrap_or_default()),
            _ => self.ended = true,
        }
        self.ended |= self.output.has_ended();
    }
}
