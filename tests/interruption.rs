//! Runs that are stopped: by Ctrl-C, by a kill at any moment, by a full disk, by one another.
#![cfg(unix)]

mod support;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::{Outcome, Random, Workplace, metrics, quickstart};

/// A training of `epochs` epochs of six steps, with a checkpoint every other step.
fn training(place: &Workplace, output: &str, epochs: usize) -> String {
    let text = format!(
        r#"
        output = "{output}"
        [base]
        model = "{base}"
        dropout = 0.1
        [data]
        path = "{data}"
        max_length = 48
        examples_per_class = 5
        [adapter]
        method = "moslora"
        rank = 4
        [training]
        epochs = {epochs}
        batch_size = 8
        learning_rate = 5e-3
        log_every = 1
        save_every = 2
        "#,
        base = quickstart("base"),
        data = quickstart("tasks/ferry_port"),
    );
    let name = format!("{output}.toml");
    fs::write(place.path(&name), text).expect("a file");
    name
}

fn start(place: &Workplace, arguments: &[&str]) -> Child {
    let mut command = place.command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary runs")
}

fn signal(child: &Child, name: &str) {
    let process = child.id().to_string();
    let sent = Command::new("kill").args([name, &process]).status();
    assert!(sent.expect("kill runs").success());
}

/// Waits until a process shows how far it has come. It has to be running until then.
fn wait_until(process: &mut Child, what: &str, is_so: impl Fn() -> bool) {
    // No pace that is expected of it: only a process that hangs takes as long.
    const PATIENCE: Duration = Duration::from_secs(300);
    let started = Instant::now();
    while !is_so() {
        if let Some(status) = process.try_wait().expect("a process") {
            let mut said = String::new();
            let stderr = process.stderr.as_mut().expect("a pipe");
            stderr.read_to_string(&mut said).expect("UTF-8");
            panic!("it ended before {what}: {status}, {said}");
        }
        assert!(started.elapsed() < PATIENCE, "it runs, without {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Waits until a run has written something, such as its first checkpoint.
fn wait_for(process: &mut Child, path: &Path) {
    wait_until(process, &path.display().to_string(), || path.exists());
}

/// How many lines the metrics of a run have, a last one without an end aside.
fn logged_lines(run: &Path) -> usize {
    let text = fs::read(run.join("metrics.jsonl")).unwrap_or_default();
    text.iter().filter(|&&byte| byte == b'\n').count()
}

fn weights(run: &Path) -> Vec<u8> {
    fs::read(run.join("adapter/adapter_model.safetensors")).expect("an adapter")
}

#[test]
fn twenty_runs_killed_at_random_moments_reach_what_the_uninterrupted_one_reaches() {
    let place = Workplace::new();
    let whole = training(&place, "whole", 4);
    let started = Instant::now();
    place.run_json(&["train", &whole]);
    let mut duration = started.elapsed();
    let expected = (metrics(&place.path("whole")), weights(&place.path("whole")));
    let mut random = Random(20);
    let (mut number, mut killed) = (0, 0);
    while killed < 20 {
        number += 1;
        assert!(number <= 200, "of {number} runs only {killed} were killed");
        let name = format!("killed-{number}");
        let file = training(&place, &name, 4);
        // From the first instruction to about the last.
        let moment = f64::from(random.number() + 1.0) / 2.0;
        let lifetime = duration.mul_f64(moment);
        let mut child = start(&place, &["train", &file]);
        sleep(lifetime);
        child.kill().expect("it can be killed");
        let status = child.wait().expect("it ends");
        match status.code() {
            None => killed += 1,
            // It was over before: the machine has more time for it than for the first one.
            Some(_) => duration = lifetime,
        }
        let run = place.path(&name);
        let has_begun = run.join("config.toml").exists();
        let resumed = match has_begun {
            true => place.run(&["train", &file, "--resume"]),
            false => place.run(&["train", &file]),
        };
        assert_eq!(resumed.status, 0, "{number}: {resumed:?}");
        assert_eq!((metrics(&run), weights(&run)), expected, "{number}");
        let hidden = |path: &Path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            name.starts_with('.') || name.ends_with(".lock")
        };
        let left: Vec<_> = place
            .entries()
            .into_iter()
            .filter(|path| hidden(path))
            .collect();
        assert!(left.is_empty(), "{number}: {left:?}");
    }
}

#[test]
fn ctrl_c_finishes_the_step_saves_and_says_how_to_go_on() {
    let place = Workplace::new();
    let whole = training(&place, "whole", 30);
    place.run_json(&["train", &whole]);
    let stopped = training(&place, "stopped", 30);
    let run = place.path("stopped");
    for signal_name in ["-INT", "-TERM"] {
        let mut arguments = vec!["train", &stopped];
        arguments.extend(run.exists().then_some("--resume"));
        let before = logged_lines(&run);
        let mut child = start(&place, &arguments);
        wait_until(&mut child, "a step that is new", || {
            logged_lines(&run) > before
        });
        signal(&child, signal_name);
        let outcome = Outcome::of(child.wait_with_output().expect("it ends"));
        assert_eq!(outcome.status, 1, "{outcome:?}");
        let advice = "`eigenmix train stopped.toml --resume` continues `stopped`";
        assert!(outcome.stderr.contains(advice), "{outcome:?}");
    }
    place.run_json(&["train", &stopped, "--resume"]);
    assert_eq!(
        metrics(&place.path("stopped")),
        metrics(&place.path("whole"))
    );
    assert_eq!(
        weights(&place.path("stopped")),
        weights(&place.path("whole"))
    );
}

#[test]
fn an_interrupted_experiment_goes_on_with_the_same_command() {
    let place = Workplace::new();
    let file = training(&place, "x", 20);
    let seeds = "seeds=[0, 1, 2]";
    let whole = ["run", &file, "--set", seeds, "--out", "whole"];
    place.run_json(&whole);
    for jobs in ["1", "2"] {
        let out = format!("jobs-{jobs}");
        let arguments = ["run", &file, "--set", seeds, "--out", &out, "--jobs", jobs];
        let mut child = start(&place, &arguments);
        let checkpoints = place.path(&out).join("moslora/seed-0/checkpoints");
        wait_for(&mut child, &checkpoints);
        signal(&child, "-INT");
        let outcome = Outcome::of(child.wait_with_output().expect("it ends"));
        assert_eq!(outcome.status, 1, "{outcome:?}");
        assert!(
            outcome.stderr.contains("the same command continues"),
            "{outcome:?}"
        );
        assert!(
            !place
                .path(&out)
                .join("moslora/seed-2/outcome.json")
                .exists()
        );
        place.run_json(&arguments);
        for seed in 0..3 {
            let run = format!("moslora/seed-{seed}");
            let (one, other) = (place.path("whole").join(&run), place.path(&out).join(&run));
            assert_eq!(metrics(&one), metrics(&other), "{jobs} jobs, {run}");
        }
    }
}

#[test]
fn two_processes_do_not_write_the_same_run() {
    let place = Workplace::new();
    // It ends when it is stopped, not before.
    let file = training(&place, "run", 100_000);
    let run = place.path("run");
    let mut first = start(&place, &["train", &file]);
    wait_for(&mut first, &run.join("checkpoints"));
    for flag in ["--resume", "--force"] {
        let second = place.run(&["train", &file, flag]);
        assert_eq!(second.status, 2, "{second:?}");
        let holder = format!("process {}", first.id());
        assert!(second.stderr.contains(&holder), "{second:?}");
    }
    // The first continues as if nothing had happened, and leaves the run to the next process.
    let stop_after = |before: usize, mut process: Child| {
        wait_until(&mut process, "a step that is new", || {
            logged_lines(&run) > before
        });
        signal(&process, "-INT");
        let outcome = Outcome::of(process.wait_with_output().expect("it ends"));
        assert_eq!(outcome.status, 1, "{outcome:?}");
        assert!(outcome.stderr.contains("--resume"), "{outcome:?}");
    };
    stop_after(logged_lines(&run), first);
    let before = logged_lines(&run);
    stop_after(before, start(&place, &["train", &file, "--resume"]));
    let steps: Vec<_> = metrics(&run)
        .iter()
        .filter(|line| line.get("split").is_none())
        .filter_map(|line| line["step"].as_u64())
        .collect();
    assert!(
        steps.iter().copied().eq(1..=steps.len() as u64),
        "{steps:?}"
    );
}

#[test]
fn a_full_disk_is_reported_and_the_checkpoint_before_survives() {
    let place = Workplace::new();
    let whole = training(&place, "whole", 20);
    place.run_json(&["train", &whole]);
    let file = training(&place, "full", 20);
    let mut child = start(&place, &["train", &file]);
    wait_for(&mut child, &place.path("full/checkpoints"));
    signal(&child, "-INT");
    child.wait_with_output().expect("it ends");
    let before = fs::read_dir(place.path("full/checkpoints"))
        .expect("checkpoints")
        .count();
    // No file may grow beyond a few kilobytes: writing fails as on a full disk.
    let binary = env!("CARGO_BIN_EXE_eigenmix");
    let script = format!("trap '' XFSZ; ulimit -f 8; exec {binary} train {file} --resume");
    let limited = Command::new("sh")
        .args(["-c", &script])
        .current_dir(place.path(""))
        .output();
    let outcome = Outcome::of(limited.expect("a shell"));
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert!(
        outcome.stderr.contains("cannot write") && outcome.stderr.contains("full/checkpoints"),
        "{outcome:?}"
    );
    let after = fs::read_dir(place.path("full/checkpoints"))
        .expect("checkpoints")
        .count();
    assert!(
        before >= 1 && after >= before,
        "{before} before, {after} after"
    );
    place.run_json(&["train", &file, "--resume"]);
    assert_eq!(metrics(&place.path("full")), metrics(&place.path("whole")));
    assert_eq!(weights(&place.path("full")), weights(&place.path("whole")));
}

/// A directory with this program and stand-ins for others, by name and script.
fn tools(place: &Workplace, scripts: &[(&str, &str)]) -> PathBuf {
    let tools = place.path("tools");
    fs::create_dir(&tools).expect("a directory");
    let binary = env!("CARGO_BIN_EXE_eigenmix");
    std::os::unix::fs::symlink(binary, tools.join("eigenmix")).expect("a link");
    for (name, script) in scripts {
        let tool = tools.join(name);
        fs::write(&tool, format!("#!/bin/sh\n{script}\n")).expect("a file");
        let status = Command::new("chmod").arg("+x").arg(&tool).status();
        assert!(status.expect("chmod runs").success());
    }
    tools
}

/// A script of `configs/cluster` that finds these tools.
fn slurm_script(name: &str, place: &Workplace, tools: &Path) -> Command {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/cluster");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command
        .arg(scripts.join(name))
        .current_dir(place.path(""))
        .env("PATH", format!("{}:{path}", tools.display()))
        .env("SLURM_CPUS_PER_TASK", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The shipped job array, with the scheduler's words made up and its command only writing down that
/// it was called.
#[test]
fn a_task_of_the_job_array_runs_its_part_and_is_queued_again_when_its_time_is_over() {
    let place = Workplace::new();
    let file = training(&place, "x", 300);
    let tools = tools(&place, &[("scontrol", "echo \"$@\" > queued")]);
    let task = |arguments: &[&str]| {
        let mut command = slurm_script("slurm.sh", &place, &tools);
        command
            .args(arguments)
            .env("SLURM_ARRAY_JOB_ID", "77")
            .env("SLURM_ARRAY_TASK_ID", "2")
            .env("SLURM_ARRAY_TASK_COUNT", "2");
        command
    };
    let seeds = [&file, "--set", "seeds=[0, 1, 2]"];
    let plan = task(&[&seeds[..], &["--dry-run"]].concat()).output();
    let plan = Outcome::of(plan.expect("bash runs"));
    assert!(
        plan.stdout.contains("seed-1") && !plan.stdout.contains("seed-0"),
        "{plan:?}"
    );
    assert!(!place.path("queued").exists());

    let mut child = task(&seeds).spawn().expect("bash runs");
    wait_for(&mut child, &place.path("x/moslora/seed-1/checkpoints"));
    signal(&child, "-TERM");
    let outcome = Outcome::of(child.wait_with_output().expect("it ends"));
    assert!(
        outcome.stderr.contains("the same command continues"),
        "{outcome:?}"
    );
    let queued = fs::read_to_string(place.path("queued")).expect("it was queued");
    assert_eq!(queued, "requeue 77_2\n");
}

/// `configs/cluster/slurm-mpi.sh` with a step of Slurm that starts one process, which waits for a signal.
#[test]
fn a_training_on_several_nodes_is_queued_again_when_its_time_is_over_and_goes_on() {
    let place = Workplace::new();
    let file = training(&place, "x", 300);
    let waits = "until [ \"$1\" = eigenmix ]; do shift; done; echo $$ > process; exec \"$@\"";
    let cancels = "echo \"$@\" > cancelled; kill -TERM \"$(cat process)\"";
    let tools = tools(
        &place,
        &[
            ("scontrol", "echo \"$@\" > queued"),
            ("srun", waits),
            ("scancel", cancels),
        ],
    );
    let job = |arguments: &[&str]| {
        let mut command = slurm_script("slurm-mpi.sh", &place, &tools);
        command.arg(&file).args(arguments).env("SLURM_JOB_ID", "77");
        command
    };
    let mut child = job(&[]).spawn().expect("bash runs");
    wait_for(&mut child, &place.path("x/moslora/seed-0/checkpoints"));
    signal(&child, "-TERM");
    let outcome = Outcome::of(child.wait_with_output().expect("it ends"));
    assert!(
        outcome.stderr.contains("the same command continues"),
        "{outcome:?}"
    );
    let read = |name: &str| fs::read_to_string(place.path(name)).expect("a file");
    assert_eq!(read("queued"), "requeue 77\n");
    assert_eq!(read("cancelled"), "--signal=TERM 77.0\n");
    let whole = ["--set", "training.max_steps=1"];
    let refused = Outcome::of(job(&whole).output().expect("bash runs"));
    assert_ne!(refused.status, 0, "of another configuration: {refused:?}");
}
