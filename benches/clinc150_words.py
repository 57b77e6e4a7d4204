"""CLINC150 as a language model's task: `Request: TEXT`, `Intent:` and the intent in words.

    python benches/clinc150_words.py DOMAINS OUT

DOMAINS has a directory with train, validation and test.jsonl for each domain. OUT gets for each domain DOMAIN with
all rows of its training split, and DOMAIN-few-0 and DOMAIN-few-1 with five rows of each intent, the first ones and
those after them. Validation and test are the first five and ten rows of each intent, the same for all three.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path


def read(path):
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def of_each_intent(rows, first, count):
    seen = defaultdict(int)
    for row in rows:
        place = seen[row["label"]]
        seen[row["label"]] += 1
        if first <= place < first + count:
            yield row


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            prompt = f"Request: {row['text']}\nIntent:"
            completion = " " + row["label"].replace("_", " ")
            file.write(json.dumps({"prompt": prompt, "completion": completion}) + "\n")


def main(domains, out):
    for domain in sorted(path for path in domains.iterdir() if path.is_dir()):
        splits = {name: read(domain / f"{name}.jsonl") for name in ("train", "validation", "test")}
        trainings = {
            domain.name: splits["train"],
            f"{domain.name}-few-0": of_each_intent(splits["train"], 0, 5),
            f"{domain.name}-few-1": of_each_intent(splits["train"], 5, 5),
        }
        for name, rows in trainings.items():
            write(out / name / "train.jsonl", rows)
            write(out / name / "validation.jsonl", of_each_intent(splits["validation"], 0, 5))
            write(out / name / "test.jsonl", of_each_intent(splits["test"], 0, 10))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
