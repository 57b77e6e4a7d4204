"""Writes small LoRA adapters, their merges, and the principal components of their factors.

    pip install numpy==2.4.6 scipy==1.17.1 safetensors==0.8.0
    python make_merging.py [--check-against DIR]

An implementation of its own, in float64, on dense matrices, from the formulas of the papers: KnOTS
(arXiv 2410.19735), Core Space (2509.17786), TIES (2306.01708), TSV (2412.00081), CART (2412.12153),
Iso-C (2502.04959), EigenLoRAx (2502.04700). Nothing of this project is in it, and nothing of the
authors' code. `--check-against DIR` proves it: DIR holds adapters and the `merged.safetensors` and
`principal_components.safetensors` that the authors' own code made of them. What was measured then is
in `versions.json` (`agreement_with_the_authors`); a run without DIR keeps it.

adapters/GROUP-{0,1,2}/         PEFT adapters whose scaling s is not 1 (but for one)
merged.safetensors              merged updates ΔW [d_out, d_in]:
  coreauthors/GROUP/SPACE/METHOD[-PARAMETERS][-iso]/MODULE    as the Core Space authors merge
  knotsauthors/GROUP/METHOD-TOPK-scaleS/MODULE                as the KnOTS authors merge
undetermined.safetensors        such of them as were left out of it (see below) but have a part that is not
                                a matter of chance: `-iso` of a merge of fewer directions than the space has
principal_components.safetensors   of the factors of the group `same`:
  KEY/eigenvalues [5], of the scatter matrix; KEY/projector_top5 = V·Vᵀ [d, d]

Groups: `same`, ranks 6, 6, 6: together more than d_in or d_out, so that nothing spans less than
everything; `mixed`, ranks 2, 5, 3, and `small`, ranks 3, 3, 3: together less than both.

The authors ignore the scaling; here B_t stands for s_t·B_t wherever a formula has B_t. A merge that
depends on directions of singular value zero, or on which of several equal singular values comes first,
is decided by the rounding of whoever computes it. Such merges are not stored: each is computed again
from factors that were changed by two millionths, with decompositions of matrices that were changed by a
billionth of their largest entry, and left out where that changes more than 1e-4 of it. `versions.json`
names them.
"""

import argparse
import json
import math
import platform
from pathlib import Path

import numpy as np
import safetensors
import scipy
import scipy.linalg
from safetensors.numpy import load_file, save_file

HERE = Path(__file__).parent
SEED = 20260
TOLERANCE = 1e-4
# How much the factors are changed to see what their merges depend on: by as much as the authors' f32
# rounds, and by more for what is stored, so that no other program comes near to a tie.
ROUNDING, MARGIN = 1e-7, 2e-6
PREFIX = "base_model.model."
# A hidden size of 15: [d_out, d_in].
MODULES = {
    "model.layers.0.mlp.down_proj": (15, 22),
    "model.layers.0.self_attn.q_proj": (18, 15),
    "model.layers.1.self_attn.v_proj": (12, 15),
}
# (rank, alpha, further keys of the configuration) of the three adapters of a group.
GROUPS = {
    "same": [(6, 9, {}), (6, 4, {}), (6, 3, {"use_rslora": True})],
    "mixed": [(2, 3, {}), (5, 5, {}), (3, 2, {})],
    "small": [(3, 5, {}), (3, 4, {"alpha_pattern": {"q_proj": 9}}), (3, 2, {})],
}


# Adapters

def draw_group(group):
    """Factors in f32, as they are stored."""
    generator = np.random.default_rng([SEED, sorted(GROUPS).index(group)])
    adapters = []
    for rank, alpha, further in GROUPS[group]:
        factors = {}
        for module, (d_out, d_in) in MODULES.items():
            a = generator.normal(size=(rank, d_in)) / math.sqrt(d_in)
            b = generator.normal(size=(d_out, rank)) / 2
            factors[f"{PREFIX}{module}.lora_A.weight"] = a.astype(np.float32)
            factors[f"{PREFIX}{module}.lora_B.weight"] = b.astype(np.float32)
        config = {
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "golden/base",
            "r": rank, "lora_alpha": alpha, "lora_dropout": 0.0,
            "target_modules": sorted({module.split(".")[-1] for module in MODULES}),
            "bias": "none", "use_rslora": False, "fan_in_fan_out": False, "inference_mode": True,
        }
        adapters.append((config | further, factors))
    return adapters


def save_group(directory, group, adapters):
    for index, (config, factors) in enumerate(adapters):
        folder = directory / "adapters" / f"{group}-{index}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
        save_file(factors, folder / "adapter_model.safetensors", {"format": "pt"})


def read_group(directory, group):
    folders = [directory / "adapters" / f"{group}-{index}" for index in range(3)]
    return [(json.loads((folder / "adapter_config.json").read_text()),
             load_file(folder / "adapter_model.safetensors")) for folder in folders]


def scaling(config, module):
    name = module.split(".")[-1]
    alpha = config.get("alpha_pattern", {}).get(name, config["lora_alpha"])
    rank = config["r"]
    return alpha / (math.sqrt(rank) if config["use_rslora"] else rank)


def scaled_factors(adapters):
    """For each module the (s_t·B_t, A_t) of every adapter t."""
    modules = sorted({key.removeprefix(PREFIX).rsplit(".lora_", 1)[0] for key in adapters[0][1]})
    return {module: [(scaling(config, module)
                      * factors[f"{PREFIX}{module}.lora_B.weight"].astype(np.float64),
                      factors[f"{PREFIX}{module}.lora_A.weight"].astype(np.float64))
                     for config, factors in adapters] for module in modules}


# Methods: the τ_t of one module, matrices of one shape, to one matrix

other_rounding = None


def svd(matrix):
    """U, σ, Vᵀ, thin; rounded otherwise while `other_rounding` is set."""
    if other_rounding is not None:
        matrix = matrix + 1e-9 * np.abs(matrix).max() * other_rounding.normal(size=matrix.shape)
    return scipy.linalg.svd(matrix, full_matrices=False, lapack_driver="gesvd")


def largest_entries(task, percent):
    """Of d entries those at least as large as the (d − ⌊d·K/100⌋)-th smallest; the others become 0."""
    magnitudes = np.sort(np.abs(task), axis=None)
    cut = task.size - int(task.size * percent / 100)
    threshold = magnitudes[max(cut - 1, 0)]
    return np.where(np.abs(task) >= threshold, task, 0.0)


def ties(tasks, percent):
    kept = np.stack([largest_entries(task, percent) for task in tasks])
    elected = np.sign(kept.sum(axis=0))
    majority = np.sign(elected.sum()) or 1.0
    elected[elected == 0] = majority
    agreeing = np.where(kept * elected > 0, kept, 0.0)
    count = (agreeing != 0).sum(axis=0)
    return agreeing.sum(axis=0) / np.maximum(count, 1)


def nearest_orthonormal(matrix):
    u, _, v = svd(matrix)
    return u @ v


def tsv(tasks):
    """The top ⌊k/T⌋ triplets of each task, the U_t and the V_t made orthonormal together."""
    triplets = [svd(task) for task in tasks]
    share = min(tasks[0].shape) // len(tasks)
    left = nearest_orthonormal(np.hstack([u[:, :share] for u, _, _ in triplets]))
    right = nearest_orthonormal(np.vstack([v[:share] for _, _, v in triplets]))
    return left @ np.diag(np.concatenate([s[:share] for _, s, _ in triplets])) @ right


def cart(tasks, fraction, coefficient):
    """θ̄ + λ·Σ_t (the best approximation of τ_t − θ̄ of rank ⌈ρk⌉)."""
    mean = sum(tasks) / len(tasks)
    rank = math.ceil(fraction * min(mean.shape))
    merged = mean.copy()
    for task in tasks:
        u, s, v = svd(task - mean)
        merged += coefficient * (u[:, :rank] * s[:rank]) @ v[:rank]
    return merged


def isotropize(merged):
    u, s, v = svd(merged)
    return s.mean() * u @ v


METHODS = {
    "mean": lambda tasks: sum(tasks) / len(tasks),
    "sum": sum,
    "ties-20": lambda tasks: ties(tasks, 20),
    "ties-50": lambda tasks: ties(tasks, 50),
    "tsv": tsv,
    "cart-0.16-0.7": lambda tasks: cart(tasks, 0.16, 0.7),
}
ISOTROPIZED = ("sum", "ties-20", "ties-50", "tsv")


# Spaces: what each adapter is in them, and the way back to ΔW

def knots(factors):
    """[ΔW_1 … ΔW_T] = U·Σ·[V_1ᵀ … V_Tᵀ], σ > 1e-5: U, Σ and the V_tᵀ [k, d_in]."""
    u, s, v = svd(np.hstack([b @ a for b, a in factors]))
    kept = s > 1e-5
    return u[:, kept], s[kept], np.split(v[kept], len(factors), axis=1)


def core(factors):
    """U spans the B_t, V the A_tᵀ, in the singular bases: U [d_out, k], V [k', d_in]."""
    u, _, _ = svd(np.hstack([b for b, _ in factors]))
    _, _, v = svd(np.vstack([a for _, a in factors]))
    return u, v, [u.T @ b @ a @ v.T for b, a in factors]


def core_space_authors(factors, space, method, isotropic):
    """One module; in their KnOTS space Σ comes last."""
    if space == "full":
        tasks, back = [b @ a for b, a in factors], lambda merged: merged
    elif space == "knots":
        u, s, tasks = knots(factors)
        back = lambda merged: (u * s) @ merged
    else:
        u, v, tasks = core(factors)
        back = lambda merged: u @ merged @ v
    merged = METHODS[method](tasks)
    if not isotropic:
        return back(merged)
    # The core matrix itself is isotropized; in the other spaces the update is.
    return back(isotropize(merged)) if space == "core" else isotropize(back(merged))


def knots_authors(modules, method, percent, scale):
    """The rows of Σ·Vᵀ; TIES takes its top K % over the whole model. ΔW of every module."""
    bases, rows = {}, {}
    for module, factors in modules.items():
        bases[module], s, blocks = knots(factors)
        rows[module] = [scale * s[:, None] * block for block in blocks]
    tasks = [np.concatenate([rows[module][task].ravel() for module in rows]) for task in range(3)]
    flat = sum(tasks) if method == "tv" else ties(tasks, percent)
    merged = {}
    for module in rows:
        shape = rows[module][0].shape
        merged[module] = bases[module] @ flat[:shape[0] * shape[1]].reshape(shape)
        flat = flat[shape[0] * shape[1]:]
    return merged


def every_merge(modules, group):
    merged = {}
    for space in ("full", "knots", "core"):
        for method in METHODS:
            for isotropic in ([False, True] if method in ISOTROPIZED else [False]):
                name = f"coreauthors/{group}/{space}/{method}{'-iso' * isotropic}"
                for module, factors in modules.items():
                    update = core_space_authors(factors, space, method, isotropic)
                    merged[f"{name}/{module}"] = update
    for method, percents in (("tv", [100]), ("ties", [30, 100])):
        for percent in percents:
            for scale in (1.0, 0.6):
                name = f"knotsauthors/{group}/{method}-{percent}-scale{scale}"
                for module, update in knots_authors(modules, method, percent, scale).items():
                    merged[f"{name}/{module}"] = update
    return merged


def difference(left, right):
    return np.abs(left - right).max() / np.abs(right).max()


def determined_merges(adapters, group, shift_of, every_merge=every_merge):
    """All merges, the names of those that hardly change when the factors hardly do, all changes."""
    global other_rounding
    modules = scaled_factors(adapters)
    merged = every_merge(modules, group)
    generator = np.random.default_rng(SEED)
    shift = lambda matrix: matrix * (1 + shift_of * generator.uniform(-1, 1, matrix.shape))
    changes = dict.fromkeys(merged, 0.0)
    other_rounding = generator
    for _ in range(8):
        shifted = {module: [(shift(b), shift(a)) for b, a in factors]
                   for module, factors in modules.items()}
        for name, update in every_merge(shifted, group).items():
            changes[name] = max(changes[name], difference(update, merged[name]))
    other_rounding = None
    return merged, {name for name, change in changes.items() if change < TOLERANCE}, changes


# Principal components

def principal_components(adapters):
    """Of the columns of [A_1ᵀ … A_Tᵀ] and of [B_1 … B_T], centred."""
    components = {}
    for module, factors in scaled_factors(adapters).items():
        stacks = {"lora_A": np.hstack([a.T for _, a in factors]),
                  "lora_B": np.hstack([b for b, _ in factors])}
        for name, columns in stacks.items():
            u, s, _ = svd(columns - columns.mean(axis=1, keepdims=True))
            gap = ((s[:5] ** 2 - s[1:6] ** 2) / s[:5] ** 2).min()
            key = f"{PREFIX}{module}.{name}.weight"
            components[key] = (s[:5] ** 2, u[:, :5] @ u[:, :5].T, gap)
    return components


# Against the authors

def check_against(directory):
    """How far this script is from values that the authors' code made, where they are determined."""
    theirs = load_file(directory / "merged.safetensors")
    worst, undetermined, cases = {}, set(), set()
    for group in sorted({name.split("/")[1] for name in theirs}):
        merged, determined, _ = determined_merges(read_group(directory, group), group, ROUNDING)
        names = {name for name in theirs if name.split("/")[1] == group}
        assert names == merged.keys(), names ^ merged.keys()
        for name in sorted(names):
            case = name.rsplit("/", 1)[0]
            cases.add(case)
            if name not in determined:
                undetermined.add(case)
                continue
            source = "/".join(case.split("/")[:1] + case.split("/")[2:3 if "core" in case else 2])
            found = difference(merged[name], theirs[name])
            assert found < TOLERANCE, (name, found)
            worst[source] = max(worst.get(source, 0.0), found)
    components = load_file(directory / "principal_components.safetensors")
    worst |= {"eigenvalues": 0.0, "projectors": 0.0}
    for key, (values, projector, _) in principal_components(read_group(directory, "same")).items():
        found = np.abs(components[f"{key}/eigenvalues"] / values - 1).max()
        worst["eigenvalues"] = max(worst["eigenvalues"], found)
        found = np.abs(components[f"{key}/projector_top5"] - projector).max()
        worst["projectors"] = max(worst["projectors"], found)
    assert max(worst.values()) < TOLERANCE, worst
    return {"cases": len(cases), "of_which_undetermined": len(undetermined),
            "largest_difference": {key: float(f"{value:.1e}") for key, value in worst.items()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check-against", type=Path, metavar="DIR")
    authors = parser.parse_args().check_against
    path = HERE / "versions.json"
    versions = json.loads(path.read_text()) if path.exists() else {}
    agreement = versions.get("agreement_with_the_authors")
    if authors:
        agreement = check_against(authors)
        print(json.dumps(agreement, indent=2))

    stored, in_part, left_out, sensitivity = {}, {}, {}, 0.0
    for group in GROUPS:
        adapters = draw_group(group)
        save_group(HERE, group, adapters)
        merged, determined, changes = determined_merges(adapters, group, MARGIN)
        stored |= {name: merged[name].astype(np.float32) for name in sorted(determined)}
        sensitivity = max(sensitivity, *(changes[name] for name in determined))
        for name in sorted(merged.keys() - determined):
            case, module = name.rsplit("/", 1)
            left_out.setdefault(case, []).append(module)
            if case.endswith("-iso") and "tsv" not in case:
                in_part[name] = merged[name].astype(np.float32)
                directions = svd(merged[f"{case.removesuffix('-iso')}/{module}"])[1]
                # The directions are there, or they are not.
                assert not ((directions > 1e-9) & (directions < 1e-3 * directions[0])).any(), name
    save_file(stored, HERE / "merged.safetensors")
    save_file(in_part, HERE / "undetermined.safetensors")
    components = {}
    for key, (values, projector, gap) in principal_components(draw_group("same")).items():
        assert gap > 0.01, (key, gap)
        components[f"{key}/eigenvalues"] = values.astype(np.float32)
        components[f"{key}/projector_top5"] = projector.astype(np.float32)
    save_file(components, HERE / "principal_components.safetensors")
    assert all(np.isfinite(tensor).all() for tensor in (stored | in_part | components).values())
    versions = {
        "numpy": np.__version__, "scipy": scipy.__version__, "safetensors": safetensors.__version__,
        "python": platform.python_version(), "seed": SEED,
        "cases": len({name.rsplit("/", 1)[0] for name in stored}), "tensors": len(stored),
        "undetermined_tensors": len(in_part),
        "shift_of_the_factors": MARGIN, "largest_change_by_it": float(f"{sensitivity:.1e}"),
        "undetermined_and_left_out": left_out, "agreement_with_the_authors": agreement,
    }
    path.write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
