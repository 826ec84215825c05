//! A real adb server with a home directory of its own. It does not look for devices by itself: tests connect the fake
//! ones.

use super::Device;
use crate::{PATIENCE, feeder::free_port, scratch, within};
use std::{path::PathBuf, process::Stdio, time::Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
};

/// A process `adb server`; killed when dropped.
pub struct Adb {
    pub port: u16,
    home: PathBuf,
    child: Option<Child>,
}

impl Adb {
    /// Starts a server.
    pub async fn start() -> Adb {
        let mut adb = Adb::down().await;
        adb.up().await;
        adb
    }

    /// Reserves an address for a server that is not running yet.
    pub async fn down() -> Adb {
        Adb {
            port: free_port().await,
            home: scratch("adb"),
            child: None,
        }
    }

    /// Address of the server as HOST:PORT.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts the server and returns when it answers.
    pub async fn up(&mut self) {
        let child = Command::new("adb")
            .args(["-P", &self.port.to_string(), "server", "nodaemon"])
            .env("HOME", &self.home)
            .env("TMPDIR", &self.home)
            .env_remove("ADB_VENDOR_KEYS")
            .env_remove("ANDROID_SDK_HOME")
            .env_remove("ADB_TRACE")
            // Keeps the server from connecting to emulators on this machine.
            .env("ADB_LOCAL_TRANSPORT_MAX_PORT", "5554")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.home.join("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .expect("the tests need adb: run `.ci/setup test`");
        self.child = Some(child);
        let began = Instant::now();
        while self.try_ask("host:version").await.is_none() {
            assert!(began.elapsed() < PATIENCE, "the adb server does not answer");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Kills the server, as in a crash.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        within("the adb server ends", child.kill()).await.unwrap();
    }

    /// Connects the server to devices and waits until they are listed as ready.
    pub async fn connect(&self, devices: &[&Device]) {
        for device in devices {
            let began = Instant::now();
            let ready = format!("{}\tdevice", device.serial);
            // A device that the server is about to drop may be reported as connected and dropped afterwards, so
            // connecting is repeated.
            while !self
                .ask("host:devices")
                .await
                .lines()
                .any(|line| line == ready)
            {
                assert!(
                    began.elapsed() < PATIENCE,
                    "{} is not connected",
                    device.serial
                );
                self.ask(&format!("host:connect:{}", device.serial)).await;
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }

    /// Disconnects a device, as if its cable were pulled.
    pub async fn disconnect(&self, device: &Device) {
        self.ask(&format!("host:disconnect:{}", device.serial))
            .await;
    }

    /// Waits until the server lists the device in this state.
    pub async fn lists(&self, serial: &str, state: &str) {
        let line = format!("{serial}\t{state}");
        let began = Instant::now();
        loop {
            let list = self.ask("host:devices").await;
            if list.lines().any(|listed| listed == line) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{line:?} is not in {list:?}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Sends a request and returns the text of the answer.
    pub async fn ask(&self, request: &str) -> String {
        let answer = within(request, self.try_ask(request)).await;
        answer.unwrap_or_else(|| panic!("{request}: the adb server closed the connection"))
    }

    async fn try_ask(&self, request: &str) -> Option<String> {
        let mut server = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let request = format!("{:04x}{request}", request.len());
        server.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        Some(answer.get(8..).unwrap_or_default().to_owned())
    }
}
