"""Subspaces and projections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import GYM, QUERY

import eigenmix


def test_the_bases_are_orthonormal_views_of_the_engine(subspace: Path) -> None:
    found = eigenmix.Subspace(subspace)
    left, right = found.left(QUERY), found.right(QUERY)
    assert left.shape == right.shape == (64, 12)
    assert not left.flags.owndata and not left.flags.writeable
    assert np.abs(left.T @ left - np.eye(12)).max() < 1e-6
    variance = found.left_variance(QUERY)
    assert variance.shape == (12,) and (np.diff(variance) <= 0).all()
    assert len(found.sources) == 6 and QUERY in found.modules


def test_a_view_outlives_its_subspace(subspace: Path) -> None:
    left = eigenmix.Subspace(subspace).left(QUERY)
    copy = left.copy()
    eigenmix.Subspace(subspace).with_components(3)
    assert np.array_equal(left, copy)


def test_fewer_components_are_the_first_columns(subspace: Path) -> None:
    whole = eigenmix.Subspace(subspace)
    assert np.array_equal(whole.with_components(3).left(QUERY), whole.left(QUERY)[:, :3])


def test_all_components_reconstruct_the_adapters(tmp_path: Path, adapters: list[Path]) -> None:
    extraction = eigenmix.extract(adapters[:3], tmp_path / "all", progress=False)
    assert extraction.left_variance_kept == pytest.approx(1.0)
    for each in eigenmix.project(adapters[:3], extraction.path, progress=False):
        assert each.relative_error < 1e-6
    # The mixer of an adapter, M = Uᵀ ΔW V, gives its update back.
    mixer = extraction.subspace.mixers([adapters[0]])[QUERY]
    left, right = extraction.subspace.left(QUERY), extraction.subspace.right(QUERY)
    delta = eigenmix.Adapter(adapters[0]).delta(QUERY)
    assert np.abs(left @ mixer @ right.T - delta).max() < 1e-6


def test_projections_are_written(tmp_path: Path, subspace: Path, adapters: list[Path]) -> None:
    found = eigenmix.project(adapters[:2], subspace, tmp_path / "projected", progress=False)
    for each in found:
        assert 0.1 < each.relative_error < 0.4
        assert eigenmix.Adapter(tmp_path / "projected" / each.name).modules == list(each.modules)


def test_a_subspace_grows_and_groups_are_found(tmp_path: Path, adapters: list[Path]) -> None:
    eigenmix.extract(adapters[:4], tmp_path / "four", progress=False)
    eigenmix.extract(adapters[4:], tmp_path / "six", update=tmp_path / "four", progress=False)
    assert len(eigenmix.Subspace(tmp_path / "six").sources) == 6
    groups = eigenmix.extract(adapters, tmp_path / "groups", clusters=2, progress=False)
    assert groups.left_variance_kept is None and (tmp_path / "groups/cluster-1").is_dir()


def test_one_adapter_may_be_given_without_a_list(tmp_path: Path) -> None:
    eigenmix.extract(str(GYM), tmp_path / "one", progress=False)
    assert len(eigenmix.Subspace(tmp_path / "one").sources) == 1


def test_weights_are_a_word_or_numbers(tmp_path: Path, adapters: list[Path]) -> None:
    two = adapters[:2]
    equal = eigenmix.extract(two, tmp_path / "equal", weights="equal", components=4, progress=False)
    ones = eigenmix.extract(two, tmp_path / "ones", weights=[1, 1.0], components=4, progress=False)
    module = equal.subspace.modules[0]
    assert np.array_equal(equal.subspace.left(module), ones.subspace.left(module))
    with pytest.raises(eigenmix.EigenmixError, match="there are 3"):
        eigenmix.extract(two, tmp_path / "three", weights=[1, 2, 3], progress=False)


def test_a_flattened_subspace_says_what_it_is(tmp_path: Path, adapters: list[Path]) -> None:
    found = eigenmix.extract(adapters[:3], tmp_path / "flat", kind="flattened", progress=False)
    subspace = found.subspace
    assert subspace.is_flattened
    assert subspace.left(subspace.modules[0]).shape[1] == 3
    with pytest.raises(eigenmix.EigenmixError, match="flattened"):
        subspace.mixers(adapters[:1])
