//! Who may do what: users, groups, roles, passwords, sign-in sessions, API tokens, share links, tickets, JSON Web
//! Tokens, identities from a trusted proxy, and the state file, which also keeps the streams that were added while the
//! gateway runs.
//!
//! [`Accounts`] is shared by the whole gateway. [`Accounts::identify`] makes an [`Identity`] of what a client presents,
//! [`Identity::permits`] says what it may do. Whatever lasts longer than a request waits for [`Accounts::changes`] and
//! asks [`Accounts::is_current`] after each. Header values come in as text; there is no HTTP in this crate. What
//! depends on the time gets it as an argument.
//!
//! Rights are those that the user has *now*: a session, token, link or ticket names its owner, and adds limits of its
//! own. So changing a user changes everything that was made in its name. Reasons are in decision 0044.

mod accounts;
mod credentials;
mod external;
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod jwt;
mod password;
mod random;
mod session;
mod state;
mod streams;
mod throttle;
mod ticket;
mod turns;
mod used;
mod users;
mod verified;
mod view;

pub use accounts::{
    Accounts, ChangeError, NewSettings, Presented, ProxyHeaders, Refused, Watching,
};
pub use credentials::{Link, Session, Token};
pub use identity::{Identity, Proof};
pub use jwt::{JwksError, MAX_JWKS_BYTES};
pub use sluicegate_config::{Grants, Pattern, Role, Secret};
pub use state::StateError;
pub use ticket::{Media, Restriction, Ticket, TicketError, ticket_in};
pub use users::{FIRST_ADMIN, UserInfo, hash_password};

#[cfg(test)]
mod tests;
