//! Bindings that wasmtime generates from `wit/gateway.wit` for the host.
#![allow(missing_docs)]

macro_rules! transport {
    ($wit:literal) => {
        wasmtime::component::bindgen!({
            path: $wit,
            world: "transport-plugin",
            imports: { default: trappable },
            with: {
                "sluicegate:gateway/media.buffer": sluicegate_media::buffer::Buffer,
                "sluicegate:gateway/viewers.viewer": crate::viewer::ViewerHandle,
            },
        });
    };
}

macro_rules! policy {
    ($wit:literal) => {
        wasmtime::component::bindgen!({
            path: $wit,
            world: "policy-plugin",
            imports: { default: trappable },
            with: {
                "sluicegate:gateway/log": super::log,
            },
            additional_derives: [PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema],
        });
    };
}

macro_rules! browser {
    ($wit:literal) => {
        wasmtime::component::bindgen!({
            path: $wit,
            world: "browser-half",
        });
    };
}

#[cfg(not(feature = "next-interface"))]
transport!("../../wit");
#[cfg(feature = "next-interface")]
transport!("../../target/next/sluicegate/wit");

pub use self::sluicegate::gateway::{log, media, viewers};
pub use exports::sluicegate::gateway::transport;

mod of_policy {
    #[cfg(not(feature = "next-interface"))]
    policy!("../../wit");
    #[cfg(feature = "next-interface")]
    policy!("../../target/next/sluicegate/wit");
}

mod of_browser {
    #[cfg(not(feature = "next-interface"))]
    browser!("../../wit");
    #[cfg(feature = "next-interface")]
    browser!("../../target/next/sluicegate/wit");
}

pub use of_browser::BrowserHalfPre;
pub use of_policy::{PolicyPlugin, PolicyPluginPre, exports::sluicegate::gateway::policy};
