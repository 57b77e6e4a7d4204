# %% [markdown]
# # Recycling adapters
#
# A notebook as a script with cells: Jupyter, VS Code and Spyder run it cell by cell, and
# `jupytext --to notebook recycling.py` makes it a notebook. It runs from the root of the repository, in a
# few seconds.
#
# Six topics have LoRA adapters. A seventh topic, the ferry port, has five examples for each intent. How much
# of it is in what the six share?

# %%
from pathlib import Path

import numpy as np

import eigenmix

quickstart = Path("datasets/quickstart")
base, ferry = quickstart / "base", quickstart / "tasks/ferry_port"
adapters = sorted((quickstart / "adapters").iterdir())
out = Path("runs/notebook")
[path.name for path in adapters]

# %% [markdown]
# ## What do they share?
#
# The spectrum of each module: the first directions explain most of what the six adapters do.

# %%
extraction = eigenmix.extract(adapters, out / "all", force=True)
subspace = extraction.subspace
for module in subspace.modules:
    variance = subspace.left_variance(module)
    shares = np.cumsum(variance) / variance.sum()
    print(f"{module}: 4 directions {shares[3]:.2f}, 8 {shares[7]:.2f}, 12 {shares[11]:.2f}")

# %% [markdown]
# Twelve of them leave out how much of each adapter?

# %%
eigenmix.extract(adapters, out / "twelve", components=12, force=True)
for adapter in eigenmix.project(adapters, out / "twelve"):
    print(f"{adapter.name:13} {adapter.relative_error:.3f}")

# %% [markdown]
# ## The new topic
#
# eigenmix learns a 12 × 12 mixer in each of four layers; LoRA learns 2048 parameters. The same once more on
# random directions is the control: what is gained against it comes from the six adapters.


# %%
def train(name, seed, **adapter):
    return eigenmix.train(
        {
            "output": out / f"{name}-{seed}",
            "seed": seed,
            "base": {"model": base},
            "data": {"path": ferry, "max_length": 48, "examples_per_class": 5},
            "adapter": {"rank": 4, **adapter},
            "training": {
                "epochs": 60, "batch_size": 16, "learning_rate": 5e-3, "evaluate_every": 0,
            },
        },
        force=True,
    )


basis = {"subspace": out / "twelve"}
arms = {
    "lora": {"method": "lora"},
    "eigenmix": {"method": "eigenmix", "init": "merge", **basis},
    "control": {"method": "eigenmix", "basis": "random", **basis},
}
accuracies = {}
for name, adapter in arms.items():
    runs = [train(name, seed, **adapter) for seed in range(2)]
    accuracies[name] = np.mean([run.test["accuracy"] for run in runs])
    print(f"{name:10} {runs[0].adapter_parameters:5} parameters   accuracy {accuracies[name]:.3f}")

# %% [markdown]
# ## All at once
#
# Merged in Core Space, the six adapters and the new one become one adapter. How near is it to each?

# %%
new = train("eigenmix", 0, **arms["eigenmix"])
merged = eigenmix.merge(
    [*adapters, new.adapter], out / "merged", space="core", method="tsv", force=True
).adapter
for path in [*adapters, new.adapter]:
    source = eigenmix.Adapter(path)
    pairs = [(merged.delta(module), source.delta(module)) for module in merged.modules]
    inner = sum(np.sum(ours * theirs) for ours, theirs in pairs)
    norms = [np.sqrt(sum(np.sum(pair[side] ** 2) for pair in pairs)) for side in (0, 1)]
    print(f"cosine {inner / np.prod(norms):.3f} with {path}")

# %%
assert accuracies["eigenmix"] > accuracies["control"] + 0.1
