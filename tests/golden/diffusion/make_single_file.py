"""The names and shapes of the tiny models as a file of the original layout has them: single_file.json.

    python make_single_file.py [DIRECTORY with sd/base and sdxl/base] [--files DIRECTORY]

The inverse of diffusers' conversion is written here by hand; that it is the inverse is checked with diffusers' own
functions, those of `from_single_file`: what they make of the file are the tensors of the directory. Each entry is
[original name, part, names of diffusers, what was done]: "same", "pixels" (a linear layer as a convolution of
single pixels), "joined" (rows one after the other), "transposed".
With --files the files are written as well, for a look with other software.
"""
import json
import pathlib
import sys

import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import load_file, save_file

here = pathlib.Path(__file__).parent
arguments = sys.argv[1:]
files = None
if "--files" in arguments:
    files = pathlib.Path(arguments.pop(arguments.index("--files") + 1))
    arguments.remove("--files")
root = pathlib.Path(arguments[0]) if arguments else here


def read(part):
    config = json.loads((part / "config.json").read_text())
    weights, = part.glob("*.safetensors")
    return config, load_file(weights)


RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}


def unet_names(config, tensors):
    layers, levels = config["layers_per_block"], len(config["block_out_channels"])
    whole = {"conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
             "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
             "conv_norm_out": "out.0", "conv_out": "out.2"}
    for name in tensors:
        path, end = name.rsplit(".", 1)
        if path in whole:
            yield name, f"{whole[path]}.{end}"
            continue
        pieces = path.split(".")
        if pieces[0] == "mid_block":
            kind, index, rest = pieces[1], int(pieces[2]), ".".join(pieces[3:])
            place = f"middle_block.{2 * index}.{RESNET[rest]}" if kind == "resnets" else f"middle_block.1.{rest}"
            yield name, f"{place}.{end}"
            continue
        block, kind, index, rest = int(pieces[1]), pieces[2], int(pieces[3]), ".".join(pieces[4:])
        if pieces[0] == "down_blocks":
            way, first = "input_blocks", 1 + block * (layers + 1)
            place = {"resnets": f"{first + index}.0", "attentions": f"{first + index}.1", "downsamplers": f"{first + layers}.0"}[kind]
        else:
            way, first = "output_blocks", block * (layers + 1)
            has_attention = f"up_blocks.{block}.attentions.0.norm.weight" in tensors
            place = {"resnets": f"{first + index}.0", "attentions": f"{first + index}.1",
                     "upsamplers": f"{first + layers}.{2 if has_attention else 1}"}[kind]
        inner = {"resnets": RESNET.get(rest), "attentions": rest, "downsamplers": "op", "upsamplers": "conv"}[kind]
        yield name, f"{way}.{place}.{inner}.{end}"


def vae_names(config, tensors):
    levels = len(config["block_out_channels"])
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
                 "query": "q", "key": "k", "value": "v", "proj_attn": "proj_out"}
    for name in tensors:
        path, end = name.rsplit(".", 1)
        pieces = path.split(".")
        if len(pieces) == 1:
            yield name, name
        elif len(pieces) == 2:
            yield name, f"{pieces[0]}.{pieces[1].replace('conv_norm_out', 'norm_out')}.{end}"
        elif pieces[1] == "mid_block":
            rest = ".".join(pieces[4:])
            place = f"block_{int(pieces[3]) + 1}.{rest}" if pieces[2] == "resnets" else f"attn_1.{attention[rest]}"
            yield name, f"{pieces[0]}.mid.{place}.{end}"
        else:
            level, kind, rest = int(pieces[2]), pieces[3], ".".join(pieces[5:])
            way = {"down_blocks": f"down.{level}", "up_blocks": f"up.{levels - 1 - level}"}[pieces[1]]
            place = {"resnets": f"block.{pieces[4]}.{rest.replace('conv_shortcut', 'nin_shortcut')}",
                     "downsamplers": "downsample.conv", "upsamplers": "upsample.conv"}[kind]
            yield name, f"{pieces[0]}.{way}.{place}.{end}"


def open_clip_names(tensors):
    """[original name, names of diffusers, what was done]"""
    whole = {"embeddings.token_embedding.weight": "token_embedding.weight", "embeddings.position_embedding.weight": "positional_embedding",
             "final_layer_norm.weight": "ln_final.weight", "final_layer_norm.bias": "ln_final.bias"}
    inner = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj"}
    for name in tensors:
        if "position_ids" in name:
            continue
        bare = name.removeprefix("text_model.")
        if name == "text_projection.weight":
            yield "text_projection", [name], "transposed"
        elif bare in whole:
            yield whole[bare], [name], "same"
        elif "q_proj" in name:
            layer, end = bare.split(".")[2], bare.rsplit(".", 1)[1]
            yield f"transformer.resblocks.{layer}.attn.in_proj_{end}", [name.replace("q_proj", p) for p in ("q_proj", "k_proj", "v_proj")], "joined"
        elif "k_proj" not in name and "v_proj" not in name:
            _, _, layer, rest = bare.split(".", 3)
            place, end = rest.rsplit(".", 1)
            yield f"transformer.resblocks.{layer}.{inner[place]}.{end}", [name], "same"


def made(tensors, names, how):
    if how == "joined":
        return torch.cat([tensors[name] for name in names])
    tensor = tensors[names[0]]
    return tensor.T.contiguous() if how == "transposed" else tensor[:, :, None, None] if how == "pixels" else tensor


def assert_same(found, expected, what):
    expected = {name: tensor for name, tensor in expected.items() if "position_ids" not in name}
    missing = expected.keys() ^ {name for name in found if "position_ids" not in name}
    assert not missing, (what, sorted(missing)[:5])
    for name, tensor in expected.items():
        assert torch.equal(found[name].reshape(tensor.shape), tensor), (what, name)


result = {}
for kind in ("sd", "sdxl"):
    base = root / kind / "base"
    entries, whole, parts = [], {}, {}
    for part, prefix, names in (("unet", "model.diffusion_model.", unet_names), ("vae", "first_stage_model.", vae_names)):
        config, tensors = read(base / part)
        parts[part] = config, tensors
        for name, original in names(config, tensors):
            is_of_pixels = part == "vae" and ".attentions." in name and tensors[name].dim() == 2
            entries.append([prefix + original, part, [name], "pixels" if is_of_pixels else "same"])
    _, clip = read(base / "text_encoder")
    prefix = "cond_stage_model.transformer." if kind == "sd" else "conditioner.embedders.0.transformer."
    entries += [[prefix + ("" if name.startswith("text_model.") else "text_model.") + name, "text_encoder", [name], "same"] for name in clip]
    parts["text_encoder"] = None, clip
    if kind == "sdxl":
        config, tensors = read(base / "text_encoder_2")
        parts["text_encoder_2"] = config, tensors
        entries += [["conditioner.embedders.1.model." + original, "text_encoder_2", names, how] for original, names, how in open_clip_names(tensors)]
    whole = {original: made(parts[part][1], names, how).contiguous() for original, part, names, how in entries}

    # What from_single_file makes of it.
    config, tensors = parts["unet"]
    assert_same(convert_ldm_unet_checkpoint(dict(whole), config=config), tensors, "unet")
    config, tensors = parts["vae"]
    new = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    renamed = {}
    for name, tensor in tensors.items():
        for old, today in new.items():
            name = name.replace(f"attentions.0.{old}.", f"attentions.0.{today}.")
        renamed[name] = tensor
    assert_same(convert_ldm_vae_checkpoint(dict(whole), config=config), renamed, "vae")
    prefixed = {name if name.startswith("text_model.") else "text_model." + name: tensor for name, tensor in clip.items()}
    found = convert_ldm_clip_checkpoint(dict(whole))
    found = {name if name.startswith("text_model.") else "text_model." + name: tensor for name, tensor in found.items()}
    assert_same(found, prefixed, "text_encoder")
    if kind == "sdxl":
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection
        model = CLIPTextModelWithProjection(CLIPTextConfig(**parts["text_encoder_2"][0]))
        own = dict(whole)
        # diffusers takes the width of the published one where this is not said, and warns.
        own["conditioner.embedders.1.model.text_projection"] = whole["conditioner.embedders.1.model.text_projection"]
        found = convert_open_clip_checkpoint(model, own, prefix="conditioner.embedders.1.model.")
        def bare(tensors):
            return {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
        assert_same(bare(found), bare(parts["text_encoder_2"][1]), "text_encoder_2")
    result[kind] = entries
    if files:
        save_file(whole, files / f"{kind}.safetensors")
lines = [f'"{kind}": [\n' + ",\n".join(json.dumps(entry) for entry in entries) + "\n]" for kind, entries in result.items()]
(root / "single_file.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
print({kind: len(entries) for kind, entries in result.items()})
