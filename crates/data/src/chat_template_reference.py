"""Writes chat_templates/expected.jsonl for chat_template_tests.rs: transformers 4.57.3, Jinja2 3.1.6."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent / "chat_templates"

CONVERSATIONS = {
    "system": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " What is 2 + 2?\n"},
        {"role": "assistant", "content": "4 <sure> \u00e9"},
        {"role": "user", "content": "And 3 + 3?"},
        {"role": "assistant", "content": "6"},
    ],
    "plain": [
        {"role": "user", "content": "Hi \U0001f600"},
        {"role": "assistant", "content": "  Hello.  "},
    ],
    "asked": [{"role": "user", "content": "Hi"}],
    "thoughts": [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "<think>\nTwo and two.\n</think>\n\n4"},
        {"role": "user", "content": "3 + 3?"},
        {"role": "assistant", "content": "<think>\nThree and three.\n</think>\n\n6"},
    ],
    "twice": [
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": "Hi?"},
    ],
}

lines = []
for name in ["chatml", "headers", "turns", "inst", "thinking", "plus"]:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = (HERE / f"{name}.jinja").read_text()
    for messages in CONVERSATIONS.values():
        for prompt in [False, True]:
            line = {"template": name, "messages": messages, "add_generation_prompt": prompt}
            try:
                line["text"] = tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=prompt
                )
            except Exception as error:
                line["refusal"] = str(error)
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
(HERE / "expected.jsonl").write_text("".join(lines))
