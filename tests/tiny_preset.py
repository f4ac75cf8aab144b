"""A run folder such as vampzoo.train leaves, of a model that is tiny and not trained, and presets made from it."""

import dataclasses
import json

from vampzoo import export, models
from vampzoo.config import ModelConfig
from vampzoo.models import weights as model_weights

NAME = "hvae_vampprior_tiny"
EVALUATION = {
    "dataset": "glyphs",
    "fingerprint": "0" * 64,
    "split": "test",
    "num_images": 12,
    "num_samples": 50,
    "seed": 3,
    "elbo": -51.25,
    "elbo_stderr": 1.5,
    "distortion": 40.0,
    "rate": 11.25,
    "log_likelihood": -50.125,
    "log_likelihood_stderr": 1.25,
    "active_units": {"z2": 4, "z1": 3},
}
FLAGS = "--dataset=glyphs\n--data_dir=/somewhere/data\n--manual_dir=/somewhere/else\n--seed=3\n"
HISTORY = "epoch,elbo,validation_elbo\n1,-70.0,-60.5\n2,-55.0,-52.75\n3,-50.0,-53.0\n"


def config(**fields):
    sizes = {"num_components": 5, "image_shape": (8, 8, 1), "hidden_units": 8, "z1_size": 3, "z2_size": 4}
    return ModelConfig(**{**sizes, "pseudo_inputs_stddev": 0.2, **fields})


def write_run(folder, **fields):
    """Writes the run folder of a `config(**fields)` and returns the model."""
    folder.mkdir(parents=True)
    model_config = config(**fields)
    model = models.create(model_config, seed=1)
    (folder / "model.weights.h5").write_bytes(model_weights.to_bytes(model))
    run_config = {
        "vampzoo_version": "1.0.0",
        "model": dataclasses.asdict(model_config),
        "data": {"dataset": "glyphs", "fingerprint": "0" * 64},
        "training": {"seed": 3, "selection": "elbo", "pseudo_inputs_from_data": False},
    }
    (folder / "config.json").write_text(json.dumps(run_config))
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    (folder / "train.flags").write_text(FLAGS)
    (folder / "history.csv").write_text(HISTORY)
    return model


def write_zoo(folder, **fields):
    """Writes a run and a zoo of one preset from it; returns (run folder, zoo folder, model)."""
    model = write_run(folder / "run", **fields)
    (folder / "zoo").mkdir()
    export.export_preset(folder / "run", NAME, folder / "zoo")
    return folder / "run", folder / "zoo", model
