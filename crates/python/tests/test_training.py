"""Trainings, evaluations, predictions and experiments."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import BASE, FERRY, GYM, QUICKSTART, configuration

import eigenmix


def test_a_dictionary_and_its_file_train_the_same(tmp_path: Path, subspace: Path) -> None:
    config = configuration(tmp_path / "run", method="eigenmix", subspace=subspace, init="merge")
    run = eigenmix.train(config, progress=False)
    assert run.steps == 16 and run.adapter_parameters == 4 * 12 * 12
    assert run.coefficients is not None and run.load_adapter().modules
    assert [line["step"] for line in run.metrics if "split" not in line] == [1, 10, 16]
    assert set(run.test) == {"accuracy"}
    assert eigenmix.Run.open(run.path) == run
    again = eigenmix.train(
        run.path / "config.toml", overrides={"output": str(tmp_path / "again")}, progress=False
    )
    assert again.test == run.test and again.loss == run.loss


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """What a shell starts in the background ignores Ctrl-C, and so would its children."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_leaves_a_run_that_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    config = configuration(tmp_path / "run", method="lora")
    config["training"] = {
        "epochs": 150, "batch_size": 16, "learning_rate": 5e-3, "evaluate_every": 0, "log_every": 1
    }

    def interrupt() -> None:
        metrics = tmp_path / "run/metrics.jsonl"
        while not (metrics.exists() and metrics.read_bytes()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        eigenmix.train(config, progress=False)
    with pytest.raises(eigenmix.EigenmixError, match="no finished run"):
        eigenmix.Run.open(tmp_path / "run")
    resumed = eigenmix.train(config, resume=True, progress=False)
    whole = eigenmix.train({**config, "output": tmp_path / "whole"}, progress=False)
    losses = [
        [line["loss"] for line in run.metrics if "split" not in line] for run in (resumed, whole)
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 600
    adapters = [(run.adapter / "adapter_model.safetensors").read_bytes() for run in (resumed, whole)]
    assert adapters[0] == adapters[1]


def test_all_mistakes_of_a_dictionary_are_told_without_a_file(tmp_path: Path) -> None:
    config = {**configuration(tmp_path / "run", method="lora"), "adaptr": 1}
    config["training"] = {"epochs": "x", "batch_size": 16, "learning_rate": 1e-3}
    with pytest.raises(eigenmix.EigenmixError) as caught:
        eigenmix.train(config, progress=False)
    message = caught.value.message
    assert message.startswith("2 mistakes in the configuration")
    assert "`adaptr` is unknown; did you mean `adapter`?" in message
    assert "config.toml" not in message and caught.value.is_bad_input


def test_an_evaluation_has_the_metrics_of_the_task() -> None:
    found = eigenmix.evaluate(BASE, QUICKSTART / "tasks/gym", adapter=GYM, progress=False)
    assert found.split == "test" and found.examples == 300
    assert found.metrics["accuracy"] == pytest.approx(0.88, abs=0.02)


def test_predictions_of_texts_and_of_rows_are_the_same(tmp_path: Path) -> None:
    texts = ["i want to cancel the class", "when do you open"]
    options = {"adapter": GYM, "progress": False}
    of_texts = eigenmix.predict(BASE, texts, **options)
    of_rows = eigenmix.predict(BASE, [{"text": text} for text in texts], **options)
    assert [each.label for each in of_texts] == ["cancel_class", "gym_hours"]
    assert [each.input for each in of_texts] == texts
    assert of_texts == of_rows
    best = eigenmix.predict(BASE, texts[:1], top=3, **options)[0]
    assert list(best.labels)[0] == best.label and len(best.labels) == 3
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(texts) + "\n")
    assert eigenmix.predict(BASE, file, **options) == of_texts
    with pytest.raises(eigenmix.EigenmixError, match="line breaks"):
        eigenmix.predict(BASE, ["two\nlines"], **options)


def test_an_experiment_compares_its_arms(tmp_path: Path) -> None:
    report = eigenmix.run(
        "configs/quickstart.toml",
        out=tmp_path / "out",
        overrides={"seeds": [0], "training.epochs": 2},
        progress=False,
    )
    assert list(report.arms)[:2] == ["lora", "moslora"]
    assert report.arms["lora"].metrics == report.arms["lora"].by_seed[0]
    assert (report.path / "report.html").is_file()


def test_any_command_can_be_called_by_its_name(tmp_path: Path) -> None:
    found = eigenmix.call(
        "init",
        {"base": BASE, "data": FERRY, "adapters": [str(GYM)], "out": tmp_path / "new.toml"},
        progress=False,
    )
    assert (tmp_path / "new.toml").is_file() and found
