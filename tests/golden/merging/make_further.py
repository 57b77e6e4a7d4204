"""Writes merges of the adapters here in further ways: Iso-CTS, RobustMerge, and compressed before merging.

    pip install numpy==2.4.6 scipy==1.17.1 safetensors==0.8.0
    python make_further.py

In float64, on dense matrices, from the formulas: Iso-CTS (arXiv 2502.04959), RobustMerge (2502.17159) on the
entries of a space, Compress then merge (2606.03723). It reads `adapters/`, which `make_merging.py` wrote, and
takes spaces and the other methods from there. Nothing of this project is in it, and nothing of the authors'
code.

further.safetensors     merged updates ΔW [d_out, d_in], further/GROUP/SPACE/METHOD-PERCENT[-compressR]/MODULE
  SPACE    full, knots (the rows of Σ·Vᵀ), unscaled (the rows of Vᵀ, times Σ afterwards), core
  METHOD   iso-cts-K: K % of the directions are common; robust-P: P % of the entries are pruned; sum; ties-K; tsv

Merges that the rounding of whoever computes them decides are left out, as there; `further.json` names them.
"""

import json
from pathlib import Path

import numpy as np
import safetensors
import scipy
from safetensors.numpy import save_file

import make_merging
from make_merging import GROUPS, HERE, MARGIN, determined_merges, read_group, svd

# What rounding leaves of a direction that is not there.
NEGLIGIBLE = 1e-6
RANKS = (2, 4)


# Methods

def nearest_orthonormal(vectors):
    """P·Qᵀ of X = P·S·Qᵀ over the directions that X has: more columns than that are no more directions."""
    u, s, v = svd(vectors)
    rank = int((s > NEGLIGIBLE * s[0]).sum())
    return u[:, :rank] @ v[:rank]


def iso_cts(tasks, percent):
    """k common directions of Σ τ_t and (r − k)/T of each τ_t − U_k·U_kᵀ·τ_t, orthonormal, at their mean."""
    u, s, v = svd(sum(tasks))
    rank = int((s > NEGLIGIBLE * s[0]).sum())
    share = min(round((rank - int(percent / 100 * rank)) / len(tasks)), rank // len(tasks))
    common = rank - share * len(tasks)
    left, strengths, right = [u[:, :common]], [s[:common]], [v[:common]]
    for task in tasks:
        u_t, s_t, v_t = svd(task - u[:, :common] @ (u[:, :common].T @ task))
        there = min(share, int((s_t > NEGLIGIBLE * np.linalg.norm(task)).sum()))
        left.append(u_t[:, :there])
        strengths.append(s_t[:there])
        right.append(v_t[:there])
    mean = np.concatenate(strengths).mean()
    return mean * nearest_orthonormal(np.hstack(left)) @ nearest_orthonormal(np.vstack(right))


def robust(tasks, percent):
    """Rows of the pruned τ̂_t times s_t,i = Σ_j|τ_t,ij| / Σ_j|τ̂_t,ij|, divided by Σ_t s_t,i."""
    pruned = [make_merging.largest_entries(task, 100 - percent) for task in tasks]
    lost = []
    for task, kept in zip(tasks, pruned):
        before, after = np.abs(task).sum(axis=1), np.abs(kept).sum(axis=1)
        # Of a row that is pruned as a whole nothing is left to scale.
        lost.append(np.where(after > 0, before / np.where(after > 0, after, 1), 0.0))
    total = sum(lost)
    shares = [np.where(total > 0, s / np.where(total > 0, total, 1), 0.0) for s in lost]
    return sum(share[:, None] * kept for share, kept in zip(shares, pruned))


def tsv(tasks, directions):
    """The top ⌊k/T⌋ triplets of each task, k being how many directions there were before the projection."""
    triplets = [svd(task) for task in tasks]
    share = directions // len(tasks)
    counts = [min(share, int((s > NEGLIGIBLE * s[0]).sum())) for _, s, _ in triplets]
    kept = [(u[:, :count], s[:count], v[:count]) for (u, s, v), count in zip(triplets, counts)]
    left = nearest_orthonormal(np.hstack([u for u, _, _ in kept]))
    right = nearest_orthonormal(np.vstack([v for _, _, v in kept]))
    return (left * np.concatenate([s for _, s, _ in kept])) @ right


METHODS = {
    "iso-cts-80": lambda tasks: iso_cts(tasks, 80),
    "iso-cts-40": lambda tasks: iso_cts(tasks, 40),
    "robust-20": lambda tasks: robust(tasks, 20),
    "robust-75": lambda tasks: robust(tasks, 75),
}
COMPRESSED = METHODS | {
    "sum": sum,
    "ties-50": lambda tasks: make_merging.ties(tasks, 50),
    "tsv": None,
}


# Compression

def strongest(blocks, count):
    return svd(np.hstack(blocks))[0][:, :count]


def shared_directions(factors, rank):
    """P [d_out, R] and Q [d_in, R] that keep most of Σ‖Pᵀ·X_t·Q‖², X_t = ΔW_t/‖ΔW_t‖: HOSVD, then HOOI."""
    updates = [b @ a for b, a in factors]
    units = [update / np.linalg.norm(update) for update in updates]
    ranks = sum(a.shape[0] for _, a in factors)
    rows, cols = (min(rank, ranks, size) for size in updates[0].shape)
    right = strongest([unit.T for unit in units], cols)
    for _ in range(500):
        left = strongest([unit @ right for unit in units], rows)
        right = strongest([unit.T @ left for unit in units], cols)
    return left, right, updates


def compressed_merge(directions, space, merge):
    left, right, updates = directions
    coordinates = [left.T @ update @ right for update in updates]
    if space == "core":
        return left @ merge(coordinates) @ right.T
    projected = [left @ task @ right.T for task in coordinates]
    if space == "full":
        return merge(projected)
    # The span of [ΔW_1 … ΔW_T] has no more than R directions.
    u, s, v = svd(np.hstack(projected))
    kept = s > 1e-5
    tasks = np.split(v[kept], len(updates), axis=1)
    return u[:, kept] @ merge([s[kept, None] * task for task in tasks])


def directions_before(factors, space):
    """How many singular values a task has in a space, the zeros counted."""
    shape = (factors[0][0].shape[0], factors[0][1].shape[1])
    ranks = sum(a.shape[0] for _, a in factors)
    return min(shape) if space == "full" else min(*shape, ranks)


def plain_merge(factors, space, merge):
    if space == "full":
        return merge([b @ a for b, a in factors])
    if space == "core":
        u, v, tasks = make_merging.core(factors)
        return u @ merge(tasks) @ v
    u, s, tasks = make_merging.knots(factors)
    if space == "unscaled":
        return (u * s) @ merge(tasks)
    return u @ merge([s[:, None] * task for task in tasks])


def further_merges(modules, group):
    merged = {}
    for module, factors in modules.items():
        directions = {rank: shared_directions(factors, rank) for rank in RANKS}
        for space in ("full", "knots", "unscaled", "core"):
            for name, method in METHODS.items():
                merged[f"further/{group}/{space}/{name}/{module}"] = plain_merge(factors, space, method)
            for name, method in COMPRESSED.items():
                # Single entries changed make the rank full again.
                if space == "unscaled" or space == "full" and name.startswith(("ties", "robust")):
                    continue
                if name == "tsv":
                    count = directions_before(factors, space)
                    method = lambda tasks, count=count: tsv(tasks, count)
                for rank in RANKS:
                    key = f"further/{group}/{space}/{name}-compress{rank}/{module}"
                    merged[key] = compressed_merge(directions[rank], space, method)
    return merged


def main():
    stored, left_out, sensitivity = {}, {}, 0.0
    for group in GROUPS:
        merged, determined, changes = determined_merges(
            read_group(HERE, group), group, MARGIN, further_merges)
        stored |= {name: merged[name].astype(np.float32) for name in sorted(determined)}
        sensitivity = max(sensitivity, *(changes[name] for name in determined))
        for name in sorted(merged.keys() - determined):
            case, module = name.rsplit("/", 1)
            left_out.setdefault(case, []).append(module)
    assert all(np.isfinite(tensor).all() for tensor in stored.values())
    save_file(stored, HERE / "further.safetensors")
    versions = {
        "numpy": np.__version__, "scipy": scipy.__version__, "safetensors": safetensors.__version__,
        "cases": len({name.rsplit("/", 1)[0] for name in stored}), "tensors": len(stored),
        "shift_of_the_factors": MARGIN, "largest_change_by_it": float(f"{sensitivity:.1e}"),
        "undetermined_and_left_out": left_out,
    }
    (Path(HERE) / "further.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
