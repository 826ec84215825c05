//! Who a caller is, and what it may do.

use super::external::External;
use super::random::Id;
use super::session::LiveSession;
use super::state::Owner;
use super::ticket::{Media, Ticket, includes};
use sluicegate_config::{Grants, Role, User};
use std::{fmt, sync::Arc};

/// Who a caller is, how that was proved, and what it may do. Cheap to clone. A sign-in is in use as long as somebody
/// holds its identity, so whatever lasts should hold it.
#[derive(Clone, Debug)]
pub struct Identity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None` for the user `anonymous`.
    owner: Option<Owner>,
    credential: Credential,
    /// Of the credential, to be shown.
    id: Option<String>,
    rights: Rights,
    ticket: Option<Ticket>,
}

/// How a caller proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By nothing: the user `anonymous`.
    Nothing,
    /// It is on this machine, without any trace of a proxy.
    Local,
    /// By the cookie of a sign-in with a password.
    Session,
    /// By the cookie of somebody who opened a share link.
    Link,
    /// By name and password in the request (Basic).
    Password,
    /// By an API token.
    Token,
    /// By a ticket for one stream.
    Ticket,
    /// By a trusted proxy.
    Proxy,
    /// By a JSON Web Token.
    Jwt,
}

/// What somebody proved who they are by.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    Nothing,
    Local,
    /// User, and fingerprint of the hash of its password.
    Password(Owner, u64),
    Session(Arc<LiveSession>),
    Token(Id),
    External(Arc<External>),
}

/// What a credential gives, as of one time.
#[derive(Clone, Debug)]
pub(crate) struct Rights {
    /// What its owner may do.
    pub owner: Arc<Grants>,
    /// What the credential lets its owner do.
    pub limit: Limit,
    /// What everybody may do, so this caller, too; `None` for tickets, which are for one stream.
    pub everybody: Option<Arc<Grants>>,
}

/// What a credential lets its owner do.
#[derive(Clone, Debug)]
pub(crate) enum Limit {
    /// Nothing: all rights of the user.
    Nothing,
    /// To these grants, as far as the user has them.
    Grants(Arc<Grants>),
    /// One role over the stream of this name.
    Stream(String, Role),
}

impl Limit {
    fn permits(&self, role: Role, stream: Option<&str>) -> bool {
        match self {
            Limit::Nothing => true,
            Limit::Grants(grants) => grants.permit(role, stream),
            Limit::Stream(name, own) => stream == Some(name) && includes(*own, role),
        }
    }

    fn permits_any(&self, role: Role) -> bool {
        match self {
            Limit::Nothing => true,
            Limit::Grants(grants) => grants.permit_any(role),
            Limit::Stream(_, own) => includes(*own, role),
        }
    }
}

impl Rights {
    /// Whether they include the role over the stream, or over the gateway; with a ticket, if that is for it.
    pub(crate) fn permit(&self, role: Role, stream: Option<&str>, ticket: Option<&Ticket>) -> bool {
        let admits = ticket.is_none_or(|ticket| {
            stream == Some(ticket.stream.as_str()) && includes(ticket.role, role)
        });
        let own = || self.limit.permits(role, stream) && self.owner.permit(role, stream);
        let everybody = || {
            let everybody = self.everybody.as_ref().filter(|_| ticket.is_none());
            everybody.is_some_and(|grants| grants.permit(role, stream))
        };
        admits && (own() || everybody())
    }

    fn permit_any(&self, role: Role) -> bool {
        let own = self.limit.permits_any(role) && self.owner.permit_any(role);
        let everybody = self.everybody.as_ref();
        own || everybody.is_some_and(|grants| grants.permit_any(role))
    }
}

impl Identity {
    pub(crate) fn new(
        owner: Option<Owner>,
        credential: Credential,
        rights: Rights,
        ticket: Option<Ticket>,
    ) -> Identity {
        let id = match &credential {
            Credential::Session(session) => Some(session.id.to_string()),
            Credential::Token(id) => Some(id.to_string()),
            _ => None,
        };
        Identity(Arc::new(Inner {
            owner,
            id,
            credential,
            rights,
            ticket,
        }))
    }

    /// Name of the user, to be shown: "anonymous" for nobody, "local" for somebody on this machine, and for a link or
    /// token the user who made it.
    pub fn user(&self) -> &str {
        self.0.owner.as_ref().map_or(User::ANONYMOUS, Owner::name)
    }

    /// How it was proved.
    pub fn proof(&self) -> Proof {
        match &self.0.credential {
            _ if self.0.ticket.is_some() => Proof::Ticket,
            Credential::Nothing => Proof::Nothing,
            Credential::Local => Proof::Local,
            Credential::Password(..) => Proof::Password,
            Credential::Session(session) => match session.link() {
                None => Proof::Session,
                Some(_) => Proof::Link,
            },
            Credential::Token(_) => Proof::Token,
            Credential::External(external) => match external.owner {
                Owner::Jwt(_) => Proof::Jwt,
                _ => Proof::Proxy,
            },
        }
    }

    /// Public id of the session or token that it was proved by.
    pub fn credential(&self) -> Option<&str> {
        self.0.id.as_deref()
    }

    /// The ticket that it was proved by.
    pub fn ticket(&self) -> Option<&Ticket> {
        self.0.ticket.as_ref()
    }

    /// Whether it has the role over the stream of this name, without a rendition, or, with `None`, over the gateway as
    /// a whole, which needs the pattern `*`. False for a ticket that is for one transport; see
    /// [`Identity::permits_media`].
    pub fn permits(&self, role: Role, stream: Option<&str>) -> bool {
        let restricted = self
            .ticket()
            .is_some_and(|ticket| ticket.restriction.is_some());
        !restricted && self.0.rights.permit(role, stream, self.ticket())
    }

    /// Whether it has the role over at least one stream, as far as can be told from patterns. False for a ticket.
    pub fn permits_any(&self, role: Role) -> bool {
        self.ticket().is_none() && self.0.rights.permit_any(role)
    }

    /// Whether it may watch this transport of a stream: as [`Identity::permits`] with [`Role::View`], and if it is a
    /// ticket with a restriction, that must be this one.
    pub fn permits_media(&self, media: Media<'_>) -> bool {
        let view = self
            .0
            .rights
            .permit(Role::View, Some(media.stream), self.ticket());
        view && self.ticket().is_none_or(|ticket| ticket.admits(media))
    }

    /// Whether it may make tokens and links, and see its own: not if it is one itself, or nobody.
    pub fn may_delegate(&self) -> bool {
        match self.proof() {
            Proof::Local | Proof::Session | Proof::Password | Proof::Proxy | Proof::Jwt => true,
            Proof::Nothing | Proof::Link | Proof::Token | Proof::Ticket => false,
        }
    }

    pub(crate) fn owner(&self) -> Option<&Owner> {
        self.0.owner.as_ref()
    }

    /// What it was proved by.
    pub(crate) fn held(&self) -> &Credential {
        &self.0.credential
    }
}

/// For logs: "eva", "eva by a token".
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.user())?;
        f.write_str(match self.proof() {
            Proof::Nothing | Proof::Local | Proof::Session | Proof::Password => "",
            Proof::Link => " by a link",
            Proof::Token => " by a token",
            Proof::Ticket => " by a ticket",
            Proof::Proxy => " by a proxy",
            Proof::Jwt => " by a JWT",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(role: Role, pattern: &str) -> Arc<Grants> {
        Arc::new(Grants::of(role, pattern.parse().unwrap()))
    }

    fn rights(limit: Limit) -> Rights {
        Rights {
            owner: grants(Role::View, "porch*"),
            limit,
            everybody: Some(grants(Role::View, "lobby")),
        }
    }

    fn identity(rights: Rights, ticket: Option<Ticket>) -> Identity {
        Identity::new(Some(Owner::Local), Credential::Local, rights, ticket)
    }

    #[test]
    fn a_limit_takes_away_and_gives_nothing() {
        for (limit, permitted) in [
            (Limit::Nothing, &["porch", "porch2", "lobby"][..]),
            (
                Limit::Grants(grants(Role::View, "*")),
                &["porch", "porch2", "lobby"],
            ),
            (
                Limit::Grants(grants(Role::View, "porch2")),
                &["porch2", "lobby"],
            ),
            (Limit::Grants(grants(Role::Admin, "garden")), &["lobby"]),
            (
                Limit::Stream("porch".into(), Role::Talk),
                &["porch", "lobby"],
            ),
            (Limit::Stream("porch".into(), Role::Control), &["lobby"]),
            (Limit::Stream("porch*".into(), Role::View), &["lobby"]),
        ] {
            let identity = identity(rights(limit.clone()), None);
            for stream in ["porch", "porch2", "lobby", "garden"] {
                let wanted = permitted.contains(&stream);
                assert_eq!(
                    identity.permits(Role::View, Some(stream)),
                    wanted,
                    "{limit:?} {stream}"
                );
                assert!(!identity.permits(Role::Capture, Some(stream)));
            }
            assert!(!identity.permits(Role::View, None));
            assert!(identity.permits_any(Role::View));
            assert!(!identity.permits_any(Role::Talk));
        }
    }

    #[test]
    fn a_ticket_is_for_its_stream_alone_and_for_a_transport_only_as_media() {
        let media = Media {
            stream: "porch",
            rendition: "",
            transport: "hls",
        };
        let mut ticket = Ticket {
            stream: "porch".into(),
            role: Role::View,
            restriction: None,
            session: 0,
        };
        let whole = identity(rights(Limit::Nothing), Some(ticket.clone()));
        assert!(whole.permits(Role::View, Some("porch")));
        assert!(whole.permits_media(media));
        assert!(!whole.permits(Role::View, Some("porch2")));
        assert!(!whole.permits(Role::View, Some("lobby")));
        assert!(!whole.permits(Role::View, None));
        assert!(!whole.permits_any(Role::View));
        assert!(!whole.may_delegate());
        ticket.restriction = Some(super::super::Restriction {
            rendition: String::new(),
            transport: "hls".into(),
        });
        let one = identity(rights(Limit::Nothing), Some(ticket.clone()));
        assert!(one.permits_media(media));
        let transport = "mjpeg";
        assert!(!one.permits_media(Media { transport, ..media }));
        assert!(!one.permits(Role::View, Some("porch")));
        // A ticket for what its owner may not do is good for nothing.
        ticket.stream = "garden".into();
        let stream = "garden";
        let foreign = identity(rights(Limit::Nothing), Some(ticket));
        assert!(!foreign.permits_media(Media { stream, ..media }));
    }

    #[test]
    fn a_log_tells_by_what_somebody_came() {
        let rights = rights(Limit::Nothing);
        let eva = Owner::Account("eva".into());
        let token = Identity::new(Some(eva), Credential::Token(Id(7)), rights.clone(), None);
        assert_eq!(token.to_string(), "eva by a token");
        let nobody = Identity::new(None, Credential::Nothing, rights, None);
        assert_eq!(nobody.to_string(), "anonymous");
    }
}
