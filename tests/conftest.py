"""Fixtures that several test files share: models small enough to be exact about."""

import os
import time

import numpy as np
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one core each: more threads would wait for those of the other processes
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import vampzoo  # noqa: F401  sets the Keras backend and TensorFlow's log level before either is imported
from vampzoo.config import ModelConfig

TINY = {
    "num_components": 6,
    "image_shape": (4, 5, 1),
    "hidden_units": 8,
    "z1_size": 3,
    "z2_size": 2,
    "layers": 3,
    "latent_size": 2,
    "state_size": 5,
    "layer_units": 4,
    "pseudo_inputs_stddev": 0.2,
}


# Files are handed out whole to the processes that share the tests: the longest first, so that they end together.
LONGEST = ("training", "programs", "faults", "distribution", "tightness", "topdown", "fit", "hostile_runs", "own_model")


def pytest_collection_modifyitems(items):
    ranks = {f"test_{name}": rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))  # keeps the order within a file


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


@pytest.fixture
def without_figures(monkeypatch):
    """In place of its figures, which take longer than all the rest, an evaluation writes one file with their title."""
    from vampzoo.evaluation import report

    def write_figures(folder, model, images, log_likelihoods, title, seed):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "samples.png").write_text(title)

    monkeypatch.setattr(report, "write_figures", write_figures)


@pytest.fixture
def ends(request, tmp_path):
    """A function that a test of a hostile situation tells how it ends.

    With VAMPZOO_HOSTILE_TABLE=FILE, a row (situation, how it ends, seconds) goes into that file.
    """
    said, start = [], time.monotonic()
    yield lambda how: said.append(str(how).replace(str(tmp_path), "..."))
    if (path := os.environ.get("VAMPZOO_HOSTILE_TABLE")) and said:
        name = request.node.name.removeprefix("test_").replace("_", " ").replace("|", "/")
        how = " ".join(said[-1].split()).replace("|", "/")
        with open(path, "a") as file:
            file.write(f"| {name} | {how[:200]} | {time.monotonic() - start:.1f} |\n")
