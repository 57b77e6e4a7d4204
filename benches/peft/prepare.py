"""Makes what the side-by-side trains: random checkpoints of three shapes, with tokenizers and data, and
random adapters of the first one for the methods that recycle.

    python prepare.py DIRECTORY

Weights are random: a step takes as long as with pretrained ones. Every text has exactly as many words
as the shape says, and every word is a token.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
)

LABELS = 15


def tokenizer(directory, vocabulary, special):
    """Words `w0`, `w1`, … are the tokens of these numbers; the first ones are the special tokens."""
    words = special + [f"w{number}" for number in range(len(special), vocabulary)]
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: number for number, word in enumerate(words)},
            "unk_token": words[len(special)],
        },
    }
    (directory / "tokenizer.json").write_text(json.dumps(content))


def texts(path, rows, length, vocabulary, labelled, random):
    path.mkdir(parents=True, exist_ok=True)
    with open(path / "train.jsonl", "w") as file:
        for row in range(rows):
            words = random.integers(8, vocabulary, length)
            line = {"text": " ".join(f"w{word}" for word in words)}
            if labelled:
                line["label"] = f"label {row % LABELS}"
            file.write(json.dumps(line) + "\n")


def adapters(root, model, count):
    """Adapters of query and value whose updates have norms of a fraction of the weights'."""
    peft = get_peft_model(
        model, LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], task_type="SEQ_CLS")
    )
    for number in range(count):
        for name, parameter in peft.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        peft.save_pretrained(root / str(number))


def main(root):
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    encoder = dict(num_labels=LABELS, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    minilm = BertConfig(
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        max_position_embeddings=512,
        **encoder,
    )
    roberta = RobertaConfig(
        vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, **encoder
    )
    llama = LlamaConfig(
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
        intermediate_size=2048,
        vocab_size=32000,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=None,
    )
    bert_special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    roberta_special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    for name, model, special, rows, length in (
        ("minilm", BertForSequenceClassification(minilm), bert_special, 32, 128),
        ("roberta", RobertaForSequenceClassification(roberta), roberta_special, 16, 128),
        ("llama", LlamaForCausalLM(llama), ["<unk>"], 4, 256),
    ):
        directory = root / name
        model.save_pretrained(directory)
        vocabulary = model.config.vocab_size
        tokenizer(directory, vocabulary, special)
        texts(root / f"{name}-data", rows, length, vocabulary, name != "llama", random)
        print(f"{directory}: {sum(p.numel() for p in model.parameters()):,} numbers")
        if name == "minilm":
            adapters(root / "minilm-adapters", model, 4)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
