"""The paper's figures: what they show is what the runs say."""

import dataclasses
import json

import numpy as np
import pytest

from vampzoo import datasets, zoo
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


def test_figure_3_counts_the_units_of_each_layer_by_itself(make_run, tmp_path):
    runs = [make_run(cells.Cell("static_mnist", "deep_vae", "standard", None, k), active=(k, 20)) for k in (0, 5)]
    points = paper_figures.draw(3, runs, tmp_path / "figure.png")["points"]
    values = {(p["measure"], p["curve"]): p["values"] for p in points}
    plain, weighted = (points[i]["curve"] for i in (0, 1))
    assert "IWAE k = 5" in weighted and "IWAE" not in plain
    assert values["active units of z2", plain] == [0]
    assert values["active units of z2", weighted] == [5]
    assert values["active units of z1", plain] == values["active units of z1", weighted] == [20]


def test_error_bars_are_unbiased_standard_deviations(make_run, tmp_path, monkeypatch):
    bars = []
    monkeypatch.setattr("matplotlib.axes.Axes.errorbar", lambda axes, x, y, sds, **how: bars.append((list(x), sds)))
    monkeypatch.setattr("matplotlib.axes.Axes.legend", lambda axes, **how: None)
    cell_1, cell_10 = cells.grid(["static_mnist"], ["hvae"], ["vampprior"], [1, 10])
    runs = [make_run(cell_1, 0, -90.0)] + [make_run(cell_10, seed, elbo) for seed, elbo in enumerate((-90.0, -88.0))]
    paper_figures.draw(2, runs, tmp_path / "figure.png")
    [(ks, [of_one, of_two])] = bars
    assert ks == [1, 10] and np.isnan(of_one) and of_two == pytest.approx(np.sqrt(2.0))


def test_figure_7_shows_the_log_likelihoods(vampprior_run, tmp_path):
    [histogram] = paper_figures.draw(7, [vampprior_run], tmp_path / "figure.png")["histograms"]
    assert histogram["mean"] == pytest.approx(-90.0)
    assert histogram["images"] == 50


@pytest.mark.parametrize("number", [4, 5, 6])
def test_figures_of_images_show_what_the_model_gives(vampprior_run, tmp_path, monkeypatch, binary_images, number):
    spec = datasets.DATASETS["static_mnist"]
    dataset = datasets.Dataset(spec, binary_images, binary_images, binary_images, "f" * 64)
    monkeypatch.setattr(datasets, "load", lambda name, **options: dataset)
    shown = []
    monkeypatch.setattr("matplotlib.axes.Axes.imshow", lambda axes, canvas, **how: shown.append(canvas))
    assert paper_figures.draw(number, [vampprior_run], tmp_path / "figure.png") is None
    model = zoo.load(vampprior_run.folder)
    expected = {
        4: lambda: model.pseudo_inputs.numpy(),
        5: lambda: model.sample(paper_figures.NUM_IMAGES),
        6: lambda: binary_images,
    }[number]()
    height, width, _ = model.image_shape
    first = expected[0, ..., 0]
    assert any(
        np.allclose(canvas[i : i + height, j : j + width], first, atol=1e-6)
        for canvas in shown
        for i in range(3)
        for j in range(3)
        if canvas[i : i + height, j : j + width].shape == first.shape
    )


def test_figure_6_keeps_each_image_beside_its_reconstruction(vampprior_run, tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 2, (60, 4, 5, 1)).astype(np.float32)
    dataset = datasets.Dataset(datasets.DATASETS["static_mnist"], images, images, images, "f" * 64)
    monkeypatch.setattr(datasets, "load", lambda name, **options: dataset)
    shown = []
    monkeypatch.setattr("matplotlib.axes.Axes.imshow", lambda axes, canvas, **how: shown.append(canvas))
    paper_figures.draw(6, [vampprior_run], tmp_path / "figure.png")
    [canvas] = shown
    cells_a_line = (canvas.shape[1] - 1) // 6
    assert cells_a_line % 2 == 0
    np.testing.assert_array_equal(canvas[6:10, 1:6], images[cells_a_line // 2, ..., 0])  # the second line's first


def test_figure_4_needs_pseudo_inputs(make_run, tmp_path):
    run = make_run(cells.Cell("static_mnist", "hvae", "standard"))
    with pytest.raises(ValueError, match="no pseudo-inputs"):
        paper_figures.draw(4, [run], tmp_path / "figure.png")
