"""The demo in miniature: everything it does, on a few small files and a model that learns next to nothing."""

from __future__ import annotations

import json
import math

import pytest

from everlong.core.errors import ConfigError, TrainingError
from everlong.evaluate import demo as module
from everlong.evaluate.compressors import baselines
from everlong.evaluate.demo import DEMO, Settings, run_demo
from everlong.evaluate.demo_report import demo_report
from everlong.evaluate.report import _CONTROL
from everlong.train import Progress, Result, Trainer
from tests.evaluate.miniature import miniature_in
from tests.evaluate.test_report import Page

PROMISED = {
    "heldout_bits_per_byte",
    "xz_bits_per_byte",
    "xz_primed_bits_per_byte",
    "gzip_bits_per_byte",
    "train_seconds",
    "bytes_seen",
    "parameters",
    "roundtrip_ok",
}


@pytest.fixture(scope="session")
def miniature(tmp_path_factory) -> Settings:
    return miniature_in(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def done(miniature, tmp_path_factory):
    """The settings, the folder and the findings of a miniature demo of six steps."""
    folder = tmp_path_factory.mktemp("run") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_steps", lambda *_: 6)
        return miniature, folder, run_demo(miniature, folder, minutes=1.0, cache=folder.parent / "cache")


def test_the_summary_keeps_its_promise(done):
    settings, folder, findings = done
    summary = json.loads(json.dumps(findings.summary(), allow_nan=False))
    assert set(summary) >= PROMISED
    assert summary["roundtrip_ok"] is True
    assert summary["steps"] == 6
    assert 0 < summary["bytes_seen"] <= 6 * 16 * 2
    assert summary["parameters"] == sum(p.numel() for p in findings.run.model.parameters())
    assert 1 < summary["heldout_bits_per_byte"] < 9
    corpus = settings.data.open(findings.run.codec, folder.parent / "cache")
    rivals = baselines(corpus.validation, corpus.train)
    assert summary["xz_bits_per_byte"] == rivals.solid["xz"]
    assert summary["gzip_bits_per_byte"] == rivals.solid["gzip"]
    assert summary["xz_primed_bits_per_byte"] == rivals.xz_primed
    assert summary["heldout_bytes"] == corpus.validation.total_bytes


def test_the_file_of_the_round_trip_is_held_out(done):
    settings, folder, findings = done
    corpus = settings.data.open(findings.run.codec, folder.parent / "cache")
    sizes = dict(zip(corpus.validation.names, corpus.validation.byte_counts.tolist(), strict=True))
    (name,) = [name for name in sizes if name.endswith(findings.file)]
    assert abs(sizes[name] - 100) == min(abs(size - 100) for size in sizes.values())
    assert findings.trip.bytes == sizes[name]


def test_the_report_tells_it_all(done):
    settings, _, findings = done
    page = demo_report(findings, settings)
    parsed = Page(page)
    summary = findings.summary()
    assert "://" not in page
    assert parsed.tags.count("svg") == 3
    for value in ("heldout_bits_per_byte", "xz_bits_per_byte", "gzip_bits_per_byte", "xz_primed_bits_per_byte"):
        assert f"{summary[value]:.3f}" in parsed.text
    assert settings.prompt + findings.sample.translate(_CONTROL) in parsed.text
    assert "exact" in parsed.text
    assert "is: train.run.RunConfig" in parsed.text
    assert len(page) < 200_000


def test_a_demo_that_is_done_is_not_trained_again(done, monkeypatch):
    settings, folder, findings = done
    monkeypatch.setattr(module, "Trainer", None)  # nothing is timed
    again = run_demo(settings, folder, minutes=99.0, cache=folder.parent / "cache")
    assert again.training.step == 6
    assert 0 < again.training.seconds <= findings.training.seconds
    assert again.held_out == findings.held_out
    assert again.sample == findings.sample


def test_steps_fill_the_time(miniature, tmp_path, monkeypatch):
    class Timed(Trainer):
        def advance(self):
            step = super().advance()
            return type(step)(**{**vars(step), "seconds": 100.0 if step.step <= module.WARM_UP else 0.5})

    monkeypatch.setattr(module, "Trainer", Timed)
    corpus = miniature.data.open(module.ByteCodec(), tmp_path / "cache")
    steps = module._steps(miniature, corpus, tmp_path / "none", 2.0)
    assert steps == round(120 / 0.5 / module.OVERHEAD)


def test_an_interruption_is_told(miniature, tmp_path, monkeypatch):
    result = Result.of(Progress(step=5), interrupted=2)
    monkeypatch.setattr(module, "train", lambda *_, **__: result)
    monkeypatch.setattr(module, "_steps", lambda *_: 6)
    with pytest.raises(TrainingError, match="goes on"):
        run_demo(miniature, tmp_path / "run", minutes=1.0, cache=tmp_path / "cache")


def test_no_time_is_refused(miniature, tmp_path):
    with pytest.raises(ConfigError, match="minutes"):
        run_demo(miniature, tmp_path / "run", minutes=0.0, cache=tmp_path / "cache")


@pytest.mark.slow
def test_the_demo_beats_xz_that_was_given_the_training_files(tmp_path):
    findings = run_demo(DEMO, tmp_path / "demo", minutes=2.5, cache=tmp_path / "cache")
    summary = findings.summary()
    assert summary["roundtrip_ok"]
    assert summary["heldout_bits_per_byte"] < min(1.19, summary["xz_primed_bits_per_byte"])
    assert math.isfinite(summary["heldout_standard_error"])
