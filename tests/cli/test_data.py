"""`everlong data list` and `everlong data fetch`, and training on what was fetched."""

from __future__ import annotations

from importlib import import_module

import pytest

from everlong.data.corpora import CORPORA, fetched
from everlong.train import DataConfig, Progress, Result
from tests.cli.conftest import MODEL, TRAINING
from tests.data.test_corpora import registry, small  # noqa: F401  # fixtures


def test_list_tells_every_corpus(everlong):
    outcome = everlong("data", "list")
    assert outcome.code == 0
    for name, corpus in CORPORA.items():
        assert name in outcome.out
        assert corpus.licence.split()[0] in outcome.out


def test_fetch_and_train(everlong, small, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    arguments = ["train", *MODEL, *TRAINING, "--window", "8", "--data", "small", "--out", tmp_path / "run"]
    refused = everlong(*arguments)
    assert refused.code == 2
    assert "everlong data fetch small" in refused.err
    outcome = everlong("data", "fetch", "small")
    assert outcome.code == 0
    assert outcome.out.strip() == str(fetched("small"))
    assert small.licence in outcome.err
    rows = {row[0]: row[1] for row in map(str.split, everlong("data", "list").out.splitlines()) if len(row) > 1}
    assert rows["small"] == "yes"
    assert rows["chr22"] == "no"
    asked = {}
    done = Result.of(Progress(step=1), interrupted=None)
    monkeypatch.setattr(import_module("everlong.cli.train"), "trained", lambda *_, **given: asked.update(given) or done)
    assert everlong(*arguments).code == 0
    folder = fetched("small")
    expected = DataConfig(sources=(str(folder / "train"),), validation_sources=(str(folder / "validation"),))
    assert asked["data"] == expected


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["fetch"], "name corpora"), (["fetch", "chr2"], "did you mean 'chr22'"), (["list", "chr22"], "shows all")],
)
def test_what_cannot_be_done(arguments, told, everlong):
    outcome = everlong("data", *arguments)
    assert outcome.code == 2
    assert told in outcome.err
