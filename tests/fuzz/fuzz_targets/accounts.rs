//! What is behind signatures and files' permissions: the state file, tickets and JSON Web Tokens.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, missing_docs)]

use libfuzzer_sys::fuzz_target;
use sluicegate_accounts::fuzzing::{jwt, state, ticket};
use sluicegate_fuzz::Input;

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let check = [state, ticket, jwt][usize::from(input.byte() % 3)];
    assert!(check(input.rest()));
});
