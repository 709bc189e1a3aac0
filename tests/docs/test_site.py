"""The documentation site is built, and whatever is wrong with it is an error."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_site(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", tmp_path / "trees"]
    done = subprocess.run([*command, ROOT / "docs", tmp_path / "site"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    index = (tmp_path / "site" / "index.html").read_text()
    for page in ("guide/train", "add_an_architecture", "evidence", "longnet", "api/index"):
        assert f'href="{page}.html"' in index
    assert "AverageState" in (tmp_path / "site" / "add_an_architecture.html").read_text()
    for axis in ("sequence", "width", "depth", "resolution", "memory"):
        reference = (tmp_path / "site" / "api" / f"{axis}.html").read_text()
        modules = pkgutil.iter_modules([str(ROOT / "everlong" / axis)])
        assert all(f'id="module-everlong.{axis}.{module.name}"' in reference for module in modules)
