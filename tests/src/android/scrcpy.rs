//! Processes on a fake device: scrcpy's server in any version that the fixtures describe, and `rm`.

use super::{
    adbd::{Pipe, Shared},
    film::Film,
    wire::{Numbers, Wire},
};
use crate::{camera::COUNT, media::with_start_codes};
use bytes::Bytes;
use sluicegate_media::h264::nal;
use std::{collections::HashMap, sync::Arc, time::Instant};
use tokio::sync::{mpsc, oneshot};

/// Events sent to a running server.
pub enum Command {
    /// The screen shows the next frame; the server answers with its index.
    Show(oneshot::Sender<usize>),
    /// The device is turned.
    Turn,
    /// The server prints this text and exits.
    Die(String),
}

/// Runs a command line; its streams end with it.
pub async fn shell(shared: &Arc<Shared>, command: String, pipe: Pipe, packets: bool) {
    let mut shell = Shell { pipe, packets };
    let code = match command.contains("com.genymobile.scrcpy.Server") {
        true => match server(shared, &command, &mut shell).await {
            Some(code) => code,
            // The shell was hung up: nobody reads its output.
            None => return,
        },
        false => {
            remove(shared, &command);
            0
        }
    };
    if packets {
        shell.pipe.write(&[3, 1, 0, 0, 0, code]).await;
    }
}

struct Shell {
    pipe: Pipe,
    packets: bool,
}

impl Shell {
    async fn say(&self, stream: u8, text: &str) {
        let mut bytes = Vec::new();
        if self.packets {
            bytes.push(stream);
            bytes.extend((text.len() as u32).to_le_bytes());
        }
        bytes.extend_from_slice(text.as_bytes());
        self.pipe.write(&bytes).await;
    }

    async fn complain(&self, text: &str) -> Option<u8> {
        self.say(2, text).await;
        Some(1)
    }
}

fn remove(shared: &Shared, command: &str) {
    for part in command.split(';').map(str::trim) {
        if let Some(path) = part.strip_prefix("rm -f ") {
            shared.change(|state| state.files.remove(path));
        } else if !part
            .starts_with("find /data/local/tmp -maxdepth 1 -name 'sluicegate-*.jar' -mtime +0 ")
        {
            shared.change(|state| state.complaints.push(format!("shell: {part}")));
        }
    }
}

/// Runs one server from start to end and returns its exit code; `None` if SIGHUP ended it.
async fn server(shared: &Arc<Shared>, command: &str, shell: &mut Shell) -> Option<u8> {
    let sdk = shared.lock().sdk;
    shared.change(|state| state.started.push(command.to_owned()));
    shell.say(1, &format!("sdk={sdk}\n")).await;
    let jar = command
        .split("CLASSPATH=")
        .nth(1)
        .and_then(|rest| rest.split(';').next());
    let content = jar.and_then(|jar| shared.lock().files.get(jar).cloned());
    let content = content.map(|content| String::from_utf8_lossy(&content).into_owned());
    let real = content
        .as_deref()
        .and_then(|content| content.strip_prefix("scrcpy-server "));
    let Some(wire) = real.and_then(|real| Wire::of(real.split_whitespace().next()?)) else {
        let words = "Error: java.lang.ClassNotFoundException: com.genymobile.scrcpy.Server\n\tat java.lang.Class\nAborted\n";
        return shell.complain(words).await;
    };
    let fails = shared.lock().fails.clone();
    if let Some(words) = fails {
        return shell.complain(&words).await;
    }
    let arguments = command
        .split("com.genymobile.scrcpy.Server ")
        .nth(1)
        .unwrap();
    let mut arguments = arguments.split_whitespace();
    let client = arguments.next().unwrap();
    if client != wire.version {
        let words = wire.get("mismatch").unwrap();
        let words = words
            .replace("SERVER", &wire.version)
            .replace("CLIENT", client);
        let words = format!(
            "[server] ERROR: {words}\njava.lang.IllegalArgumentException: {words}\n\tat com.genymobile.scrcpy.Options.parse(Options.java)\n"
        );
        return shell.complain(&words).await;
    }
    let options: HashMap<&str, &str> = arguments
        .map(|pair| pair.split_once('=').unwrap())
        .collect();
    let known: Vec<&str> = wire.get("options").unwrap().split(' ').collect();
    for key in options.keys().filter(|key| !known.contains(key)) {
        shared.change(|state| {
            state
                .complaints
                .push(format!("Unknown server option: {key}"))
        });
    }
    let is = |key: &str, value: &str| options.get(key) == Some(&value);
    let id = u32::from_str_radix(options["scid"], 16).unwrap();
    assert!(
        id < 1 << 31
            && is("tunnel_forward", "true")
            && is("audio", "false")
            && is("cleanup", "false")
    );
    shell
        .say(1, "[server] INFO: Device: [Fake] fake Fake (Android 14)\n")
        .await;

    let name = wire
        .get("socket")
        .unwrap()
        .replace("%08x", &format!("{id:08x}"));
    let (to, mut connecting) = mpsc::unbounded_channel();
    shared.change(|state| state.sockets.insert(name.clone(), to));
    // Removes the process from the device's state however the server ends.
    let _process = Process {
        shared,
        name: name.clone(),
        id,
    };
    let raw = is(wire.get("raw").unwrap(), "true");
    let video = accept(&mut connecting, shell).await?;
    let mut control = None;
    let greets = |key: &str| !raw && !is(key, "false");
    if greets("send_dummy_byte") {
        video.write(&wire.bytes("dummy", Numbers::default())).await;
    }
    if is("control", "true") {
        control = Some(accept(&mut connecting, shell).await?);
    }
    shared.change(|state| state.sockets.remove(&name));
    let mut wakes = wire.get("wakes").unwrap().split(' ');
    if wakes.all(|option| is(option, "true")) {
        shared.change(|state| state.wakes += 1);
    }
    if greets("send_device_meta") {
        let length = wire.get("name").unwrap().parse().unwrap();
        let mut name = b"Fake".to_vec();
        name.resize(length, 0);
        video.write(&name).await;
    }
    let mut encoder = Encoder {
        wire,
        raw,
        turned: false,
        next: 0,
        begins: true,
        since: shared.since,
    };
    let header = if raw {
        Vec::new()
    } else {
        wire.bytes("header", encoder.numbers(0))
    };
    video.write(&header).await;
    let (to, mut commands) = mpsc::unbounded_channel();
    shared.change(|state| state.processes.insert(id, to));
    loop {
        let asked = async {
            match &mut control {
                Some(control) => control.input.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            hangup = shell.pipe.input.recv() => {
                hangup.as_ref()?;
            }
            bytes = asked => match bytes {
                Some(bytes) => {
                    for byte in bytes {
                        if wire.bytes("reset", Numbers::default()) == [byte] {
                            shared.change(|state| state.resets.push(Instant::now()));
                            encoder.begins = !shared.lock().is_deaf;
                        } else {
                            shared.change(|state| state.complaints.push(format!("control message {byte}")));
                        }
                    }
                }
                None if wire.get("control-end") == Some("ends") => return Some(0),
                None => control = None,
            },
            command = commands.recv() => match command {
                Some(Command::Show(told)) => {
                    let (place, bytes) = encoder.encode(shared.lock().filler);
                    // A broken pipe ends the server.
                    if !video.write(&bytes).await {
                        return Some(0);
                    }
                    let _ = told.send(place);
                }
                Some(Command::Turn) => {
                    encoder.turned = !encoder.turned;
                    encoder.begins = true;
                }
                Some(Command::Die(words)) => return shell.complain(&words).await,
                None => return Some(0),
            },
        }
    }
}

async fn accept(connecting: &mut mpsc::UnboundedReceiver<Pipe>, shell: &mut Shell) -> Option<Pipe> {
    tokio::select! {
        pipe = connecting.recv() => pipe,
        _ = shell.pipe.input.recv() => None,
    }
}

struct Process<'a> {
    shared: &'a Shared,
    name: String,
    id: u32,
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.processes.remove(&self.id);
            state.sockets.remove(&self.name);
        });
    }
}

struct Encoder {
    wire: &'static Wire,
    raw: bool,
    turned: bool,
    next: usize,
    /// The next frame is an IDR frame with parameter sets in front.
    begins: bool,
    since: Instant,
}

impl Encoder {
    fn numbers(&self, bytes: usize) -> Numbers {
        Numbers {
            size: Film::get(self.turned).size,
            bytes,
            time: self.since.elapsed().as_micros() as u64,
        }
    }

    fn encode(&mut self, filler: usize) -> (usize, Vec<u8>) {
        let film = Film::get(self.turned);
        let mut bytes = Vec::new();
        if std::mem::take(&mut self.begins) {
            self.next = self.next.next_multiple_of(COUNT);
            if !self.raw {
                bytes.extend(self.wire.bytes("session", self.numbers(0)));
            }
            self.packet("config", &film.sets, &mut bytes);
        }
        let place = self.next % COUNT;
        self.next += 1;
        let frame = &film.frames[place];
        let key = nal::unit_type(&frame[0]) == nal::IDR;
        let mut frame = frame.clone();
        if filler > 0 {
            // Filler data (H.264 7.3.2.7).
            frame.push([&[12], &vec![0xff; filler][..], &[0x80]].concat().into());
        }
        self.packet(if key { "keyframe" } else { "frame" }, &frame, &mut bytes);
        (place, bytes)
    }

    fn packet(&self, what: &str, nals: &[Bytes], bytes: &mut Vec<u8>) {
        let data = with_start_codes(nals, |_| 4);
        if !self.raw {
            bytes.extend(self.wire.bytes(what, self.numbers(data.len())));
        }
        bytes.extend(data);
    }
}
