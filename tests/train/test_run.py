"""A run is a folder: made, gone on with, refused and loaded again."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import everlong
from everlong.core.errors import CheckpointError, ConfigError, DataError
from everlong.data import ByteCodec
from everlong.train import (
    WSD,
    DataConfig,
    Muon,
    RunConfig,
    Trainer,
    load_run,
    matmul_rate,
    model_fingerprint,
    read_records,
    session,
    train,
)

MODEL = everlong.config("transformer:nano", layers=2, width=16, heads=2)
TRAINING = Trainer.Config(
    steps=6,
    window=16,
    batch=4,
    checkpoint_every=3,
    evaluate_every=3,
    log_every=2,
    optimizer=Muon.Config(),
    schedule=WSD(),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a corpus, and a run in `run`."""
    home = tmp_path_factory.mktemp("home")
    (home / "data").mkdir()
    letters = np.random.default_rng(0)
    for i in range(8):
        (home / "data" / str(i)).write_bytes(letters.integers(97, 105, size=300, dtype=np.uint8).tobytes())
    return home


@pytest.fixture(scope="module", autouse=True)
def no_roofline():
    """Its measurement would take longer than the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "matmul_rate", lambda *_: 1e9)
        yield


@pytest.fixture(scope="module")
def start(home):
    """Trains in a folder below `home`."""

    def start(name: str, model=MODEL, training=TRAINING, **named):
        data = DataConfig(sources=(str(home / "data"),), validation_fraction=0.5)
        return train(model, training, folder=home / name, data=data, cache=home / "cache", **named)

    return start


@pytest.fixture(scope="module")
def trained(home, start) -> Path:
    """A run that is not to be changed."""
    start("run")
    return home / "run"


@pytest.fixture
def copied(trained, home) -> Path:
    """A copy of it."""
    shutil.rmtree(home / "copy", ignore_errors=True)
    return shutil.copytree(trained, home / "copy")


def test_a_run_says_all_that_it_follows_from(trained):
    assert sorted(path.name for path in trained.iterdir()) == [
        "checkpoints",
        "codec.json",
        "config.yaml",
        "metrics.jsonl",
    ]
    plain = yaml.safe_load((trained / "config.yaml").read_text())
    config = everlong.config_from_dict(plain)
    assert isinstance(config, RunConfig)
    assert (config.model, config.training) == (MODEL, TRAINING)
    kinds = [(record["kind"], record["step"]) for record in read_records(trained / "metrics.jsonl")]
    assert kinds == [("train", 2), ("validation", 3), ("train", 4), ("train", 6), ("validation", 6)]


def test_a_run_is_loaded_as_it_was_trained(trained):
    run = load_run(trained)
    assert (run.step, run.damaged, run.config.model) == (6, (), MODEL)
    assert not run.model.training
    assert run.codec.fingerprint() == ByteCodec().fingerprint()
    assert run.fingerprint == load_run(str(trained)).fingerprint != load_run(trained, step=3).fingerprint
    before = load_run(trained, step=3)
    assert before.step == 3
    ids = torch.arange(16)[None]
    assert not torch.equal(run.model(ids).logits, before.model(ids).logits)


def test_the_weights_follow_from_the_seed(start, home, trained):
    torch.manual_seed(1234)  # whatever was drawn before
    start("again")
    start("other", training=TRAINING.replace(seed=1))
    assert load_run(home / "again").fingerprint == load_run(trained).fingerprint
    assert load_run(home / "other").fingerprint != load_run(trained).fingerprint


def test_a_fingerprint_is_of_configuration_and_weights(small):
    torch.manual_seed(0)
    model = small()
    print_ = model_fingerprint(model, ByteCodec())
    assert model_fingerprint(model.eval(), ByteCodec()) == print_
    twin = small()
    assert model_fingerprint(twin, ByteCodec()) != print_
    twin.load_state_dict(model.state_dict())
    assert model_fingerprint(twin, ByteCodec()) == print_
    with torch.no_grad():
        twin.head.weight[0, 0] = torch.nextafter(twin.head.weight[0, 0], torch.tensor(9.0))
    assert model_fingerprint(twin, ByteCodec()) != print_
    assert model_fingerprint(model.double(), ByteCodec()) != print_
    longer = small(context_limit=99)
    longer.load_state_dict(model.float().state_dict())
    assert model_fingerprint(longer, ByteCodec()) != print_


def test_a_finished_run_is_told_again(start, trained):
    weights = (trained / "checkpoints" / "step-000000006" / "model.safetensors").stat().st_mtime_ns
    result = start("run")
    assert result.step == 6
    assert (trained / "checkpoints" / "step-000000006" / "model.safetensors").stat().st_mtime_ns == weights


@pytest.mark.parametrize(
    ("named", "field"),
    [
        ({"training": TRAINING.replace(seed=5)}, "training.seed"),
        ({"training": TRAINING.replace(optimizer=Muon.Config(momentum=0.5))}, "training.optimizer.momentum"),
        ({"model": everlong.config("linear:nano", layers=2, width=16, heads=2)}, "model.body.blocks[0].mixer.is"),
        ({"model": everlong.config("transformer:nano", layers=3, width=16, heads=2)}, "model.body.blocks"),
    ],
)
def test_another_configuration_is_refused_by_field(named, field, start, trained):
    with pytest.raises(ConfigError) as caught:
        start("run", **named)
    assert caught.value.field == field


def test_a_run_is_not_begun_over_another(start, trained):
    with pytest.raises(ConfigError, match="holds a run already"):
        start("run", resume=False)


def test_two_trainers_do_not_share_a_folder(start, trained):
    handle = os.open(trained, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another process"):
            start("run")
    finally:
        os.close(handle)
    start("run")


@pytest.mark.parametrize(
    ("model", "training", "field"),
    [
        (everlong.config("transformer:nano", vocabulary=256), TRAINING, "model.vocabulary"),
        (everlong.config("transformer:nano", context_limit=15), TRAINING, "trainer.window"),
        (everlong.config("transformer:nano", context_limit=99), TRAINING.replace(carry=True), "trainer.carry"),
        (MODEL, TRAINING.replace(window=10**5, batch=1), "window x batch"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_any_work(model, training, field, start, home):
    with pytest.raises((ConfigError, DataError)) as caught:
        start("misfit", model=model, training=training)
    assert caught.value.field == field
    assert not (home / "misfit").exists()  # so that a better try finds nothing in its way


def test_a_folder_that_cannot_be_made_is_refused(start, home):
    (home / "file").write_text("in the way")
    with pytest.raises(ConfigError) as caught:
        start("file/run")
    assert caught.value.field == "folder"


@pytest.mark.parametrize("path", ["nowhere", "data"])
def test_no_run_is_no_run(path, home):
    with pytest.raises(CheckpointError, match="name a folder that `everlong train` made"):
        load_run(home / path)


def test_a_run_without_a_checkpoint_says_so(copied):
    shutil.rmtree(copied / "checkpoints")
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        load_run(copied)


def test_a_step_that_was_not_saved_is_refused(trained):
    with pytest.raises(CheckpointError, match=r"\[3, 6\]"):
        load_run(trained, step=4)


def test_a_damaged_checkpoint_is_named_and_passed_over(copied, caplog):
    path = copied / "checkpoints" / "step-000000006" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with caplog.at_level(logging.WARNING):
        run = load_run(copied)
    assert (run.step, run.damaged) == (3, (6,))
    assert "model.safetensors" in caplog.text


@pytest.mark.parametrize("content", ["", "{", "[]", "is: nothing", "model: {}", "is: train.run.DataConfig", "\0"])
def test_a_damaged_configuration_is_named(content, copied):
    (copied / "config.yaml").write_text(content)
    with pytest.raises((CheckpointError, ConfigError)):
        load_run(copied)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kind": "other"}', "7"])
def test_a_damaged_codec_is_named(content, copied):
    (copied / "codec.json").write_text(content)
    with pytest.raises((CheckpointError, DataError)):
        load_run(copied)


def test_another_codec_is_refused(copied):
    plain = yaml.safe_load((copied / "config.yaml").read_text())
    (copied / "config.yaml").write_text(yaml.safe_dump({**plain, "codec": "0" * 64}))
    with pytest.raises(CheckpointError, match="not the codec"):
        load_run(copied)


def test_unknown_fields_of_a_configuration_are_named(copied):
    plain = yaml.safe_load((copied / "config.yaml").read_text())
    plain["training"]["stepz"] = 3
    (copied / "config.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(ConfigError, match="did you mean 'steps'"):
        load_run(copied)


def test_codecs_are_kept_whole(trained):
    assert json.loads((trained / "codec.json").read_text()) == ByteCodec().to_config()


def test_the_roofline_draws_nothing_from_the_generators():
    before = torch.get_rng_state()
    assert matmul_rate(torch.float32, seconds=0.0) > 0
    assert torch.equal(torch.get_rng_state(), before)
