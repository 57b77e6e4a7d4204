"""Writes chat_templates/expected_tools.jsonl for chat_tools_tests.rs: transformers 5.24.0, Jinja2 3.1.6.

A line has a row as a dataset has it, and what `apply_chat_template` makes of its messages and tools. What the
row says otherwise than transformers takes it is said here again by hand, in `messages` and `tools` of its entry.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent / "chat_templates"

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather <now> in a city, in \u00b0C",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": " A city, such as K\u00f6ln "},
                "days": {"type": "integer", "minimum": 1, "default": 1.0},
                "units": {"enum": ["c", "f"], "type": "string"},
                "tags": {"type": "array", "items": {"type": ["string", "number"]}},
            },
            "required": ["city"],
        },
        "return": {"type": "object", "additionalProperties": {"type": "number"}},
    },
}
NOW = {
    "type": "function",
    "function": {
        "name": "now",
        "description": "The time",
        "parameters": {"type": "object", "properties": {}},
    },
}
BARE = {
    "name": "add",
    "description": "Adds",
    "parameters": {"type": "object", "properties": {"x": {"type": "number"}, "a": {"type": "boolean"}}},
}


def call(name, arguments, id=None):
    made = {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {key: value for key, value in made.items() if value is not None}


ASKED = {"role": "user", "content": "How warm is it in K\u00f6ln?"}
KOELN = {"city": "K\u00f6ln", "units": "c", "days": 2, "tags": ["a'b", 1e-7, None, True]}
RESULT = {"role": "tool", "content": '{"day": 21.5}', "tool_call_id": "abcdefgh1", "name": "get_weather"}
ANSWER = {"role": "assistant", "content": "It is 21.5 \u00b0C \U0001f600."}
CALLING = {"role": "assistant", "tool_calls": [call("get_weather", KOELN, "abcdefgh1")]}

# Each: the row, and the messages and tools that it means where they are not its own.
ROWS = {
    "openai": (
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                ASKED,
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [call("get_weather", json.dumps(KOELN), "abcdefgh1")],
                },
                RESULT,
                ANSWER,
            ],
            "tools": [WEATHER, NOW],
        },
        [{"role": "system", "content": "Be brief."}, ASKED, CALLING, RESULT, ANSWER],
        [WEATHER, NOW],
    ),
    "called": (
        {"messages": [ASKED, CALLING, RESULT], "tools": json.dumps([WEATHER])},
        [ASKED, CALLING, RESULT],
        [WEATHER],
    ),
    "words_and_two_calls": (
        {
            "messages": [
                ASKED,
                {
                    "role": "assistant",
                    "content": "Let me look.",
                    "tool_calls": [call("now", "{}"), {"name": "get_weather", "arguments": KOELN}],
                },
                {"role": "tool", "content": "12:00", "name": "now"},
                {"role": "tool", "content": "warm", "name": "get_weather"},
                ANSWER,
                {"role": "user", "content": "And then?"},
            ],
            "tools": [json.dumps(NOW)],
        },
        [
            ASKED,
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [call("now", {}), {"name": "get_weather", "arguments": KOELN}],
            },
            {"role": "tool", "content": "12:00", "name": "now"},
            {"role": "tool", "content": "warm", "name": "get_weather"},
            ANSWER,
            {"role": "user", "content": "And then?"},
        ],
        [NOW],
    ),
    "sharegpt": (
        {
            "conversations": [
                {"from": "human", "value": ASKED["content"]},
                {"from": "function_call", "value": json.dumps({"name": "get_weather", "arguments": KOELN})},
                {"from": "observation", "value": RESULT["content"]},
                {"from": "gpt", "value": ANSWER["content"]},
            ],
            "system": "Be brief.",
            "tools": json.dumps([WEATHER]),
        },
        [
            {"role": "system", "content": "Be brief."},
            ASKED,
            {"role": "assistant", "content": None, "tool_calls": [call("get_weather", KOELN)]},
            {"role": "tool", "content": RESULT["content"]},
            ANSWER,
        ],
        [WEATHER],
    ),
    "older": (
        {
            "messages": [
                {"role": "user", "content": "1 + 1?"},
                {
                    "role": "assistant",
                    "content": None,
                    "function_call": {"name": "add", "arguments": '{"x": 1.50, "a": 1e22}'},
                },
                {"role": "function", "name": "add", "content": "2"},
            ],
            "functions": [BARE],
        },
        [
            {"role": "user", "content": "1 + 1?"},
            {"role": "assistant", "tool_calls": [call("add", {"x": 1.5, "a": 1e22})]},
            {"role": "tool", "name": "add", "content": "2"},
        ],
        [BARE],
    ),
    "filled": (
        {
            "messages": [
                {"role": "user", "content": "When?", "tool_calls": None, "name": None},
                {
                    "role": "assistant",
                    "content": None,
                    "name": None,
                    "tool_calls": [
                        {
                            "id": None,
                            "type": "function",
                            "function": {"name": "run", "arguments": {"x": None, "code": "1"}},
                        }
                    ],
                },
            ],
            "tools": None,
        },
        [
            {"role": "user", "content": "When?"},
            {"role": "assistant", "tool_calls": [call("run", {"code": "1"})]},
        ],
        None,
    ),
    "plain": (
        {"messages": [ASKED, ANSWER], "tools": []},
        [ASKED, ANSWER],
        None,
    ),
}

lines = []
for name in ["chatml", "types", "headers", "inst", "plus"]:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = (HERE / f"tools_{name}.jinja").read_text()
    for row, messages, tools in ROWS.values():
        for prompt in [False, True]:
            line = {"template": name, "row": row, "add_generation_prompt": prompt}
            try:
                line["text"] = tokenizer.apply_chat_template(
                    messages, tools=tools, tokenize=False, add_generation_prompt=prompt
                )
            except Exception as error:
                line["refusal"] = str(error)
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
(HERE / "expected_tools.jsonl").write_text("".join(lines))
