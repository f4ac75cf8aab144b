"""Pictures: each image lands in its own cell, unchanged."""

import numpy as np
from matplotlib import image as mpl_image

from vampzoo import figures


def test_tile_puts_every_image_into_its_cell():
    images = np.random.default_rng(0).random((5, 3, 2, 1))
    canvas = figures.tile(images, columns=3, border=1)
    assert canvas.shape == (2 * 4 + 1, 3 * 3 + 1, 1)
    for i, image in enumerate(images):
        top, left = 1 + i // 3 * 4, 1 + i % 3 * 3
        np.testing.assert_array_equal(canvas[top : top + 3, left : left + 2], image)
    np.testing.assert_array_equal(canvas[5:8, 7:9], 1.0)  # the missing sixth is white


def test_side_by_side_alternates():
    a, b = np.zeros((2, 1, 1, 1)), np.ones((2, 1, 1, 1))
    assert figures.side_by_side(a, b).ravel().tolist() == [0, 1, 0, 1]


def test_saved_grid_reads_back(tmp_path):
    images = np.zeros((4, 3, 3, 1))
    images[2] = 1.0
    figures.save_grid(tmp_path / "grid.png", images, scale=2)
    picture = mpl_image.imread(tmp_path / "grid.png")[..., 0]
    assert picture.shape == (18, 18)
    assert picture[10:16, 2:8].min() == 1.0 and picture[2:8, 2:8].max() == 0.0


def test_saved_histogram_is_a_picture(tmp_path):
    figures.save_histogram(tmp_path / "h.png", np.random.default_rng(0).normal(-100, 5, 500), "title")
    assert mpl_image.imread(tmp_path / "h.png").shape[0] > 100
