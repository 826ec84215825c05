//! Finds the rule in `[[clients]]` that applies to a request. Pure; called by `api/choice.rs`.

use hyper::{
    HeaderMap,
    header::{self, HeaderValue},
};
use sluicegate_config::{Client, Match};
use std::net::IpAddr;

/// The parts of a request that rules can match.
#[derive(Clone, Copy, Debug)]
pub struct ClientRequest<'a> {
    /// Address of the client, behind trusted proxies.
    pub address: IpAddr,
    /// Headers of the request.
    pub headers: &'a HeaderMap,
    /// Query of the request, not decoded.
    pub query: &'a str,
    /// Name of the stream.
    pub stream: &'a str,
}

impl ClientRequest<'_> {
    /// Decoded value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.query.as_bytes())
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
    }

    /// Value of a header; `None` if it is absent or not ASCII.
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `User-Agent`; empty if absent.
    pub fn agent(&self) -> &str {
        self.header(header::USER_AGENT).unwrap_or_default()
    }
}

/// Most that is kept of a request, in bytes.
const MAX_KEPT_BYTES: usize = 4 << 10;

/// What rules look at in a request, to look at it again when there are other rules. Headers with credentials are not
/// kept, nor is what does not fit in 4 KiB, which no browser sends.
#[derive(Clone, Debug)]
pub struct RequestFacts {
    address: IpAddr,
    headers: HeaderMap,
    query: String,
}

impl From<&ClientRequest<'_>> for RequestFacts {
    fn from(request: &ClientRequest<'_>) -> RequestFacts {
        let mut left = MAX_KEPT_BYTES;
        let mut fits = |bytes: usize| {
            let fits = bytes <= left;
            left -= if fits { bytes } else { 0 };
            fits
        };
        let query = Some(request.query).filter(|query| fits(query.len()));
        let kept = request
            .headers
            .iter()
            .filter(|(name, _)| ![header::AUTHORIZATION, header::COOKIE].contains(name))
            .filter(|(name, value)| fits(name.as_str().len() + value.len()));
        // A copy, since a value of the request holds the whole buffer that it was read into.
        let kept = kept.filter_map(|(name, value)| {
            let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
            Some((name.clone(), value))
        });
        RequestFacts {
            address: request.address,
            headers: kept.collect(),
            query: query.unwrap_or_default().to_owned(),
        }
    }
}

impl RequestFacts {
    /// The first rule that matches the request, which was for this stream.
    pub fn find<'a>(&self, rules: &'a [Client], stream: &str) -> Option<&'a Client> {
        let request = ClientRequest {
            address: self.address,
            headers: &self.headers,
            query: &self.query,
            stream,
        };
        first(rules, &request)
    }
}

/// The first rule that matches the request.
pub fn first<'a>(rules: &'a [Client], request: &ClientRequest<'_>) -> Option<&'a Client> {
    rules.iter().find(|rule| fits(&rule.r#match, request))
}

fn fits(wanted: &Match, request: &ClientRequest<'_>) -> bool {
    let Match {
        network,
        user_agent,
        header,
        query,
        stream,
        client,
    } = wanted;
    let given = |name: &str, value: &String| request.parameter(name).as_ref() == Some(value);
    network.is_none_or(|network| network.contains(request.address))
        && user_agent.as_ref().is_none_or(|part| {
            let agent = request.agent().to_lowercase();
            agent.contains(&part.to_lowercase())
        })
        && header
            .iter()
            .all(|(name, value)| request.header(name.as_str()) == Some(value))
        && query.iter().all(|(name, value)| given(name, value))
        && stream
            .as_ref()
            .is_none_or(|stream| stream == request.stream)
        && client.as_ref().is_none_or(|client| given("client", client))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use sluicegate_config::Config;
    use std::path::Path;

    #[test]
    fn other_rules_apply_to_a_request_without_its_credentials() {
        let text = "[[clients]]\nmatch = { header = { x-room = 'hall' }, query = { a = '1' } }\n\
                    [[clients]]\nmatch = { header = { cookie = 'x' } }\n";
        let rules = Config::parse(text, Path::new("x.toml")).unwrap().clients;
        let long = "x".repeat(MAX_KEPT_BYTES);
        let lines = [("x-long", &long[..]), ("cookie", "x"), ("x-room", "hall")];
        let headers = lines.map(|(name, value)| {
            let name = header::HeaderName::from_static(name);
            (name, HeaderValue::from_str(value).unwrap())
        });
        let request = ClientRequest {
            address: "10.0.0.1".parse().unwrap(),
            headers: &headers.into_iter().collect(),
            query: "a=1",
            stream: "porch",
        };
        let facts = RequestFacts::from(&request);
        assert_eq!(facts.find(&rules, "porch"), rules.first());
        assert_eq!(facts.find(&rules[1..], "porch"), None);
        let request = ClientRequest {
            query: &long[1..],
            ..request
        };
        assert!(RequestFacts::from(&request).headers.is_empty());
    }

    #[test]
    fn each_kind_of_match_and_the_first_counts() {
        let text = "
            [[clients]]
            match = { network = '192.168.0.0/16', user-agent = 'iphone' }
            transport = 'a'
            [[clients]]
            match = { network = '192.168.0.0/16' }
            transport = 'b'
            [[clients]]
            match = { header = { X-Room = 'hall' } }
            transport = 'c'
            [[clients]]
            match = { query = { where = 'front door' } }
            transport = 'd'
            [[clients]]
            match = { stream = 'porch' }
            transport = 'e'
            [[clients]]
            match = { client = 'tablet' }
            transport = 'f'
            [[clients]]
            match = { user-agent = 'VLC', query = { x = '1', y = '2' } }
            transport = 'g'
        ";
        let rules = Config::parse(text, Path::new("x.toml")).unwrap().clients;
        let which = |address: &str, headers: &[(&'static str, &'static str)], query, stream| {
            let headers = headers
                .iter()
                .map(|(name, value)| {
                    let name = header::HeaderName::from_static(name);
                    (name, header::HeaderValue::from_static(value))
                })
                .collect();
            let request = ClientRequest {
                address: address.parse().unwrap(),
                headers: &headers,
                query,
                stream,
            };
            let rule = first(&rules, &request)?;
            Some(rule.transport.clone().unwrap().concat())
        };
        let agent = |name| [("user-agent", name)];
        for (address, headers, query, stream, expected) in [
            (
                "192.168.3.4",
                &agent("Mozilla (iPhone; x)")[..],
                "",
                "x",
                Some("a"),
            ),
            ("::ffff:192.168.3.4", &agent("curl")[..], "", "x", Some("b")),
            ("10.0.0.1", &[("x-room", "hall")][..], "", "x", Some("c")),
            ("10.0.0.1", &[("x-room", "Hall")][..], "", "x", None),
            (
                "10.0.0.1",
                &[][..],
                "a=b&where=front%20door",
                "x",
                Some("d"),
            ),
            ("10.0.0.1", &[][..], "where=front+door", "x", Some("d")),
            ("10.0.0.1", &[][..], "where=back", "porch", Some("e")),
            ("10.0.0.1", &[][..], "client=tablet", "x", Some("f")),
            ("10.0.0.1", &agent("VLC/3")[..], "y=2&x=1", "x", Some("g")),
            ("10.0.0.1", &agent("VLC/3")[..], "y=2", "x", None),
            ("10.0.0.1", &agent("curl")[..], "x=1&y=2", "x", None),
        ] {
            let found = which(address, headers, query, stream);
            assert_eq!(
                found.as_deref(),
                expected,
                "{address} {headers:?} {query} {stream}"
            );
        }
    }
}
