//! Tests of the encoder probe, with shell commands as child processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use std::path::Path;

/// Runs a shell command in place of the gateway's program.
fn probe_with(text: &str) -> Outcome {
    run_probe(shell(text), LIMIT, true).unwrap()
}

fn killed(reason: &str) -> Rejection {
    Rejection {
        reason: reason.into(),
        was_killed: true,
    }
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
        probe_with("echo 'probe: good'; kill -KILL $$"),
        Err(killed("it was killed"))
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
        Err(killed(
            "it did not finish within 1 s and was killed: loading firmware"
        ))
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
    let bad = |reason: &str| Err(Rejection::from(reason));
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
        let tested = outcomes.map(|outcome| Ok(kept(outcome.clone(), 0, Instant::now())));
        let (choice, is_final) = choose_from(EncoderName::ALL.into_iter().zip(tested));
        assert_eq!(choice.until, None);
        let choice = choice.value;
        assert_eq!((choice.name, choice.passed_over.len()), (name, reasons));
        assert!(is_final);
        for (passed, outcome) in choice.passed_over.iter().zip(outcomes) {
            assert_eq!(bad(&passed.reason), *outcome);
        }
    }
}

#[test]
fn what_could_not_be_tested_is_tested_again() {
    fn untested<T>() -> Result<T, Untested> {
        Err("not tested: too many open files".into())
    }
    let now = Instant::now();
    let found = Found::new();
    let one = Kept {
        value: 1,
        until: None,
    };
    assert_eq!(found.get_or_find(now, |_| untested()), untested());
    let kept_now = found.get_or_find(now, |_| Ok::<_, Untested>(one.clone()));
    assert_eq!(kept_now, Ok(one.clone()));
    assert_eq!(found.get_or_find(now, |_| untested()), Ok(one));
    // A choice is kept only if it cannot be another one later.
    use EncoderName::*;
    let (rejected, works) = (Ok(Err("no driver".into())), Ok(Ok(())));
    for (outcomes, name, is_final) in [
        ([untested(), works.clone()], Some(Libx264), false),
        ([rejected.clone(), untested()], None, false),
        ([rejected, works.clone()], Some(Libx264), true),
        ([works, untested()], Some(H264Nvenc), true),
    ] {
        let outcomes = outcomes.map(|tested| tested.map(|outcome| kept(outcome, 0, now)));
        let (choice, is_kept) = choose_from([H264Nvenc, Libx264].into_iter().zip(outcomes));
        assert_eq!((choice.value.name, is_kept), (name, is_final));
    }
}

#[test]
fn what_was_killed_is_tested_again_after_a_while() {
    let minute = Duration::from_secs(60);
    let began = Instant::now();
    let found = Found::new();
    let test = |at: Instant, outcome: Outcome| {
        let find = |nth| Ok::<_, Untested>(kept(outcome, nth, at));
        found.get_or_find(at, find).unwrap().value
    };
    let hangs = Err(killed("it did not finish within 5 s and was killed"));
    assert_eq!(test(began, hangs.clone()), hangs);
    assert_eq!(
        test(began + minute - Duration::from_millis(1), Ok(())),
        hangs
    );
    // The second time it is rejected for twice as long; then it works, which is kept for ever.
    let again = began + minute;
    assert_eq!(test(again, hangs.clone()), hangs);
    assert_eq!(test(again + minute, Ok(())), hangs);
    assert_eq!(test(again + 2 * minute, Ok(())), Ok(()));
    assert_eq!(test(again + 1000 * minute, hangs.clone()), Ok(()));
    // However often that was, it is bounded.
    assert_eq!(
        kept(hangs.clone(), 1000, began).until,
        Some(began + RETRY.longest())
    );

    // A choice is looked for again when the first of those that were passed over is; those behind it do not matter.
    use EncoderName::*;
    let crashes = || Ok(kept(Err("it crashed with signal 11".into()), 0, began));
    let hangs = |nth| Ok(kept(hangs.clone(), nth, began));
    let works = || Ok(kept(Ok(()), 0, began));
    for (outcomes, until) in [
        ([hangs(1), hangs(0), works()], Some(began + minute)),
        ([hangs(1), works(), hangs(0)], Some(began + 2 * minute)),
        ([crashes(), works(), hangs(0)], None),
        ([crashes(), crashes(), hangs(2)], Some(began + 4 * minute)),
    ] {
        let names = [H264Nvenc, H264Qsv, Libx264];
        let (choice, is_final) = choose_from(names.into_iter().zip(outcomes));
        assert_eq!((choice.until, is_final), (until, true));
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
