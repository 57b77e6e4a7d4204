"""MiniLM on a domain of CLINC150: a plain PyTorch loop with eigenmix.peft, beside `eigenmix.train`.

    pip install ./crates/python torch transformers safetensors
    python benches/peft/plain_pytorch.py MODEL DATA ADAPTER... [--seeds 0 1 2]

Both train coefficients (K = 24) on what the adapters share, as in configs/clinc150.toml: 376 steps, batches
of 32, AdamW at 4e-3 with a linear schedule. Heads and batches are drawn by either side, so that figures
agree within the spread of seeds; the predictions of the exported adapter have to agree exactly.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from torch.nn import functional
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    get_linear_schedule_with_warmup,
)

import eigenmix
import eigenmix.peft

STEPS, BATCH, RATE, WARMUP, RANK, COMPONENTS, MAX_LENGTH = 376, 32, 4e-3, 0.06, 8, 24, 64


def rows(data: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (data / f"{split}.jsonl").open()]


def plain(model_path: str, data: Path, subspace: Path, out: Path, seed: int) -> tuple[float, list[str]]:
    """Trains, saves the adapter and returns accuracy and predictions on the test split."""
    torch.manual_seed(seed)
    train, test = rows(data, "train"), rows(data, "test")
    names = sorted({row["label"] for row in train})
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = AutoModelForSequenceClassification.from_pretrained(
        model_path, id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )
    eigenmix.peft.apply(model, subspace, rank=RANK, components=COMPONENTS, seed=seed)

    def inputs(batch):
        return tokenizer(
            [row["text"] for row in batch], padding=True, truncation=True, max_length=MAX_LENGTH,
            return_tensors="pt",
        )

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimizer, round(WARMUP * STEPS), STEPS)
    model.train()
    step = 0
    while step < STEPS:
        order = torch.randperm(len(train)).tolist()
        for first in range(0, len(order), BATCH):
            if step == STEPS:
                break
            batch = [train[index] for index in order[first : first + BATCH]]
            targets = torch.tensor([names.index(row["label"]) for row in batch])
            loss = functional.cross_entropy(model(**inputs(batch)).logits, targets)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            step += 1
    model.eval()
    predicted = []
    with torch.no_grad():
        for first in range(0, len(test), 64):
            logits = model(**inputs(test[first : first + 64])).logits
            predicted += [names[index] for index in logits.argmax(dim=1).tolist()]
    right = sum(found == row["label"] for found, row in zip(predicted, test))
    eigenmix.peft.save_pretrained(model, out, base_model=model_path)
    return right / len(test), predicted


def engine(model_path: str, data: Path, subspace: Path, out: Path, seed: int) -> float:
    run = eigenmix.train(
        {
            "output": out, "seed": seed, "base": {"model": model_path},
            "data": {"path": data, "max_length": MAX_LENGTH},
            "adapter": {
                "method": "eigenmix", "subspace": subspace, "components": COMPONENTS, "rank": RANK,
            },
            "training": {
                "epochs": 40, "max_steps": STEPS, "batch_size": BATCH, "learning_rate": RATE,
                "scheduler": "linear", "warmup_ratio": WARMUP, "evaluate_every": 0,
            },
        },
        progress=False,
    )
    return run.test["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("adapters", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        eigenmix.extract(arguments.adapters, place / "subspace", progress=False)
        test = rows(arguments.data, "test")
        for seed in arguments.seeds:
            start = time.perf_counter()
            own = engine(arguments.model, arguments.data, place / "subspace", place / f"run-{seed}", seed)
            between = time.perf_counter()
            adapter = place / f"adapter-{seed}"
            accuracy, predicted = plain(
                arguments.model, arguments.data, place / "subspace", adapter, seed
            )
            seconds = time.perf_counter() - between
            here = eigenmix.predict(
                arguments.model, [row["text"] for row in test], adapter=adapter, progress=False
            )
            same = sum(found.label == other for found, other in zip(here, predicted))
            print(
                f"seed {seed}: eigenmix.train {own:.4f} in {between - start:.0f} s, PyTorch {accuracy:.4f} "
                f"in {seconds:.0f} s; {same} of {len(test)} predictions of the exported adapter agree",
                flush=True,
            )


if __name__ == "__main__":
    main()
