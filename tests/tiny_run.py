"""A training that takes a second: tiny images, tiny model, no XLA."""

import dataclasses
import shutil
from unittest import mock

import numpy as np

import vampzoo
from vampzoo import datasets, training
from vampzoo.config import ModelConfig, TrainingConfig
from vampzoo.networks import architectures
from vampzoo.networks.pixel_cnn import PixelCNN

IMAGE_SHAPE = (5, 4, 1)


def dataset(num_train=37, num_validation=10, dynamic=False, image_shape=IMAGE_SHAPE):
    """Random images: bright left or bright right, so that there is something to learn."""
    generator = np.random.default_rng(0)

    def images(n):
        left = generator.random((n, 1, 1, 1)) < 0.5
        probabilities = np.where((np.arange(4) < 2)[:, np.newaxis] == left, 0.9, 0.1)  # [n, 1, 4, 1]
        return (generator.random((n, *image_shape)) < probabilities).astype(np.float32)

    train = images(num_train)
    spec = datasets.DatasetSpec(
        name="npz",
        image_shape=image_shape,
        likelihood="bernoulli",
        dynamic=dynamic,
        pseudo_inputs_mean=0.5,
        pseudo_inputs_stddev=0.1,
        num_components=3,
        title="halves",
        source="drawn here",
    )
    return datasets.Dataset(
        spec=spec,
        train=0.1 + 0.8 * train if dynamic else train,
        validation=images(num_validation),
        test=images(12),
        fingerprint="0" * 64,
    )


def model_config(**changes):
    sizes = {
        "model": "vae",
        "num_components": 3,
        "image_shape": IMAGE_SHAPE,
        "hidden_units": 4,
        "z1_size": 2,
        "z2_size": 2,
        "layers": 3,
        "latent_size": 2,
        "state_size": 5,
        "layer_units": 4,
    }
    return ModelConfig(**{**sizes, **changes})


def shallow_convolutions():
    """A context in which a PixelHVAE is made with two causal convolutions and two in each encoder, all of few filters.

    For tests of what happens to its batch normalisation in a training, where its depth is nothing but time.
    """
    convolutions = ((4, 3, 2, 1), (6, 3, 2, 1))
    return mock.patch.multiple(
        architectures,
        _Q_Z2_CONVOLUTIONS=convolutions,
        _Q_Z1_CONVOLUTIONS=convolutions,
        _PIXEL_CNN_FILTERS=4,
        PixelCNN=lambda filters, depth, *arguments, **how: PixelCNN(filters, 2, *arguments, **how),
    )


def training_config(**changes):
    return TrainingConfig(**{"epochs": 6, "warmup_epochs": 2, "batch_size": 8, "learning_rate": 1e-2, **changes})


def run_config(model, config):
    return {
        "vampzoo_version": vampzoo.__version__,
        "model": dataclasses.asdict(model),
        "data": {"dataset": "npz", "fingerprint": "0" * 64},
        "training": dataclasses.asdict(config),
    }


_folders = {}  # by path


def trainer(path, model=None, config=None, data=None, overwrite=False, **options):
    """A `Trainer` in the run folder `path`; without image grids, which cost more than all the rest."""
    model, config = model or model_config(), config or training_config()
    if path in _folders:
        _folders[path].close()  # as if the training before had been in another process
    folder = _folders[path] = training.RunFolder(path, run_config(model, config), "--seed=0\n", overwrite)
    options = {"jit_compile": False, "image_epochs": 0, **options}
    return training.Trainer(model, config, data or dataset(), folder, **options)


def close(path):
    """Lets go of a run folder, as the end of its process does."""
    _folders.pop(path).close()


def copy_when_done(trainer, epochs, path):
    """Copies the run folder to `path` once so many epochs are done: there it is as if the training had been killed."""
    save = trainer.save

    def save_and_copy():
        save()
        if trainer.epochs_done == epochs and not path.exists():
            shutil.copytree(trainer.folder.path, path)

    trainer.save, trainer.checkpoint_seconds = save_and_copy, 0


def weights(model):
    return [np.array(w.value) for w in model.weights]
