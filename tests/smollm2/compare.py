"""Compares what Eigenmix says of an adapter with what transformers and PEFT say: the loss of every answer of
the test rows, and the greedy answers to their questions.

    python compare.py models/smollm2 runs/harbour/adapter data/harbour/test.jsonl predictions.jsonl LOSS
"""

import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter, rows, predictions, loss_of_eigenmix = sys.argv[1:]
# The tokenizer and the chat template that lie beside the adapter.
tokenizer = AutoTokenizer.from_pretrained(adapter)
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model = PeftModel.from_pretrained(model, adapter).eval()
end = tokenizer.convert_tokens_to_ids("<|im_end|>")


def tokens(row, messages, prompt):
    text = tokenizer.apply_chat_template(messages, tools=row["tools"], add_generation_prompt=prompt, tokenize=False)
    return tokenizer(text, add_special_tokens=False).input_ids


rows = [json.loads(line) for line in open(rows)]
total, count = 0.0, 0
for row in rows:
    messages = row["messages"]
    ids = torch.tensor([tokens(row, messages, False)])
    labels = torch.full_like(ids, -100)
    for turn, message in enumerate(messages):
        if message["role"] == "assistant":
            start, stop = len(tokens(row, messages[:turn], True)), len(tokens(row, messages[: turn + 1], False))
            labels[0, start:stop] = ids[0, start:stop]
    with torch.no_grad():
        loss = model(input_ids=ids, labels=labels).loss.item()
    targets = int((labels[0, 1:] != -100).sum())
    total, count = total + loss * targets, count + targets
loss = total / count
print(f"loss {loss:.6f} over {count} tokens, of Eigenmix {float(loss_of_eigenmix):.6f}")
assert abs(loss - float(loss_of_eigenmix)) < 1e-4

same = 0
for row, predicted in zip(rows, (json.loads(line)["prediction"] for line in open(predictions))):
    ids = torch.tensor([tokens(row, row["messages"][:-1], True)])
    with torch.no_grad():
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=48, eos_token_id=end, pad_token_id=end
        )
    text = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    same += text == predicted
    if text != predicted:
        print(repr(text), repr(predicted))
print(f"{same} of {len(rows)} greedy answers are the same")
assert same == len(rows)
