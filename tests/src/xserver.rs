//! An X server without a screen, and clients that draw on it.

use crate::within;
use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// A process Xvfb; killed when dropped.
pub struct XServer {
    pub display: String,
    child: Child,
}

impl XServer {
    /// Starts a server with this screen size on a free display.
    pub async fn start(size: (u32, u32)) -> XServer {
        XServer::run(size, &[]).await
    }

    /// Starts a server on a display that another one used before.
    pub async fn start_as(display: &str, size: (u32, u32)) -> XServer {
        XServer::run(size, &[display]).await
    }

    async fn run((width, height): (u32, u32), display: &[&str]) -> XServer {
        let mut child = Command::new("Xvfb")
            .args(display)
            .args(["-displayfd", "1", "-nolisten", "tcp", "-screen", "0"])
            .arg(format!("{width}x{height}x24"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the tests need Xvfb: run `.ci/setup test`");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = within("the X server starts", lines.next_line()).await;
        let number = line.unwrap().expect("the X server ended");
        XServer {
            display: format!(":{number}"),
            child,
        }
    }

    /// Kills the server, as in a crash; returns its display.
    pub async fn kill(mut self) -> String {
        within("the X server ends", self.child.kill())
            .await
            .unwrap();
        self.display
    }

    /// Starts ffplay as a client of the display.
    pub fn show(&self, arguments: &[&str]) -> Child {
        Command::new("ffplay")
            .args(["-hide_banner", "-loglevel", "error", "-nostats", "-an"])
            .args(arguments)
            .env("DISPLAY", &self.display)
            .env("SDL_AUDIODRIVER", "dummy")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the tests need ffplay, of the ffmpeg package")
    }

    /// Sends a signal to the server.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().expect("it has ended")).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }
}
