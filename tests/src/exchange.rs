//! Components in files that a test replaces while a gateway uses them, and what the gateway says about exchanges.

use crate::{Camera, Gateway, Watcher, client::request, gateway::scratch, within};
use serde_json::Value;
use std::{net::SocketAddr, path::PathBuf};

/// Many frames and short groups, so that a candidate is soon compared.
pub const FAST: &str = "[streams.demo]\nsource = \"test-pattern\"\n\
    encode = { width = 320, height = 192, frame-rate = 60, keyframe-interval = \"500ms\" }\n";

/// A component in a file that a test replaces.
pub struct Exchanged {
    pub name: &'static str,
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

impl Exchanged {
    pub fn new(name: &'static str, component: &str) -> Exchanged {
        let path = scratch("swaps").join(format!("{name}.wasm"));
        let bytes = std::fs::read(Gateway::component(component)).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        Exchanged { name, path, bytes }
    }

    /// The transport in the config, with these options.
    pub fn config(&self, options: &str) -> String {
        let (name, path) = (self.name, self.path.display());
        format!("[transports.{name}]\nplugin = \"{path}\"\n{options}\n")
    }

    /// Writes another file that does the same: a custom section is added.
    pub fn rebuild(&self, nth: usize) {
        let name = format!("{nth:09}");
        let mut bytes = self.bytes.clone();
        bytes.extend([0, 10, 9]);
        bytes.extend(name.as_bytes());
        std::fs::write(&self.path, bytes).unwrap();
    }

    /// Writes the build `name` of a component of the tests.
    pub fn write_build(&self, name: u8) {
        self.write_with(b"'s build ", name);
    }

    /// Writes the component with another byte behind the only place of `text`.
    pub fn write_with(&self, text: &[u8], byte: u8) {
        let mut bytes = self.bytes.clone();
        let mut places = bytes.windows(text.len()).enumerate();
        let mut places = places.by_ref().filter(|(_, part)| *part == text);
        let (at, _) = places.next().unwrap();
        assert!(places.next().is_none(), "there are several");
        bytes[at + text.len()] = byte;
        std::fs::write(&self.path, bytes).unwrap();
    }
}

/// Asks the gateway to read the transport's component again.
pub async fn reload(address: SocketAddr, name: &str) -> (u16, Value) {
    ask(address, &format!("/api/plugins/{name}/reload")).await
}

/// The same without a comparison.
pub async fn reload_by_force(address: SocketAddr, name: &str) -> (u16, Value) {
    ask(address, &format!("/api/plugins/{name}/reload?force=true")).await
}

async fn ask(address: SocketAddr, path: &str) -> (u16, Value) {
    let (status, _, body) = within("a reload", request(address, "POST", path, &[]))
        .await
        .unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

/// Reloads while the camera goes on; the viewer must get every frame.
pub async fn reload_while_watched(
    camera: &mut Camera,
    viewer: &mut Watcher,
    address: SocketAddr,
    name: &'static str,
) -> (u16, Value) {
    let reloading = tokio::spawn(reload(address, name));
    while !reloading.is_finished() {
        camera.show_at_once(viewer).await;
    }
    reloading.await.unwrap()
}

/// The transport's entry in `/api/plugins`.
pub async fn entry(gateway: &Gateway, name: &str) -> Value {
    find(&gateway.api("/api/plugins").await, name)
}

/// Waits until the transport's entry in `/api/plugins` satisfies `good`; returns it.
pub async fn entry_until(
    gateway: &Gateway,
    name: &str,
    what: &str,
    good: impl Fn(&Value) -> bool,
) -> Value {
    let good = |plugins: &Value| good(&find(plugins, name));
    find(&gateway.api_until("/api/plugins", what, good).await, name)
}

/// Waits until the newest exchange of the transport is in this state; returns the transport's entry.
pub async fn state_until(gateway: &Gateway, name: &str, state: &str) -> Value {
    let what = format!("the exchange is {state}");
    entry_until(gateway, name, &what, |entry| {
        entry["swap"]["state"] == state
    })
    .await
}

fn find(plugins: &Value, name: &str) -> Value {
    let mut all = plugins.as_array().unwrap().iter();
    all.find(|plugin| plugin["name"] == name).unwrap().clone()
}
