"""Which files a source means: all of them, once, in one order."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest

from everlong.core.errors import DataError
from everlong.data import expand, standard_library

TREE = [
    "b.txt",
    "a.py",
    "src/z.py",
    "src/deep/a.py",
    "src/deep/er/b.txt",
    "src/[x].py",
    ".git/config",
    "src/.hidden.py",
]
SEEN = sorted(name for name in TREE if "/." not in f"/{name}")


@pytest.fixture
def tree(tmp_path: Path, fill) -> Path:
    return fill(tmp_path / "tree", {name: name.encode() for name in TREE})


def names(files: list[Path], folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in files]


def test_a_folder_means_all_visible_files_below(tree: Path):
    assert names(expand([tree]), tree) == SEEN


def test_the_order_of_sources_does_not_matter_and_files_count_once(tree: Path):
    sources = [tree / "src", tree / "a.py", str(tree / "**/*.py"), tree]
    assert expand(sources) == expand(sources[::-1]) == expand(tree)


def test_hidden_files_can_be_named(tree: Path):
    assert names(expand([tree / "src/.hidden.py", tree / ".git"]), tree) == [".git/config", "src/.hidden.py"]


@pytest.mark.parametrize(
    "pattern",
    ["*.py", "*", "**", "**/*.py", "src/**", "src/**/b*", "s*/**/er/*", "**/deep/**/*.txt", "src/d[e]ep", "**/er"],
)
def test_globs_mean_what_python_means_and_all_below(tree: Path, pattern: str, monkeypatch):
    matches = [Path(match) for match in glob.glob(str(tree / pattern), recursive=True)]
    wanted = {name for name in SEEN for match in matches if match in (tree / name, *(tree / name).parents)}
    assert names(expand(str(tree / pattern)), tree) == sorted(wanted)
    monkeypatch.chdir(tree)
    assert names(expand([pattern]), tree) == sorted(wanted)


def test_an_existing_name_is_no_glob(tree: Path):
    assert names(expand([tree / "src/[x].py"]), tree) == ["src/[x].py"]


def test_the_home_folder_may_be_abbreviated(tree: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tree))
    assert expand(["~/a.py"]) == [tree / "a.py"]


@pytest.mark.parametrize("source", ["", "**", "**/*.txt"])
def test_links_in_circles_end(tree: Path, source: str):
    for i in range(12):  # Python's own `**` would take 40 turns in 12 directions
        (tree / f"src/deep/loop{i}").symlink_to(tree, target_is_directory=True)
    wanted = [name for name in SEEN if source != "**/*.txt" or name.endswith(".txt")]
    assert sorted(os.path.realpath(file) for file in expand([tree / source])) == [str(tree / name) for name in wanted]


def test_linked_files_count_once_and_dangling_links_not_at_all(tree: Path):
    (tree / "c.txt").symlink_to(tree / "b.txt")
    (tree / "d.txt").symlink_to(tree / "absent")
    (tree / "e.txt").symlink_to(tree / "e.txt")
    assert names(expand([tree]), tree) == SEEN


def test_linked_folders_are_entered(tree: Path, tmp_path: Path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/linked").symlink_to(tree, target_is_directory=True)
    assert names(expand([tmp_path / "corpus"]), tmp_path / "corpus/linked") == SEEN


@pytest.mark.parametrize("source", ["absent", "*.absent", "empty", "pipe", "absent/**"])
def test_a_source_without_files_is_refused(tree: Path, source: str):
    (tree / "empty").mkdir()
    os.mkfifo(tree / "pipe")
    with pytest.raises(DataError, match="gives no file: check the path and permissions") as caught:
        expand([tree / "a.py", tree / source])
    assert caught.value.value == str(tree / source)


def test_a_folder_that_cannot_be_listed_is_refused(tree: Path, monkeypatch):
    def scandir(path, own=os.scandir):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return own(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"deep': cannot be listed \(Permission denied\)"):
        expand([tree])


def test_the_standard_library_is_real_source_without_installed_packages():
    files = standard_library()
    assert files == sorted(files)
    assert {"argparse.py", "decoder.py"} <= {file.name for file in files}
    assert all(file.suffix == ".py" for file in files)
    assert not {"site-packages", "dist-packages"} & {part for file in files for part in file.parts}
    assert sum(file.stat().st_size for file in files) > 5e6


def test_a_python_without_sources_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(DataError, match="comes without sources: name files of your own with --data"):
        standard_library()
