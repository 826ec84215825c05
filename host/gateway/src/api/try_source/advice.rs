//! What to do about a source that failed, in words for whoever has just typed its URL. Pure.

/// Why the source failed, which is displayed as `what`, and what to do.
pub fn failed(reason: &str, what: &str) -> String {
    // Its host and port could look like words of a failure.
    match advice(&reason.replace(what, "")) {
        Some(advice) => format!("{advice} ({reason})"),
        None => reason.to_owned(),
    }
}

/// What to do about a failure, by the words of libav, our HTTP client and the system for it.
fn advice(reason: &str) -> Option<&'static str> {
    const ADVICE: &[(&[&str], &str)] = &[
        (
            &["unauthorized", "login"],
            "the source wants a valid user name and password; check both, and write them into the URL before the host, as USER:PASSWORD@HOST",
        ),
        (
            &["forbidden"],
            "the source does not permit this; check the rights of the user in its own settings",
        ),
        (
            &["not found"],
            "the host answers, but has no video under this path; look the URL up in the camera's manual",
        ),
        (
            &[
                "cannot be resolved",
                "name or service not known",
                "failed to lookup",
                "failed to resolve",
                "no address",
                "temporary failure in name resolution",
            ],
            "there is no host of this name; check its spelling, or write its IP address",
        ),
        (
            &["refused"],
            "nothing listens there; check the host and the port, and that the camera is on",
        ),
        (
            &[
                "no route",
                "unreachable",
                "timed out",
                "no connection within",
            ],
            "the host does not answer; check its address, that it is on, and that a firewall lets the gateway through",
        ),
        (
            &["no data for", "no video for"],
            "connected, but no video arrived; check that the camera is on and sends to this URL",
        ),
        (
            &[
                "invalid data",
                "does not contain any stream",
                "no video or audio",
            ],
            "what comes from there is no video that the gateway can read; check the path of the URL",
        ),
        (
            &[
                "input/output error",
                "connection reset",
                "connection was lost",
            ],
            "the connection failed; check the host, the port, and that the other side speaks this protocol",
        ),
    ];
    let reason = reason.to_lowercase();
    let found = |words: &&[&str]| words.iter().any(|word| reason.contains(word));
    let found = ADVICE.iter().find(|(words, _)| found(words));
    found.map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_to_do() {
        for (reason, start) in [
            (
                "cannot open rtsp://cam/…: Server returned 401 Unauthorized",
                "the source wants a valid user name and password",
            ),
            (
                "cannot open annexb:tcp://cam:1: Connection refused",
                "nothing listens there",
            ),
            (
                "cannot open http://cam/…: cam cannot be resolved: x",
                "there is no host",
            ),
            (
                "cannot open http://cam/…: no data for 10 s",
                "connected, but no video",
            ),
            (
                "cannot open http://cam/…: the connection was lost: reset",
                "the connection failed",
            ),
            ("cannot open http://login:40151/…: odd", "cannot open"),
        ] {
            let what = reason.split_whitespace().nth(2).unwrap_or_default();
            let text = failed(reason, what.trim_end_matches(':'));
            assert!(text.starts_with(start) && text.contains(reason), "{text}");
        }
    }
}
