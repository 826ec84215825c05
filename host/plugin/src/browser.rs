//! The half of a transport that runs in the browser: an ES module, which the component returns when it is loaded.

use super::{
    Plugin, Response, Usage,
    bindings::BrowserHalfPre,
    engine::hex_sha256,
    sandbox::{Failure, Sandbox},
    world::interface,
};
use std::sync::Arc;
use thiserror::Error;

/// Name of the interface, without package and version.
const INTERFACE: &str = "browser";
/// Largest module in bytes.
const MAX_MODULE_BYTES: usize = 1 << 20;

/// Reason why the half of a component that runs in the browser cannot be used.
#[derive(Debug, Error)]
pub enum BrowserError {
    /// The module is empty or too large, or the interface has other types.
    #[error("the half of {plugin} that runs in the browser cannot be used: {reason}")]
    Refused {
        /// Component, as name@version.
        plugin: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The component failed in `module`.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// The module of one component.
#[derive(Debug)]
pub struct BrowserModule {
    /// SHA-256 of its source, in hexadecimal.
    pub hash: String,
    /// Response with its source, which never changes.
    pub response: Response,
}

impl BrowserModule {
    /// Gets the component's module from an instance of its own; `None` if it has none.
    ///
    /// # Errors
    ///
    /// [`BrowserError::Refused`] if the module is empty or too large, [`BrowserError::Failed`] if the guest traps or
    /// exceeds a limit.
    pub fn of(plugin: &Plugin, usage: Arc<Usage>) -> Result<Option<BrowserModule>, BrowserError> {
        let mut exports = plugin.exports.iter().filter_map(|name| interface(name));
        if !exports.any(|(name, _)| name == INTERFACE) {
            return Ok(None);
        }
        let refused = |reason: String| BrowserError::Refused {
            plugin: plugin.to_string(),
            reason,
        };
        let pre = BrowserHalfPre::new(plugin.pre.instance_pre().clone())
            .map_err(|error| refused(format!("{error:#}")))?;
        let (mut sandbox, guest) =
            Sandbox::new(plugin, plugin.pre.engine(), "(check)", usage, |store| {
                pre.instantiate(store)
            })?;
        let guest = guest.sluicegate_gateway_browser();
        let source = sandbox.call("module", |store| guest.call_module(store))?;
        match source.len() {
            0 => Err(refused(
                "it is empty; return the source of an ES module".into(),
            )),
            1..=MAX_MODULE_BYTES => Ok(Some(BrowserModule::new(source))),
            size => Err(refused(format!(
                "it is {size} bytes; a module may have at most {MAX_MODULE_BYTES}"
            ))),
        }
    }

    fn new(source: String) -> BrowserModule {
        BrowserModule {
            hash: hex_sha256(source.as_bytes()),
            response: Response::new(
                200,
                "text/javascript; charset=utf-8".into(),
                Response::IMMUTABLE,
                bytes::Bytes::from(source).into(),
            ),
        }
    }

    /// Size of its source in bytes.
    pub fn size(&self) -> usize {
        self.response.body.len()
    }
}
