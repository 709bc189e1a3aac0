"""Records: how they are summed up, written, cut off and shown."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path

import pytest
from rich.console import Console

from everlong.core.errors import ConfigError, TrainingError
from everlong.train import ConsoleProgress, JsonLines, Result, Step, TensorBoard, Validation, read_records
from everlong.train import console as console_module
from everlong.train.console import clock, si
from everlong.train.meter import Meter
from everlong.train.validation import held_out
from tests.train.test_checkpoints import largest_file

TOLD = {
    "gradient_norm": 2.0,
    "auxiliary": {"balance": 0.5},
    "observed": {"experts/load": 0.25},
    "learning_rate": 0.1,
    "skipped": False,
    "targets": 100,
    "bytes": 200,
    "seconds": 2.0,
    "compute_seconds": 1.5,
    "steps": 5,
    "bytes_seen": 1000,
    "bad_steps": 1,
}


def made(step: int, nats: float = 100.0, **changes) -> Step:
    return Step(**{**TOLD, "step": step, "nats": nats, **changes})


def result(**changes) -> Result:
    fields = {"step": 5, "loss": 1.5, "validation_loss": 1.25, "bytes_seen": 12_345, "seconds": 61.0}
    return Result(**{**fields, "compute_share": 0.9, "bad_steps": 0, "interrupted": None, **changes})


def test_the_meter_averages_an_interval():
    meter = Meter(every=2, flops=10**9, roofline=4e9)
    assert meter.on_step(made(1, nats=100.0)) is None
    assert meter.on_step(made(1, nats=math.nan, skipped=True, gradient_norm=math.inf)) is None
    record = meter.on_step(made(2, nats=300.0, gradient_norm=4.0))
    assert record is not None
    assert record["bits_per_byte"] == pytest.approx(400 / math.log(2) / 400)
    assert record["nats_per_token"] == pytest.approx(2.0)
    assert record["gradient_norm"] == pytest.approx(3.0)
    assert record["auxiliary_balance"] == pytest.approx(0.5)
    assert record["experts/load"] == pytest.approx(0.25)
    assert record["flops_per_second"] == pytest.approx(2e9 / 6)  # the skipped step took time too
    assert record["utilisation"] == pytest.approx(2e9 / 6 / 4e9)
    assert record["bytes_per_second"] == pytest.approx(400 / 6)
    assert record["compute_share"] == pytest.approx(0.75)
    assert meter.on_step(made(3, nats=100.0)) is None  # a new interval
    last = meter.on_step(made(4, nats=200.0))
    assert last is not None
    assert last["nats_per_token"] == pytest.approx(1.5)


def test_the_meter_does_not_miss_the_last_update():
    meter = Meter(every=10, flops=1)
    assert meter.on_step(made(5)) is not None


def test_the_meter_goes_on_in_the_middle_of_an_interval():
    one, other = Meter(every=2, flops=1), Meter(every=2, flops=1)
    one.on_step(made(1, nats=50.0))
    other.load_state_dict(one.state_dict())
    assert one.on_step(made(2)) == other.on_step(made(2))


def test_json_lines_cut_off_what_will_be_made_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path)
    lines.on_start(0, 9)
    for step in (2, 4, 6):
        lines.on_record({"kind": "train", "step": step})
    lines.on_start(4, 9)
    assert [record["step"] for record in read_records(path)] == [2, 4]


@pytest.mark.parametrize("torn", ['{"kind": "train", "st', '{"kind": "train", "step": 4}', "\x00\x00\n", "7\n"])
def test_json_lines_cut_off_a_line_that_is_not_whole(torn, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "train", "step": 2}\n' + torn)
    lines = JsonLines(path)
    lines.on_start(8, 9)
    lines.on_record({"kind": "train", "step": 9})
    assert [record["step"] for record in read_records(path)] == [2, 9]


def test_a_metrics_file_that_cannot_grow_stops_the_run(tmp_path):
    with largest_file(10), pytest.raises(TrainingError, match="free space"):
        JsonLines(tmp_path / "metrics.jsonl").on_record({"kind": "train", "step": 2})


def test_validation_looks_at_the_same_windows_each_time(small, store):
    model, followed = small(), []
    model.head.register_forward_hook(lambda *told: followed.append(told[-1].requires_grad))
    batches = held_out(store, window=16, batch=4, windows=10)
    assert [len(batch.ids_BT) for batch in batches] == [4, 4, 4]
    validation = Validation(model, batches, every=2, precision="float32")
    model.train()
    record = validation.on_step(made(2))
    assert record is not None
    assert record["bits_per_byte"] == validation.bits_per_byte()
    assert followed == [False] * 6  # nothing is kept for a backward
    assert model.training
    assert validation.on_step(made(3)) is None
    assert validation.on_step(made(4, skipped=True)) is None
    assert validation.on_step(made(5)) is not None  # the last
    output = model(batches[0].ids_BT, documents=batches[0].documents_BT).logits.flatten(0, 1).log_softmax(-1)
    learnt = (targets := batches[0].targets_BT.flatten()) >= 0
    nats = -output[learnt].gather(1, targets[learnt][:, None]).sum().item()
    alone = Validation(model, batches[:1], every=2, precision="float32").bits_per_byte()
    assert alone == pytest.approx(nats / math.log(2) / batches[0].byte_count, rel=1e-5)


def test_too_little_held_out_data_is_refused(store):
    with pytest.raises(ConfigError) as caught:
        held_out(store, window=10**6, batch=4, windows=10)
    assert caught.value.field == "trainer.window"
    there = len(store.tokens) // 16
    assert sum(len(batch.ids_BT) for batch in held_out(store, window=16, batch=10**6, windows=10**6)) == there


def show(terminal: bool, monkeypatch, ends: Result | None) -> str:
    monkeypatch.setattr(console_module, "LINE_EVERY", 0.0)
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200)
    shown = ConsoleProgress(console)
    shown.on_start(0, 5)
    meter = Meter(every=1, flops=10**9, roofline=4e9)
    for step in (1, 2):
        record = meter.on_step(made(step))
        shown.on_step(made(step))
        assert record is not None
        shown.on_record(record)
        shown.on_record({"kind": "validation", "step": step, "bits_per_byte": 1.25, "seconds": 1.0})
    shown.on_step(made(3))
    shown.on_end(ends)
    return out.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_the_console_tells_loss_speed_and_what_is_left(terminal, monkeypatch):
    told = show(terminal, monkeypatch, result())
    for part in (
        "0.721 bits/byte",
        "100 B/s",
        "500 MFLOP/s",
        "12% of matmul rate",
        "1 skipped",
        "held out 1.250",
        "left",
    ):
        assert part in told
    assert "done at step 5: 1.500 bits/byte, held out 1.250, 12.3 kB seen in 0:01:01" in told


def test_the_console_says_why_a_run_ended(monkeypatch):
    assert "stopped by SIGTERM, and saved" in show(False, monkeypatch, result(interrupted=15))
    assert "done" not in show(False, monkeypatch, None)


def test_a_quiet_console_writes_no_line_for_every_step(monkeypatch):
    out = io.StringIO()
    shown = ConsoleProgress(Console(file=out, width=200))
    shown.on_start(0, 5)
    for step in (1, 2, 3):
        shown.on_step(made(step))
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    ("value", "told"), [(0.0, "0 "), (999.4, "999 "), (999.6, "1 k"), (1.234e7, "12.3 M"), (5e18, "5e+03 P")]
)
def test_numbers_are_short(value, told):
    assert si(value) == told


@pytest.mark.parametrize(("seconds", "told"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (3725.0, "1:02:05")])
def test_times_are_clocks(seconds, told):
    assert clock(seconds) == told


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tensorboard's own
def test_tensorboard_gets_every_number(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = TensorBoard(tmp_path)
    board.on_start(0, 5)
    board.on_record({"kind": "train", "step": 2, "bits_per_byte": 1.5, "bytes_seen": 7})
    board.on_end(None)
    events = reading.EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["train/bits_per_byte", "train/bytes_seen"]
    assert [(event.step, event.value) for event in events.Scalars("train/bits_per_byte")] == [(2, 1.5)]


def test_tensorboard_says_what_it_needs(monkeypatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"everlong\[track\]"):
        TensorBoard(tmp_path)
