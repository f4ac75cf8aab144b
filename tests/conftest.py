"""Fixtures that several test files share: models small enough to be exact about."""

import numpy as np
import pytest

import vampzoo  # noqa: F401  sets the Keras backend and TensorFlow's log level before either is imported
from vampzoo.config import ModelConfig

TINY = {
    "num_components": 6,
    "image_shape": (4, 5, 1),
    "hidden_units": 8,
    "z1_size": 3,
    "z2_size": 2,
    "pseudo_inputs_stddev": 0.2,
}


@pytest.fixture
def tiny_config():
    """A function: fields of a ModelConfig -> that config, tiny unless the fields say otherwise."""
    return lambda **fields: ModelConfig(**{**TINY, **fields})


@pytest.fixture
def tiny_model(tiny_config):
    """A function: fields of a ModelConfig, seed -> the tiny model."""
    from vampzoo import models

    return lambda seed=0, **fields: models.create(tiny_config(**fields), seed)


@pytest.fixture
def binary_images():
    """7 images of the tiny models' shape, float32 0 or 1."""
    return np.random.default_rng(0).integers(0, 2, (7, 4, 5, 1)).astype(np.float32)
