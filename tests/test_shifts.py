"""Training images moved by whole pixels."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tiny_run

from vampzoo import random
from vampzoo.errors import InvalidValue
from vampzoo.training.shifts import shifted
from vampzoo.training.steps import BINARISATION, ORDER

IMAGES = np.random.default_rng(0).random((300, 6, 7, 2)).astype(np.float32)


@pytest.mark.parametrize("r", [1, 2, 9])
def test_every_move_comes_and_what_moves_in_repeats_the_edge(r):
    moved = shifted(IMAGES, r, random.key(3)).numpy()
    padded = np.pad(IMAGES, [(0, 0), (r, r), (r, r), (0, 0)], mode="edge")
    by_move = {
        (down, right): (padded[:, r - down :][:, :6, r - right :][:, :, :7] == moved).all(axis=(1, 2, 3))
        for down, right in itertools.product(range(-r, r + 1), repeat=2)
    }
    if r == 9:  # where moves of different lengths all leave nothing but an edge
        assert np.any(list(by_move.values()), axis=0).all()
        return
    np.testing.assert_array_equal(np.sum(list(by_move.values()), axis=0), 1)
    expected = len(IMAGES) / len(by_move)
    for images in by_move.values():
        assert abs(images.sum() - expected) < 5 * expected**0.5


def test_images_that_are_not_to_be_moved_stay():
    np.testing.assert_array_equal(shifted(IMAGES, 0, random.key(3)), IMAGES)
    np.testing.assert_array_equal(shifted(IMAGES, 2, random.key(3)), shifted(IMAGES, 2, random.key(3)))
    assert np.any(shifted(IMAGES, 2, random.key(3)) != shifted(IMAGES, 2, random.key(4)))


def batches(tmp_path, **changes):
    """{(epoch, step): its images, and the trainer's at those places in the order, as they are}."""
    trainer = tiny_run.trainer(tmp_path, config=tiny_run.training_config(**changes))
    found = {}
    for epoch, step in itertools.product((1, 2, 3), (0, 1)):
        order = random.permutation(37, random.fold_in(random.key(0), ORDER, epoch))
        x = trainer.steps._global_batch(order, tf.constant(epoch), tf.constant(step), 1)[0].numpy()
        found[epoch, step] = x, trainer.dataset.train[order.numpy()[8 * step : 8 * step + 8]]
    return found


@pytest.mark.parametrize("shift_epochs", [0, 2])
def test_the_first_epochs_move_images(tmp_path, shift_epochs):
    seen = batches(tmp_path, shift_pixels=1, shift_epochs=shift_epochs)
    for (epoch, _), (x, as_they_are) in seen.items():
        assert np.any(x != as_they_are) == (shift_epochs == 0 or epoch <= shift_epochs)
    assert np.any(seen[1, 0][0] != seen[2, 0][0])


def test_intensities_are_moved_before_they_are_binarised(tmp_path):
    """An image of one intensity looks the same wherever it is, and so do its bits."""
    data = tiny_run.dataset(dynamic=True)
    data.train[:] = 0.3
    trainer = tiny_run.trainer(tmp_path, config=tiny_run.training_config(shift_pixels=2), data=data)
    x = trainer.steps._global_batch(tf.range(37), tf.constant(1), tf.constant(0), 1)[0]
    bits = random.bernoulli(tf.fill(x.shape, 0.3), random.fold_in(random.key(0), BINARISATION, 1, 0))
    np.testing.assert_array_equal(x, bits)


def test_settings_that_would_do_nothing_or_leave_nothing(tmp_path):
    with pytest.raises(InvalidValue, match="shift_epochs=5 needs shift_pixels of at least 1"):
        tiny_run.training_config(shift_epochs=5)
    with pytest.raises(InvalidValue, match="shift_pixels must be at least 0, got -1"):
        tiny_run.training_config(shift_pixels=-1)
    with pytest.raises(InvalidValue, match="shift_pixels=4 would move images out of sight: they have 5x4 pixels"):
        tiny_run.trainer(tmp_path, config=tiny_run.training_config(shift_pixels=4))
