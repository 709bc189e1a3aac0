"""Help teaches, errors say what to do, and both come without a traceback."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import everlong as package
from everlong import cli
from everlong.cli import DEBUG, INTERRUPTED, VERBS
from everlong.core.errors import ConfigError

LAZY = """
import sys, types
package = types.ModuleType("everlong")  # without what the library itself imports
package.__path__ = [{path!r}]
sys.modules["everlong"] = package
from everlong.cli import main
assert main([]) == 0
print(sorted(name for name in ("torch", "numpy", "matplotlib") if name in sys.modules))
"""


def test_the_overview_names_every_verb(everlong):
    for arguments in ((), ("--help",), ("-h",)):
        outcome = everlong(*arguments)
        assert outcome.code == 0
        for verb, summary in VERBS.items():
            assert verb in outcome.out
            assert summary.split()[0] in outcome.out


def test_the_overview_needs_no_torch():
    script = LAZY.format(path=str(Path(package.__file__).parent))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_a_function_that_explains_itself(verb, everlong):
    function = getattr(import_module(f"everlong.cli.{verb}"), verb)
    assert (inspect.getdoc(function) or "").splitlines()[0] == VERBS[verb]
    outcome = everlong(verb, "--help")
    assert outcome.code == 0
    assert VERBS[verb] in outcome.out
    assert f"everlong {verb}" in outcome.out.split("For example:")[1]
    described = {name for name, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}
    for name in described - {"training", "sampling"}:  # whose fields are options of their own
        assert f"--{name.replace('_', '-')}" in outcome.out
        assert f"{name}:" in (inspect.getdoc(function) or "")


def test_module_and_command_are_the_same():
    done = subprocess.run([sys.executable, "-m", "everlong", "nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nonsense" in done.stderr


def test_an_unknown_verb_is_answered_with_the_closest(everlong):
    outcome = everlong("trian")
    assert outcome.code == 2
    assert "verb = 'trian'" in outcome.err
    assert "did you mean 'train'?" in outcome.err
    assert "Traceback" not in outcome.err


def test_an_unknown_option_is_refused(everlong):
    outcome = everlong("presets", "--nonsense")
    assert outcome.code == 2
    assert "nonsense" in outcome.err


def test_the_traceback_is_there_for_those_who_ask(everlong, monkeypatch):
    assert DEBUG in everlong("trian").err  # the error says how
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(ConfigError):
        everlong("trian")


def test_markup_in_a_value_is_shown_as_it_is(everlong):
    assert "[bold]x[/bold]" in everlong("[bold]x[/bold]").err


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (KeyboardInterrupt(), INTERRUPTED, ""),
        (OSError(28, "No space left on device", "here.bin"), 2, "No space left on device"),
        (PermissionError(13, "Permission denied", "here.bin"), 2, "here.bin"),
    ],
)
def test_what_nobody_foresaw(error, code, told, everlong, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(cli, "_run", fail)
    outcome = everlong("presets")
    assert outcome.code == code
    assert told in outcome.err
    assert "Traceback" not in outcome.err


def test_a_reader_who_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m everlong presets | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
