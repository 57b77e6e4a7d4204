"""Makes the files beside it: small adapters as other programs write them, and what these programs
compute from them.

    pip install torch==2.9.1 transformers==4.57.3 peft==0.18.1 diffusers==0.35.2 lycoris-lora==4.1.3
    python make.py

Every NAME.safetensors (or directory NAME) is an adapter, and NAME.updates.safetensors holds ΔW of
each module as the program has it after loading the adapter: PEFT's `get_delta_weight`, for kohya and
diffusers after diffusers has loaded the file. mlx-lm runs on Apple's machines only, so its updates
follow its `fuse`: W + (scale * lora_b.T) @ lora_a.T, and W + (scale * lora_a) @ lora_b for embeddings.
names.json maps kohya's names to the modules that diffusers finds for them.
"""

import json
import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders import lora_conversion_utils as conversion
from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin
from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_kohya
from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

HERE = Path(__file__).parent
MID = "mid_block.attentions.0.transformer_blocks.0"
TARGETS = [
    "mid_block.attentions.0.proj_in",
    f"{MID}.attn1.to_q",
    f"{MID}.attn1.to_out.0",
    f"{MID}.attn2.to_k",
    f"{MID}.ff.net.0.proj",
    "down_blocks.1.resnets.0.conv1",
    "down_blocks.1.resnets.0.time_emb_proj",
    "up_blocks.0.upsamplers.0.conv",
]
TEXT_TARGETS = ["text_model.encoder.layers.0.self_attn.q_proj", "text_model.encoder.layers.0.self_attn.out_proj"]


def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(2, 4),
        norm_num_groups=2, cross_attention_dim=6, attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )


def text_encoder():
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=11, hidden_size=6, intermediate_size=10, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=5,
    ))


def randomise(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)


def updates(model, prefix=""):
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            (adapter,) = module.scaling
            name = name.removeprefix("base_model.model.")
            found[prefix + name] = module.get_delta_weight(adapter).detach().float().contiguous()
    assert found
    return found


def save(name, tensors, metadata=None):
    tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    save_file(tensors, HERE / f"{name}.safetensors", metadata=metadata)


def loaded_updates(tensors):
    """What diffusers makes of a file for a UNet and a text encoder."""
    model, text = unet(), text_encoder()
    tensors = dict(tensors)
    state, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(tensors, unet_config=model.config)
    StableDiffusionLoraLoaderMixin.load_lora_into_unet(state, alphas, model)
    found = updates(model, "unet.")
    if any(key.startswith("text_encoder.") for key in state):
        StableDiffusionLoraLoaderMixin.load_lora_into_text_encoder(state, alphas, text, prefix="text_encoder")
        found |= updates(text, "text_encoder.")
    return found


def diffusers_with_metadata():
    model, text = unet(), text_encoder()
    model.add_adapter(LoraConfig(
        r=2, lora_alpha=3, target_modules=TARGETS,
        rank_pattern={"attn2.to_k": 3}, alpha_pattern={"attn2.to_k": 7, "proj_in": 1},
    ))
    text.add_adapter(LoraConfig(r=3, lora_alpha=4, use_rslora=True, target_modules=TEXT_TARGETS))
    randomise(model, 1)
    randomise(text, 2)
    StableDiffusionPipeline.save_lora_weights(
        HERE,
        unet_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(model)),
        text_encoder_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(text)),
        unet_lora_adapter_metadata=model.peft_config["default"].to_dict(),
        text_encoder_lora_adapter_metadata=text.peft_config["default"].to_dict(),
        weight_name="diffusers.safetensors",
    )
    save("diffusers.updates", updates(model, "unet.") | updates(text, "text_encoder."))
    return model, text


def plain_state(model, text):
    state = {f"unet.{key}": value for key, value in get_peft_model_state_dict(model).items()}
    state |= {f"text_encoder.{key}": value for key, value in get_peft_model_state_dict(text).items()}
    return state


def kohya(model, text):
    tensors = convert_state_dict_to_kohya(plain_state(model, text))
    # The conversion writes alpha = rank; trained files have others, in the dtype of the factors. The
    # attentions share theirs here, since diffusers gives all of them the commonest of their model.
    others = iter([1.5, 2.5, 4.5, 6.0, 3.5])
    for key in sorted(tensors):
        if key.endswith(".alpha"):
            tensors[key] = torch.tensor(3.5 if "attn" in key else next(others))
    tensors = {key: tensor.half() for key, tensor in tensors.items()}
    metadata = {
        "ss_base_model_version": "sd_v1", "ss_network_module": "networks.lora", "ss_network_dim": "Dynamic",
        "ss_network_alpha": "Dynamic", "ss_sd_model_name": "tiny.safetensors", "sshs_model_hash": "00ff",
    }
    save("kohya", tensors, metadata)
    save("kohya.updates", loaded_updates(tensors))
    # As the conversion leaves it: alphas are integers.
    small = {key: value for key, value in plain_state(model, text).items() if "attn1" in key}
    tensors = convert_state_dict_to_kohya(small)
    save("kohya_integers", tensors)
    save("kohya_integers.updates", loaded_updates(tensors))
    tensors = {key: tensor.bfloat16() for key, tensor in tensors.items() if not key.endswith(".alpha")}
    save("kohya_without_alpha", tensors)
    save("kohya_without_alpha.updates", loaded_updates(tensors))


def old_diffusers(model, text):
    state = get_peft_model_state_dict(model)
    tensors = {}
    for layer, old in [("to_q", "to_q_lora"), ("to_out.0", "to_out_lora")]:
        for part, direction in [("lora_A", "down"), ("lora_B", "up")]:
            key = f"unet.{MID}.attn1.processor.{old}.{direction}.weight"
            tensors[key] = state[f"{MID}.attn1.{layer}.{part}.weight"]
    state = get_peft_model_state_dict(text)
    layer = TEXT_TARGETS[0].removesuffix(".q_proj")
    for name, old in [("q_proj", "to_q_lora"), ("out_proj", "to_out_lora")]:
        for part, direction in [("lora_A", "down"), ("lora_B", "up")]:
            tensors[f"text_encoder.{layer}.{old}.{direction}.weight"] = state[f"{layer}.{name}.{part}.weight"]
    save("diffusers_old", tensors)
    save("diffusers_old.updates", loaded_updates(tensors))


def locon():
    """LyCORIS' own module, its Tucker decomposition of a convolution among them."""
    from lycoris.modules.locon import LoConModule

    torch.manual_seed(3)
    tensors, found = {}, {}
    for path, layer, tucker in [
        ("down_blocks.1.resnets.0.conv1", torch.nn.Conv2d(5, 4, (3, 2)), True),
        ("down_blocks.1.resnets.0.conv2", torch.nn.Conv2d(3, 4, 3), False),
        ("mid_block.attentions.0.proj_in", torch.nn.Conv2d(4, 7, 1), False),
        (f"{MID}.attn1.to_q", torch.nn.Linear(6, 5), False),
    ]:
        name = "lora_unet_" + path.replace(".", "_")
        module = LoConModule(name, layer, lora_dim=2, alpha=3, use_tucker=tucker)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        state = {key: value for key, value in module.custom_state_dict().items()}
        tensors |= {f"{name}.{key}": value.detach() for key, value in state.items()}
        found[f"unet.{path}"] = module.get_diff_weight()[0].detach()
    save("locon", tensors)
    save("locon.updates", found)


class Pieces(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(7, 5)
        self.patches = torch.nn.Conv2d(3, 4, (2, 3))
        self.sound = torch.nn.Conv1d(3, 4, 2)
        self.dense = torch.nn.Linear(5, 6)

    def forward(self, inputs):
        return inputs


def peft_layers():
    model = get_peft_model(Pieces(), LoraConfig(
        r=2, lora_alpha=3, target_modules=["words", "patches", "sound", "dense"],
        rank_pattern={"words": 3}, alpha_pattern={"words": 5},
    ))
    randomise(model, 4)
    shutil.rmtree(HERE / "peft_layers", ignore_errors=True)
    model.save_pretrained(HERE / "peft_layers", save_embedding_layers=False)
    (HERE / "peft_layers" / "README.md").unlink(missing_ok=True)
    save("peft_layers.updates", updates(model))


def mlx():
    generator = torch.Generator().manual_seed(5)
    tensors, found = {}, {}
    scale = 2.5
    for path, size_in, size_out, rank in [
        ("model.layers.0.self_attn.q_proj", 6, 5, 2),
        ("model.layers.1.mlp.down_proj", 9, 6, 2),
        ("model.embed_tokens", 11, 6, 3),
    ]:
        a = torch.randn(size_in, rank, generator=generator)
        b = torch.randn(rank, size_out, generator=generator)
        tensors |= {f"{path}.lora_a": a, f"{path}.lora_b": b}
        found[path] = (scale * a) @ b if "embed" in path else (scale * b.T) @ a.T
    directory = HERE / "mlx"
    directory.mkdir(exist_ok=True)
    save("mlx/adapters", tensors)
    save("mlx.updates", found)
    config = {
        "model": "org/tiny-llama", "fine_tune_type": "lora", "num_layers": 16, "seed": 0,
        "lora_parameters": {"rank": 2, "dropout": 0.0, "scale": scale},
    }
    (directory / "adapter_config.json").write_text(json.dumps(config, indent=4))


def names():
    """kohya's names for a UNet of two resnets a level, after diffusers and after the original code."""
    blocks = dict(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    model = UNet2DConditionModel(
        sample_size=8, layers_per_block=2, block_out_channels=(2, 4), norm_num_groups=2,
        cross_attention_dim=6, attention_head_dim=2, **blocks,
    )
    found = {}
    for path, module in model.named_modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            found["lora_unet_" + path.replace(".", "_")] = f"unet.{path}"
    original = [
        "input_blocks_4_1_transformer_blocks_0_attn1_to_q", "input_blocks_5_1_transformer_blocks_1_attn2_to_out_0",
        "input_blocks_8_1_proj_in", "middle_block_1_transformer_blocks_3_ff_net_0_proj", "middle_block_1_proj_out",
        "output_blocks_0_1_transformer_blocks_9_attn2_to_v", "output_blocks_4_1_proj_out",
        "output_blocks_5_1_transformer_blocks_0_ff_net_2", "input_blocks_1_0_in_layers_2",
        "input_blocks_4_0_emb_layers_1", "output_blocks_8_0_skip_connection", "output_blocks_3_0_out_layers_3",
    ]
    for name in original:
        key = f"lora_unet_{name}.lora_down.weight"
        (mapped,) = conversion._maybe_map_sgm_blocks_to_diffusers({key: None}, model.config)
        mapped = conversion._convert_unet_lora_key(mapped)
        (path,) = convert_unet_state_dict_to_peft({mapped: None})
        found[f"lora_unet_{name}"] = "unet." + path.replace(".processor", "").split(".lora")[0]
    for path, module in text_encoder().named_modules():
        if isinstance(module, torch.nn.Linear):
            for prefix, part in [("te", ""), ("te1", ""), ("te2", "_2")]:
                found[f"lora_{prefix}_" + path.replace(".", "_")] = f"text_encoder{part}.{path}"
    (HERE / "names.json").write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    adapted = diffusers_with_metadata()
    kohya(*adapted)
    old_diffusers(*adapted)
    locon()
    peft_layers()
    mlx()
    names()
