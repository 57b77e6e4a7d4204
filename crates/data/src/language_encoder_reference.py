"""Makes the expected ids of language_encoder_tests.rs: transformers 4.57.3, tokenizers 0.22.2.

The tokenizer is Llama-3's in small: byte-level BPE whose words are split off by a pattern, with a
token that begins every text. Its vocabulary is the 256 bytes, then the merges, then special tokens.
"""

import json
import tempfile
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, processors
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from transformers import GPT2TokenizerFast, PreTrainedTokenizerFast

HERE = Path(__file__).parent
MERGES = [
    ("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("r", "e"), ("Ġ", "a"), ("e", "d"),
    ("b", "l"), ("bl", "u"), ("blu", "e"), ("Ġ", "blue"), ("r", "ed"), ("Ġ", "red"),
    ("ð", "Ł"), ("Ċ", "Ċ"), ("s", "k"), ("sk", "y"), ("Ġ", "sky"), ("Ġ", "Ġ"), ("i", "s"),
    ("Ġ", "is"),
]
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def byte_characters():
    """GPT-2's character for each byte, in the order of the bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    characters = {byte: chr(byte) for byte in shown}
    characters |= {byte: chr(256 + index) for index, byte in enumerate(hidden)}
    return [characters[byte] for byte in range(256)]


vocabulary = {token: id for id, token in enumerate(byte_characters())}
for left, right in MERGES:
    vocabulary[left + right] = len(vocabulary)

tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=MERGES))
tokenizer.pre_tokenizer = Sequence(
    [Split(Regex(PATTERN), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.add_special_tokens(SPECIAL)
tokenizer.post_processor = processors.Sequence([
    processors.ByteLevel(trim_offsets=True),
    processors.TemplateProcessing(
        single="<s> $A",
        pair="<s> $A <s> $B:1",
        special_tokens=[("<s>", tokenizer.token_to_id("<s>"))],
    ),
])
fast = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
)
for text in [
    "The sky is blue",
    "the red 😀 sky",
    "Question: the sky?\n\nAnswer:",
    "trailing  ",
]:
    ids = fast(text)["input_ids"]
    print(json.dumps(text, ensure_ascii=False), ids, fast.convert_ids_to_tokens(ids))

fast.chat_template = (HERE / "chat_templates" / "chatml.jinja").read_text()
messages = [
    {"role": "system", "content": "a"},
    {"role": "user", "content": "the sky?"},
    {"role": "assistant", "content": "blue 😀"},
    {"role": "user", "content": "is red"},
    {"role": "assistant", "content": ""},
]
print("chat", fast.apply_chat_template(messages))
print("asked", fast.apply_chat_template(messages[:2], add_generation_prompt=True))

# Masks, counted from the beginning of the whole: the assistant's turns are what stands between the
# ids of two renderings, where no token straddles (special tokens stand at both borders).
print("turn 3", len(fast.apply_chat_template(messages[:2], add_generation_prompt=True)),
      len(fast.apply_chat_template(messages[:3])))
print("turn 5", len(fast.apply_chat_template(messages[:4], add_generation_prompt=True)),
      len(fast.apply_chat_template(messages)))

# GPT-2's tokenizer from vocab.json and merges.txt, with and without a token at the beginning.
with tempfile.TemporaryDirectory() as directory:
    directory = Path(directory)
    whole = dict(vocabulary, **{"<|endoftext|>": len(vocabulary)})
    (directory / "vocab.json").write_text(json.dumps(whole))
    merges = "\n".join(" ".join(pair) for pair in MERGES)
    (directory / "merges.txt").write_text("#version: 0.2\n" + merges + "\n")
    gpt2 = GPT2TokenizerFast.from_pretrained(directory)
    for text in ["The sky is blue", "the red 😀 sky's<|endoftext|>  a"]:
        print("gpt2", json.dumps(text, ensure_ascii=False), gpt2(text)["input_ids"])
    framed = GPT2TokenizerFast.from_pretrained(directory, add_bos_token=True)
    print("framed", framed("The sky is blue")["input_ids"])

# lm-evaluation-harness's `_encode_pair`: blanks at the end of the context go to the continuation.
def encode_pair(context, continuation):
    blanks = len(context) - len(context.rstrip())
    if blanks:
        continuation = context[-blanks:] + continuation
        context = context[:-blanks]
    whole = fast(context + continuation)["input_ids"]
    return fast(context)["input_ids"], whole[len(fast(context)["input_ids"]):]


for context, continuation in [
    ("the sky is", " red"), ("the sky is", " blue sky"), ("the sky is  ", "red"), ("the sky is\n\n", "blue"),
]:
    print("pair", repr(context), repr(continuation), *encode_pair(context, continuation))
