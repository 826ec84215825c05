//! A client that listens gets a transport with the stream's audio; one that does not gets the transport with the lowest
//! latency.

use serde_json::{Value, json};
use sluicegate_tests::{Control, Gateway, session::choose, within};

const ALL: &str = "can=nal,mse,hls,mjpeg";
const STREAMS: &str = "
    [streams.demo]
    source = \"lavfi:testsrc=size=160x96:rate=10[out0];sine[out1]\"
    always-on = true
    encode = { width = 160, height = 96, frame-rate = 10, keyframe-interval = \"1s\" }
    [streams.silent]
    source = \"test-pattern\"
    always-on = true
    [streams.cold]
    source = \"test-pattern\"
";

/// Starts a gateway whose two running streams are known.
async fn start() -> Gateway {
    let gateway = Gateway::with_config(STREAMS).await;
    for stream in ["demo", "silent"] {
        gateway.assert_serves(stream).await;
    }
    gateway
}

/// The candidates offered, as "transport audio".
fn offered(choices: &Value) -> Vec<String> {
    let choices = choices["choices"].as_array().unwrap();
    let told = |choice: &Value| format!("{} {}", choice["transport"], choice["sound"]);
    choices
        .iter()
        .map(|choice| told(choice).replace('"', ""))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unmuted_player_gets_a_transport_with_audio_where_there_is_one() {
    let gateway = start().await;
    for (stream, listening, transport) in [
        ("demo", "", "nal"),
        ("demo", "&listening=true", "mse"),
        ("demo", "&listening=false", "nal"),
        ("silent", "&listening=true", "nal"),
        // It is not known yet whether this stream has audio.
        ("cold", "&listening=true", "mse"),
        ("cold", "", "nal"),
    ] {
        let query = format!("{ALL}{listening}");
        let (status, chosen) = choose(&gateway, stream, &query, &[]).await;
        assert_eq!(status, 200, "{chosen}");
        assert_eq!(chosen["transport"], transport, "{stream} {listening}");
        assert_eq!(chosen["pattern"], stream != "demo", "{chosen}");
    }
    // It carries audio and has the lowest latency.
    for listening in ["", "&listening=true"] {
        let query = format!("{ALL},webcodecs{listening}");
        let (_, chosen) = choose(&gateway, "demo", &query, &[]).await;
        assert_eq!(chosen["transport"], "webcodecs", "{chosen}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_learns_what_carries_audio_and_is_moved_there_once_unmuted() {
    let gateway = start().await;
    let (mut control, chosen) = Control::open(&gateway, "demo", ALL).await;
    let choices = control.heard("choices").await;
    assert_eq!(choices["sound"], true);
    assert_eq!(
        offered(&choices),
        ["nal false", "mse true", "hls true", "mjpeg false"]
    );
    control.playing(&chosen).await;
    control.report(json!({ "listening": true })).await;
    let told = control.heard("move").await;
    assert_eq!(
        (&told["transport"], &told["reason"]),
        (&json!("mse"), &json!("sound is on, and H.264 carries none"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_transport_stays_and_the_player_learns_that_there_is_audio() {
    let gateway = start().await;
    let pinned = format!("{ALL}&transport=nal");
    let (mut control, chosen) = Control::open(&gateway, "demo", &pinned).await;
    assert_eq!(control.heard("choices").await["sound"], true);
    control.playing(&chosen).await;
    for nth in 0..3 {
        control.report(json!({ "listening": true })).await;
        control.say(json!({ "type": "ping", "id": nth })).await;
        loop {
            let said = within("an answer", control.hear()).await.unwrap();
            assert_ne!(said["type"], "move", "{said}");
            if said["type"] == "pong" {
                break;
            }
        }
    }
    let (mut control, _) = Control::open(&gateway, "silent", ALL).await;
    let choices = control.heard("choices").await;
    assert_eq!(choices["sound"], false);
    assert!(offered(&choices).iter().all(|told| told.ends_with("false")));
}
