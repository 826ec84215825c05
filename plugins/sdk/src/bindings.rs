//! Generated from `wit/gateway.wit`; everything else in this crate is written by hand on top of it.

// The canonical ABI is raw pointers by nature; the code is wit-bindgen's, and the names and their documentation are the
// WIT's.
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
