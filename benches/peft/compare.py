"""Alternates `eigenmix train` and PyTorch with PEFT on the same files, and prints the ratios.

    python prepare.py SHAPES
    python compare.py EIGENMIX SHAPES [--runs 3] [--steps 6] [--threads 2] [--epoch MODEL DATA]

EIGENMIX is the program, SHAPES what `prepare.py` wrote. A case is run `--runs` times by each side in turn;
the first step of every run is left out of the medians. `--epoch` adds one epoch of a real model over a
directory with a `train.jsonl` of `text` and `label`, batches of 32 with real lengths.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIG = """seed = 3
output = "{output}"
[base]
model = "{model}"
[data]
path = "{data}"
max_length = {length}
[task]
kind = "{kind}"
[adapter]
{adapter}
[training]
epochs = {epochs}
batch_size = {batch}
learning_rate = 1e-3
scheduler = "constant"
weight_decay = 0.01
gradient_clip = 1.0
log_every = 1
evaluate_every = 0
"""
LORA = 'method = "lora"\nrank = {rank}\nalpha = {alpha}\ntarget_modules = {targets}'
RECYCLED = 'method = "{method}"\nadapters = {adapters}\ncomponents = 16\nrank = 8'


def median(numbers):
    return statistics.median(numbers)


class Case:
    def __init__(self, arguments, place, name, model, data, length, kind, batch, adapter, steps):
        self.arguments, self.name, self.batch, self.steps = arguments, name, batch, steps
        self.output = place / name
        self.config = place / f"{name}.toml"
        self.rows = sum(1 for _ in open(data / "train.jsonl"))
        per_epoch = -(-self.rows // batch)
        self.epochs = -(-steps // per_epoch)
        text = CONFIG.format(
            output=self.output, model=model, data=data, length=length, kind=kind,
            adapter=adapter, epochs=self.epochs, batch=batch,
        )
        self.config.write_text(text)

    def ours(self, *extra):
        """Seconds of each step, losses, whole seconds and peak bytes."""
        shutil.rmtree(self.output, ignore_errors=True)
        command = [self.arguments.eigenmix, "train", self.config, "--quiet"]
        command += ["--threads", str(self.arguments.threads), *extra]
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        message = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        total = time.perf_counter() - begin
        if status:
            sys.exit(f"{command}: {message}")
        lines = [json.loads(line) for line in open(self.output / "metrics.jsonl")]
        lines = [line for line in lines if "learning_rate" in line]
        sizes = [min(self.batch, self.rows - first) for first in range(0, self.rows, self.batch)]
        # Batches come in any order, so only a batch that is as large as all others has a known size.
        size = sizes[0] if len(set(sizes)) == 1 else self.rows / len(sizes)
        return dict(
            seconds=[size / line["examples_per_second"] for line in lines],
            losses=[line["loss"] for line in lines],
            total=total,
            peak=usage.ru_maxrss * 1024,
        )

    def theirs(self, *extra):
        command = [sys.executable, HERE / "train.py", self.config, "--threads", str(self.arguments.threads)]
        begin = time.perf_counter()
        result = subprocess.run([*command, *extra], capture_output=True, text=True)
        if result.returncode:
            sys.exit(result.stderr)
        found = json.loads(result.stdout.splitlines()[-1])
        found["total"] = time.perf_counter() - begin
        return found

    def parity(self, steps):
        """The largest difference of the losses over so many steps from the same start."""
        self.ours("--set", "training.learning_rate=1e-30", "--set", "training.epochs=1")
        checkpoint = sorted((self.output / "checkpoints").iterdir())[-1] / "parameters.safetensors"
        start = self.config.with_suffix(".start.safetensors")
        shutil.copy(checkpoint, start)
        ours = self.ours("--set", f"training.epochs={steps}")["losses"]
        theirs = self.theirs("--steps", str(steps), "--start", start)["losses"]
        assert len(ours) == len(theirs) == steps, (len(ours), len(theirs))
        return max(abs(one - other) for one, other in zip(ours, theirs))


def in_turn(runs, *sides):
    """What each side found in its runs: first all sides once, then all again. A machine that is slower
    for a minute is so for every side."""
    found = [[] for _ in sides]
    for _ in range(runs):
        for side, results in zip(sides, found):
            results.append(side())
    return found


def later_steps(runs):
    return median([second for run in runs for second in run["seconds"][1:]])


def step_row(name, ours, theirs):
    peak = lambda runs: median([run["peak"] for run in runs]) / 2**20
    one, other = later_steps(ours), later_steps(theirs)
    print(
        f"| {name} | {one:.3f} | {other:.3f} | {one / other:.2f} "
        f"| {peak(ours):.0f} | {peak(theirs):.0f} | {peak(ours) / peak(theirs):.2f} |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("eigenmix", type=Path)
    parser.add_argument("shapes", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parity-steps", type=int, default=20)
    parser.add_argument("--cases", default="minilm,roberta,llama")
    parser.add_argument("--epoch", nargs=2, type=Path, metavar=("MODEL", "DATA"))
    arguments = parser.parse_args()
    shapes = arguments.shapes.resolve()
    arguments.eigenmix = arguments.eigenmix.resolve()
    place = Path(tempfile.mkdtemp())
    query_value = json.dumps(["query", "value"])
    small = LORA.format(rank=8, alpha=16, targets=query_value)
    classes = "sequence-classification"
    everything = {
        "minilm": (128, classes, 32, small),
        "roberta": (128, classes, 16, small),
        "llama": (256, "causal-lm", 4, LORA.format(rank=16, alpha=32, targets='"all-linear"')),
    }
    print("| case | s a step | PEFT | ratio | MiB | PEFT | ratio |\n|---|---|---|---|---|---|---|")
    cases = {}
    for name in filter(None, arguments.cases.split(",")):
        length, kind, batch, adapter = everything[name]
        model, data = shapes / name, shapes / f"{name}-data"
        case = Case(arguments, place, name, model, data, length, kind, batch, adapter, arguments.steps)
        cases[name] = case
        sides = [case.ours, lambda: case.theirs("--steps", str(case.steps))]
        methods = ("eigenlorax", "eigenmix") if name == "minilm" else ()
        for method in methods:
            folders = json.dumps([str(folder) for folder in sorted((shapes / "minilm-adapters").iterdir())])
            adapter = RECYCLED.format(method=method, adapters=folders)
            recycled = Case(
                arguments, place, f"{name}-{method}", model, data, length, kind, batch, adapter, arguments.steps
            )
            sides.append(recycled.ours)
        ours, theirs, *recycled = in_turn(arguments.runs, *sides)
        step_row(f"{name}, LoRA", ours, theirs)
        for method, runs in zip(methods, recycled):
            own, lora = later_steps(runs), later_steps(ours)
            print(f"| {name}, {method} | {own:.3f} | | {own / lora:.2f} of LoRA | | | |", flush=True)
    steps = arguments.parity_steps
    for name, case in cases.items() if steps else ():
        print(f"{name}: losses of {steps} steps differ by at most {case.parity(steps):.1e}", flush=True)
    if arguments.epoch:
        model, data = [path.resolve() for path in arguments.epoch]
        # Without other splits, neither side evaluates.
        only = place / "epoch-data"
        only.mkdir()
        shutil.copy(data / "train.jsonl", only)
        steps = -(-sum(1 for _ in open(only / "train.jsonl")) // 32)
        case = Case(arguments, place, "epoch", model, only, 64, classes, 32, small, steps)
        saved = iter(range(arguments.runs))
        peft = lambda: case.theirs("--shuffle", "--save", place / f"peft-{next(saved)}")
        ours, theirs = in_turn(arguments.runs, case.ours, peft)
        epoch = lambda runs: median([sum(run["seconds"]) for run in runs])
        whole = lambda runs: median([run["total"] for run in runs])
        print(f"epoch of {data.name}: {epoch(ours):.2f} s of {epoch(theirs):.2f}, ratio {epoch(ours) / epoch(theirs):.2f}")
        print(f"whole process: {whole(ours):.2f} s of {whole(theirs):.2f}, ratio {whole(ours) / whole(theirs):.2f}")
    shutil.rmtree(place)


if __name__ == "__main__":
    main()
