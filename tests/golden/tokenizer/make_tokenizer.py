"""Writes a small WordPiece tokenizer and the ids that transformers gives with it.

    pip install torch==2.15.0 transformers==4.57.3 && python make_tokenizer.py
    pip install torch==2.15.0 transformers==5.24.0 && python make_tokenizer.py --check

vocab.txt, tokenizer_config.json   as BERT's, but for the special tokens' ids
tokenizer.json                     the same, with truncation and padding switched on, as sentence
                                   encoders are published; neither has to do with the ids of a text
reference.json                     texts (and pairs of texts, cut to a length) with their ids and type
                                   ids, by `tokenizer(text, pair, max_length=…, truncation="longest_first")`

The ids of what is not cut are those of transformers' own Python implementation too. (Where a pair is
cut, that one takes the extra token from the other text.) `--check` computes all of them again with
the tokenizer that the files make in the installed release.
"""

import argparse
import json
from pathlib import Path

import transformers

HERE = Path(__file__).parent
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ("the is a an of and on in to my for me where there one please what until open main next near "
         "card bank account charge station electric car street corner transfer book table café ten it "
         "rain brought stayed dry short un anti charg").split()
PIECES = ("un able ably ing ed er est ly ness ish ation ment anti dis arian ism establish believ near "
          "free ze th fi fth ous 00 50 tion").split()
SPECIAL = {"[PAD]": 0, "[UNK]": 4, "[CLS]": 5, "[SEP]": 6, "[MASK]": 7}

QUESTION = "where is the nearest charging station for my electric car"
ANSWER = "there is one on the corner of fifth and main, open until ten"
TEXTS = [
    QUESTION,
    "Transfer $42.50 to my café account, please!",
    "El Niño brought 3,000 mm of rain; 東京 stayed dry 🙂.",
    "unbelievably antidisestablishmentarianism",
    "",
    "the [MASK] token",
    "  tabs\tand\u00a0spaces\u200b, a soft\u00adhyphen, ÅNGSTRÖM, e\u0301 and ﬁ\n",
    "don't re-open the café-table's book (a 2nd one)…",
    "x" * 101 + " on the table",
]
PAIRS = [
    (QUESTION, ANSWER, 128), (QUESTION, ANSWER, 24), (QUESTION, ANSWER, 16), (QUESTION, ANSWER, 9),
    ("short one", ANSWER, 12), (QUESTION, None, 6), (ANSWER, "short one", 12), ("", ANSWER, 10),
]


def write_files():
    others = WORDS + ["東"] + list(LETTERS) + list("0123456789") + list("$.,;:!?'-()[]…")
    others += ["##" + piece for piece in [*PIECES, *LETTERS, *"0123456789"]]
    # The vocabulary of an uncased model has no accents.
    others = list(dict.fromkeys(token.replace("é", "e") for token in others))
    ids = {index: token for token, index in SPECIAL.items()}
    tokens, waiting = [], iter(others)
    for index in range(len(others) + 8):
        tokens.append(ids.get(index) or (f"[unused{index}]" if index < 8 else next(waiting)))
    (HERE / "vocab.txt").write_text("\n".join(tokens) + "\n")
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": None,
              "tokenize_chinese_chars": True, "model_max_length": 128, "unk_token": "[UNK]",
              "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}
    (HERE / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    fast = transformers.BertTokenizerFast(str(HERE / "vocab.txt"))
    fast.backend_tokenizer.enable_truncation(12)
    fast.backend_tokenizer.enable_padding(length=12, pad_token="[PAD]", pad_id=0)
    fast.backend_tokenizer.save(str(HERE / "tokenizer.json"))


def encode(tokenizer, text, pair, max_length):
    found = tokenizer(text, pair, max_length=max_length, truncation="longest_first")
    return {"text": text, "pair": pair, "max_length": max_length,
            "ids": found["input_ids"], "type_ids": found["token_type_ids"]}


def encode_all(tokenizer):
    return [encode(tokenizer, *case) for case in [(text, None, 128) for text in TEXTS] + PAIRS]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare the files, write nothing")
    check = parser.parse_args().check
    if not check:
        write_files()
    cases = encode_all(transformers.AutoTokenizer.from_pretrained(HERE))
    if check:
        expected = json.loads((HERE / "reference.json").read_text())["cases"]
        assert cases == expected, [pair for pair in zip(cases, expected) if pair[0] != pair[1]]
        print(f"{len(cases)} cases are the same with transformers {transformers.__version__}")
        return
    python = transformers.BertTokenizer(str(HERE / "vocab.txt"))
    for case in cases:
        if len(case["ids"]) < case["max_length"]:
            assert encode(python, case["text"], case["pair"], case["max_length"]) == case, case
    lines = ",\n".join(json.dumps(case) for case in cases)
    text = f'{{"transformers": "{transformers.__version__}", "cases": [\n{lines}\n]}}\n'
    (HERE / "reference.json").write_text(text)


if __name__ == "__main__":
    main()
