//! Bindings that wasmtime generates from `wit/gateway.wit` for the host.
#![allow(missing_docs)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "transport-plugin",
    imports: { default: trappable },
    with: {
        "sluicegate:gateway/media.buffer": sluicegate_media::buffer::Buffer,
        "sluicegate:gateway/viewers.viewer": crate::viewer::ViewerHandle,
    },
});

pub use self::sluicegate::gateway::{log, media, viewers};
pub use exports::sluicegate::gateway::transport;

mod of_policy {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "policy-plugin",
        imports: { default: trappable },
        with: {
            "sluicegate:gateway/log": super::log,
        },
        additional_derives: [PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema],
    });
}

mod of_browser {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "browser-half",
    });
}

pub use of_browser::BrowserHalfPre;
pub use of_policy::{PolicyPlugin, PolicyPluginPre, exports::sluicegate::gateway::policy};
