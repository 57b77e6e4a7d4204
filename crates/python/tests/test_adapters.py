"""Adapters, merges, exports and what is in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import BASE, GYM, QUERY, QUICKSTART

import eigenmix


def test_factors_are_views_whose_product_is_the_update() -> None:
    adapter = eigenmix.Adapter(GYM)
    found = adapter.factors(QUERY)
    assert found.b.shape == (64, 4) and found.a.shape == (4, 64) and found.mixer is None
    assert not found.b.flags.owndata and not found.a.flags.writeable
    delta = adapter.delta(QUERY)
    assert np.abs(delta).max() > 0.01
    assert np.abs(found.scaling * found.b @ found.a - delta).max() < 1e-7
    assert np.abs(adapter.left(QUERY) @ adapter.right(QUERY).T - delta).max() < 1e-7
    assert adapter.labels is not None and "cancel_class" in adapter.labels
    assert adapter.heads["classifier.weight"].shape == (10, 64)


def test_a_sum_is_the_sum_of_the_updates(tmp_path: Path, adapters: list[Path]) -> None:
    merged = eigenmix.merge(
        adapters[:3], tmp_path / "sum", space="core", method="sum", weights=[1, 2, -0.5],
        progress=False,
    )
    parts = [eigenmix.Adapter(path).delta(QUERY) for path in adapters[:3]]
    expected = parts[0] + 2 * parts[1] - 0.5 * parts[2]
    assert np.abs(merged.adapter.delta(QUERY) - expected).max() < 1e-6


def test_parameters_of_a_method_are_keywords(tmp_path: Path, adapters: list[Path]) -> None:
    merged = eigenmix.merge(
        adapters, tmp_path / "ties", space="full", method="ties", density=0.3, rank=4,
        progress=False,
    )
    assert merged.details["options"]["method"] == {"ties": {"density": 0.3}}
    assert 0.1 < merged.energy_kept < 1.0


def test_a_search_takes_data_by_name_or_in_order(tmp_path: Path, adapters: list[Path]) -> None:
    two = [QUICKSTART / "adapters/gym", QUICKSTART / "adapters/library"]
    tasks = {name: QUICKSTART / "tasks" / name for name in ("gym", "library")}
    options = {"space": "core", "method": "sum", "base": BASE, "scales": [0.5, 1.0]}
    by_name = eigenmix.merge_search(two, tmp_path / "a", data=tasks, progress=False, **options)
    in_order = eigenmix.merge_search(
        two, tmp_path / "b", data=list(tasks.values()), progress=False, **options
    )
    assert len(by_name.trials) == 2 and by_name.scale in (0.5, 1.0)
    assert by_name.test_score == in_order.test_score > 0.3


def test_exports_go_to_another_form_and_rank(tmp_path: Path) -> None:
    exported = eigenmix.export(GYM, tmp_path / "gym", progress=False)
    assert exported.format == "peft" and exported.ranks == (4, 4)
    difference = eigenmix.Adapter(exported.path).delta(QUERY) - eigenmix.Adapter(GYM).delta(QUERY)
    assert np.abs(difference).max() < 1e-7
    # A head has no place in that dialect, and the message names the keyword.
    with pytest.raises(eigenmix.EigenmixError, match="choose another `format`"):
        eigenmix.export(GYM, tmp_path / "gym.safetensors", format="kohya", progress=False)
    smaller = eigenmix.export(GYM, tmp_path / "small", rank=2, progress=False)
    assert smaller.energy_kept is not None and 0.5 < smaller.energy_kept < 1.0


def test_inspect_says_what_a_path_is(subspace: Path) -> None:
    kinds = [eigenmix.inspect(path)["kind"] for path in (GYM, subspace)]
    assert kinds == ["adapter", "subspace"]


def test_a_hundred_merges_leak_nothing(tmp_path: Path, adapters: list[Path]) -> None:
    def resident() -> float:
        """MiB"""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096 / 2**20

    def merge() -> None:
        eigenmix.merge(
            adapters, tmp_path / "m", space="core", method="tsv", force=True, progress=False
        )

    if not Path("/proc/self/statm").exists():
        return
    for _ in range(20):
        merge()
    before = resident()
    for _ in range(100):
        merge()
    # One lost matrix of a merge a time would be 3 MiB.
    assert resident() - before < 2.0
