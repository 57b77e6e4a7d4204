"""What the tests share: the quick start's files, from the root of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

import eigenmix

ROOT = Path(__file__).resolve().parents[3]
QUICKSTART = Path("datasets/quickstart")
BASE = QUICKSTART / "base"
FERRY = QUICKSTART / "tasks/ferry_port"
GYM = QUICKSTART / "adapters/gym"
QUERY = "bert.encoder.layer.0.attention.self.query"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick start's files name each other from there."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def adapters() -> list[Path]:
    return sorted(path for path in (ROOT / QUICKSTART / "adapters").iterdir())


@pytest.fixture(scope="session")
def subspace(tmp_path_factory: pytest.TempPathFactory, adapters: list[Path]) -> Path:
    out = tmp_path_factory.mktemp("shared") / "subspace"
    eigenmix.extract(adapters, out, components=12, progress=False)
    return out


def configuration(out: Path, **adapter: object) -> dict[str, object]:
    """A short training on five examples of each class."""
    return {
        "seed": 3,
        "output": out,
        "base": {"model": BASE},
        "data": {"path": FERRY, "max_length": 48, "examples_per_class": 5},
        "adapter": {"rank": 4, **adapter},
        "training": {"epochs": 4, "batch_size": 16, "learning_rate": 5e-3, "evaluate_every": 0},
    }
