//! Bindings that wit-bindgen generates from `wit/gateway.wit` for the world `transport-plugin`. Everything else in this
//! crate is written by hand on top of them.

// The canonical ABI works with raw pointers, so the generated code is unsafe. Names and documentation come from the WIT
// file.
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
    world: "transport-plugin",
    pub_export_macro: true,
});
