"""Every verb, end to end, on a run that was trained here."""

from __future__ import annotations

import json
import lzma
from importlib import import_module

import numpy as np
import pytest
import yaml

import everlong as library
from everlong.core.accounting import parameter_count
from everlong.data import ByteCodec
from everlong.evaluate import evaluate
from everlong.generate import Sampling, Totals, generate, score
from everlong.train import Progress, Result, Trainer, load_run, read_records
from tests.cli.conftest import MODEL, SPLIT, TRAINING


def test_presets(everlong):
    outcome = everlong("presets")
    assert outcome.code == 0
    listed = [line.split()[0] for line in outcome.out.splitlines()[1:]]
    assert listed == library.presets()
    assert "128 M" in outcome.out


@pytest.mark.parametrize("preset", ["window:tiny", "linear:small", "transformer:base"])
def test_describe_a_preset(preset, everlong):
    outcome = everlong("describe", preset)
    assert outcome.code == 0
    assert f"{parameter_count(library.build(preset)):,}" in outcome.out
    usual = Trainer.Config(steps=1)
    trained = f"memory to train {usual.batch} × {usual.window}"
    for told in ("└─ head", "forward FLOPs per byte", "state after 1G tokens", trained):
        assert told in outcome.out


def test_describe_with_overrides(everlong):
    outcome = everlong(
        "describe", "window:tiny", "--override", "layers=2", "context_limit=null", "--batch", "3", "--window", 50
    )
    assert "Block × 2" in outcome.out
    assert "memory to train 3 × 50" in outcome.out


def test_describe_a_run(everlong, trained):
    outcome = everlong("describe", trained)
    assert f"{parameter_count(load_run(trained).model):,}" in outcome.out
    assert "memory to train 4 × 32" in outcome.out  # as it was trained


def test_train_makes_a_run_that_can_be_loaded(trained):
    run = load_run(trained)
    assert run.step == 10
    assert run.config.data.validation_fraction == 0.4
    assert run.model.config == library.config("window:nano", layers=1, width=32, heads=2, window=16)
    assert [r["step"] for r in read_records(trained / "metrics.jsonl") if r["kind"] == "train"] == [5, 10]


def test_train_chooses_optimizer_and_schedule(everlong, sources, tmp_path):
    chosen = ["--optimizer", "muon", "--schedule=wsd", "--schedule.decay", "0.5", "--optimizer.momentum", "0.9"]
    outcome = everlong("train", *MODEL, *TRAINING, *SPLIT, "--data", sources, "--out", tmp_path / "run", *chosen)
    assert outcome.code == 0
    training = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["training"]
    assert training["optimizer"]["is"] == "train.optimizers.Muon"
    assert training["optimizer"]["momentum"] == 0.9
    assert training["schedule"] == {"is": "train.schedules.WSD", "warmup": 0.05, "floor": 0.0, "decay": 0.5}


def test_train_goes_on_with_what_is_there(everlong, copied, sources):
    before = (copied / "metrics.jsonl").read_bytes()
    outcome = everlong("train", *MODEL, *TRAINING, *SPLIT, "--data", sources, "--out", copied)
    assert outcome.code == 0
    assert str(copied) in outcome.out
    assert (copied / "metrics.jsonl").read_bytes() == before


def test_train_that_was_stopped_says_so(everlong, sources, tmp_path, monkeypatch):
    module = import_module("everlong.cli.train")
    monkeypatch.setattr(module, "trained", lambda *_, **__: Result.of(Progress(step=3), interrupted=15))
    outcome = everlong("train", *MODEL, *TRAINING, "--data", sources, "--out", tmp_path / "run")
    assert outcome.code == 128 + 15
    assert "goes on from here" in outcome.err


def test_train_on_named_validation_files(everlong, sources, tmp_path):
    data = ["--data", sources, "--validation", sources / "3.py", sources / "4.py"]
    outcome = everlong("train", *MODEL, *TRAINING, *data, "--out", tmp_path / "run")
    assert outcome.code == 0
    run = load_run(tmp_path / "run")
    assert len(run.config.data.open(run.codec).validation) == 2


def test_generate_is_what_the_library_generates(everlong, trained):
    outcome = everlong("generate", trained, "--prompt", "def ", "--max-tokens", 30, "--temperature", 0.5, "--seed", 3)
    run = load_run(trained)
    sampling = Sampling(temperature=0.5, seed=3)
    steps = generate(run.model, run.codec, ["def "], max_tokens=30, sampling=sampling)
    assert outcome.code == 0
    assert outcome.out == "def " + "".join(step.text for step in steps) + "\n"


def test_generate_shows_several_prompts_one_after_the_other(everlong, trained, tmp_path):
    (tmp_path / "prompt").write_bytes(b"class ")
    alone = [everlong("generate", trained, "--prompt", p, "--max-tokens", 20).out for p in ("def ", "x", "class ")]
    file = tmp_path / "prompt"
    both = everlong("generate", trained, "--prompt", "def ", "--prompt=x", "--prompt-file", file, "--max-tokens", 20)
    assert both.out == "".join(alone)
    assert "2 of 3" in both.err


def test_generate_without_a_prompt_begins_a_document(everlong, trained):
    outcome = everlong("generate", trained, "--max-tokens", 5, "--ignore-eos")
    assert outcome.code == 0
    assert "length" in outcome.err


def test_generate_stops(everlong, trained):
    text = everlong("generate", trained, "--prompt", "d", "--max-tokens", 60, "--top-k", 20).out
    stop = text[20]
    outcome = everlong("generate", trained, "--prompt", "d", "--max-tokens", 60, "--top-k", 20, "--stop", stop)
    assert outcome.out == "d" + text[1:].partition(stop)[0] + "\n"
    assert "stop" in outcome.err


def test_score_tells_the_totals(everlong, trained, sources):
    run, totals = load_run(trained), Totals()
    for piece in score(run.model, run.codec, sources / "7.py"):
        totals.add(piece)
    outcome = everlong("score", trained, sources / "7.py")
    assert outcome.code == 0
    assert f"{totals.bits_per_byte:.4f}" in outcome.out
    assert f"{totals.bytes:,}" in outcome.out


def test_score_writes_every_token(everlong, trained, sources, tmp_path):
    run = load_run(trained)
    expected = np.concatenate(list(score(run.model, run.codec, sources / "7.py")))
    assert everlong("score", trained, sources / "7.py", "--npy", tmp_path / "s.npy").code == 0
    assert everlong("score", trained, sources / "7.py", "--jsonl", tmp_path / "s.jsonl").code == 0
    assert np.load(tmp_path / "s.npy").tolist() == expected.tolist()
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [row["bits"] for row in rows] == expected["bits"].tolist()


@pytest.mark.parametrize(("name", "magic"), [("s.svg", b"<?xml"), ("s.png", b"\x89PNG")])
def test_score_draws(everlong, trained, sources, tmp_path, name, magic):
    assert everlong("score", trained, sources / "7.py", "--plot", tmp_path / name).code == 0
    assert (tmp_path / name).read_bytes().startswith(magic)


def test_evaluate_what_was_held_out(everlong, trained, tmp_path):
    outcome = everlong("evaluate", trained, "--primed", "--json", tmp_path / "e.json", "--plot", tmp_path / "e.svg")
    assert outcome.code == 0
    run = load_run(trained)
    corpus = run.config.data.open(run.codec)
    expected, found = evaluate(run.model, corpus.validation), json.loads((tmp_path / "e.json").read_text())
    assert found["bits_per_byte"] == expected.bits_per_byte
    assert found["standard_error"] == expected.standard_error
    assert found["baselines"]["xz_primed"] < found["baselines"]["solid"]["xz"]
    assert f"{expected.bits_per_byte:.3f} ± {expected.standard_error:.3f}" in outcome.out
    assert f"{found['baselines']['xz_primed']:.3f}" in outcome.out
    assert (tmp_path / "e.svg").read_bytes().startswith(b"<?xml")


def test_evaluate_other_files(everlong, trained, sources, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    data = [sources / "2.py", sources / "9.py", tmp_path / "empty"]
    outcome = everlong("evaluate", trained, "--data", *data, "--json", tmp_path / "e.json")
    assert outcome.code == 0
    found, texts = json.loads((tmp_path / "e.json").read_text()), [path.read_bytes() for path in data[:2]]
    assert (found["documents"], found["bytes"]) == (2, sum(map(len, texts)))
    xz = [len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) for text in texts]
    assert found["baselines"]["each"]["xz"] == 8 * sum(xz) / found["bytes"]
    assert found["baselines"]["xz_primed"] is None


@pytest.mark.parametrize("data", [b"", b"def f(x):\n    return x\n", bytes(range(0, 256, 3))])
def test_compress_and_decompress(everlong, trained, tmp_path, data):
    original, packed, restored = (tmp_path / name for name in ("a", "a.ever", "b"))
    original.write_bytes(data)
    assert everlong("compress", trained, original, packed).code == 0
    assert everlong("decompress", trained, packed, restored).code == 0
    assert restored.read_bytes() == data


def test_a_tokenizer_of_its_own(everlong, sources, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([path.read_text() for path in sources.iterdir()], trainer)
    made.save(str(tmp_path / "tokenizer.json"))
    run = tmp_path / "run"
    arguments = [*MODEL, *TRAINING, *SPLIT, "--data", sources, "--tokenizer", tmp_path / "tokenizer.json"]
    assert everlong("train", *arguments, "--out", run).code == 0
    assert load_run(run).model.config.vocabulary > ByteCodec.vocabulary
    assert everlong("evaluate", run, "--json", tmp_path / "e.json").code == 0
    corpus = load_run(run).config.data.open(load_run(run).codec)
    assert json.loads((tmp_path / "e.json").read_text())["bytes"] == corpus.validation.total_bytes
    assert "FLOPs per token" in everlong("describe", run).out
