//! A real adb server, with a home of its own, that looks for no devices by itself.

use super::Device;
use crate::{PATIENCE, feeder::free_port, scratch, within};
use std::{path::PathBuf, process::Stdio, time::Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
};

/// `adb server`; killed when dropped.
pub struct Adb {
    pub port: u16,
    home: PathBuf,
    child: Option<Child>,
}

impl Adb {
    /// One that runs.
    pub async fn start() -> Adb {
        let mut adb = Adb::down().await;
        adb.up().await;
        adb
    }

    /// One that does not run yet.
    pub async fn down() -> Adb {
        Adb {
            port: free_port().await,
            home: scratch("adb"),
            child: None,
        }
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it; it answers when this returns.
    pub async fn up(&mut self) {
        let child = Command::new("adb")
            .args(["-P", &self.port.to_string(), "server", "nodaemon"])
            .env("HOME", &self.home)
            .env("TMPDIR", &self.home)
            .env_remove("ADB_VENDOR_KEYS")
            .env_remove("ANDROID_SDK_HOME")
            .env_remove("ADB_TRACE")
            // Emulators of this machine are not ours.
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

    /// Ends it as a crash would.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        within("the adb server ends", child.kill()).await.unwrap();
    }

    /// Connects it to devices, and waits until they are listed as ready.
    pub async fn connect(&self, devices: &[&Device]) {
        for device in devices {
            let began = Instant::now();
            let ready = format!("{}\tdevice", device.serial);
            // One that it is about to forget may be called connected already, and then be forgotten.
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

    /// Has it forget a device, as when its cable is pulled.
    pub async fn disconnect(&self, device: &Device) {
        self.ask(&format!("host:disconnect:{}", device.serial))
            .await;
    }

    /// Waits until it lists a device in that state.
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

    /// Asks it something that has a text for an answer.
    pub async fn ask(&self, request: &str) -> String {
        let answer = within(request, self.try_ask(request)).await;
        answer.unwrap_or_else(|| panic!("{request}: the adb server is gone"))
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
