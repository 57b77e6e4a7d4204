"""The examples of the documentation and the notebook run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = BLOCK.findall((ROOT / "docs/python.md").read_text(encoding="utf-8"))


def run(code: str, place: Path) -> None:
    """In a directory that has the repository's files, as a person would run it from the root."""
    for name in ("datasets", "configs"):
        (place / name).symlink_to(ROOT / name)
    file = place / "example.py"
    file.write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, str(file)], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_there_are_three_examples() -> None:
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_documentation_runs(number: int, tmp_path: Path) -> None:
    code = EXAMPLES[number]
    if "import torch" in code:
        pytest.importorskip("torch")
        pytest.importorskip("transformers")
    run(code, tmp_path)


def test_the_notebook_runs(tmp_path: Path) -> None:
    run((ROOT / "crates/python/examples/recycling.py").read_text(encoding="utf-8"), tmp_path)
