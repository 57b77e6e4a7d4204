"""Seconds a step on a GPU: `eigenmix` with each backend against PyTorch with PEFT, f32 and bf16.

    python benches/peft/prepare.py SHAPES
    python benches/gpu.py SHAPES [--backends wgpu,vulkan,cuda] [--steps 20] [--binary NAME=PROGRAM]...

Builds `eigenmix` with the feature of each backend into a target directory of its own (or takes `--binary`),
and trains the shapes that `prepare.py` wrote. The first steps compile and tune kernels: the median is of the
second half of the steps. The last column is the largest difference of a loss from the CPU's, in f32.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "peft"))
from compare import CONFIG, LORA  # noqa: E402

SHAPES = {
    "minilm": (128, "sequence-classification", 32, LORA.format(rank=8, alpha=16, targets='["query", "value"]')),
    "roberta": (128, "sequence-classification", 16, LORA.format(rank=8, alpha=16, targets='["query", "value"]')),
    "llama": (256, "causal-lm", 4, LORA.format(rank=16, alpha=32, targets='"all-linear"')),
}


def build(backend):
    target = HERE.parent / "target" / backend
    command = ["cargo", "build", "--release", "--features", backend, "--target-dir", target]
    subprocess.run(command, cwd=HERE.parent, check=True)
    return target / "release" / "eigenmix"


def late_median(seconds):
    return statistics.median(seconds[len(seconds) // 2 :])


def ours(binary, device, config, output, batch, weights):
    """Median seconds of a step, and the losses; `None` where the program can't."""
    shutil.rmtree(output, ignore_errors=True)
    command = [binary, "train", config, "--quiet", "--device", device, "--set", f'base.weights="{weights}"']
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        print(f"{device}: {result.stderr.strip()}", file=sys.stderr)
        return None
    lines = [json.loads(line) for line in open(output / "metrics.jsonl")]
    lines = [line for line in lines if "learning_rate" in line]
    seconds = [batch / line["examples_per_second"] for line in lines]
    return late_median(seconds), [line["loss"] for line in lines]


def theirs(config, steps, half):
    command = [sys.executable, HERE / "peft" / "train.py", config, "--steps", str(steps), "--device", "cuda"]
    result = subprocess.run([*command, *(["--bf16"] if half else [])], capture_output=True, text=True)
    if result.returncode:
        print(result.stderr.strip().splitlines()[-1], file=sys.stderr)
        return None
    return late_median(json.loads(result.stdout.splitlines()[-1])["seconds"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", type=Path)
    parser.add_argument("--backends", default="wgpu,vulkan,cuda")
    parser.add_argument("--cases", default=",".join(SHAPES))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--binary", action="append", default=[], metavar="BACKEND=PROGRAM")
    arguments = parser.parse_args()
    binaries = dict(pair.split("=", 1) for pair in arguments.binary)
    backends = arguments.backends.split(",")
    for backend in backends:
        binaries.setdefault(backend, build(backend))
    place = Path(tempfile.mkdtemp())
    shapes = arguments.shapes.resolve()
    print("| case | weights | backend | s a step | PEFT | ratio | loss off by |\n|---|---|---|---|---|---|---|")
    for name in arguments.cases.split(","):
        length, kind, batch, adapter = SHAPES[name]
        config, output = place / f"{name}.toml", place / name
        text = CONFIG.format(
            output=output, model=shapes / name, data=shapes / f"{name}-data", length=length, kind=kind,
            adapter=adapter, epochs=arguments.steps, batch=batch,
        )
        config.write_text(text)
        any_binary = binaries[backends[0]]
        on_cpu = ours(any_binary, "cpu", config, output, batch, "float32")
        for weights in ("float32", "stored"):
            half = weights == "stored"
            if half:
                halved = place / f"{name}-bf16"
                in_bf16(shapes / name, halved)
                config.write_text(text.replace(str(shapes / name) + '"', str(halved) + '"'))
            other = theirs(config, arguments.steps, half)
            for backend in backends:
                found = ours(binaries[backend], backend, config, output, batch, weights)
                if found is None:
                    continue
                seconds, losses = found
                ratio = f"{seconds / other:.2f}" if other else "–"
                beside = f"{other:.4f}" if other else "–"
                off = "–"
                if on_cpu and not half:
                    off = f"{max(abs(one - two) for one, two in zip(losses, on_cpu[1])):.1e}"
                dtype = "bf16" if half else "f32"
                print(f"| {name} | {dtype} | {backend} | {seconds:.4f} | {beside} | {ratio} | {off} |", flush=True)
    shutil.rmtree(place)


def in_bf16(source, target):
    """The checkpoint with its weights in bf16."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors"))
    weights = load_file(source / "model.safetensors")
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
