"""Images as bytes: patch order against its definition, pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from everlong.core.errors import ConfigError, DataError
from everlong.data.corpora import prepare
from everlong.data.images import from_patch_scan, patch_scan, read_image, tiles


def image(H: int, W: int, C: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(H, W, C), dtype=np.uint8)


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), patch=st.integers(1, 5), channels=st.integers(1, 4))
def test_patch_order(rows: int, columns: int, patch: int, channels: int) -> None:
    pixels = image(rows * patch, columns * patch, channels)
    expected = [
        pixels[top + i, left + j, c]
        for top in range(0, rows * patch, patch)
        for left in range(0, columns * patch, patch)
        for i in range(patch)
        for j in range(patch)
        for c in range(channels)
    ]
    data = patch_scan(pixels, patch)
    assert list(data) == expected
    np.testing.assert_array_equal(from_patch_scan(data, (rows * patch, columns * patch, channels), patch), pixels)


def test_patches_of_one_pixel_are_raster_order() -> None:
    assert patch_scan(image(6, 4), 1) == image(6, 4).tobytes()


def test_tiles_leave_out_the_rest() -> None:
    pixels = image(5, 7)
    found = list(tiles(pixels, 2))
    assert len(found) == 2 * 3
    np.testing.assert_array_equal(found[4], pixels[2:4, 2:4])
    assert list(tiles(pixels, 6)) == []


def test_photographs_are_split_by_image(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "skimage" / "data"
    folder.mkdir(parents=True)
    for name, side in (("astronaut", 130), ("chelsea", 64), ("coffee", 64), ("motorcycle_left", 64)):
        Image.fromarray(image(side, side)).save(folder / f"{name}.png")
    prepare.photos(tmp_path / "in", tmp_path / "out")
    names = [path.relative_to(tmp_path / "out").as_posix() for path in sorted((tmp_path / "out").rglob("*.rgb"))]
    assert names == [
        *(f"train/astronaut-{i:03}.rgb" for i in range(4)),
        "train/coffee-000.rgb",
        "train/motorcycle_left-000.rgb",
        "validation/chelsea-000.rgb",
    ]
    data = (tmp_path / "out" / "validation" / "chelsea-000.rgb").read_bytes()
    np.testing.assert_array_equal(from_patch_scan(data, (64, 64, 3), 4), image(64, 64))


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="patch = 4: must divide both sides of the image, 6 x 8"):
        patch_scan(image(6, 8), 4)
    with pytest.raises(DataError, match="image = '5 bytes': must be 12 for 2 x 2 pixels of 3 channels"):
        from_patch_scan(b"short", (2, 2, 3), 1)
    (tmp_path / "no.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"no\.png.*cannot be read"):
        read_image(tmp_path / "no.png")
