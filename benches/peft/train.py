"""Trains with PyTorch and PEFT what a training file says, as `eigenmix train` would.

    python train.py CONFIG.toml --steps N [--start PARAMETERS.safetensors] [--save DIRECTORY] [--device cuda] [--bf16]

Prints one JSON object: seconds of each step, losses, seconds from the start of the process to the first
step and to the end, and peak memory in bytes. Every text is tokenized once, batches follow the order of
the file unless `--shuffle` is given, and are padded to their longest text. `--start` takes the factors
from which `eigenmix` started (`checkpoints/*/parameters.safetensors` of a run with a rate of 1e-30).
"""

import time

BEGIN = time.perf_counter()

import argparse  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
import tomllib  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)


def set_start(model, path):
    """Puts the factors and the head of an `eigenmix` checkpoint into the model."""
    start = load_file(path)
    left_over = set(start)
    for name, module in model.named_modules():
        bare = name.removeprefix("base_model.model.")
        if hasattr(module, "lora_A") and f"{bare}/left" in start:
            module.lora_A["default"].weight.data = start[f"{bare}/right"].T.contiguous().clone()
            module.lora_B["default"].weight.data = start[f"{bare}/left"].clone()
            left_over -= {f"{bare}/left", f"{bare}/right"}
    for name, parameter in model.named_parameters():
        bare = name.removeprefix("base_model.model.").replace("modules_to_save.default.", "")
        if bare in start:
            parameter.data = start[bare].clone()
            left_over.discard(bare)
    assert not left_over, f"not placed: {sorted(left_over)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--shuffle", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    config = tomllib.loads(arguments.config.read_text())
    data, adapter, training = config["data"], config["adapter"], config["training"]
    is_language = config["task"]["kind"] == "causal-lm"

    rows = [json.loads(line) for line in open(Path(data["path"]) / "train.jsonl")]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(Path(config["base"]["model"]) / "tokenizer.json"), pad_token="[PAD]"
    )
    texts = [row["text"] for row in rows]
    ids = tokenizer(texts, truncation=True, max_length=data["max_length"])["input_ids"]
    names = sorted({row["label"] for row in rows}) if not is_language else []
    labels = [names.index(row["label"]) for row in rows] if names else None

    kind = AutoModelForCausalLM if is_language else AutoModelForSequenceClassification
    extra = {} if is_language else {"num_labels": len(names), "ignore_mismatched_sizes": True}
    dtype = torch.bfloat16 if arguments.bf16 else torch.float32
    model = kind.from_pretrained(config["base"]["model"], dtype=dtype, **extra)
    task = "CAUSAL_LM" if is_language else "SEQ_CLS"
    lora = LoraConfig(
        r=adapter["rank"],
        lora_alpha=adapter["alpha"],
        target_modules=adapter["target_modules"],
        lora_dropout=adapter.get("dropout", 0.0),
        task_type=task,
    )
    model = get_peft_model(model, lora)
    if arguments.start:
        set_start(model, arguments.start)
    model.to(arguments.device).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=training["learning_rate"], weight_decay=training.get("weight_decay", 0.01)
    )

    def batches():
        while True:
            order = torch.randperm(len(ids)).tolist() if arguments.shuffle else range(len(ids))
            for first in range(0, len(ids), training["batch_size"]):
                yield list(order)[first : first + training["batch_size"]]

    steps = arguments.steps or -(-len(ids) // training["batch_size"])
    seconds, losses, examples = [], [], []
    first_step = time.perf_counter() - BEGIN
    for _, batch in zip(range(steps), batches()):
        start = time.perf_counter()
        longest = max(len(ids[row]) for row in batch)
        padded = torch.tensor([ids[row] + [0] * (longest - len(ids[row])) for row in batch])
        mask = torch.tensor([[1] * len(ids[row]) + [0] * (longest - len(ids[row])) for row in batch])
        target = padded.masked_fill(mask == 0, -100) if is_language else torch.tensor([labels[row] for row in batch])
        inputs = dict(input_ids=padded, attention_mask=mask, labels=target)
        loss = model(**{name: tensor.to(arguments.device) for name, tensor in inputs.items()}).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, training.get("gradient_clip", 1.0))
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
        examples.append(len(batch))
    if arguments.save:
        model.save_pretrained(arguments.save)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if arguments.device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    total = time.perf_counter() - BEGIN
    found = dict(seconds=seconds, losses=losses, first_step=first_step, total=total, peak=peak)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
