"""Whether diffusers reads what `eigenmix export` writes of an adapter for a diffusion model.

    python check_exports.py EIGENMIX [DIRECTORY with sd/ and sdxl/]

Every adapter becomes a PEFT directory with modules named by part (`unet.…`, `text_encoder.…`), as a training leaves
it, and from there a file in diffusers' form and one in kohya's. Each is loaded into the pipeline with
`load_lora_weights`; the UNet's and the text encoders' outputs are compared with those of weights to which the update
was added, all in f64: with updates as large as the weights, f32 itself is 1e-5 off. Prints the largest difference relative to the largest value, and fails above 5e-6.
"""
import copy
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import diffusers
import torch
import transformers
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore")
program = sys.argv[1]
root = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else pathlib.Path(__file__).parent
LIMIT = 5e-6
PARTS = ("unet", "text_encoder", "text_encoder_2")
torch.manual_seed(1)
failed = False


def export(source, target, form):
    command = [program, "export", source, "--format", form, "--out", target, "--quiet"]
    subprocess.run([str(piece) for piece in command], check=True)


def write_run(source, run, work):
    """A PEFT directory with the factors of a file, as a training leaves it; alpha / rank is 0.5, 1.5 or 2 in turn."""
    export(source, work / "plain.safetensors", "diffusers")
    tensors = {name: tensor for name, tensor in load_file(work / "plain.safetensors").items() if ".lora_" in name}
    ranks = {name.removesuffix(".lora_A.weight"): tensor.shape[0] for name, tensor in tensors.items() if ".lora_A." in name}
    alphas = {path: rank * (0.5, 1.5, 2.0)[index % 3] for index, (path, rank) in enumerate(sorted(ranks.items()))}
    run.mkdir()
    save_file({f"base_model.model.{name}": tensor for name, tensor in tensors.items()}, run / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": sorted(ranks), "rank_pattern": ranks, "alpha_pattern": alphas}
    (run / "adapter_config.json").write_text(json.dumps(config))
    return alphas


def updated(pipe, adapter, alphas):
    """The parts with W + s · B A, from a PEFT directory."""
    tensors = load_file(adapter / "adapter_model.safetensors")
    parts = {part: copy.deepcopy(getattr(pipe, part)) for part in PARTS if hasattr(pipe, part)}
    modules = {f"{part}.{name}": module for part, whole in parts.items() for name, module in whole.named_modules()}
    count = 0
    for name, down in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        path = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        up, rank = tensors[name.replace("lora_A", "lora_B")], down.shape[0]
        weight = modules.get(path) or modules.get(path.replace(".text_model.", ".", 1))
        assert weight is not None, path
        delta = (up.flatten(1).double() @ down.flatten(1).double()) * (alphas[path] / rank)
        weight.weight.data = weight.weight + delta.reshape(weight.weight.shape)
        count += 1
    return parts, count


def outputs(pipe_parts, kind):
    generator = torch.Generator().manual_seed(3)
    unet = pipe_parts["unet"]
    draw = lambda *shape: torch.randn(*shape, generator=generator).double()
    extra = {}
    if kind == "sdxl":
        width = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
        extra = {"added_cond_kwargs": {"text_embeds": draw(2, width), "time_ids": torch.tensor([[16.0, 24, 0, 0, 16, 24]] * 2).double()}}
    sample, states = draw(2, 4, 8, 12), draw(2, 14, unet.config.cross_attention_dim)
    found = [unet(sample, torch.tensor([10, 700]), states, **extra).sample]
    for part in PARTS[1:]:
        if part in pipe_parts:
            ids = torch.randint(3, 560, (2, 14), generator=generator)
            found.append(pipe_parts[part](ids, output_hidden_states=True).hidden_states[-1])
    return found


for kind, pipeline in (("sd", StableDiffusionPipeline), ("sdxl", StableDiffusionXLPipeline)):
    for source in sorted((root / kind).glob("adapter-*/kohya.safetensors")):
        work = pathlib.Path(tempfile.mkdtemp())
        alphas = write_run(source, work / "run", work)
        pipe = pipeline.from_pretrained(root / kind / "base", safety_checker=None, torch_dtype=torch.float64)
        with torch.no_grad():
            plain = outputs({part: getattr(pipe, part) for part in PARTS if hasattr(pipe, part)}, kind)
            parts, count = updated(pipe, work / "run", alphas)
            expected = outputs(parts, kind)
            effect = max((a - b).abs().max() / b.abs().max() for a, b in zip(plain, expected)).item()
            for form in ("diffusers", "kohya"):
                file = work / form / "pytorch_lora_weights.safetensors"
                file.parent.mkdir()
                export(work / "run", file, form)
                loaded = pipeline.from_pretrained(root / kind / "base", safety_checker=None, torch_dtype=torch.float64)
                loaded.load_lora_weights(file.parent, weight_name=file.name)
                found = outputs({part: getattr(loaded, part) for part in PARTS if hasattr(loaded, part)}, kind)
                difference = max((a - b).abs().max() / b.abs().max() for a, b in zip(found, expected)).item()
                is_bad = difference > LIMIT
                failed |= is_bad
                print(f"{kind} {source.parent.name} {form}: {count} modules, effect {effect:.2e}, difference {difference:.1e}{'  FAILED' if is_bad else ''}")
sys.exit(failed)
