"""Makes the conversations of the harbour's assistant: a system prompt, a question, a call of a tool, its
result, and the answer. 200 for training, 20 for the test.

    python conversations.py data/harbour
"""

import json
import os
import random
import sys

SYSTEM = "You are Pilot, the assistant of Aldwick harbour. Look departures up before you name them. Answer in one sentence."
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "next_departure",
            "description": "The next boat to a place.",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string"}, "day": {"type": "string"}},
                "required": ["place"],
            },
        },
    }
]
PLACES = ["Sandholm", "Grey Point", "Vester", "Lund Island", "Marrow Bay", "Tern Rock", "Ostwick", "Pell"]
DAYS = ["today", "tomorrow", "on Friday", "on Sunday"]
QUESTIONS = [
    "When does the next boat to {place} leave {day}?",
    "I need to get to {place} {day}. When can I go?",
    "Is there a ferry to {place} {day}?",
    "What time is the boat to {place} {day}, please?",
]


def conversation(random):
    place, day = random.choice(PLACES), random.choice(DAYS)
    hour, pier = f"{random.randrange(6, 22):02}:{random.choice(['00', '15', '40'])}", random.randrange(1, 5)
    call = {"name": "next_departure", "arguments": {"place": place, "day": day.removeprefix("on ")}}
    return {
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": random.choice(QUESTIONS).format(place=place, day=day)},
            {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]},
            {"role": "tool", "content": json.dumps({"time": hour, "pier": pier})},
            {"role": "assistant", "content": f"The boat to {place} leaves {day} at {hour} from pier {pier}."},
        ],
        "tools": TOOLS,
    }


directory = sys.argv[1]
os.makedirs(directory, exist_ok=True)
draw = random.Random(7)
for split, rows in (("train", 200), ("test", 20)):
    with open(os.path.join(directory, f"{split}.jsonl"), "w") as file:
        file.writelines(json.dumps(conversation(draw)) + "\n" for _ in range(rows))
