"""Models and what they say of data."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Union

from .calls import PathLike, call, path_of
from .errors import EigenmixError
from .progress import ProgressOption

__all__ = ["Evaluation", "Prediction", "evaluate", "predict"]

#: A file; or texts, pairs of texts, or rows of a table.
Inputs = Union[PathLike, Sequence[str], Sequence[tuple[str, str]], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Evaluation:
    """A model on a split.

    Attributes
    ----------
    split : str
        Which one.
    examples : int
        How many examples it has.
    loss : float
        The mean loss over the examples, or over the predicted tokens.
    metrics : dict
        By their names.
    labels : dict
        The figures of each label, where a row may have several.
    seconds : float
        How long it took, loading excluded.
    """

    split: str
    examples: int
    loss: float
    metrics: dict[str, float]
    labels: dict[str, dict[str, float]] = field(repr=False)
    seconds: float


def evaluate(
    base: PathLike,
    data: PathLike,
    *,
    adapter: PathLike | None = None,
    head: PathLike | None = None,
    split: str | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    metrics: Sequence[str] | None = None,
    batch_size: int | None = None,
    threshold: float | None = None,
    prompts: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    weights: str | None = None,
    device: str | None = None,
    allow_partial: bool = False,
    progress: ProgressOption = None,
) -> Evaluation:
    """Evaluate a model on a dataset.

    Parameters
    ----------
    base
        The base model: a directory, a GGUF file or a Hub id.
    data
        A directory with the splits, or a dataset on the Hub.
    adapter
        The adapter, or a run.
    head
        Another adapter whose head and labels are used, as for one task of a merged adapter.
    split
        ``"test"`` by default.
    text, text_pair, label
        The columns; those of the training by default.
    overrides
        Other keys of the ``[data]`` table.
    metrics
        Their names; the usual ones for the task by default.
    batch_size
        32 by default.
    threshold
        The probability from which on a label applies, where a row may have several.
    prompts, labels
        CLIP: a zero-shot head.
    weights
        How frozen weights are kept, such as ``"nf4"``.
    device, progress
        As in `eigenmix.train`.
    allow_partial
        Continue if the adapter has tensors that do not fit the base model.

    Returns
    -------
    Evaluation
    """
    options = {
        "base": path_of(base),
        "data": path_of(data),
        "adapter": adapter,
        "head": head,
        "split": split,
        "text": text,
        "text_pair": text_pair,
        "label": label,
        "overrides": overrides,
        "metrics": metrics,
        "batch_size": batch_size,
        "threshold": threshold,
        "prompts": prompts,
        "labels": labels,
        "weights": weights,
        "device": device,
        "allow_partial": allow_partial,
    }
    found = call("evaluate", options, progress)
    return Evaluation(
        found["split"],
        found["examples"],
        float(found["loss"]),
        {name: float(value) for name, value in found["metrics"].items()},
        found.get("labels", {}),
        found["seconds"],
    )


@dataclass(frozen=True)
class Prediction:
    """What a model says of a row.

    Attributes
    ----------
    input : object
        The row: a text, the path of an image, or the messages of a conversation.
    label : str or None
        The most probable label of a classifier.
    score : float or None
        Its probability, or the value of a regression.
    labels : dict
        Several labels and their probabilities: those that apply, or the most probable ones.
    text : str or None
        The continuation by a language model.
    """

    input: Any
    label: str | None = None
    score: float | None = None
    labels: dict[str, float] = field(default_factory=dict)
    text: str | None = None


def predict(
    base: PathLike,
    inputs: Inputs,
    *,
    adapter: PathLike | None = None,
    head: PathLike | None = None,
    out: PathLike | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    top: int | None = None,
    threshold: float | None = None,
    chat: bool = False,
    raw: bool = False,
    system: str | None = None,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    prompts: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    weights: str | None = None,
    device: str | None = None,
    allow_partial: bool = False,
    force: bool = False,
    progress: ProgressOption = None,
) -> list[Prediction]:
    """Predict a label for each row, or continue each text with a language model.

    Parameters
    ----------
    base, adapter, head, weights, device, allow_partial, progress
        As in `evaluate`.
    inputs
        A sequence of texts, of pairs of texts, or of rows (dictionaries with the columns of the
        training); or the path of a file with one text a line, or of a table.
    out
        Of a table: write its rows with predictions to this file; the result is then empty.
    text, text_pair, overrides, threshold, prompts, labels
        As in `evaluate`.
    batch_size
        32 by default.
    top
        Classifiers: the most probable labels, so many.
    chat, raw, system
        Language models: a line as a user message; as it stands; the system message.
    max_new_tokens, temperature, top_k, top_p, seed
        Language models: how they go on.
    force
        Overwrite `out`.

    Returns
    -------
    list of Prediction
        In the order of the inputs.
    """
    options: dict[str, Any] = {
        "base": path_of(base),
        "adapter": adapter,
        "head": head,
        "out": out,
        "text": text,
        "text_pair": text_pair,
        "overrides": overrides,
        "batch_size": batch_size,
        "top": top,
        "threshold": threshold,
        "chat": chat,
        "raw": raw,
        "system": system,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "prompts": prompts,
        "labels": labels,
        "weights": weights,
        "device": device,
        "allow_partial": allow_partial,
        "force": force,
    }
    with input_file(inputs) as file:
        found = call("predict", {**options, "input": file}, progress)
    return [_prediction(each) for each in found.get("predictions", [])]


def _prediction(found: Mapping[str, Any]) -> Prediction:
    pair = found.get("text_pair")
    candidates = found.get("labels", [])
    return Prediction(
        found["text"] if pair is None else (found["text"], pair),
        found.get("label"),
        found.get("score"),
        {each["label"]: each["probability"] for each in candidates},
        found.get("continuation"),
    )


@contextmanager
def input_file(inputs: Inputs) -> Iterator[str]:
    """The path of the inputs; of a sequence, that of a file which is there for the while."""
    if isinstance(inputs, (str, os.PathLike)):
        yield path_of(inputs)
        return
    rows = list(inputs)
    is_table = bool(rows) and all(isinstance(row, Mapping) for row in rows)
    lines = [json.dumps(row) if is_table else _line(row) for row in rows]
    with TemporaryDirectory(prefix="eigenmix-") as directory:
        file = Path(directory) / ("inputs.jsonl" if is_table else "inputs.txt")
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        yield str(file)


def _line(row: Any) -> str:
    """A text, or two with a tab between them, as a line of a file."""
    texts = (row,) if isinstance(row, str) else tuple(row)
    if not all(isinstance(text, str) and not set("\n\r\t") & set(text) for text in texts):
        raise EigenmixError(
            "inputs are texts of one line without tabs, pairs of such, or dictionaries with the "
            "columns of the training; a text with line breaks goes into a dictionary"
        )
    return "\t".join(texts)
