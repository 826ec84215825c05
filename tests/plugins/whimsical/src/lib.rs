//! Test policy `whimsical`: misbehaves as its options say, for example `{"do": "trap", "in": "observe"}`, and otherwise
//! chooses the last candidate and stays there. Tests use it to check how the gateway replaces a failing policy.
// Misbehaviour is the purpose.
#![allow(clippy::panic)]

use sluicegate_sdk::{
    options,
    policy::{Candidate, Choice, Client, Event, Policy},
    serde::Deserialize,
};

#[derive(Default, Deserialize)]
#[serde(
    crate = "sluicegate_sdk::serde",
    deny_unknown_fields,
    default,
    rename_all = "kebab-case"
)]
struct Options {
    /// `trap`, `loop` or `nonsense` (an index out of range). With anything else it chooses the last candidate and stays
    /// there.
    r#do: String,
    /// Call in which it misbehaves: `open`, `choose` or `observe`.
    r#in: String,
}

struct Whimsical {
    options: Options,
    last: u32,
}

impl Whimsical {
    fn misbehave(options: &Options, call: &str) {
        if options.r#in != call {
            return;
        }
        match options.r#do.as_str() {
            "trap" => panic!("told to trap in {call}"),
            "loop" => loop {
                std::hint::spin_loop();
            },
            _ => {}
        }
    }

    fn choice(&self, call: &str) -> Choice {
        let nonsense = self.options.r#do == "nonsense" && self.options.r#in == call;
        Choice {
            candidate: if nonsense { u32::MAX } else { self.last },
            reason: "a whim".into(),
        }
    }
}

impl Policy for Whimsical {
    fn open(client: &Client, json: &str) -> Result<Self, String> {
        let options: Options = options(json)?;
        // `validate` opens a session of a client that has no user agent; that must succeed.
        if !client.user_agent.is_empty() {
            Whimsical::misbehave(&options, "open");
        }
        Ok(Whimsical { options, last: 0 })
    }

    fn choose(&mut self, _: u64, candidates: Vec<Candidate>, _: Option<u32>) -> Choice {
        Whimsical::misbehave(&self.options, "choose");
        self.last = candidates.len() as u32 - 1;
        self.choice("choose")
    }

    fn observe(&mut self, _: u64, event: Event) -> Option<Choice> {
        let report = matches!(event, Event::Report(_));
        Whimsical::misbehave(&self.options, "observe");
        (report && self.options.r#in == "observe").then(|| self.choice("observe"))
    }
}

sluicegate_sdk::export_policy!(Whimsical);
