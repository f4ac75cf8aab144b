"""Pictures: each image lands in its own cell, unchanged."""

import tracemalloc

import numpy as np
import pytest
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


@pytest.mark.parametrize(("channels", "shape"), [(1, (18, 18)), (3, (18, 18, 4))])
def test_saved_grid_reads_back(tmp_path, channels, shape):
    """A grey one has one channel: what ships with a preset is half as large."""
    images = np.zeros((4, 3, 3, channels))
    images[2, ..., 0] = 1.0
    figures.save_grid(tmp_path / "grid.png", images, scale=2)
    picture = mpl_image.imread(tmp_path / "grid.png")
    assert picture.shape == shape
    red = picture if channels == 1 else picture[..., 0]
    assert red[10:16, 2:8].min() == 1.0 and red[2:8, 2:8].max() == 0.0
    with (tmp_path / "open.png").open("wb") as file:
        figures.save_grid(file, images, scale=2)
    np.testing.assert_array_equal(mpl_image.imread(tmp_path / "open.png"), picture)


def test_a_picture_takes_little_more_memory_than_it_holds():
    images = np.zeros((100, 64, 64, 1), np.float32)
    tracemalloc.start()
    picture = figures.grid(images, scale=4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * picture.nbytes


def test_a_title_stands_above_the_images_and_changes_none():
    images = np.random.default_rng(0).random((4, 28, 28, 1))
    plain, titled = figures.grid(images, scale=5), figures.grid(images, scale=5, title="Samples of a model")
    np.testing.assert_array_equal(titled[-plain.shape[0] :, : plain.shape[1]], plain)
    strip = titled[: -plain.shape[0]]
    assert 16 < strip.shape[0] < 40 and strip.min() < 100
    assert strip[:, -1].min() == 255  # it ends before the edge


def test_a_title_wider_than_the_grid_gets_further_lines():
    images = np.zeros((1, 3, 3, 1))
    short, long = figures.grid(images, title="One"), figures.grid(images, title="Word after word " * 6)
    assert short.shape[1] == long.shape[1] == figures.MIN_TITLE_WIDTH
    assert long.shape[0] == short.shape[0] + 2 * 16
    assert long[:, -1].min() == 255


@pytest.mark.parametrize("rows", [1, 30])
def test_training_curve_is_a_picture(tmp_path, rows):
    history = [
        {"epoch": i + 1, "elbo": str(-90.0 - 50 / (i + 1)), "distortion": 60.0, "rate_z": 30.0, "validation_elbo": ""}
        for i in range(rows)
    ]
    figures.save_training(tmp_path / "training.png", history, "VAE", best_epoch=rows)
    assert mpl_image.imread(tmp_path / "training.png").shape[0] > 100


@pytest.mark.parametrize("values", [[-2e5], [-1700.0, -1700.005], [-1.0, -1.0]])
def test_histogram_of_values_that_are_nearly_equal_under_a_title_with_dollars(tmp_path, values):
    """The title may hold the name of a file, which matplotlib would take for mathematics."""
    figures.save_histogram(tmp_path / "a.png", np.float32(values), "$a_$^.npz: test images")
    assert (tmp_path / "a.png").stat().st_size > 1000
    figures.save_grid(tmp_path / "b.png", np.zeros([1, 4, 4, 1], np.float32), title="$a_$^.npz: test images")
    history = [{"epoch": 1, "elbo": -1.0, "validation_elbo": -2.0, "distortion": 1.0, "rate_z": 0.5}]
    figures.save_training(tmp_path / "c.png", history, "$a_$^.npz")


def test_saved_histogram_is_a_picture(tmp_path):
    figures.save_histogram(tmp_path / "h.png", np.random.default_rng(0).normal(-100, 5, 500), "title")
    assert mpl_image.imread(tmp_path / "h.png").shape[0] > 100
