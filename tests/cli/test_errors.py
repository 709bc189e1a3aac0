"""Bad input is answered with exit code 2 and the remedy, before work is lost, and nothing is left behind."""

from __future__ import annotations

import pytest

from tests.cli.conftest import MODEL, SPLIT, TRAINING


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["describe", "windw:tiny"], "did you mean 'window'?"),
        (["describe", "window:tyny"], "did you mean 'tiny'?"),
        (["describe", "window"], "size"),
        (["describe", "window:tiny", "--override", "layrs=2"], "did you mean 'layers'?"),
        (["describe", "window:tiny", "--override", "layers"], "NAME=VALUE"),
        (["describe", "window:tiny", "--override", "layers=[2"], "cannot be read"),
        (["describe", "window:tiny", "--override", "layers=2.5"], "layers=2.5"),
        (["describe", "window:tiny", "--override", "layers=many"], "layers=many"),
        (["describe", "window:tiny", "--override", "hidden=1.5"], "hidden"),
        (["describe", "window:tiny", "--override", "width=64", "heads=5"], "must divide"),
        (["describe", "window:tiny", "--window", "0"], "at least 1"),
        (["describe", "window:tiny", "--batch", "0"], "at least 1"),
        (["generate", "absent"], "everlong train"),
        (["score", "absent", "absent.txt"], "absent.txt"),
        (["evaluate", "absent"], "everlong train"),
        (["compress", "absent", "absent.txt", "out"], "absent.txt"),
        (["decompress", "absent", "absent.txt", "out"], "absent.txt"),
        (["demo", "--minutes", "0"], "minutes"),
    ],
)
def test_names_and_values(arguments, told, everlong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = everlong(*arguments)
    assert outcome.code == 2
    assert told in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--batch", "0"], "trainer.batch"),
        (["--optimizer.learning-rate", "-1"], "optimizer.learning_rate"),
        (["--schedule.warmup", "2"], "schedule.warmup"),
        (["--batch", "6", "--accumulation", "4"], "must divide"),
        (["--data", "absent/"], "absent/"),
        (["--validation-fraction", "2"], "validation_fraction"),
        (["--tokenizer", "absent.json"], "absent.json"),
        (["--override", "context_limit=8"], "context_limit"),
    ],
)
def test_training_that_cannot_begin(options, told, everlong, sources, tmp_path):
    out = tmp_path / "run"
    outcome = everlong("train", *MODEL, *TRAINING, *SPLIT, "--data", sources, "--out", out, *options)
    assert outcome.code == 2
    assert told in outcome.err
    assert not out.exists()


def test_an_unknown_field_of_the_trainer(everlong):
    outcome = everlong("train", "window:nano", "--stepz", "5")
    assert outcome.code == 2
    assert "--steps" in outcome.err


def test_a_run_of_other_settings(everlong, copied, sources):
    outcome = everlong("train", *MODEL, *TRAINING, *SPLIT, "--data", sources, "--out", copied, "--batch", "2")
    assert outcome.code == 2
    assert "training.batch" in outcome.err


def test_sampling_out_of_range(everlong, trained):
    outcome = everlong("generate", trained, "--top-p", "1.5")
    assert outcome.code == 2
    assert "top_p" in outcome.err


def test_an_empty_file_cannot_be_scored(everlong, trained, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert "is empty" in everlong("score", trained, tmp_path / "empty").err
    assert "hold no bytes" in everlong("evaluate", trained, "--data", tmp_path / "empty").err


def test_a_folder_is_no_file(everlong, trained, tmp_path):
    for verb in ("score", "compress"):
        outcome = everlong(verb, trained, tmp_path, *([tmp_path / "out"] if verb == "compress" else []))
        assert outcome.code == 2
        assert str(tmp_path) in outcome.err


@pytest.mark.parametrize(
    ("verb", "output"), [("score", "--plot"), ("score", "--npy"), ("score", "--jsonl"), ("compress", None)]
)
def test_existing_files_are_replaced_only_by_force(verb, output, everlong, trained, sources, tmp_path):
    out = tmp_path / "out.svg"
    out.write_text("precious")
    arguments = [verb, trained, sources / "0.py", *([output, out] if output else [out])]
    outcome = everlong(*arguments)
    assert outcome.code == 2
    assert "--force" in outcome.err
    assert out.read_text() == "precious"
    assert everlong(*arguments, "--force").code == 0
    assert out.read_bytes() != b"precious"


def test_existing_results_are_refused_before_the_run_is_loaded(everlong, tmp_path):
    (tmp_path / "e.json").write_text("precious")
    assert "exists already" in everlong("evaluate", "absent", "--json", tmp_path / "e.json").err


def test_a_plot_of_another_kind(everlong, trained, sources, tmp_path):
    outcome = everlong("score", trained, sources / "0.py", "--plot", tmp_path / "a.pdf")
    assert outcome.code == 2
    assert ".svg, .png" in outcome.err


def test_two_forms_at_once(everlong, trained, sources, tmp_path):
    outcome = everlong("score", trained, sources / "0.py", "--npy", tmp_path / "a", "--jsonl", tmp_path / "b")
    assert outcome.code == 2
    assert not list(tmp_path.iterdir())


def test_an_output_without_a_folder(everlong, trained, sources, tmp_path):
    outcome = everlong("compress", trained, sources / "0.py", tmp_path / "absent" / "out")
    assert outcome.code == 2
    assert "absent" in outcome.err


def test_another_model_is_refused(everlong, trained, other, sources, tmp_path):
    assert everlong("compress", trained, sources / "0.py", tmp_path / "a.ever").code == 0
    outcome = everlong("decompress", other, tmp_path / "a.ever", tmp_path / "b")
    assert outcome.code == 2
    assert "fingerprint" in outcome.err
    assert not (tmp_path / "b").exists()


def test_a_damaged_file_is_refused(everlong, trained, sources, tmp_path):
    packed = tmp_path / "a.ever"
    assert everlong("compress", trained, sources / "0.py", packed).code == 0
    for damaged in (packed.read_bytes()[:-1], b"", b"no such thing"):
        (tmp_path / "damaged").write_bytes(damaged)
        assert everlong("decompress", trained, tmp_path / "damaged", tmp_path / "b").code == 2
        assert not (tmp_path / "b").exists()


def test_a_damaged_run_is_refused(everlong, copied):
    (weights,) = copied.glob("checkpoints/*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    outcome = everlong("generate", copied)
    assert outcome.code == 2
    assert "model.safetensors" in outcome.err


def test_overrides_do_not_change_a_run(everlong, trained):
    outcome = everlong("describe", trained, "--override", "layers=3")
    assert outcome.code == 2
    assert "override" in outcome.err
