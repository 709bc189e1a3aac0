"""What the README and the guide show runs, as it stands there."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from everlong.cli import main
from everlong.core.config import Config
from everlong.core.state import State
from everlong.model.presets import registry

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "docs/add_an_architecture.md",
    *(f"docs/guide/{page.name}" for page in (ROOT / "docs/guide").iterdir()),
]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = "everlong train hybrid:nano --data src/ --steps 20 --window 64 --batch 4 --out runs/mine"


def blocks(page: str) -> list[tuple[str, str]]:
    """Languages and texts of what a page shows; of the README, that of its section of examples."""
    text = (ROOT / page).read_text()
    if page == "README.md":
        text = text.partition("<!-- examples:begin -->")[2].partition("<!-- examples:end -->")[0]
    return BLOCK.findall(text)


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A folder with sources, a text and a run."""
    folder: Path = tmp_path_factory.mktemp("begun")
    (folder / "src").mkdir()
    for i in range(30):
        (folder / "src" / f"{i}.py").write_text(f"def f{i}(x):\n    return x + {i}\n" * (i + 3))
    (folder / "text.txt").write_text("def f(x):\n    return x\n" * 5)
    for name in ("studies", "examples"):
        (folder / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.chdir(folder)
        patch.setattr("everlong.train.session.matmul_rate", lambda *_: 1e9)  # which takes longer than the training
        shell(RUN)
    return folder


def shell(text: str) -> None:
    """Runs commands of the command line, in this process."""
    for line in text.replace("\\\n", " ").splitlines():
        name, *arguments = shlex.split(line, comments=True)
        assert name == "everlong", line
        assert main(arguments) == 0, line


@pytest.mark.parametrize("page", PAGES)
def test_page(page: str, begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(begun / "cache"))
    monkeypatch.chdir(begun)
    monkeypatch.setattr("everlong.train.session.matmul_rate", lambda *_: 1e9)
    for owner, name in ((registry, "_families"), (registry, "OWN_SIZES"), (Config, "registry"), (State, "registry")):
        monkeypatch.setattr(owner, name, dict(getattr(owner, name)))
    monkeypatch.delitem(sys.modules, "toy_mixer", raising=False)
    shown, names = blocks(page), {"__name__": page}
    assert shown
    for language, text in shown:
        if language == "sh":
            shell(text)
        else:
            exec(compile(text, page, "exec"), names)


def test_what_is_shown_is_what_is_trained() -> None:
    """The run that the other pages use is the README's."""
    assert RUN in blocks("README.md")[0][1]
