//! Components are reloaded, added and removed by requests, by the command line, and because a file has changed.

use serde_json::Value;
use sluicegate_tests::{
    Gateway, Nal,
    client::request_with,
    command::{CommandResult, check, config_file, sluicegate},
    exchange::{Exchanged, FAST, entry, entry_until, reload},
    http_get, within,
};
use std::process::Stdio;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_half_written_or_the_same_changes_nothing() {
    let mine = Exchanged::new("mine", "nal");
    let gateway = Gateway::with_config(&format!("{FAST}{}", mine.config(""))).await;
    let address = gateway.address;
    let mut viewer = within("a viewer", Nal::open(address, "/live/demo/mine"))
        .await
        .unwrap();
    let before = entry(&gateway, "mine").await;
    let (status, same) = reload(address, "mine").await;
    assert_eq!((status, &same["hash"]), (200, &before["hash"]));
    assert_eq!(same["swap"]["state"], "unchanged");
    std::fs::write(&mine.path, &mine.bytes[..mine.bytes.len() / 2]).unwrap();
    let (status, refused) = reload(address, "mine").await;
    assert_eq!(status, 422, "{refused}");
    let said = refused["error"].as_str().unwrap();
    assert!(said.contains("truncated or damaged"), "{said}");
    assert!(said.ends_with("the component in use stays"), "{said}");
    std::fs::remove_file(&mine.path).unwrap();
    let (status, refused) = reload(address, "mine").await;
    assert_eq!(status, 422, "{refused}");
    let said = refused["error"].as_str().unwrap();
    assert!(said.contains("No such file"), "{said}");
    assert!(said.ends_with("the component in use stays"), "{said}");
    for _ in 0..60 {
        within("a frame", viewer.next_unit()).await.unwrap();
    }
    assert_eq!(entry(&gateway, "mine").await["hash"], before["hash"]);
}

/// Runs `sluicegate plugin` against this gateway.
async fn plugin(url: &str, arguments: &[&str]) -> CommandResult {
    let arguments = [&["plugin"][..], arguments, &["--url", url]].concat();
    sluicegate(&arguments).await
}

/// The twelve digits of a hash in parentheses, as the command line shows it.
fn hash_in(out: &str) -> &str {
    let (_, rest) = out.split_once('(').unwrap();
    let (hash, _) = rest.split_once(')').unwrap();
    assert_eq!(hash.len(), 12, "{out}");
    hash
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transport_is_added_exchanged_and_removed_by_the_command_line() {
    for tls in [false, true] {
        let server = "[server]\ntls = \"self-signed\"\n";
        let config = format!("{}{FAST}", if tls { server } else { "" });
        let gateway = Gateway::with_config(&config).await;
        let scheme = if tls { "https" } else { "http" };
        let url = format!("{scheme}://{}", gateway.address);
        let mine = Exchanged::new("mine", "nal");
        let file = mine.path.to_str().unwrap();
        let added = plugin(
            &url,
            &["add", "mine", file, "--options", "{\"stale\": \"2s\"}"],
        )
        .await;
        assert_eq!(added.code, Some(0), "{added:?}");
        let hash = hash_in(&added.out);
        assert_eq!(
            added.out,
            format!("mine: nal@0.1.0 ({hash}), added; watch it at {url}/live/STREAM/mine\n")
        );
        plugin(&url, &["add", "mine", file])
            .await
            .refused(&["409", "there is a transport `mine` already"]);
        plugin(&url, &["add", "other", "no-such.wasm"])
            .await
            .refused(&[
                "422",
                "[transports.other]: cannot read the plugin",
                "No such file",
            ]);
        plugin(&url, &["add", "other", file, "--options", "{\"stael\": 1}"])
            .await
            .refused(&["422", "unknown option `stael`"]);
        plugin(&url, &["add", "Other", file])
            .await
            .refused(&["400", "`Other` is not a valid transport name"]);
        plugin(&url, &["add", "auto", file])
            .await
            .refused(&["400", "`auto` means the automatic choice of a transport"]);
        mine.rebuild(1);
        let reloaded = plugin(&url, &["reload", "mine"]).await;
        assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
        let new = hash_in(&reloaded.out);
        assert_ne!(new, hash);
        if !tls {
            let entry = entry(&gateway, "mine").await;
            assert!(entry["hash"].as_str().unwrap().starts_with(new), "{entry}");
        }
        assert_eq!(
            reloaded.out,
            format!("mine: nal@0.1.0 ({new}), switched, 0 muxers\n")
        );
        if !tls {
            let viewer = within("a viewer", Nal::open(gateway.address, "/live/demo/mine"));
            let viewer = viewer.await.unwrap();
            mine.rebuild(2);
            let forced = plugin(&url, &["reload", "mine", "--force"]).await;
            let hash = hash_in(&forced.out);
            let expected =
                format!("mine: nal@0.1.0 ({hash}), switched: its viewers were disconnected\n");
            assert_eq!(forced.out, expected, "{forced:?}");
            drop(viewer);
            mine.rebuild(1);
            let back = plugin(&url, &["reload", "mine", "--force"]).await;
            assert_eq!(hash_in(&back.out), new, "{back:?}");
        }
        plugin(&url, &["reload", "nothing"])
            .await
            .refused(&["404", "there is no component `nothing`"]);
        plugin(&url, &["remove", "hls"])
            .await
            .refused(&["409", "is part of the binary"]);
        let removed = plugin(&url, &["remove", "mine"]).await;
        assert_eq!(
            removed.out,
            format!("mine: nal@0.1.0 ({new}), removed\n"),
            "{removed:?}"
        );
        plugin(&url, &["remove", "mine"])
            .await
            .refused(&["404", "there is no transport `mine`"]);
        let (other, advice) = match tls {
            false => ("https", "for a gateway without, write http://"),
            true => ("http", "this port speaks TLS: write https://"),
        };
        let wrong = format!("{other}://{}", gateway.address);
        plugin(&wrong, &["reload", "hls"]).await.refused(&[advice]);
    }
    // Another web server.
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    let serving = async {
        let (mut client, _) = server.accept().await.unwrap();
        // An answer before the request would be an error of its own.
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            client.read_buf(&mut asked).await.unwrap();
        }
        let page = "HTTP/1.1 404 Not Found\r\nContent-Length: 20\r\n\r\n<html>No such page.\n";
        client.write_all(page.as_bytes()).await.unwrap();
        client
    };
    let (refused, _client) = tokio::join!(plugin(&url, &["reload", "hls"]), serving);
    refused.refused(&["404", "is another server there?"]);
    assert!(!refused.err.contains("html"), "{refused:?}");
    // A port that nothing listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    plugin(&url, &["reload", "hls"])
        .await
        .refused(&["no gateway answers at", "is it running"]);
    plugin("http://192.0.2.1", &["reload", "hls"])
        .await
        .refused(&["is not on this machine"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_has_to_wait_says_for_what() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    let mut command = Command::new(Gateway::binary())
        .args(["plugin", "reload", "mine", "--url", &url])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (client, _) = within("a request", server.accept()).await.unwrap();
    let mut lines = BufReader::new(command.stderr.take().unwrap()).lines();
    let line = within("a line", lines.next_line()).await.unwrap().unwrap();
    assert_eq!(
        line,
        format!("waiting for {url} to compile and compare the component…")
    );
    drop(client);
    let status = within("its end", command.wait()).await.unwrap();
    assert_eq!(status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transports_that_come_and_go_under_load_leave_nothing_behind() {
    let gateway = Gateway::with_config(FAST).await;
    let (address, url) = (gateway.address, format!("http://{}", gateway.address));
    let mut stays = within("a viewer", Nal::connect(address, "demo"))
        .await
        .unwrap();
    let mine = Exchanged::new("mine", "nal");
    let file = mine.path.to_str().unwrap();
    let mut before = None;
    let mut memory = Vec::new();
    for round in 0..10 {
        let added = plugin(&url, &["add", "mine", file]).await;
        assert_eq!(added.code, Some(0), "{added:?}");
        let mut viewers = Vec::new();
        for _ in 0..20 {
            let viewer = Nal::open(address, "/live/demo/mine");
            let mut viewer = within("a viewer", viewer).await.unwrap();
            within("a frame", viewer.next_unit()).await.unwrap();
            viewers.push(viewer);
        }
        let removed = plugin(&url, &["remove", "mine"]).await;
        assert_eq!(removed.code, Some(0), "{removed:?}");
        for mut viewer in viewers {
            let close = within("a close frame", viewer.closed()).await.unwrap();
            let close = close.unwrap();
            assert_eq!(u16::from(close.code), 1001, "{close:?}");
            assert!(
                close.reason.contains("the transport was removed"),
                "{close:?}"
            );
        }
        let gone = http_get(address, "/live/demo/mine", &[]).await.unwrap();
        assert_eq!(gone.0, 404);
        within("a frame", stays.next_unit()).await.unwrap();
        // The first round has started threads that stay.
        let (threads, files) = *before.get_or_insert((gateway.threads(), gateway.files()));
        within(&format!("round {round} leaves nothing"), async {
            while gateway.threads() > threads || gateway.files() > files {
                within("a frame", stays.next_unit()).await.unwrap();
            }
        })
        .await;
        memory.push(gateway.memory() >> 20);
    }
    // An instance that stayed would keep a MiB or more of its memory.
    let grown = memory[9].saturating_sub(memory[4]);
    assert!(grown <= 4, "memory after each round in MiB: {memory:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_file_is_reloaded_when_it_has_changed_and_is_complete() {
    let mine = Exchanged::new("mine", "nal");
    let config = format!("{FAST}{}", mine.config("watch = true"));
    let gateway = Gateway::with_config(&config).await;
    let mut viewer = within("a viewer", Nal::open(gateway.address, "/live/demo/mine"))
        .await
        .unwrap();
    within("a frame", viewer.next_unit()).await.unwrap();
    let before = entry(&gateway, "mine").await;
    std::fs::write(&mine.path, &mine.bytes[..mine.bytes.len() / 2]).unwrap();
    gateway.logged("it is truncated or damaged").await;
    mine.rebuild(1);
    let changed =
        |mine: &Value| mine["hash"] != before["hash"] && mine["swap"]["state"] == "switched";
    entry_until(&gateway, "mine", "the file is read", changed).await;
    std::fs::remove_file(&mine.path).unwrap();
    gateway.logged("its file cannot be found any more").await;
    for _ in 0..60 {
        within("a frame", viewer.next_unit()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_request_has_read_is_not_read_again_by_the_watcher() {
    // Files are looked at in this order.
    let refused = Exchanged::new("a", "nal");
    let taken = Exchanged::new("b", "nal");
    let last = Exchanged::new("c", "nal");
    let watched = [&refused, &taken, &last].map(|one| one.config("watch = true"));
    let gateway = Gateway::with_config(&format!("{FAST}{}", watched.concat())).await;
    let viewer = within("a viewer", Nal::open(gateway.address, "/live/demo/a"));
    let mut viewer = viewer.await.unwrap();
    within("a frame", viewer.next_unit()).await.unwrap();
    std::fs::copy(Gateway::component("mse"), &refused.path).unwrap();
    let (status, answer) = reload(gateway.address, "a").await;
    assert_eq!(status, 422, "{answer}");
    taken.rebuild(1);
    let (status, answer) = reload(gateway.address, "b").await;
    assert_eq!(status, 200, "{answer}");
    // Once the watcher has read what was written later, it has looked at the others as they are now.
    last.rebuild(1);
    let switched = |last: &Value| last["swap"]["state"] == "switched";
    entry_until(&gateway, "c", "the file is read", switched).await;
    let read = gateway.logs("its file has changed and is read again");
    assert_eq!(read.len(), 1, "{read:#?}");
    assert!(read[0].contains("transport=\"c\""), "{read:#?}");
    // The next content is another matter.
    refused.rebuild(2);
    let read = |first: &Value| first["swap"]["state"] == "switched";
    entry_until(&gateway, "a", "the file is read", read).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_told_with_the_key_that_they_are_in() {
    let gateway = Gateway::with_config(FAST).await;
    let too_long = " ".repeat((64 << 10) + 1);
    for (body, reason) in [
        ("{\"name\": 5}", "`name` is 5, and must be a string"),
        ("{\"plugin\": \"a.wasm\"}", "the key `name` is missing"),
        (
            "{\"name\": \"a\", \"plugin\": 5}",
            "`plugin`: found integer `5`, expected a string",
        ),
        (
            "{\"name\": \"a\", \"plugn\": \"a.wasm\"}",
            "instead of `plugn`, did you mean the gateway's key `plugin`?",
        ),
        (
            "{\"name\": \"a\", \"plugin\": \"a.wasm\", \"watch\": \"yes\"}",
            "`watch`: found string \"yes\", expected true or false",
        ),
        (
            "{\"name\": \"a\", \"plugin\": \"a.wasm\", \"limits\": {\"foo\": 1}}",
            "unknown key `foo` in [limits]; known keys: `memory`, `call`",
        ),
        (
            "{\"name\": \"a\", \"plugin\": \"a.wasm\", \"limits\": {\"memory\": -1}}",
            "`memory` in [limits]: ",
        ),
        (
            "{\"name\": \"a\", \"plugin\": \"a.wasm\", \"limits\": {\"call\": \"0s\"}}",
            "`limits.call` 0s is out of range; write \"1ms\"",
        ),
        (
            "{\"name\": \"a\", \"plugin\": \"a.wasm\", \"x\": {\"stale\": [1, null]}}",
            "`x.stale.1` is null, which no key can be; leave it out",
        ),
        (
            "{\"name\": \"a\", \"plugin\": \"a.wasm\", \"stale\": 18446744073709551615}",
            "`stale`: u64 value was too large",
        ),
        (too_long.as_str(), "the body is longer than 65536 bytes"),
    ] {
        let asked = request_with(
            gateway.address,
            "POST",
            "/api/plugins",
            &[],
            body.as_bytes(),
        );
        let (status, _, answer) = within(body, asked).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(status, 400, "{body}: {answer}");
        let said = answer["error"].as_str().unwrap();
        assert!(said.contains(reason), "{body}: {said}");
    }
    for (transport, reasons) in [
        (
            "[transports.hls]\nwacth = true\n",
            [
                "unknown option `wacth`",
                "did you mean the gateway's key `watch`?",
            ],
        ),
        (
            "[transports.mine]\nplugn = \"mine.wasm\"\n",
            [
                "[transports.mine] has no `plugin`",
                "did you mean the gateway's key `plugin`?",
            ],
        ),
    ] {
        check(&format!("{FAST}{transport}")).await.refused(&reasons);
    }
    let file = config_file(FAST);
    let checked = sluicegate(&["check", "--config", file.to_str().unwrap()]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    // This component takes any option, so it cannot tell that the key was meant for the gateway.
    let frozen = Gateway::component("frozen");
    let config = format!(
        "{FAST}[transports.mine]\nplugin = \"{}\"\nwacth = true\n",
        frozen.display()
    );
    let note = "the component of [transports.mine] got an unusual option: \
        instead of `wacth`, did you mean the gateway's key `watch`?";
    let checked = check(&config).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.out.contains(note), "{checked:?}");
    Gateway::with_config(&config).await.logged(note).await;
}
