//! The tables of docs/reference/bounds.md are complete in bytes, correct in their sums, and agree with the constants in
//! the code.

use sluicegate_tests::Gateway;
use std::fs;

/// Rows of all tables: queue, bound, behaviour at the bound.
fn table() -> Vec<[String; 3]> {
    let text = fs::read_to_string(Gateway::root().join("docs/reference/bounds.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let cells = rows.map(|row| {
        let cells: Vec<String> = row
            .trim_matches('|')
            .split(" | ")
            .map(|cell| cell.trim().into())
            .collect();
        <[String; 3]>::try_from(cells).unwrap_or_else(|_| panic!("three cells: {row}"))
    });
    // Each table has a header row.
    cells.filter(|[queue, ..]| queue != "queue").collect()
}

const UNITS: [(&str, u64); 4] = [
    ("bytes", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Parses "2,400 MiB" or "16" into a number, in bytes if there is a unit.
fn amount(text: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    let number: u64 = words.next()?.replace(',', "").parse().ok()?;
    let unit = words.next();
    let factor = unit.and_then(|unit| {
        let unit = unit.trim_end_matches([',', ';', ':', ')']);
        UNITS.iter().find(|(name, _)| *name == unit)
    });
    Some(number * factor.map_or(1, |(_, factor)| *factor))
}

/// The last number in `text`, together with what follows it.
fn factor(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let starts = |word: &&&str| word.starts_with(|c: char| c.is_ascii_digit());
    let at = words.iter().rposition(|word| starts(&word))?;
    amount(&words[at..].join(" "))
}

#[test]
fn every_bound_is_in_bytes_or_holds_nothing() {
    let rows = table();
    assert!(rows.len() > 40, "{} rows", rows.len());
    for [queue, bound, _] in &rows {
        let in_bytes = UNITS
            .iter()
            .any(|(unit, _)| bound.contains(&format!(" {unit}")));
        // What waits in a ring counts as part of the ring.
        let elsewhere = bound == "the ring"
            || bound.contains("nothing is held")
            || bound.contains("`keep-bytes`");
        assert!(
            in_bytes || elsewhere,
            "`{queue}` is bounded by {bound:?}, which says nothing of bytes"
        );
    }
}

#[test]
fn what_is_multiplied_out_is_multiplied_right() {
    let mut sums = 0;
    for [queue, bound, _] in table() {
        let mut rest = bound.as_str();
        while let Some((before, after)) = rest.split_once(" = ") {
            let (left, right) = before
                .rsplit_once(" × ")
                .unwrap_or_else(|| panic!("{queue}: {bound}"));
            let (left, right, sum) = (factor(left), amount(right), amount(after));
            let product = left.zip(right).map(|(left, right)| left * right);
            assert!(
                product.is_some() && product == sum,
                "{queue}: {left:?} times {right:?} is not {sum:?} in {bound:?}"
            );
            sums += 1;
            rest = after;
        }
    }
    assert!(sums >= 10, "{sums}");
}

/// Start of a row's first cell, file below `host`, name of the constant, and its value as written in the row.
const IN_CODE: &[(&str, &str, &str, &str)] = &[
    (
        "first frames that wait",
        "stream/src/ingest/tracks.rs",
        "MAX_HELD_BYTES",
        "16 MiB",
    ),
    ("group starts", "media/src/group.rs", "MAX_STARTS", "16,384"),
    (
        "messages to a muxer",
        "plugin/src/muxer/mod.rs",
        "MAX_WAITING",
        "4,096",
    ),
    (
        "messages to a muxer",
        "plugin/src/muxer/mod.rs",
        "MAX_WAITING_BYTES",
        "8 MiB",
    ),
    (
        "pending requests",
        "plugin/src/muxer/request_cache.rs",
        "MAX_WAITING",
        "4,096",
    ),
    (
        "pending requests",
        "plugin/src/muxer/request_cache.rs",
        "MAX_ANSWERS",
        "256",
    ),
    (
        "pending requests",
        "plugin/src/muxer/request_cache.rs",
        "MAX_ANSWER_BYTES",
        "16 MiB",
    ),
    (
        "pending requests",
        "plugin/src/muxer/request_cache.rs",
        "MAX_IMMUTABLE_BYTES",
        "16 MiB",
    ),
    (
        "effects for one viewer",
        "plugin/src/muxer/mod.rs",
        "EFFECTS",
        "64",
    ),
    (
        "effects for one viewer",
        "plugin/src/muxer/mod.rs",
        "EFFECT_BYTES",
        "4 MiB",
    ),
    (
        "outlet: output chunks",
        "viewer/src/outlet/ring.rs",
        "MAX_BYTES",
        "64 MiB",
    ),
    (
        "outlet: output chunks",
        "viewer/src/outlet/ring.rs",
        "MAX_CHUNKS",
        "16,384",
    ),
    (
        "sessions; sessions",
        "gateway/src/session/mod.rs",
        "MAX_SESSIONS",
        "16,384",
    ),
    (
        "unclaimed sessions of one",
        "gateway/src/session/mod.rs",
        "MAX_UNCLAIMED",
        "256",
    ),
    (
        "messages to the policy thread",
        "gateway/src/session/policy_actor.rs",
        "INBOX_BYTES",
        "32 MiB",
    ),
    (
        "policy calls",
        "gateway/src/session/policy_actor/state.rs",
        "MAX_LOG_ENTRIES",
        "128",
    ),
    (
        "policy calls",
        "gateway/src/session/policy_actor/state.rs",
        "MAX_LOG_BYTES",
        "64 KiB",
    ),
    (
        "policy calls",
        "gateway/src/session/policy_actor/state.rs",
        "ALL_LOG_BYTES",
        "64 MiB",
    ),
    (
        "capture requests of a stream",
        "capture/src/worker.rs",
        "MAX_WAITING",
        "16",
    ),
    (
        "requests read from a capture client",
        "gateway/src/api/capture.rs",
        "MAX_HELD_BYTES",
        "8 MiB",
    ),
    (
        "captured images",
        "capture/src/lib.rs",
        "MAX_HELD_BYTES",
        "256 MiB",
    ),
    (
        "captured images",
        "capture/src/lib.rs",
        "MAX_IMAGE_BYTES",
        "32 MiB",
    ),
    (
        "answers that wait",
        "net/src/websocket/messages.rs",
        "MAX_WAITING",
        "64",
    ),
    (
        "answers that wait",
        "net/src/websocket/messages.rs",
        "MAX_WAITING_BYTES",
        "256 KiB",
    ),
    (
        "passwords that wait",
        "accounts/src/password.rs",
        "MAX_WAITING",
        "32",
    ),
    (
        "wrong passwords",
        "accounts/src/throttle.rs",
        "MAX_ENTRIES",
        "16,384",
    ),
    (
        "names and passwords",
        "accounts/src/verified.rs",
        "MAX_ENTRIES",
        "1,024",
    ),
    (
        "users; sign-ins",
        "accounts/src/state.rs",
        "MAX_USERS",
        "10,000",
    ),
    (
        "users; sign-ins",
        "accounts/src/state.rs",
        "MAX_SESSIONS_OF_ONE",
        "100",
    ),
    (
        "users; sign-ins",
        "accounts/src/state.rs",
        "MAX_SESSIONS",
        "20,000",
    ),
    (
        "users; sign-ins",
        "accounts/src/state.rs",
        "MAX_FILE",
        "64 MiB",
    ),
    (
        "changes of the state",
        "accounts/src/accounts.rs",
        "MAX_PENDING",
        "32",
    ),
    (
        "tickets that are kept",
        "accounts/src/used.rs",
        "MAX_TICKETS",
        "16,384",
    ),
    (
        "users; sign-ins",
        "accounts/src/state.rs",
        "MAX_STREAMS",
        "2,000",
    ),
    (
        "users; sign-ins",
        "accounts/src/state.rs",
        "MAX_STREAM_BYTES",
        "8 KiB",
    ),
    (
        "users of proxies",
        "accounts/src/external.rs",
        "MAX_EXTERNALS",
        "4,096",
    ),
    (
        "users of proxies",
        "accounts/src/jwt/keys.rs",
        "MAX_JWKS_BYTES",
        "256 KiB",
    ),
    ("events", "telemetry/src/events.rs", "MAX_BYTES", "1 MiB"),
    (
        "a client's WebSocket message",
        "net/src/serving.rs",
        "MAX_MESSAGE_BYTES",
        "64 KiB",
    ),
    (
        "WebTransport: bytes for a viewer",
        "net/src/webtransport/session.rs",
        "MAX_QUEUED",
        "256 KiB",
    ),
    (
        "WebTransport: bytes for a viewer",
        "net/src/webtransport/session.rs",
        "MAX_QUEUED_BY_RESTARTS",
        "1 MiB",
    ),
    (
        "WebTransport: bytes for a viewer",
        "net/src/webtransport/session.rs",
        "MAX_SEND_WINDOW",
        "8 MiB",
    ),
    (
        "WebTransport: groups to a viewer",
        "net/src/webtransport/streams.rs",
        "MAX_STREAMS",
        "128",
    ),
    (
        "WebTransport: groups to a viewer",
        "net/src/webtransport/streams.rs",
        "MAX_MESSAGES",
        "2,048",
    ),
    (
        "WebTransport: groups to a viewer",
        "net/src/quic/mod.rs",
        "DATAGRAM_SEND_BUFFER",
        "16 KiB",
    ),
    (
        "WebTransport: what a client sends",
        "net/src/webtransport/input.rs",
        "PIECE",
        "4 KiB",
    ),
    (
        "WebTransport: bytes for a viewer",
        "net/src/webtransport/session.rs",
        "MIN_SEND_WINDOW",
        "16 KiB",
    ),
    (
        "QUIC: handshakes",
        "net/src/quic/mod.rs",
        "MAX_HANDSHAKES",
        "512",
    ),
    (
        "QUIC: handshakes",
        "net/src/quic/mod.rs",
        "MAX_ADDRESS_HANDSHAKES",
        "32",
    ),
    (
        "QUIC: handshakes",
        "net/src/quic/mod.rs",
        "RETRY_FROM",
        "64",
    ),
    (
        "QUIC: handshakes",
        "net/src/quic/mod.rs",
        "INCOMING_BUFFERS",
        "2 MiB",
    ),
    (
        "QUIC: what a client may send",
        "net/src/quic/mod.rs",
        "MAX_CLIENT_STREAMS",
        "16",
    ),
    (
        "QUIC: what a client may send",
        "net/src/quic/mod.rs",
        "CONNECTION_WINDOW",
        "256 KiB",
    ),
    (
        "QUIC: what a client may send",
        "net/src/quic/mod.rs",
        "DATAGRAM_BUFFER",
        "64 KiB",
    ),
    (
        "values in a transport's profile",
        "plugin/src/instance/profile.rs",
        "MAX_HISTORY",
        "64",
    ),
    (
        "values in a transport's profile",
        "plugin/src/instance/profile.rs",
        "MAX_LANES",
        "16",
    ),
    (
        "values in a transport's profile",
        "plugin/src/instance/profile.rs",
        "MAX_PROTOCOLS",
        "16",
    ),
    (
        "values in a transport's profile",
        "plugin/src/instance/profile.rs",
        "MAX_PROTOCOL_LEN",
        "64 characters",
    ),
    (
        "values in a transport's profile",
        "plugin/src/instance/profile.rs",
        "MAX_EMBEDS",
        "16",
    ),
    (
        "values in a transport's profile",
        "plugin/src/instance/profile.rs",
        "MAX_LABEL_LEN",
        "64 characters",
    ),
    (
        "values in a transport's profile",
        "plugin/src/instance/profile.rs",
        "MAX_OUTPUT_LEN",
        "64 characters",
    ),
    (
        "values in a transport's profile",
        "plugin/src/instance/profile.rs",
        "MAX_ENTRY_LEN",
        "256 bytes",
    ),
    (
        "media type of a component's answer",
        "plugin/src/guest/limits.rs",
        "MAX_TYPE_LEN",
        "256 bytes",
    ),
    (
        "media type of a component's answer",
        "plugin/src/response.rs",
        "MAX_HEADERS",
        "16",
    ),
    (
        "media type of a component's answer",
        "plugin/src/response.rs",
        "MAX_HEADER_BYTES",
        "4 KiB",
    ),
    (
        "calls that wait for a candidate",
        "plugin/src/muxer/actor/exchange.rs",
        "MAX_BACKLOG",
        "4,096",
    ),
    (
        "processor times in a comparison",
        "plugin/src/muxer/actor/judge.rs",
        "MAX_TIMES",
        "512",
    ),
    (
        "change of components by request",
        "gateway/src/api/plugins.rs",
        "MAX_BODY_BYTES",
        "64 KiB",
    ),
    (
        "a component; its compilation",
        "plugin/src/engine.rs",
        "MAX_FILE_BYTES",
        "16 MiB",
    ),
    (
        "a component; its compilation",
        "plugin/src/compile.rs",
        "MAX_FUNCTIONS",
        "65,536",
    ),
    (
        "a component; its compilation",
        "plugin/src/compile.rs",
        "MAX_FUNCTION_BYTES",
        "1 MiB",
    ),
    (
        "a component; its compilation",
        "plugin/src/compile.rs",
        "MEMORY",
        "1 GiB",
    ),
    (
        "a component; its compilation",
        "plugin/src/compile.rs",
        "MAX_CODE_BYTES",
        "256 MiB",
    ),
    (
        "a component's module",
        "plugin/src/browser.rs",
        "MAX_MODULE_BYTES",
        "1 MiB",
    ),
    (
        "messages of a module",
        "../web/src/half/reports.ts",
        "MAX_LENGTH",
        "1,000",
    ),
    (
        "messages of a module",
        "../web/src/half/reports.ts",
        "RATE",
        "600",
    ),
    (
        "messages of a module",
        "../web/src/half/reports.ts",
        "BURST",
        "1,200",
    ),
    (
        "compiled components on disk",
        "plugin/src/cache.rs",
        "MAX_CACHE_BYTES",
        "256 MiB",
    ),
];

/// Evaluates expressions such as "16 << 20" and "65_536".
fn value(expression: &str) -> u64 {
    let number = |text: &str| -> u64 { text.trim().replace('_', "").parse().unwrap() };
    match expression.split_once("<<") {
        Some((number_of, shift)) => number(number_of) << number(shift),
        None => number(expression),
    }
}

#[test]
fn bounds_are_what_the_code_says() {
    let table = table();
    for (row, file, name, said) in IN_CODE {
        let code = fs::read_to_string(Gateway::root().join("host").join(file)).unwrap();
        let definition = code.lines().find_map(|line| {
            let line = line
                .trim_start()
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub ")
                .trim_start_matches("pub(crate) ")
                .strip_prefix("const ")?;
            // The type of a constant is before its value, in Rust.
            let rest = line.strip_prefix(name)?;
            let (_, value) = rest.strip_prefix([':', ' '])?.split_once("= ")?;
            Some(value)
        });
        let definition = definition.unwrap_or_else(|| panic!("{file} has no {name}"));
        let found = value(definition.trim_end_matches(';'));
        assert_eq!(
            Some(found),
            amount(said),
            "{file} has {name} = {definition}"
        );
        let mut rows = table.iter().filter(|[queue, ..]| queue.starts_with(row));
        let [_, bound, _] = rows
            .next()
            .unwrap_or_else(|| panic!("no row begins with {row:?}"));
        assert!(
            bound.contains(said),
            "{row}: {said} of {file}, {name} is not in {bound:?}"
        );
    }
}
