"""Estimates that come closer to log p(x) than importance sampling from q(z|x): refined proposals, annealing, checks."""

import numpy as np
import pytest
import tensorflow as tf
from linear_gaussian import IMAGES, exact_log_likelihood, one_layer, two_layers

import vampzoo
from vampzoo import datasets, evaluation, random
from vampzoo.config import ModelConfig
from vampzoo.evaluation import partial, refinement, report, tightness
from vampzoo.models import create
from vampzoo.models.proposals import NoiseProposal

layers = pytest.mark.parametrize("make", [one_layer, two_layers])


# === Weights ===


def grid(num_layers, half_width=25.0, points=501):
    """Standard normal quadrature in `num_layers` dimensions: nodes [N, num_layers] and weights [N] that sum to 1."""
    axis = np.linspace(-half_width, half_width, points)
    nodes = np.stack(np.meshgrid(*[axis] * num_layers, indexing="ij"), axis=-1).reshape(-1, num_layers)
    weights = np.exp(-0.5 * (nodes**2).sum(axis=1))
    return nodes.astype(np.float32), weights / weights.sum()


@pytest.mark.parametrize("model_name", ["vae", "hvae", "deep_vae"])
def test_the_weights_of_every_proposal_have_the_mean_p_x(model_name):
    """By quadrature over the noise of one unit a layer: E_r[w] is one number whatever r, and p(x) in one layer."""
    prior = "standard" if model_name == "deep_vae" else "vampprior"
    sizes = {"hidden_units": 8, "num_components": 3, "z1_size": 1, "z2_size": 1}
    model = create(ModelConfig(model=model_name, prior=prior, image_shape=(4, 4, 1), **sizes), seed=1)
    x = (np.random.default_rng(0).random((1, 4, 4, 1)) < 0.4).astype(np.float32)
    nodes, weights = grid(len(model.latent_sizes))
    noise = {name: nodes[:, i : i + 1] for i, name in enumerate(model.latent_sizes)}
    moved = NoiseProposal(
        *({name: tf.fill([1, 1], v) for name, v in zip(model.latent_sizes, vs, strict=False)} for vs in MOVES)
    )
    means = [weights @ np.exp(model.log_weights(x, noise, None, r).numpy().astype(np.float64)) for r in (None, moved)]
    assert means[1] == pytest.approx(means[0], rel=1e-3)
    if model_name == "vae":
        z = np.linspace(-20, 20, 4001, dtype=np.float32)[:, np.newaxis]
        density = np.exp(model.prior().log_prob(z) + model.p_x(tf.constant(z)).log_prob(x), dtype=np.float64)
        assert means[0] == pytest.approx(density.sum() * 0.01, rel=1e-3)


MOVES = ((0.7, -0.4), (0.3, 0.2))  # shifts and log-scales


def test_a_proposal_at_rest_is_q():
    model, *_ = two_layers("vampprior", widened=1.5)
    rest = NoiseProposal(*({name: tf.zeros([4, 2]) for name in model.latent_sizes} for _ in range(2)))
    noise = model.draw_noise(4, random.key(1))
    np.testing.assert_allclose(
        model.log_weights(IMAGES, noise, None, rest), model.log_weights(IMAGES, noise), atol=1e-5
    )


# === Refined proposals ===


@layers
def test_refined_is_exact_where_the_posterior_is_a_diagonal_gaussian(make, monkeypatch):
    monkeypatch.setattr(refinement, "INFLATION", 1.0)
    model, *moments = make(widened=1.8, shifted=0.4)
    estimates, proposals = tightness.refined_estimates(model, IMAGES, num_samples=500, jit_compile=False)
    exact = exact_log_likelihood(model, *moments)
    np.testing.assert_allclose(estimates.log_likelihood, exact, atol=1e-3)
    assert (estimates.effective_samples > 499).all()
    for log_scale in proposals.log_scale.values():
        np.testing.assert_allclose(log_scale, -0.5 * np.log(1.8), atol=0.01)


@layers
@pytest.mark.parametrize("prior", ["mog", "vampprior"])
def test_an_inflated_proposal_keeps_most_of_its_samples(make, prior):
    model, *moments = make(prior, widened=1.8, shifted=0.4)
    estimates, _ = tightness.refined_estimates(model, IMAGES, num_samples=4000, jit_compile=False)
    np.testing.assert_allclose(estimates.log_likelihood, exact_log_likelihood(model, *moments), atol=0.02)
    assert (estimates.effective_samples > 3000).all()


def test_an_image_is_refined_as_it_is_without_the_others():
    model, *_ = two_layers("vampprior", widened=1.8, shifted=0.4)
    whole, _ = tightness.refined_estimates(model, IMAGES, 50, 20, jit_compile=False)
    cut, _ = tightness.refined_estimates(model, IMAGES, 50, 20, batch_size=3, jit_compile=False)
    np.testing.assert_allclose(whole.log_likelihood, cut.log_likelihood, atol=1e-4)


def test_an_interrupted_fit_goes_on(tmp_path):
    model, *_ = two_layers("vampprior", widened=1.8, shifted=0.4)
    whole, proposals = tightness.refined_estimates(model, IMAGES, 50, 20, batch_size=2, jit_compile=False)
    kept = partial.PartialResults(tmp_path, model, {})

    class Interrupted(Exception):
        pass

    def interrupt(count):
        if len(kept.values):
            raise Interrupted

    with pytest.raises(Interrupted):
        tightness.refined_estimates(model, IMAGES, 50, 20, 0, interrupt, kept, batch_size=2, jit_compile=False)
    assert len(kept.values) == 2  # what was done when the second batch was interrupted
    done = []
    again = tightness.refined_estimates(model, IMAGES, 50, 20, 0, done.append, kept, batch_size=2, jit_compile=False)
    assert done == [2, 2]
    np.testing.assert_array_equal(again[0].log_likelihood, whole.log_likelihood)
    np.testing.assert_array_equal(again[1].shift["z1"], proposals.shift["z1"])


@pytest.fixture(scope="module")
def preset():
    """The glyphs' preset, and ten images drawn from it."""
    model = vampzoo.load("hvae_vampprior_glyphs")
    means = model.sample(10, seed=3)
    return model, (np.random.default_rng(0).random(means.shape) < means).astype(np.float32)


def test_refined_is_not_below_the_plain_estimate(preset):
    model, images = preset
    plain = evaluation.importance_estimates(model, images, 2000)
    refined, _ = tightness.refined_estimates(model, images, 200, 100)
    assert refined.log_likelihood.mean() > plain.log_likelihood.mean() - 0.1
    assert (refined.log_likelihood > plain.log_likelihood - 1.0).all()  # 200 samples of one image have noise


# === Annealed importance sampling ===


@layers
@pytest.mark.parametrize("from_q", [False, True])
def test_annealing_gives_the_exact_likelihood_within_its_error(make, from_q):
    model, *moments = make("vampprior", widened=1.8, shifted=0.4)
    proposals = None if from_q else tightness.refined_estimates(model, IMAGES, 1, jit_compile=False)[1]
    log_weights = tightness.annealed_log_weights(model, IMAGES, 100, proposals=proposals, jit_compile=False).astype(
        np.float64
    )
    exact = exact_log_likelihood(model, *moments)
    ratios = np.exp(log_weights - exact[:, np.newaxis])  # [N, C], of mean 1
    error = ratios.std(ddof=1) / np.sqrt(ratios.size)
    assert error < 0.1
    assert ratios.mean() == pytest.approx(1.0, abs=4 * error)


# === What evaluation.json says ===


def test_a_subset_is_spread_over_all_images():
    assert tightness.subset(3).tolist() == [0, 1, 2]
    assert tightness.subset(100).tolist() == list(range(100))
    chosen = tightness.subset(2307)
    assert len(set(chosen)) == 100 and chosen[0] == 0 and chosen[-1] == 2283


def test_batches_are_equal_and_hold_every_image():
    index = tightness.batches(101, 25)
    assert index.shape == (5, 21)
    assert np.unique(index).tolist() == list(range(101))


@pytest.fixture(scope="module")
def dataset():
    """12 test images, two of which are in train and one in validation."""
    images = (np.random.default_rng(0).random((40, 4, 4, 1)) < 0.4).astype(np.float32)
    test = np.concatenate([images[:2], images[20:21], images[30:39]])
    spec = datasets.DatasetSpec("npz", (4, 4, 1), "bernoulli", False, 0.5, 0.02, "some", "somewhere")
    return datasets.Dataset(spec, images[:20], images[20:30], test, "f" * 64)


@pytest.fixture(scope="module")
def model():
    return create(ModelConfig(num_components=5, image_shape=(4, 4, 1), hidden_units=8, z1_size=3, z2_size=2), seed=1)


def test_evaluation_json_has_the_checks(model, dataset, tmp_path, capsys, without_figures):
    tighter = {"refine_steps": 20, "refined_samples": 5, "ais_steps": 10}
    result = report.write(tmp_path, model, dataset, "test", 2, check_samples=True, jit_compile=False, **tighter)
    assert (result["copies_in_train"], result["copies_in_validation"], result["num_images"]) == (2, 1, 12)
    assert 1 <= result["effective_samples_median"] <= 2 and result["effective_samples_below_10"] == 1
    assert (result["check_num_images"], result["check_num_samples"]) == (12, 20)
    # The subset are all images, in order.
    assert result["check_difference"] == pytest.approx(
        result["check_log_likelihood"] - result["log_likelihood"], abs=1e-5
    )
    assert result["check_difference_stderr"] > 0
    assert ("warning: with S = 20" in capsys.readouterr().err) == (result["check_difference"] > tightness.LOOSE)
    assert result["refined_steps"] == 20 and result["refined_num_samples"] == 5
    assert result["ais_num_images"] == 12 and result["ais_steps"] == 10
    confirmed = result["ais_log_likelihood"] - result["refined_log_likelihood"]
    assert result["ais_difference"] == pytest.approx(confirmed, abs=1e-5)
    refined = tmp_path / "figures" / report.REFINED
    assert np.load(refined).mean() == pytest.approx(result["refined_log_likelihood"], abs=1e-5)
    for name in ("refined", "ais"):
        assert np.isfinite(result[f"{name}_log_likelihood"]) and result[f"{name}_seconds"] >= 0


def test_a_loose_estimate_is_warned_of(capsys, model, dataset, tmp_path, monkeypatch, without_figures):
    monkeypatch.setattr(tightness, "LOOSE", -100.0)
    report.write(tmp_path, model, dataset, "validation", 2, check_samples=True, jit_compile=False)
    assert "warning: with S = 20 in place of 2 the log-likelihood of 10 images rises by" in capsys.readouterr().err


def test_copies_can_be_left_out(model, dataset, tmp_path, without_figures):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / report.REFINED).touch()  # of an evaluation of other images
    result = report.write(tmp_path, model, dataset, "test", 2, leave_out_copies=True, jit_compile=False)
    assert (result["copies_in_train"], result["images_left_out"], result["num_images"]) == (2, 2, 10)
    assert not (tmp_path / "figures" / report.REFINED).exists()
    assert "check_difference" not in result
    with pytest.raises(vampzoo.errors.InvalidValue, match="the training images themselves"):
        report.write(tmp_path, model, dataset, "train", 2, leave_out_copies=True)
