"""docs/own-model.md and the README's example do what they say: their code runs, and it learns."""

import pathlib
import re

import numpy as np
import pytest

import vampzoo

ROOT = pathlib.Path(vampzoo.__file__).parents[1]


def blocks(path, heading=None):
    """The Python code of a Markdown file, or of its section with that heading."""
    text = (ROOT / path).read_text()
    if heading:
        text = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def r_squared(x, reconstructions):
    return 1 - np.sum((x - reconstructions) ** 2) / np.sum((x - x.mean(axis=0)) ** 2)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """What the page's names stand for after all of its code has run in an empty folder."""
    names = {"__name__": "own_model"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("own_model"))
        for code in blocks("docs/own-model.md"):
            code = code.replace("epochs=60", "epochs=40")  # which is enough to see that it learns
            exec(compile(code, "docs/own-model.md", "exec"), names)
        names["folder"] = pathlib.Path.cwd()
        names["folder_of_run"] = names.pop("folder") / "runs" / "mine"
    return names


def test_the_first_example_learns(page):
    assert r_squared(page["test"], page["model"].predict(page["test"], verbose=0)) > 0.75


def test_the_example_with_a_covariate_learns(page):
    inputs = [page["shifted"][1600:], page["one_hot"][1600:]]
    assert r_squared(inputs[0], page["batch_model"].predict(inputs, verbose=0)) > 0.75
    covariates = page["batch_model"].prior.pseudo_covariates[0].numpy()
    assert covariates.shape == (50, 3)
    np.testing.assert_allclose(covariates.sum(axis=1), 1, rtol=1e-5)


def test_the_covariate_example_is_saved(page, monkeypatch):
    import keras

    loaded = keras.saving.load_model(page["folder_of_run"].parents[1] / "counts.keras")
    inputs = [page["shifted"][:3], page["one_hot"][:3]]
    z = np.ones((3, 10), np.float32)
    np.testing.assert_allclose(loaded.encoder(inputs)[0], page["batch_model"].encoder(inputs)[0], rtol=1e-6)
    p, q = (m.prior.distribution(m.encoder).log_prob(z) for m in (loaded, page["batch_model"]))
    np.testing.assert_allclose(p, q, rtol=1e-6)


def test_fit_improves_the_elbo(page):
    elbos = page["history"].history["val_elbo"]
    assert elbos[-1] > elbos[0] + 1


def test_the_trainer_takes_the_model(page):
    run = page["folder_of_run"]
    assert (run / "model.weights.h5").is_file()
    with pytest.raises(vampzoo.zoo.ZooError, match=r"a model of somebody's own .*VAE.*load_weights"):
        vampzoo.load(run)
    with pytest.raises(ValueError, match="mixed_precision='bfloat16' is for a ModelConfig"):
        vampzoo.training.Trainer(
            page["vae"], vampzoo.config.TrainingConfig(mixed_precision="bfloat16"), page["data"], page["folder_of_run"]
        )


def test_the_example_of_the_readme_learns():
    generator = np.random.default_rng(0)
    programmes = generator.gamma(0.3, 100.0, size=(8, 2000))
    counts = generator.poisson(generator.dirichlet(np.full(8, 0.3), size=1000) @ programmes)
    x = np.log1p(counts).astype("float32")
    (code,) = blocks("README.md", "A VampPrior in your own Keras model")
    names = {"x": x[:800]}
    exec(compile(code.replace("epochs=50)", "epochs=35, verbose=0)"), "README.md", "exec"), names)
    assert r_squared(x[800:], names["model"].predict(x[800:], verbose=0)) > 0.7


@pytest.mark.parametrize("prior", ["vampprior", "vampprior_data"])
@pytest.mark.parametrize("from_data", [False, True])
def test_the_trainer_leaves_ones_own_pseudo_inputs_unless_told(tmp_path, prior, from_data):
    import tiny_run

    from vampzoo import models, training

    model = models.create(tiny_run.model_config(prior=prior))
    chosen = np.zeros((3, 5, 4, 1), np.float32)
    chosen[:, :2] = 1  # as no training image is
    model.prior_layer.set_pseudo_inputs(chosen)
    model.prior_layer.chunk_size = 2
    config = tiny_run.training_config(pseudo_inputs_from_data=from_data)
    folder = training.RunFolder(tmp_path, training.run_config(model, config, {"fingerprint": "0"}))
    try:
        training.Trainer(model, config, tiny_run.dataset(), folder, image_epochs=0, jit_compile=False)
    finally:
        folder.close()
    assert np.array_equal(model.pseudo_inputs, chosen) == (not from_data)
    assert model.prior_layer.chunk_size == 2


def test_a_run_of_ones_own_model_resumes_and_another_is_refused(tmp_path):
    from tiny_run import dataset, training_config

    from vampzoo import models, training
    from vampzoo.evaluation import report

    data, config = dataset(), training_config(epochs=1)

    def run(units):
        small = vampzoo.config.ModelConfig(model="vae", image_shape=(5, 4, 1), hidden_units=units, num_components=3)
        base = models.create(small)
        own = models.VAE(**base.networks(), prior=base.prior_layer, likelihood="bernoulli")
        folder = training.RunFolder(tmp_path, training.run_config(own, config, {"fingerprint": "0"}))
        try:
            trainer = training.Trainer(own, config, data, folder, image_epochs=0, jit_compile=False)
            return own, trainer.fit(), trainer
        finally:
            folder.close()

    own, trained, _ = run(4)
    assert own is trained
    _, again, trainer = run(4)
    assert trainer.epochs_done == 1
    np.testing.assert_array_equal(again.elbo(data.test), trained.elbo(data.test))
    with pytest.raises(training.RunFolderError, match=r"model\.p_x was"):
        run(5)
    report.write(tmp_path, trained, data, "test", 2, jit_compile=False)
    assert (tmp_path / "evaluation.json").is_file() and not (
        tmp_path / "report.html"
    ).exists()  # which is of the zoo's models
