"""Whether `eigenmix select` puts real adapters above copies that are worth nothing.

    python benches/selection.py DOMAINS ADAPTERS --base MODEL [--foreign RUN...] [--held-out NAME...]
                             [--size 60] [--eigenmix PROGRAM]

DOMAINS is a directory of datasets (`train.jsonl` each), ADAPTERS one of adapters of the same names. Each
held-out domain in turn is the task: the pool is the adapters of the others, the foreign ones, and copies up
to `--size`: with noise in the update (rank 2r) and in the factors, each of 1 and 1.5 times their own norm,
turned by random orthonormal matrices, and with their modules shuffled. With 5 examples a class and with all,
prints the places of the real adapters and of the foreign ones, what came between, and the seconds beside
those of three epochs of a LoRA training on the same file. Needs numpy and safetensors.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"

TASK = """
output = "run"
[base]
model = "{base}"
[data]
path = "{data}"
max_length = 64
{few}
[adapter]
method = "lora"
rank = 8
[training]
epochs = 3
batch_size = 32
learning_rate = 2e-3
evaluate_every = 0
"""


def modules(tensors):
    ending = ".lora_A.weight"
    return sorted(name[: -len(ending)] for name in tensors if name.endswith(ending))


def factors(tensors, module):
    return tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"]


def with_factors(tensors, changed):
    result = dict(tensors)
    for module, (a, b) in changed.items():
        result[f"{module}.lora_A.weight"] = np.ascontiguousarray(a, dtype=np.float32)
        result[f"{module}.lora_B.weight"] = np.ascontiguousarray(b, dtype=np.float32)
    return result


def noise_in_update(tensors, random, size):
    """B A + N, N of rank r with `size` times the norm of B A."""
    changed = {}
    for module in modules(tensors):
        a, b = factors(tensors, module)
        left, right = random.standard_normal(b.shape), random.standard_normal(a.shape)
        left *= size * np.linalg.norm(b @ a) / np.linalg.norm(left @ right)
        changed[module] = (np.vstack([a, right]), np.hstack([b, left]))
    return with_factors(tensors, changed)


def noise_in_factors(tensors, random, size):
    def noisy(factor):
        noise = random.standard_normal(factor.shape)
        return factor + size * np.linalg.norm(factor) / np.linalg.norm(noise) * noise

    changed = {module: tuple(map(noisy, factors(tensors, module))) for module in modules(tensors)}
    return with_factors(tensors, changed)


def rotated(tensors, random, _):
    def orthonormal(size):
        q, r = np.linalg.qr(random.standard_normal((size, size)))
        return q * np.sign(np.diag(r))

    changed = {}
    for module in modules(tensors):
        a, b = factors(tensors, module)
        changed[module] = (a @ orthonormal(a.shape[1]), orthonormal(b.shape[0]) @ b)
    return with_factors(tensors, changed)


def shuffled(tensors, random, _):
    own = modules(tensors)
    while True:
        order = random.permutation(len(own))
        if not (order == np.arange(len(own))).any():
            break
    return with_factors(tensors, {module: factors(tensors, own[other]) for module, other in zip(own, order)})


COPIES = {"noise": noise_in_update, "factors": noise_in_factors, "rotated": rotated, "shuffled": shuffled}


def save_copy(source, target, kind, random, size):
    tensors = COPIES[kind](load_file(source / WEIGHTS), random, size)
    config = json.loads((source / CONFIG).read_text())
    rank = factors(tensors, modules(tensors)[0])[0].shape[0]
    config["lora_alpha"] *= rank / config["r"]
    config["r"] = rank
    target.mkdir()
    (target / CONFIG).write_text(json.dumps(config))
    save_file(tensors, target / WEIGHTS)


def make_pool(adapters, held_out, foreign, size, pool):
    real = [path for path in sorted(adapters.iterdir()) if path.is_dir() and path.name != held_out]
    for path in real:
        shutil.copytree(path, pool / f"real_{path.name}")
    for run in foreign:
        adapter = run / "adapter" if (run / "adapter").is_dir() else run
        shutil.copytree(adapter, pool / f"foreign_{run.name}")
    random = np.random.default_rng(sum(map(ord, held_out)))
    kinds = list(COPIES)
    for number in range(size - len(real) - len(foreign)):
        kind, turn = kinds[number % len(kinds)], number // len(kinds)
        source = real[turn % len(real)]
        target = pool / f"{kind}_{number}_{source.name}"
        save_copy(source, target, kind, random, [1.0, 1.5][turn % 2])


def run(program, *arguments):
    command = [program, *map(str, arguments), "--json", "--quiet"]
    start = time.time()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1]), time.time() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domains", type=Path)
    parser.add_argument("adapters", type=Path)
    parser.add_argument("--base", required=True)
    parser.add_argument("--foreign", type=Path, nargs="*", default=[])
    parser.add_argument("--held-out", nargs="*")
    parser.add_argument("--size", type=int, default=60)
    parser.add_argument("--eigenmix", default="target/release/eigenmix")
    parser.add_argument("--no-epochs", action="store_true", help="do not time the training")
    options = parser.parse_args()
    held_out = options.held_out or sorted(path.name for path in options.domains.iterdir())
    print("task | examples | places of the real | of the foreign | first copy | base | best | s | three epochs")
    for name in held_out:
        with tempfile.TemporaryDirectory() as directory:
            place = Path(directory)
            (place / "pool").mkdir()
            make_pool(options.adapters, name, options.foreign, options.size, place / "pool")
            for shots in (5, None):
                few = f"examples_per_class = {shots}" if shots else ""
                task = TASK.format(base=options.base, data=options.domains / name, few=few)
                (place / "task.toml").write_text(task)
                found, seconds = run(options.eigenmix, "select", place / "pool", "--for", place / "task.toml")
                names = [adapter["name"] for adapter in found["adapters"]]
                places = lambda kind: [at + 1 for at, name in enumerate(names) if name.startswith(kind)]  # noqa: E731
                copies = [name for name in names if not name.startswith(("real", "foreign"))]
                losses = [one["loss"]["loss"] for one in found["adapters"] if "loss" in one]
                epochs = "-"
                if not options.no_epochs:
                    settings = ["--set", f"output={place / 'run'}", "--force"]
                    _, taken = run(options.eigenmix, "train", place / "task.toml", *settings)
                    epochs = f"{taken:.1f}"
                print(
                    f"{name} | {shots or 'all'} | {places('real')} | {places('foreign')} | "
                    f"{names.index(copies[0]) + 1} ({copies[0]}) | {found['base']['loss']:.3f} | "
                    f"{min(losses):.3f} | {seconds:.1f} | {epochs} | {found['prospect']}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
