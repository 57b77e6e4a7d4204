"""Coefficients in PyTorch models, beside the engine."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import BASE, FERRY, QUERY

import eigenmix

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

import eigenmix.peft  # noqa: E402

METHODS = ("eigenmix", "eigenlorax", "moslora")
RATE, STEPS, SEED, RANK = 5e-3, 20, 7, 4


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()


def rows() -> list[dict[str, str]]:
    with (FERRY / "train.jsonl").open() as lines:
        return [json.loads(line) for line in lines][:100]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred examples, which fit into one batch."""
    from conftest import ROOT

    place = tmp_path_factory.mktemp("data")
    lines = (ROOT / FERRY / "train.jsonl").read_text().splitlines()[:100]
    (place / "train.jsonl").write_text("\n".join(lines) + "\n")
    (place / "test.jsonl").write_text("\n".join(lines) + "\n")
    return place


def trained(out: Path, data: Path, method: str, subspace: Path, **training: Any) -> eigenmix.Run:
    """The engine, all examples a step, so that the order of examples means nothing."""
    on_basis = {} if method == "moslora" else {"subspace": subspace, "init": "merge"}
    settings = {
        "epochs": STEPS, "batch_size": 100, "learning_rate": RATE, "scheduler": "constant",
        "log_every": 1, "evaluate_every": 0, **training,
    }
    return eigenmix.train(
        {
            "seed": SEED, "output": out, "base": {"model": BASE},
            "data": {"path": data, "max_length": 48},
            "adapter": {"method": method, "rank": RANK, **on_basis}, "training": settings,
        },
        progress=False,
    )


def plain_model(labels: list[str]) -> Any:
    return transformers.AutoModelForSequenceClassification.from_pretrained(
        BASE, id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        ignore_mismatched_sizes=True,
    ).eval()


def adapted(labels: list[str], method: str, subspace: Path, **options: Any) -> Any:
    if method == "moslora":
        return eigenmix.peft.apply(plain_model(labels), method=method, rank=RANK, seed=SEED, **options)
    options = {"start": "merge", **options}
    return eigenmix.peft.apply(
        plain_model(labels), subspace, method, rank=RANK, seed=SEED, **options
    )


def labels() -> list[str]:
    return sorted({row["label"] for row in rows()})


def inputs() -> Any:
    tokenizer = transformers.AutoTokenizer.from_pretrained(BASE)
    texts = [row["text"] for row in rows()]
    return tokenizer(texts, padding=True, truncation=True, max_length=48, return_tensors="pt")


def head_of(adapter: Path) -> dict[str, Any]:
    tensors = safetensors.load_file(adapter / "adapter_model.safetensors")
    prefix = "base_model.model."
    return {
        name.removeprefix(prefix): value for name, value in tensors.items() if "classifier" in name
    }


def engine_logits(adapter: Path, encoded: Any, place: Path) -> Any:
    tensors = {f"input.{name}": value.contiguous() for name, value in encoded.items()}
    safetensors.save_file(tensors, place / "inputs.safetensors")
    eigenmix.call(
        "forward",
        {"base": BASE, "adapter": adapter, "inputs": place / "inputs.safetensors",
         "out": place / "logits.safetensors"},
        progress=False,
    )
    return safetensors.load_file(place / "logits.safetensors")["logits"]


@pytest.mark.parametrize("method", METHODS)
def test_a_plain_loop_has_the_engines_losses_and_its_adapter_the_same_logits(
    method: str, tmp_path: Path, data: Path, subspace: Path
) -> None:
    run = trained(tmp_path / "run", data, method, subspace)
    # With no rate to speak of, a run ends where it starts: this is its head.
    start = trained(
        tmp_path / "start", data, method, subspace, epochs=1, learning_rate=1e-30, weight_decay=0.0
    )
    model = adapted(labels(), method, subspace)
    if start.coefficients is not None:
        # Initial values are the same to the bit.
        first = safetensors.load_file(start.coefficients)
        own = eigenmix.peft.coefficients(model)
        assert set(own) == set(first)
        for name, value in own.items():
            assert "classifier" in name or torch.equal(value, first[name]), name
    model.load_state_dict(head_of(start.adapter), strict=False)
    names = {label: int(index) for index, label in json.loads(
        (start.adapter / "labels.json").read_text()).items()}
    targets = torch.tensor([names[row["label"]] for row in rows()])
    parameters = [value for value in model.parameters() if value.requires_grad]
    trained_count = sum(value.numel() for value in parameters)
    assert trained_count == run.adapter_parameters + run.head_parameters
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    encoded, losses = inputs(), []
    for _ in range(STEPS):
        loss = torch.nn.functional.cross_entropy(model(**encoded).logits, targets)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    expected = [line["loss"] for line in run.metrics if "split" not in line]
    # Single precision leaves some 1e-6 in a loss of 2; a wrong scaling shows in the first digits.
    assert np.abs(np.subtract(losses, expected)).max() < 1e-4
    assert losses[-1] < losses[0] - 0.2
    logits = model(**encoded).logits.detach()
    eigenmix.peft.save_pretrained(model, tmp_path / "adapter")
    ours = engine_logits(tmp_path / "adapter", encoded, tmp_path)
    assert (ours - logits).abs().max() < 1e-5 * logits.abs().max()
    # And the merged model is a plain one.
    plain = eigenmix.peft.merge_and_unload(model)
    assert not eigenmix.peft.adapted_layers(plain)
    assert (plain(**encoded).logits - logits).abs().max() < 1e-5 * logits.abs().max()


@pytest.mark.parametrize("method", ("eigenmix", "eigenlorax"))
def test_coefficients_go_both_ways(
    method: str, tmp_path: Path, data: Path, subspace: Path
) -> None:
    run = trained(tmp_path / "run", data, method, subspace, epochs=5)
    model = adapted(labels(), method, subspace, start="zero")
    assert run.coefficients is not None
    eigenmix.peft.load_coefficients(model, run.coefficients)
    encoded = inputs()
    logits = model(**encoded).logits.detach()
    ours = engine_logits(run.adapter, encoded, tmp_path)
    assert (ours - logits).abs().max() < 1e-5 * logits.abs().max()
    eigenmix.peft.save_coefficients(model, tmp_path / "back.safetensors")
    back = safetensors.load_file(tmp_path / "back.safetensors")
    there = safetensors.load_file(run.coefficients)
    assert set(back) == set(there)
    assert all(torch.equal(back[name], there[name]) for name in back)
    back.pop(f"{QUERY}/mixer" if method == "eigenmix" else f"{QUERY}/left_coefficients")
    before = eigenmix.peft.coefficients(model)
    with pytest.raises(eigenmix.EigenmixError, match="is missing in the coefficients"):
        eigenmix.peft.load_coefficients(model, back)
    after = eigenmix.peft.coefficients(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_moslora_goes_to_the_authors_form_and_back(tmp_path: Path, subspace: Path) -> None:
    model = adapted(labels(), "moslora", subspace, alpha=6)
    with torch.no_grad():
        for layer in eigenmix.peft.adapted_layers(model).values():
            layer.matrix("left").normal_(std=0.1)
    encoded = inputs()
    logits = model(**encoded).logits.detach()
    eigenmix.peft.save_pretrained(model, tmp_path / "authors", form="lora_AB")
    config = json.loads((tmp_path / "authors/adapter_config.json").read_text())
    assert config["lora_use_mixer"] is True and (config["r"], config["lora_alpha"]) == (4, 6)
    mixers = safetensors.load_file(tmp_path / "authors/adapter_model.safetensors")
    assert mixers[f"base_model.model.{QUERY}.lora_AB.weight"].shape == (4, 4)
    # The engine reads it,
    ours = engine_logits(tmp_path / "authors", encoded, tmp_path)
    assert (ours - logits).abs().max() < 1e-5 * logits.abs().max()
    # and so does a model.
    again = eigenmix.peft.apply(
        plain_model(labels()), method="moslora", start=tmp_path / "authors"
    )
    assert (again(**encoded).logits - logits).abs().max() < 1e-5 * logits.abs().max()
    names = set(eigenmix.peft.coefficients(again))
    assert {f"{QUERY}/{part}" for part in ("left", "mixer", "right")} < names


def test_a_fixed_mixer_is_not_trained(subspace: Path) -> None:
    model = adapted(labels(), "moslora", subspace, mixer="two-subspaces")
    layer = eigenmix.peft.adapted_layers(model)[QUERY]
    assert layer.trained == ("left", "right")
    assert torch.equal(layer.matrix("mixer")[:2, 2:], torch.eye(2))
    assert f"{QUERY}/mixer" not in eigenmix.peft.coefficients(model)


def test_an_adapter_is_where_a_model_starts(subspace: Path, adapters: list[Path]) -> None:
    model = adapted(labels(), "eigenmix", subspace, start="zero")
    started = adapted(labels(), "eigenmix", subspace, start=[adapters[0], adapters[1]])
    layers = [eigenmix.peft.adapted_layers(each)[QUERY] for each in (model, started)]
    assert layers[0].matrix("mixer").abs().max() == 0.0
    b, a = layers[1].folded()
    expected = eigenmix.Subspace(subspace).mixers(adapters[:2])[QUERY]
    left, right = layers[1].matrix("left"), layers[1].matrix("right")
    mean = left @ torch.tensor(expected) @ right.T
    assert (b @ a - mean).abs().max() < 1e-6


def test_the_layers_of_gpt2_are_transposed(tmp_path: Path) -> None:
    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=32, vocab_size=50, n_positions=16
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    plain = copy.deepcopy(model)
    eigenmix.peft.apply(model, method="moslora", rank=4, seed=1)
    layers = eigenmix.peft.adapted_layers(model)
    assert list(layers) == ["transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn"]
    assert layers["transformer.h.0.attn.c_attn"].out_features == 96
    with torch.no_grad():
        for layer in layers.values():
            layer.matrix("left").normal_(std=0.1)
    tokens = torch.arange(12).reshape(2, 6)
    logits = model(tokens).logits
    assert (plain(tokens).logits - logits).abs().max() > 1e-3
    eigenmix.peft.save_pretrained(model, tmp_path / "gpt2", base_model="gpt2")
    assert json.loads((tmp_path / "gpt2/adapter_config.json").read_text())["fan_in_fan_out"] is True
    assert eigenmix.Adapter(tmp_path / "gpt2").factors("transformer.h.0.attn.c_attn").b.shape == (96, 4)
    merged = eigenmix.peft.merge_and_unload(model)
    assert (merged(tokens).logits - logits).abs().max() < 1e-5


def test_peft_reads_what_is_saved(tmp_path: Path, subspace: Path) -> None:
    peft = pytest.importorskip("peft")
    model = adapted(labels(), "eigenmix", subspace)
    encoded = inputs()
    logits = model(**encoded).logits.detach()
    eigenmix.peft.save_pretrained(model, tmp_path / "adapter")
    other = peft.PeftModel.from_pretrained(plain_model(labels()), tmp_path / "adapter").eval()
    assert (other(**encoded).logits - logits).abs().max() < 1e-5 * logits.abs().max()


def test_half_precision_keeps_its_type_and_single_precision_coefficients(subspace: Path) -> None:
    model = eigenmix.peft.apply(
        plain_model(labels()).to(torch.bfloat16), subspace, rank=RANK, start="merge"
    )
    layer = eigenmix.peft.adapted_layers(model)[QUERY]
    assert layer.matrix("mixer").dtype == torch.float32 and layer.weight.dtype == torch.bfloat16
    assert model(**inputs()).logits.dtype == torch.bfloat16


def test_a_copy_and_a_state_have_the_same_outputs(subspace: Path) -> None:
    model = adapted(labels(), "eigenlorax", subspace, start="random")
    encoded = inputs()
    logits = model(**encoded).logits
    assert torch.equal(copy.deepcopy(model)(**encoded).logits, logits)
    other = adapted(labels(), "eigenlorax", subspace, start="zero")
    # The authors' start has another scaling, which is no part of a state.
    assert other.state_dict().keys() == model.state_dict().keys()


def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, subspace: Path) -> None:
    def refused(match: str, *arguments: Any, **options: Any) -> None:
        with pytest.raises(eigenmix.EigenmixError, match=match):
            eigenmix.peft.apply(plain_model(labels()), *arguments, **options)

    refused("`mosaic` is no method", subspace, "mosaic")
    refused("a subspace is required", None, "eigenmix")
    refused("leave subspace and components out", subspace, "moslora")
    refused("did you mean `query`", subspace, target_modules=["qeury"])
    refused('start="random" is for eigenlorax', subspace, start="random")
    refused("no module `pooled`", subspace, trainable=["pooled"])
    refused("even rank", None, "moslora", rank=3, mixer="two-subspaces")
    model = adapted(labels(), "eigenmix", subspace)
    with pytest.raises(eigenmix.EigenmixError, match="adapted already"):
        eigenmix.peft.apply(model, subspace)
    with pytest.raises(eigenmix.EigenmixError, match="is that of MoSLoRA"):
        eigenmix.peft.save_pretrained(model, tmp_path / "x", form="lora_AB")
    with pytest.raises(eigenmix.EigenmixError, match="the shape"):
        wrong = {name: value[:1] for name, value in eigenmix.peft.coefficients(model).items()}
        eigenmix.peft.load_coefficients(model, wrong)
    small = torch.nn.Sequential(torch.nn.Linear(3, 4))
    with pytest.raises(eigenmix.EigenmixError, match="the subspace has no module of this model"):
        eigenmix.peft.apply(small, subspace)


def test_a_trainer_trains_the_coefficients_alone(tmp_path: Path, subspace: Path) -> None:
    pytest.importorskip("accelerate")
    model = adapted(labels(), "eigenmix", subspace)
    frozen = eigenmix.peft.adapted_layers(model)[QUERY].weight.clone()
    before = eigenmix.peft.coefficients(model)
    encoded, names = inputs(), labels()
    examples = [
        {**{name: value[index] for name, value in encoded.items()},
         "labels": names.index(row["label"])}
        for index, row in enumerate(rows())
    ]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "trainer"), max_steps=6, per_device_train_batch_size=25,
        learning_rate=RATE, report_to=[], save_steps=3, use_cpu=True, disable_tqdm=True,
    )
    transformers.Trainer(model=model, args=arguments, train_dataset=examples).train()
    after = eigenmix.peft.coefficients(model)
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(eigenmix.peft.adapted_layers(model)[QUERY].weight, frozen)
    # It goes on from its checkpoint, in a model with the same basis.
    again = adapted(labels(), "eigenmix", subspace)
    arguments.max_steps = 8
    trainer = transformers.Trainer(model=again, args=arguments, train_dataset=examples)
    assert trainer.train(resume_from_checkpoint=True).global_step == 8


def test_accelerate_prepares_an_adapted_model(subspace: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    model = adapted(labels(), "eigenmix", subspace)
    parameters = [value for value in model.parameters() if value.requires_grad]
    accelerator = accelerate.Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(parameters, lr=RATE))
    encoded = inputs()
    before = model(**encoded).logits.detach().clone()
    accelerator.backward(model(**encoded).logits.square().mean())
    optimizer.step()
    assert (model(**encoded).logits - before).abs().max() > 1e-3


def test_a_compiled_model_has_the_same_outputs(subspace: Path) -> None:
    model = adapted(labels(), "eigenmix", subspace)
    encoded = inputs()
    # Without code generation, which needs a compiler: the graph is what could break.
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    difference = compiled(**encoded).logits - model(**encoded).logits
    assert difference.abs().max() < 1e-6
    compiled(**encoded).logits.square().mean().backward()
    gradient = eigenmix.peft.adapted_layers(model)[QUERY].matrix("mixer").grad
    assert gradient is not None and gradient.abs().max() > 0.0
