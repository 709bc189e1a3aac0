"""An architecture in one file: it has the laws, training, generation, compression and a place in a study, and the
library does not know it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import everlong
from everlong.cli import main
from everlong.core.config import Config
from everlong.core.errors import ConfigError
from everlong.core.state import State
from everlong.lab import load_study, make_plan
from everlong.lab.cell import run_cell
from everlong.lab.grid import Runner
from everlong.model.presets import load_parts, registry
from everlong.model.presets.own import VARIABLE
from everlong.testing import check_laws

EXAMPLES = Path(__file__).parents[2] / "examples"
MIXER, STUDY = EXAMPLES / "toy_mixer.py", EXAMPLES / "toy_study.py"
SMALL = ["--override", "layers=1", "width=32", "heads=2"]
TRAINING = ["--steps", "8", "--window", "32", "--batch", "4", "--validation-fraction", "0.4"]


@pytest.fixture(scope="module", autouse=True)
def known(tmp_path_factory):
    """The file is loaded for these tests only, and corpora stay out of the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for owner, name in (
            (registry, "_families"),
            (registry, "OWN_SIZES"),
            (Config, "registry"),
            (State, "registry"),
        ):
            patch.setattr(owner, name, dict(getattr(owner, name)))
        patch.delitem(sys.modules, MIXER.stem, raising=False)
        patch.setattr("everlong.train.session.matmul_rate", lambda *_: 1e9)  # which takes longer than the training
        load_parts(MIXER)
        yield
    del sys.modules[MIXER.stem]


def test_it_is_one_short_file() -> None:
    assert len(MIXER.read_text().splitlines()) < 60


def test_it_keeps_the_laws() -> None:
    check_laws(sys.modules["toy_mixer"].Average.Config(width=8, heads=2), oracle=recurrence)
    check_laws(everlong.config("average:nano", layers=2, width=12, heads=2, hidden=16))


def recurrence(weights, stream) -> torch.Tensor:
    """The equations at the top of the file, position by position."""
    y_BTD = torch.zeros_like(stream.x_BTD)
    for b, index_R in stream.documents():
        h_HE, rows = torch.zeros(2, 4, dtype=torch.float64), []
        for x_D in stream.x_BTD[b, index_R]:
            p_H = 0.999 * torch.sigmoid(weights["gate.weight"] @ x_D + weights["gate.bias"])
            v_HE = (weights["value.weight"] @ x_D).view(2, 4)
            h_HE = p_H[:, None] * v_HE + (1 - p_H)[:, None] * h_HE
            rows.append(weights["out.weight"] @ h_HE.flatten())
        y_BTD = y_BTD.index_put((torch.tensor(b), index_R), torch.stack(rows))
    return y_BTD


def test_it_trains_generates_and_compresses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(12):
        (tmp_path / f"{i}.py").write_text(f"def f{i}(x):\n    return x + {i}\n" * (i + 3))
    run, data = str(tmp_path / "run"), str(tmp_path / "[0-9]*.py")
    assert main(["train", "average:nano", *SMALL, *TRAINING, "--data", data, "--out", run]) == 0
    assert main(["generate", run, "--prompt", "def ", "--max-tokens", "10"]) == 0
    assert "def " in capsys.readouterr().out
    assert main(["compress", run, str(tmp_path / "5.py"), str(tmp_path / "5.ever")]) == 0
    assert main(["decompress", run, str(tmp_path / "5.ever"), str(tmp_path / "again.py")]) == 0
    assert (tmp_path / "again.py").read_text() == (tmp_path / "5.py").read_text()


def test_it_has_a_place_in_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(runner, jobs, at_once):
        for job in jobs:
            run_cell(runner.cells / job.name, job.cell)

    monkeypatch.setattr(Runner, "run", run)
    plan = make_plan(load_study(STUDY), threads=1)
    assert max(abs(entry.solved.mismatch) for entry in plan.entries) <= 0.02
    assert main(["compare", str(STUDY), "--out", str(tmp_path / "study")]) == 0
    assert "average less" in (report := (tmp_path / "study" / "report.md").read_text()) or "less average" in report


def test_other_processes_know_it_by_the_environment() -> None:
    asked = "import everlong; print(everlong.config('average:nano').build().state_bytes(1000))"
    environment = {**os.environ, VARIABLE: str(MIXER)}
    found = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert int(found.stdout) == everlong.build("average:nano").state_bytes(1000)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("absent.py", None, "must name Python files"),
        ("random.py", "", "another module is called random"),
        ("broken_part.py", "1 / 0", "ZeroDivisionError"),
        ("wrong_part.py", "import everlong; everlong.config('no:nano')", "did you mean|known"),
    ],
)
def test_files_that_are_no_parts(tmp_path: Path, name: str, text: str | None, told: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=told):
        load_parts(tmp_path / name)
    assert (tmp_path / name).stem not in set(sys.modules) - set(sys.stdlib_module_names)


def test_a_file_is_run_once(tmp_path: Path) -> None:
    (tmp_path / "counted_part.py").write_text("import toy_mixer\ntoy_mixer.runs = getattr(toy_mixer, 'runs', 0) + 1")
    for _ in range(2):
        load_parts(tmp_path / "counted_part.py")
    assert sys.modules["toy_mixer"].runs == 1
    del sys.modules["counted_part"]


def test_an_unknown_part_tells_how_it_is_made_known() -> None:
    with pytest.raises(ConfigError, match=VARIABLE):
        everlong.config_from_dict({"is": "mine.Mixer", "width": 8})
