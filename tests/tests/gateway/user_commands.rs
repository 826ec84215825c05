//! `sluicegate user …`: users in the state file.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use sluicegate_tests::{Gateway, command::CommandResult, command::config_file, within};
use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
};

const CONFIG: &str = "[groups.family]\nview = ['porch*']\n[users.adam]\ngroups = ['family']\n";

/// Runs `sluicegate user` with these arguments, and this as its standard input.
async fn user(config: &Path, arguments: &[&str], input: &str) -> CommandResult {
    let mut child = Command::new(Gateway::binary())
        .arg("user")
        .args(arguments)
        .arg("--config")
        .arg(config)
        .env_remove("STATE_DIRECTORY")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that refuses its arguments reads nothing.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    within("an end", child.wait_with_output())
        .await
        .unwrap()
        .into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_added_changed_listed_and_removed() {
    let config = config_file(CONFIG);
    let state = config.with_extension("state.json");
    let empty = user(&config, &["list"], "").await;
    assert_eq!(
        empty.out,
        "adam, view: porch*, groups: family, in the config, no password\n"
    );
    assert!(!state.exists());

    let arguments = [
        "add", "eva", "--group", "family", "--talk", "porch", "--view", "garden",
    ];
    let added = user(&config, &arguments, "correct horse\n").await;
    assert_eq!(
        (added.code, added.out),
        (Some(0), format!("added eva to {}\n", state.display()))
    );
    assert_eq!(
        fs::metadata(&state).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let text = fs::read_to_string(&state).unwrap();
    assert!(
        text.contains("$argon2id$") && !text.contains("correct horse"),
        "{text}"
    );
    let passwd = user(&config, &["passwd", "adam"], "battery staple\r\n").await;
    assert_eq!(passwd.code, Some(0), "{passwd:?}");
    assert!(passwd.out.contains("its sign-ins have ended"), "{passwd:?}");
    let listed = user(&config, &["list"], "").await;
    assert_eq!(
        listed.out,
        "adam, view: porch*, groups: family, in the config\n\
         eva, view: garden porch*, talk: porch, groups: family\n"
    );

    let removed = user(&config, &["remove", "eva"], "").await;
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert!(!fs::read_to_string(&state).unwrap().contains("eva"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_says_what_to_do() {
    let config = config_file(CONFIG);
    let add = |name| ["add", name, "--view", "*"];
    user(&config, &add("eva"), "correct horse").await;
    for (arguments, input, parts) in [
        (
            &add("eva")[..],
            "correct horse\n",
            &["`eva` exists already", "user passwd"][..],
        ),
        (
            &add("adam"),
            "correct horse\n",
            &["`adam` is in the config already"],
        ),
        (&add("e va"), "correct horse\n", &["it contains ` `"]),
        (&add("anonymous"), "correct horse\n", &["[users.anonymous]"]),
        (&add("kim"), "", &["there is no password", "one line"]),
        (&add("kim"), "short\n", &["too short", "at least 8"]),
        (
            &["add", "kim"],
            "correct horse\n",
            &["could do nothing", "--view '*'"],
        ),
        (
            &["add", "kim", "--group", "famly"],
            "correct horse\n",
            &["did you mean `family`?"],
        ),
        (
            &["passwd", "eve"],
            "correct horse\n",
            &["did you mean `eva`?"],
        ),
        (
            &["remove", "adam"],
            "",
            &["is in the config", "[users.adam]"],
        ),
        (&["remove", "eve"], "", &["did you mean `eva`?"]),
    ] {
        let refused = user(&config, arguments, input).await;
        refused.refused(parts);
        assert!(!refused.err.contains("correct horse"), "{refused:?}");
    }
    let misused = user(&config, &["add", "kim", "--view", "po/rch"], "").await;
    misused.misused(&["can match no stream"]);

    let state = config.with_extension("state.json");
    let text = fs::read_to_string(&state).unwrap();
    fs::write(&state, &text[..text.len() / 2]).unwrap();
    let damaged = user(&config, &add("kim"), "correct horse\n").await;
    damaged.refused(&["is damaged", "restore it from a backup"]);
    assert_eq!(fs::read_to_string(&state).unwrap(), text[..text.len() / 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_printed_hash_goes_into_a_config() {
    let hash = {
        let mut child = Command::new(Gateway::binary())
            .args(["user", "hash"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"correct horse\n").await.unwrap();
        drop(stdin);
        CommandResult::from(within("an end", child.wait_with_output()).await.unwrap()).out
    };
    let config = config_file(&format!(
        "[users.eva]\npassword = \"{}\"\nview = ['*']\n",
        hash.trim()
    ));
    let listed = user(&config, &["list"], "").await;
    assert_eq!(listed.out, "eva, view: *, in the config\n");
    let refused = user(&config, &["passwd", "eva"], "battery staple\n").await;
    refused.refused(&["is in the config", "[users.eva]"]);
}

/// A terminal: what a person has of it, and what a program has.
fn terminal() -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap();
    let path = path.to_str().unwrap();
    let program = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    (master.into(), program)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_asks_twice_and_shows_nothing() {
    let config = config_file(CONFIG);
    for (second, code) in [("correct horse\n", 0), ("correct house\n", 1)] {
        let (mut person, program) = terminal();
        let mut child = Command::new(Gateway::binary())
            .args(["user", "passwd", "adam", "--config"])
            .arg(&config)
            .env_remove("STATE_DIRECTORY")
            .stdin(program)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let mut asked = String::new();
        let mut wait_for = async |question: &str| {
            while !asked.ends_with(question) {
                let byte = within(question, stderr.read_u8()).await.unwrap();
                asked.push(char::from(byte));
            }
        };
        wait_for("Password: ").await;
        person.write_all(b"correct horse\n").unwrap();
        wait_for("The same again: ").await;
        person.write_all(second.as_bytes()).unwrap();
        let mut rest = String::new();
        within("its messages", stderr.read_to_string(&mut rest))
            .await
            .unwrap();
        let ended = within("an end", child.wait()).await.unwrap();
        assert_eq!(ended.code(), Some(code), "{rest}");
        assert_eq!(
            rest.contains("the two passwords differ"),
            code == 1,
            "{rest}"
        );
        // The program has closed the terminal, so that reading fails once everything that it showed was read.
        let mut shown = Vec::new();
        let _ = person.read_to_end(&mut shown);
        assert!(
            !String::from_utf8_lossy(&shown).contains("correct"),
            "{shown:?}"
        );
    }
}
