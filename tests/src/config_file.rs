//! A gateway with a config file that the test rewrites while it runs.

use crate::{Gateway, client::request_with, scratch, within};
use serde_json::Value;
use std::{path::PathBuf, process::Stdio};

/// A running gateway and its config file.
pub struct Reloading {
    pub gateway: Gateway,
    /// The config file.
    pub file: PathBuf,
}

impl Reloading {
    /// Serves this config.
    pub async fn serve(config: &str) -> Reloading {
        let file = scratch("reload").join("sluice.toml");
        std::fs::write(&file, config).unwrap();
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--config"];
        let arguments = [&arguments[..], &[file.to_str().unwrap()]].concat();
        let (gateway, _) = Gateway::start(&arguments, Stdio::null()).await;
        Reloading { gateway, file }
    }

    /// Replaces the file at once, as editors do.
    pub fn write(&self, config: &str) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, config).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    /// Replaces the file and has it read again; returns what has changed.
    pub async fn reload(&self, config: &str) -> Value {
        self.write(config);
        let (status, answer) = self.post("POST", "/api/config/reload", "").await;
        assert_eq!(status, 200, "{answer:#}");
        answer
    }

    /// Replaces the file, which is to be refused; returns the status and the message.
    pub async fn refused(&self, config: &str) -> (u16, String) {
        self.write(config);
        let (status, answer) = self.post("POST", "/api/config/reload", "").await;
        assert_ne!(status, 200, "{answer:#}");
        (status, answer["error"].as_str().unwrap().to_owned())
    }

    /// A request with this body; returns status and answer.
    pub async fn post(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let asked = request_with(self.gateway.address, method, path, &[], body.as_bytes());
        let (status, _, body) = within(path, asked).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}
