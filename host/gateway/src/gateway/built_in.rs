//! The components that this binary contains: the only place of the host that lists any. The build script embeds them.

use sluicegate_plugin::BuiltIn;

/// Built-in transports.
pub const TRANSPORTS: BuiltIn = BuiltIn(include!(concat!(env!("OUT_DIR"), "/transports.rs")));
/// Built-in policies; the first is the default.
pub const POLICIES: BuiltIn = BuiltIn(include!(concat!(env!("OUT_DIR"), "/policies.rs")));
