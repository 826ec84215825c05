//! What a request requires of its caller. Pure.

use super::{Identity, Media, Role, shortened};
use sluicegate_accounts::Proof;

/// What a request requires of its caller: a role, and what it is to have that role for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission<'a> {
    /// The role; `None` if the answer is the same for every client and starts nothing, or if the scope says more.
    pub role: Option<Role>,
    /// What the request is about.
    pub scope: Scope<'a>,
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// The gateway as a whole: metrics, components.
    Gateway,
    /// Whichever streams the caller has the role for: the answer lists those, or is a page about them.
    AnyStream,
    /// The stream of this name, which need not exist.
    Stream(&'a str),
    /// A transport of a stream. A ticket admits to it.
    Media(Media<'a>),
    /// What the path names by a hash of its content, so that whoever can ask for it knows what it is.
    Content,
    /// The caller's own account: for whoever has signed in.
    Account,
    /// Signing in and out: for everybody, from the gateway's own pages only.
    SignIn,
}

impl Permission<'_> {
    /// Whether this identity has it.
    pub fn is_granted_to(&self, identity: &Identity) -> bool {
        match (self.role, self.scope) {
            (None, Scope::Account) => identity.proof() != Proof::Nothing,
            (None, _) => true,
            (Some(role), Scope::AnyStream) => identity.permits_any(role),
            (Some(role), Scope::Stream(name)) => identity.permits(role, Some(name)),
            (Some(Role::View), Scope::Media(media)) => identity.permits_media(media),
            (Some(role), Scope::Media(media)) => identity.permits(role, Some(media.stream)),
            (Some(role), _) => identity.permits(role, None),
        }
    }

    /// The same, of its own.
    pub fn owned(&self) -> OwnedPermission {
        let scope = match self.scope {
            Scope::Gateway => OwnedScope::Gateway,
            Scope::AnyStream => OwnedScope::AnyStream,
            Scope::Stream(name) => OwnedScope::Stream(name.to_owned()),
            Scope::Media(media) => OwnedScope::Media(
                [media.stream, media.rendition, media.transport].map(str::to_owned),
            ),
            Scope::Content => OwnedScope::Content,
            Scope::Account => OwnedScope::Account,
            Scope::SignIn => OwnedScope::SignIn,
        };
        let role = self.role;
        OwnedPermission { role, scope }
    }

    /// Whether pages of `origins` cannot have it: they may watch and capture.
    pub(super) fn is_for_own_pages(&self) -> bool {
        matches!(self.scope, Scope::Account | Scope::SignIn)
            || !matches!(self.role, None | Some(Role::View | Role::Capture))
    }
}

impl std::fmt::Display for Permission<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let role = self.role.map_or("public", Role::name);
        match self.scope {
            Scope::Gateway | Scope::Content => f.write_str(role),
            Scope::Account => f.write_str("an account"),
            Scope::SignIn => f.write_str("signing in"),
            Scope::AnyStream => write!(f, "{role} of any stream"),
            Scope::Stream(name) | Scope::Media(Media { stream: name, .. }) => {
                write!(f, "{role} of the stream {}", shortened(name))
            }
        }
    }
}

/// A [`Permission`] of its own, for what lasts longer than a request.
#[derive(Clone, Debug)]
pub struct OwnedPermission {
    role: Option<Role>,
    scope: OwnedScope,
}

/// A [`Scope`] of its own.
#[derive(Clone, Debug)]
enum OwnedScope {
    Gateway,
    AnyStream,
    Stream(String),
    /// Stream, rendition and transport.
    Media([String; 3]),
    Content,
    Account,
    SignIn,
}

impl OwnedPermission {
    /// The same, borrowed.
    pub fn permission(&self) -> Permission<'_> {
        let scope = match &self.scope {
            OwnedScope::Gateway => Scope::Gateway,
            OwnedScope::AnyStream => Scope::AnyStream,
            OwnedScope::Stream(name) => Scope::Stream(name),
            OwnedScope::Media([stream, rendition, transport]) => Scope::Media(Media {
                stream,
                rendition,
                transport,
            }),
            OwnedScope::Content => Scope::Content,
            OwnedScope::Account => Scope::Account,
            OwnedScope::SignIn => Scope::SignIn,
        };
        let role = self.role;
        Permission { role, scope }
    }
}
