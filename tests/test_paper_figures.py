"""The paper's figures: what they show is what the runs say."""

import dataclasses
import json

import numpy as np
import pytest

from vampzoo import datasets
from vampzoo.paper import cells
from vampzoo.paper import figures as paper_figures


@pytest.fixture
def make_run(tmp_path, tiny_config, tiny_model):
    """A function: cell, seed, test results -> a complete run with a tiny model's weights."""

    def make(cell, seed=0, elbo=-90.0, active=(3, 20)):
        run = cells.Run(cell, seed, tmp_path / f"{cell.name}_seed{seed}")
        (run.folder / "figures").mkdir(parents=True)
        prior = cells.COLUMNS[cell.prior]
        config = {"model": dataclasses.asdict(tiny_config(model=cell.model, **prior))}
        config["data"] = {"dataset": cell.dataset, "binarization": None, "fingerprint": "f" * 64}
        (run.folder / "config.json").write_text(json.dumps(config))
        evaluation = {"split": "test", "elbo": elbo, "active_units": dict(zip(("z2", "z1"), active, strict=True))}
        (run.folder / "evaluation.json").write_text(json.dumps(evaluation))
        np.save(run.folder / "figures" / "log_likelihoods.npy", np.linspace(elbo - 1, elbo + 1, 50))
        tiny_model(model=cell.model, **prior).save_weights(run.folder / "model.weights.h5")
        return run

    return make


@pytest.fixture
def vampprior_run(make_run):
    return make_run(cells.Cell("static_mnist", "hvae", "vampprior"))


def test_figure_2_has_the_elbo_of_each_k_and_seed(make_run, tmp_path):
    grid = cells.grid(["static_mnist"], ["hvae"], ["standard", "vampprior"], [10, 500])
    runs = [make_run(cell, seed, -90.0 + i + seed) for i, cell in enumerate(grid) for seed in (0, 1)]
    points = paper_figures.draw(2, runs, tmp_path / "figure.png")["points"]
    assert [(p["num_components"], p["values"]) for p in points] == [
        (None, [-90.0, -89.0]),
        (10, [-89.0, -88.0]),
        (500, [-88.0, -87.0]),
    ]
    assert (tmp_path / "figure.png").stat().st_size > 0


def test_figure_3_counts_the_units_of_all_layers(make_run, tmp_path):
    runs = [make_run(cells.Cell("static_mnist", "deep_vae", "standard", None, k), active=(k, 20)) for k in (0, 5)]
    points = paper_figures.draw(3, runs, tmp_path / "figure.png")["points"]
    assert [p["values"] for p in points] == [[20], [25]]
    assert "IWAE k = 5" in points[1]["curve"]


def test_figure_7_shows_the_log_likelihoods(vampprior_run, tmp_path):
    [histogram] = paper_figures.draw(7, [vampprior_run], tmp_path / "figure.png")["histograms"]
    assert histogram["mean"] == pytest.approx(-90.0)
    assert histogram["images"] == 50


@pytest.mark.parametrize("number", [4, 5, 6])
def test_figures_of_images_are_drawn(vampprior_run, tmp_path, monkeypatch, binary_images, number):
    spec = datasets.DATASETS["static_mnist"]
    dataset = datasets.Dataset(spec, binary_images, binary_images, binary_images, "f" * 64)
    monkeypatch.setattr(datasets, "load", lambda name, **options: dataset)
    assert paper_figures.draw(number, [vampprior_run], tmp_path / "figure.png") is None
    assert (tmp_path / "figure.png").stat().st_size > 0


def test_figure_4_needs_pseudo_inputs(make_run, tmp_path):
    run = make_run(cells.Cell("static_mnist", "hvae", "standard"))
    with pytest.raises(ValueError, match="no pseudo-inputs"):
        paper_figures.draw(4, [run], tmp_path / "figure.png")
