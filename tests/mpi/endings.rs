//! Trainings of several processes that end otherwise than planned.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::launched::{
    File, Result, encoder, methods, several, together, train_alone, train_together,
};
use crate::support::{Outcome, Workplace, quickstart};

/// A training that is long enough to be ended by others.
fn long(place: &Workplace, output: &str) -> String {
    let [(_, lora), ..] = methods();
    let file = File {
        output,
        adapter: &lora,
        training: "batch_size = 16\nmicro_batches = 4\nsave_every = 2",
    };
    let name = encoder(place, &file);
    let text = fs::read_to_string(place.path(&name)).expect("a file");
    fs::write(place.path(&name), text.replace("epochs = 2", "epochs = 12")).expect("a file");
    name
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("mpirun runs")
}

/// Waits for the first checkpoint of a run.
fn wait_for(child: &mut Child, run: &Path) {
    const PATIENCE: Duration = Duration::from_secs(300);
    let started = Instant::now();
    let has_checkpoint = || {
        fs::read_dir(run.join("checkpoints")).is_ok_and(|mut found| {
            found.any(|entry| {
                let name = entry.expect("an entry").file_name();
                name.to_string_lossy().starts_with("step-")
            })
        })
    };
    while !has_checkpoint() {
        if let Some(status) = child.try_wait().expect("a process") {
            let mut said = String::new();
            let stderr = child.stderr.as_mut().expect("a pipe");
            stderr.read_to_string(&mut said).expect("UTF-8");
            panic!("it ended before: {status}, {said}");
        }
        assert!(
            started.elapsed() < PATIENCE,
            "it runs, without a checkpoint"
        );
        sleep(Duration::from_millis(5));
    }
}

/// The processes of the binary that work in this place, by their ranks.
fn processes(place: &Workplace) -> Vec<(usize, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("processes") {
        let path: PathBuf = entry.expect("an entry").path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        let (Some(number), Ok(program), Ok(directory)) = (
            number,
            fs::read_link(path.join("exe")),
            fs::read_link(path.join("cwd")),
        ) else {
            continue;
        };
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        let rank = environment.split(|byte| *byte == 0).find_map(|variable| {
            let variable = std::str::from_utf8(variable).ok()?;
            variable.strip_prefix("OMPI_COMM_WORLD_RANK=")?.parse().ok()
        });
        if let (Some(rank), true) = (rank, program == Path::new(env!("CARGO_BIN_EXE_eigenmix")))
            && directory == place.path("").canonicalize().expect("a directory")
        {
            found.push((rank, number));
        }
    }
    found.sort_unstable();
    found
}

fn signal(process: u32, name: &str) {
    let sent = Command::new("kill")
        .args([name, &process.to_string()])
        .status();
    assert!(sent.expect("kill runs").success());
}

#[test]
fn a_process_that_is_asked_to_stop_stops_all_and_another_number_of_them_goes_on() {
    let place = Workplace::new();
    let whole = long(&place, "whole");
    train_alone(&place, &[&whole]);
    let expected = Result::of(&place, "whole");
    for (number, name) in [(0, "-INT"), (1, "-TERM"), (2, "-USR1")] {
        let output = format!("stopped-{number}");
        let file = long(&place, &output);
        let run = place.path(&output);
        let mut child = start(&mut several(&place, &[(2, "", &["train", &file])]));
        wait_for(&mut child, &run);
        match number {
            // The launcher passes it on.
            2 => signal(child.id(), name),
            number => signal(processes(&place)[number].1, name),
        }
        let ended = Outcome::of(child.wait_with_output().expect("it ends"));
        assert_ne!(ended.status, 0, "{ended:?}");
        assert!(ended.stderr.contains("stopped after step"), "{ended:?}");
        if number == 1 {
            assert!(ended.stderr.contains("process 1 on `"), "{ended:?}");
            assert!(ended.stderr.contains("was asked to stop"), "{ended:?}");
        }
        assert!(processes(&place).is_empty());
        train_together(&place, 4, &[&file, "--resume"]);
        assert_eq!(Result::of(&place, &output), expected, "{name}");
    }
}

#[test]
fn a_process_that_is_killed_ends_the_others_and_the_last_checkpoint_goes_on() {
    let place = Workplace::new();
    let whole = long(&place, "whole");
    train_alone(&place, &[&whole]);
    let file = long(&place, "killed");
    let mut child = start(&mut several(&place, &[(3, "", &["train", &file])]));
    wait_for(&mut child, &place.path("killed"));
    let (rank, process) = processes(&place)[2];
    assert_eq!(rank, 2);
    let killed = Instant::now();
    signal(process, "-KILL");
    while !processes(&place).is_empty() {
        assert!(
            killed.elapsed() < Duration::from_secs(10),
            "some are still there"
        );
        sleep(Duration::from_millis(20));
    }
    let seconds = killed.elapsed().as_secs_f64();
    println!("after the kill of one process the others were gone in {seconds:.1} s");
    let ended = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success(), "{said}");
    assert!(
        said.contains("rank 2") && said.contains("signal 9"),
        "{said}"
    );
    train_together(&place, 2, &[&file, "--resume"]);
    assert_eq!(Result::of(&place, "killed"), Result::of(&place, "whole"));
}

/// The one line with which the first process says why nothing was trained.
fn refused(outcome: &Outcome) -> String {
    assert_eq!(outcome.status, 2, "{outcome:?}");
    let lines = outcome.stderr.lines();
    let lines: Vec<&str> = lines.filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(lines.len(), 1, "{outcome:?}");
    lines[0].to_owned()
}

#[test]
fn processes_that_do_not_train_the_same_are_refused_before_the_first_step() {
    let place = Workplace::new();
    let [(_, lora), ..] = methods();
    let file = encoder(
        &place,
        &File {
            output: "run",
            adapter: &lora,
            training: "batch_size = 8",
        },
    );
    let text = fs::read_to_string(place.path(&file)).expect("a file");
    // The same file in directories with other data and another base model.
    let relative = text.replace(&quickstart("tasks/ferry_port"), "data");
    let relative = relative.replace(&quickstart("base"), "base");
    let copy = |from: &str, to: &str| {
        let copied = Command::new("cp")
            .args(["-r", &quickstart(from)])
            .arg(place.path(to))
            .status();
        assert!(copied.expect("cp runs").success());
    };
    for directory in ["here", "there"] {
        fs::create_dir(place.path(directory)).expect("a directory");
        fs::write(place.path(directory).join("x.toml"), &relative).expect("a file");
        copy("base", &format!("{directory}/base"));
    }
    copy("tasks/ferry_port", "here/data");
    copy("tasks/bakery", "there/data");
    let pair = |there: &[&str]| {
        let here: &[&str] = &["train", "x.toml"];
        let there = [here, there].concat();
        let output = several(&place, &[(1, "here", here), (1, "there", &there)]).output();
        refused(&Outcome::of(output.expect("mpirun runs")))
    };
    let error = pair(&["--set", "seed=4"]);
    let expected = "the training file is not the same in all processes: `seed = 4` in process 1";
    assert!(
        error.contains(expected) && error.contains("`seed = 3` in process 0"),
        "{error}"
    );
    let error = pair(&[]);
    assert!(
        error.contains("the data is not the same in all processes"),
        "{error}"
    );
    fs::remove_dir_all(place.path("there/data")).expect("a directory");
    copy("tasks/ferry_port", "there/data");
    let weights = place.path("there/base/model.safetensors");
    let mut bytes = fs::read(&weights).expect("weights");
    // One bit of one value, behind the header.
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).expect("weights");
    let error = pair(&[]);
    assert!(
        error.contains("the base model is not the same in all processes"),
        "{error}"
    );
    assert!(!place.path("here/run").exists());
}

#[test]
fn a_mistake_is_said_once_and_names_the_process_if_only_one_makes_it() {
    let place = Workplace::new();
    let [(_, lora), ..] = methods();
    let file = File {
        output: "run",
        adapter: &lora,
        training: "batch_size = 8\nmax_steps = 2",
    };
    let file = encoder(&place, &file);
    let error = refused(&together(
        &place,
        3,
        &["train", &file, "--set", "training.epochz=3"],
    ));
    assert!(error.contains("epochz"), "{error}");
    train_together(&place, 2, &[&file]);
    let error = refused(&together(&place, 2, &["train", &file]));
    assert!(error.contains("exists already"), "{error}");
    // Only the second process does not find its file.
    let here: &[&str] = &["train", &file, "--force"];
    let there: &[&str] = &["train", "missing.toml", "--force"];
    let output = several(&place, &[(1, "", here), (1, "", there)]).output();
    let outcome = Outcome::of(output.expect("mpirun runs"));
    assert_ne!(outcome.status, 0, "{outcome:?}");
    let line = outcome
        .stderr
        .lines()
        .find(|line| line.starts_with("error: "));
    let line = line.expect("an error");
    assert!(
        line.starts_with("error: process 1 on `") && line.contains("missing.toml"),
        "{line}"
    );
}

#[test]
fn what_cannot_be_shared_is_refused_by_name() {
    let place = Workplace::new();
    let [(_, lora), ..] = methods();
    let file = File {
        output: "run",
        adapter: &lora,
        training: "batch_size = 8",
    };
    let file = encoder(&place, &file);
    let tune: &[&str] = &["tune", &file, "--budget", "1m", "--out", "best"];
    for (arguments, expected) in [
        (
            tune,
            "`eigenmix tune` works in one process, and `mpirun` has started several",
        ),
        (&["devices"], "`eigenmix devices` works in one process"),
        (
            &["run", &file, "--jobs", "2"],
            "--jobs starts processes for cells",
        ),
    ] {
        let error = refused(&together(&place, 2, arguments));
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(together(&place, 1, &["devices"]).status, 0);
}
