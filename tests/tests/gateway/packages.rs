//! What the Debian package brings besides the programs. Its installation is tested by `packaging/test`.

use sluicegate_config::Config;
use sluicegate_tests::{
    Gateway,
    command::{sluicegate, tool, try_tool},
    scratch,
};
use std::fs;

/// Most exposure of the service, in tenths, as `systemd-analyze security` computes it from the unit.
const EXPOSURE: &str = "25";

/// Commands that only the gateway itself and the package's build run.
const HIDDEN: [&str; 3] = ["probe-encoder", "compile-component", "man-pages"];

#[tokio::test]
async fn the_service_is_hardened() {
    let threshold = format!("--threshold={EXPOSURE}");
    let unit = Gateway::root().join("packaging/debian/sluicegate.service");
    let unit = unit.to_str().unwrap();
    let arguments = ["security", "--offline=true", "--no-pager", &threshold, unit];
    let rated = try_tool("systemd-analyze", &arguments).await;
    assert_eq!(rated.code, Some(0), "{}{}", rated.out, rated.err);
    assert!(rated.out.contains("Overall exposure level"), "{rated:?}");
}

#[tokio::test]
async fn the_packaged_config_is_valid_and_keeps_to_this_machine() {
    let file = Gateway::root().join("packaging/config.toml");
    let server = Config::load(&file).unwrap().server;
    assert!(!server.is_reachable() && !server.open);
    let checked = sluicegate(&["check", file.to_str().unwrap()]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

#[tokio::test]
async fn shells_complete_the_commands_and_no_hidden_one() {
    let folder = scratch("completions");
    // How each shell is asked what may follow `sluicegate p`, for a file with its completions.
    for (shell, ask) in [
        (
            "bash",
            r#"source "$1"; COMP_WORDS=(sluicegate p); COMP_CWORD=1; _sluicegate sluicegate p sluicegate
               printf '%s\n' "${COMPREPLY[@]}""#,
        ),
        (
            "fish",
            r#"source $argv[1]; complete --do-complete "sluicegate p""#,
        ),
        // It completes on a terminal only.
        (
            "zsh",
            r#"zsh --no-exec "$1" && grep -o "'plugin:" "$1" | tr -d "':""#,
        ),
    ] {
        let printed = sluicegate(&["completions", shell]).await;
        assert_eq!(printed.code, Some(0), "{printed:?}");
        for hidden in HIDDEN {
            assert!(!printed.out.contains(hidden), "{shell} completes {hidden}");
        }
        let file = folder.join(shell);
        fs::write(&file, printed.out).unwrap();
        let file = file.to_str().unwrap();
        let offered = match shell {
            "fish" => tool(shell, &["--no-config", "-c", ask, file]).await,
            _ => tool(shell, &["-c", ask, shell, file]).await,
        };
        let offered: Vec<&str> = offered.split_whitespace().collect();
        assert!(offered.contains(&"plugin"), "{shell}: {offered:?}");
        assert!(!offered.contains(&"serve"), "{shell}: {offered:?}");
    }
    let refused = sluicegate(&["completions", "sh"]).await;
    refused.misused(&["sh", "bash, elvish, fish, powershell, zsh"]);
}

#[tokio::test]
async fn every_command_has_a_manual_page_without_mistakes() {
    let folder = scratch("man");
    let written = sluicegate(&["man-pages", folder.to_str().unwrap()]).await;
    assert_eq!(written.code, Some(0), "{written:?}");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let shown = try_tool(
            "man",
            &["--warnings", "--local-file", path.to_str().unwrap()],
        )
        .await;
        assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""), "{path:?}");
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    for name in [
        "sluicegate.1",
        "sluicegate-serve.1",
        "sluicegate-plugin-reload.1",
    ] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
    for hidden in HIDDEN {
        assert!(
            !names.contains(&format!("sluicegate-{hidden}.1")),
            "{names:?}"
        );
    }
    let nowhere = folder.join("nowhere");
    let refused = sluicegate(&["man-pages", nowhere.to_str().unwrap()]).await;
    refused.refused(&["cannot write manual pages to", "nowhere"]);
}
