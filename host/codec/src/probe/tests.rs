//! Tests of the encoder probe, with shell commands as child processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use std::path::Path;

/// Runs a shell command in place of the gateway's program.
fn probe_with(text: &str) -> Outcome {
    run_probe(shell(text), LIMIT, true).unwrap()
}

fn shell(text: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", text]);
    command
}

#[test]
fn the_answer_is_the_childs_with_the_drivers_first_complaint() {
    assert_eq!(
        probe_with("echo 'a driver greets'; echo 'probe: good'"),
        Ok(())
    );
    assert_eq!(
        probe_with(
            "echo '[h264_qsv @ 0x55] Error initializing an MFX session.' >&2; echo more; echo 'probe: cannot be opened'"
        ),
        Err("cannot be opened: Error initializing an MFX session".into())
    );
}

#[test]
fn failed_probe_children_are_reported_by_kind_of_failure() {
    assert_eq!(
        probe_with("echo 'probe: good'; kill -SEGV $$"),
        Err("it crashed with signal 11".into())
    );
    assert_eq!(
        probe_with("echo 'error: no such subcommand'; exit 2"),
        Err("it printed no result, exit status: 2: error: no such subcommand".into())
    );
    let gone = run_probe(Command::new("/nowhere/sluicegate"), LIMIT, true);
    let reason = gone.unwrap_err();
    assert!(
        reason.contains("/nowhere/sluicegate cannot be run: No such file"),
        "{reason}"
    );
}

#[test]
fn a_child_that_hangs_is_ended_and_one_that_floods_is_kept_short() {
    let began = Instant::now();
    let pid = std::env::temp_dir().join(format!("sluicegate-probe-pid-{}", std::process::id()));
    let hanging = format!(
        "echo $$ > {}; echo 'loading firmware'; exec sleep 1000",
        pid.display()
    );
    let outcome = run_probe(shell(&hanging), Duration::from_secs(1), true).unwrap();
    assert_eq!(
        outcome,
        Err("it did not finish within 1 s and was killed: loading firmware".into())
    );
    assert!(began.elapsed() < LIMIT);
    let written = std::fs::read_to_string(&pid).unwrap();
    std::fs::remove_file(pid).unwrap();
    assert!(
        !Path::new("/proc").join(written.trim()).exists(),
        "it still runs"
    );
    assert_eq!(probe_with("seq 200000; echo; echo 'probe: good'"), Ok(()));
}

#[test]
fn a_child_without_a_driver_that_takes_too_long_says_nothing() {
    let untested = run_probe(shell("exec sleep 1000"), Duration::from_millis(100), false);
    let reason = untested.unwrap_err();
    assert!(
        reason.starts_with("not tested, as the machine is busy: it did not finish within 0.1 s"),
        "{reason}"
    );
}

#[test]
fn the_first_that_works_is_taken_and_the_reasons_before_it_are_kept() {
    use EncoderName::*;
    let bad = |reason: &str| Err(reason.to_owned());
    // A desktop with an NVIDIA card, one with an Intel one, a Raspberry Pi, a server, a broken machine.
    let [amf, hang] = [
        "not in this build of FFmpeg",
        "it did not finish within 5 s",
    ]
    .map(bad);
    let cuda = bad("Cannot load libcuda.so.1");
    for (outcomes, name, reasons) in [
        (
            [&amf, &Ok(()), &amf, &amf, &amf, &Ok(())],
            Some(H264Nvenc),
            1,
        ),
        (
            [&amf, &cuda, &Ok(()), &amf, &amf, &Ok(())],
            Some(H264Qsv),
            2,
        ),
        (
            [&amf, &cuda, &amf, &hang, &Ok(()), &Ok(())],
            Some(H264V4l2m2m),
            4,
        ),
        ([&amf, &cuda, &amf, &amf, &amf, &Ok(())], Some(Libx264), 5),
        ([&amf, &cuda, &amf, &hang, &amf, &amf], None, 6),
    ] {
        let tested = outcomes.map(|outcome| Ok(outcome.clone()));
        let (choice, is_final) = choose_from(EncoderName::ALL.into_iter().zip(tested));
        assert_eq!((choice.name, choice.passed_over.len()), (name, reasons));
        assert!(is_final);
        for (passed, outcome) in choice.passed_over.iter().zip(outcomes) {
            assert_eq!(Err(passed.reason.clone()), *outcome);
        }
    }
}

#[test]
fn what_could_not_be_tested_is_tested_again() {
    fn untested<T>() -> Result<T, Untested> {
        Err("not tested: too many open files".into())
    }
    let found = Found::new();
    assert_eq!(found.get_or_find(untested), untested());
    assert_eq!(found.get_or_find(|| Ok::<_, Untested>(1)), Ok(1));
    assert_eq!(found.get_or_find(untested), Ok(1));
    // A choice is kept only if it cannot be another one later.
    use EncoderName::*;
    let (rejected, works) = (Ok(Err("no driver".to_owned())), Ok(Ok(())));
    for (outcomes, name, is_final) in [
        ([untested(), works.clone()], Some(Libx264), false),
        ([rejected.clone(), untested()], None, false),
        ([rejected, works.clone()], Some(Libx264), true),
        ([works, untested()], Some(H264Nvenc), true),
    ] {
        let (choice, kept) = choose_from([H264Nvenc, Libx264].into_iter().zip(outcomes));
        assert_eq!((choice.name, kept), (name, is_final));
    }
}

#[test]
fn libx264_passes_and_what_has_no_driver_here_does_not() {
    assert_eq!(test_encoder(EncoderName::Libx264), Ok(()));
    let vaapi = test_encoder(EncoderName::H264Vaapi).unwrap_err();
    assert!(
        vaapi.contains("/dev/dri")
            || vaapi.contains("GPU memory")
            || vaapi.contains("no h264_vaapi"),
        "{vaapi}"
    );
}
