//! The first difference between two answers to the same call, in words.

use crate::checks::count as counted;
use bytes::Bytes;
use sluicegate_plugin::recording::{Answer, Chunk, Payload, Record, Response};

/// What differs; `expected` is the recorded one, or that of another run. `None` if nothing does.
pub(crate) fn difference(expected: &Record, found: &Record) -> Option<String> {
    let answers = match (&expected.answer, &found.answer) {
        (Some(expected), Some(found)) => answers(expected, found),
        _ => None,
    };
    answers.or_else(|| {
        if expected.requested != found.requested {
            return Some(format!(
                "it requests {} of viewers instead of {}",
                listed(&found.requested),
                listed(&expected.requested)
            ));
        }
        match (expected.keyframe, found.keyframe) {
            (true, false) => Some("it does not request a keyframe any more".into()),
            (false, true) => Some("it requests a keyframe".into()),
            _ => None,
        }
    })
}

fn listed<T: std::fmt::Debug>(items: &[(u64, T)]) -> String {
    match items {
        [] => "nothing".into(),
        [(viewer, item)] => {
            let item: String = format!("{item:?}").chars().take(80).collect();
            format!("{item} of viewer {viewer}")
        }
        items => counted(items.len(), "thing"),
    }
}

fn answers(expected: &Answer, found: &Answer) -> Option<String> {
    match (expected, found) {
        (Answer::Header(expected), Answer::Header(found)) => {
            let what = |nth| format!("part {nth} of the header");
            count("part", expected.len(), found.len())
                .map(|what| format!("{what} in the header"))
                .or_else(|| first(expected, found, what, payloads))
        }
        (Answer::Chunks(expected), Answer::Chunks(found)) => {
            count("chunk", expected.len(), found.len())
                .or_else(|| first(expected, found, |nth| format!("chunk {nth}"), chunks))
        }
        (Answer::Response(expected), Answer::Response(found)) => responses(expected, found),
        (expected, found) => (expected != found)
            .then(|| format!("it returns {} instead of {}", kind(found), kind(expected))),
    }
}

fn count(what: &str, expected: usize, found: usize) -> Option<String> {
    (expected != found)
        .then(|| format!("it returns {} instead of {expected}", counted(found, what)))
}

/// The first difference in a list; `name` names its parts, counted from 0.
fn first<T>(
    expected: &[T],
    found: &[T],
    name: impl Fn(usize) -> String,
    differ: impl Fn(&T, &T) -> Option<String>,
) -> Option<String> {
    let mut pairs = expected.iter().zip(found).enumerate();
    pairs.find_map(|(nth, (expected, found))| {
        differ(expected, found).map(|what| format!("{}: {what}", name(nth)))
    })
}

fn chunks(expected: &Chunk, found: &Chunk) -> Option<String> {
    let head = |chunk: &Chunk| {
        format!(
            "lane {}, independent {}, leading {}, time {:?}",
            chunk.lane, chunk.independent, chunk.leading, chunk.presentation
        )
    };
    let (is, was) = (head(found), head(expected));
    match is == was {
        true => payloads(&expected.payload, &found.payload),
        false => Some(format!("{is} instead of {was}")),
    }
}

fn responses(expected: &Response, found: &Response) -> Option<String> {
    let head = |response: &Response| {
        format!(
            "status {}, {:?}, max-age {}, headers {:?}",
            response.status, response.content_type, response.max_age, response.headers
        )
    };
    let (is, was) = (head(found), head(expected));
    match is == was {
        true => bytes(&expected.body.0.to_bytes(), &found.body.0.to_bytes()),
        false => Some(format!("{is} instead of {was}")),
    }
}

fn payloads(expected: &Payload, found: &Payload) -> Option<String> {
    match (expected, found) {
        (Payload::Text(_), Payload::Base64(_)) => Some("bytes instead of text".into()),
        (Payload::Base64(_), Payload::Text(_)) => Some("text instead of bytes".into()),
        _ => bytes(&expected.bytes(), &found.bytes()),
    }
}

fn bytes(expected: &Bytes, found: &Bytes) -> Option<String> {
    if expected == found {
        return None;
    }
    let same = expected
        .iter()
        .zip(found)
        .take_while(|(a, b)| a == b)
        .count();
    let around = |bytes: &Bytes| {
        let part = bytes.get(same..).unwrap_or_default();
        match part {
            [] => "the end".to_owned(),
            part => {
                let hex: Vec<String> = part
                    .iter()
                    .take(8)
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                hex.join(" ")
            }
        }
    };
    let sizes = match (found.len(), expected.len()) {
        (found, expected) if found == expected => "other bytes".to_owned(),
        (found, expected) => format!("{found} bytes instead of {expected}"),
    };
    Some(format!(
        "{sizes}; from byte {same} on {} instead of {}",
        around(found),
        around(expected)
    ))
}

fn kind(answer: &Answer) -> String {
    match answer {
        Answer::Header(header) => format!("a header of {}", counted(header.len(), "part")),
        Answer::Chunks(chunks) => counted(chunks.len(), "chunk"),
        Answer::Response(response) => {
            format!("{} and {} bytes", response.status, response.body.len())
        }
        Answer::Pending => "\"pending\"".into(),
        Answer::Follow(content_type) => format!("a stream of {content_type:?}"),
        Answer::Refused(reason) => format!("a refusal: {reason}"),
        Answer::Done => "nothing".into(),
        Answer::Failed(reason) => format!("a failure: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_bytes_are_told_by_their_place_and_other_lengths_by_both() {
        let differ = |expected: &'static str, found: &'static str| {
            bytes(&Bytes::from(expected), &Bytes::from(found)).unwrap_or_default()
        };
        assert_eq!(
            differ("abcd", "abxd"),
            "other bytes; from byte 2 on 78 64 instead of 63 64"
        );
        assert_eq!(
            differ("abc", "ab"),
            "2 bytes instead of 3; from byte 2 on the end instead of 63"
        );
        assert_eq!(differ("abc", "abc"), "");
        assert_eq!(
            count("chunk", 2, 1),
            Some("it returns 1 chunk instead of 2".into())
        );
    }
}
