//! Bindings that wit-bindgen generates from `wit/gateway.wit` for the world `browser-half`; see [`crate::bindings`].
#![allow(
    unsafe_code,
    missing_docs,
    clippy::all,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

wit_bindgen::generate!({
    path: "../../wit",
    world: "browser-half",
    pub_export_macro: true,
});
