"""Errors, warnings, notes and progress."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import GYM, configuration

import eigenmix


def test_an_error_has_the_message_and_the_status_of_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(eigenmix.EigenmixError) as caught:
        eigenmix.extract(["no/such/adapter"], tmp_path / "s", progress=False)
    assert "no/such/adapter" in caught.value.message
    assert caught.value.status == 2 and caught.value.is_bad_input
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.message, again.status) == (caught.value.message, 2)


def test_messages_name_keywords_not_flags(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with pytest.raises(eigenmix.EigenmixError, match="replace it with `force`"):
        eigenmix.extract([GYM], tmp_path / "s", progress=False)
    with pytest.raises(eigenmix.EigenmixError, match="'components' cannot be used with 'variance'"):
        eigenmix.extract([GYM], tmp_path / "t", components=2, variance=0.5, progress=False)
    with pytest.raises(eigenmix.EigenmixError, match="no option `colour`"):
        eigenmix.call("extract", {"colour": 1})
    with pytest.raises(eigenmix.EigenmixError, match="no module `nothing`"):
        eigenmix.Adapter(GYM).factors("nothing")


def test_progress_goes_from_nothing_to_all_on_the_callers_thread(
    tmp_path: Path, adapters: list[Path]
) -> None:
    seen: list[eigenmix.Progress] = []
    eigenmix.extract(adapters, tmp_path / "s", progress=seen.append)
    assert seen[0].action == "extracting" and seen[0].total == 4 and seen[0].unit == "modules"
    assert seen[-1].position == 4 and seen[-1].is_over
    positions = [each.position for each in seen]
    assert positions == sorted(positions)


def test_a_callback_that_raises_stops_the_call(tmp_path: Path, adapters: list[Path]) -> None:
    def enough(_: eigenmix.Progress) -> None:
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        eigenmix.merge(adapters, tmp_path / "m", space="full", method="ties", progress=enough)
    assert list(tmp_path.iterdir()) == []


def test_warnings_are_warnings_and_notes_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.warns(eigenmix.EigenmixWarning, match="fewer directions"):
        eigenmix.extract([GYM], tmp_path / "s", components=9, progress=False)
    caplog.set_level(logging.INFO, "eigenmix")
    config = configuration(tmp_path / "r", method="lora")
    data = config["data"]
    assert isinstance(data, dict)
    data["max_length"] = 4
    eigenmix.train(config, progress=False)
    assert any("longer than data.max_length" in message for message in caplog.messages)


def test_the_command_is_on_the_path_and_has_its_statuses() -> None:
    command = Path(sys.executable).with_name("eigenmix")
    words = [str(command)] if command.exists() else [sys.executable, "-m", "eigenmix"]
    version = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == f"eigenmix {eigenmix.__version__}\n"
    failed = subprocess.run([*words, "inspect", "no/such"], capture_output=True, text=True)
    assert failed.returncode == 2 and failed.stderr.startswith("error: ")
    assert subprocess.run([*words, "inspekt"], capture_output=True).returncode == 2


def test_a_forked_process_is_told_to_be_spawned(tmp_path: Path) -> None:
    code = """
import multiprocessing, sys
import eigenmix

def inspect(path):
    try:
        return eigenmix.inspect(path)["kind"]
    except eigenmix.EigenmixError as error:
        return error.message

if __name__ == "__main__":
    print(inspect(sys.argv[1]))
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(pool.apply(inspect, sys.argv[1:]))
"""
    if not hasattr(os, "fork"):
        return
    file = tmp_path / "forks.py"
    file.write_text(code)
    words = [sys.executable, str(file), str(GYM)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    here, forked, spawned = done.stdout.splitlines()
    assert (here, spawned) == ("adapter", "adapter")
    assert "was forked" in forked and "spawn" in forked


def test_ctrl_c_ends_the_command_after_its_step(tmp_path: Path) -> None:
    config = tmp_path / "long.toml"
    text = Path("configs/quickstart/pretrain.toml").read_text()
    config.write_text(text)
    words = [sys.executable, "-m", "eigenmix", "train", str(config), "--set", f"output={tmp_path}/run"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    metrics = tmp_path / "run/metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_bytes()):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, words_of_people = process.communicate(timeout=120)
    assert process.returncode == 1 and "--resume` continues" in words_of_people
    assert list((tmp_path / "run/checkpoints").iterdir())


def test_cells_of_an_experiment_have_processes_of_their_own(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "eigenmix", "run", "configs/quickstart.toml", "--jobs", "2"]
    options = ["--out", str(tmp_path / "q"), "--set", "seeds=[0]", "--set", "training.epochs=1"]
    subprocess.run([*words, *options], check=True, capture_output=True)
    assert (tmp_path / "q/report.json").is_file()
