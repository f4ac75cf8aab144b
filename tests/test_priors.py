"""The priors: what they are as distributions, what trains in them, and their life in somebody else's Keras model."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from vampzoo import priors
from vampzoo.errors import InvalidValue

RNG = np.random.default_rng(0)
INPUT, LATENT, K = (6,), 2, 5


def make_encoder():
    x = keras.Input(INPUT)
    h = keras.layers.Dense(8, activation="tanh", kernel_initializer=keras.initializers.GlorotNormal(1))(x)
    outputs = [keras.layers.Dense(LATENT, kernel_initializer=keras.initializers.GlorotNormal(s))(h) for s in (2, 3)]
    return keras.Model(x, outputs)


PRIORS = {
    "standard": lambda: priors.StandardNormal(LATENT),
    "mog": lambda: priors.MixtureOfGaussians(K, LATENT, seed=1),
    "mog, weighted": lambda: priors.MixtureOfGaussians(K, LATENT, weighted=True, seed=1),
    "vampprior": lambda: priors.VampPrior(K, INPUT, stddev=0.1, seed=1),
    "vampprior, weighted": lambda: priors.VampPrior(K, INPUT, weighted=True, stddev=0.1, seed=1),
    "vampprior, unbounded": lambda: priors.VampPrior(K, INPUT, mean=0.0, stddev=2.0, bounds=None, seed=1),
    "vampprior_data": lambda: priors.VampPriorData(K, INPUT, seed=1),
}
every_prior = pytest.mark.parametrize("make", PRIORS.values(), ids=PRIORS)


# === Equations ===


def test_vampprior_is_the_mixture_of_posteriors():
    """Eq. 9: p(z) = 1/K sum_k q(z|u_k)."""
    encoder, prior = make_encoder(), PRIORS["vampprior"]()
    z = RNG.normal(size=(4, LATENT)).astype(np.float32)
    means, log_vars = encoder(prior.pseudo_inputs)
    by_component = [
        np.exp(-0.5 * ((z - m) ** 2 / np.exp(v) + v + np.log(2 * np.pi)).sum(1))
        for m, v in zip(means.numpy(), log_vars.numpy(), strict=True)
    ]
    np.testing.assert_allclose(prior.distribution(encoder).log_prob(z), np.log(np.mean(by_component, 0)), atol=1e-5)


def test_weights_lie_on_the_simplex():
    """Eq. 16: p(z) = sum_k w_k q(z|u_k)."""
    for name in ("mog, weighted", "vampprior, weighted"):
        encoder, prior = make_encoder(), PRIORS[name]()
        np.testing.assert_allclose(prior.distribution(encoder).mixture_distribution.probs_parameter(), [1 / K] * K)
        prior.logits.assign(RNG.normal(size=K))
        weights = prior.distribution(encoder).mixture_distribution.probs_parameter().numpy()
        np.testing.assert_allclose(weights, scipy.special.softmax(prior.logits.numpy()), rtol=1e-5)


def test_standard_normal():
    p_z = PRIORS["standard"]().distribution()
    np.testing.assert_allclose(p_z.log_prob([[0.0, 0.0], [1.0, 2.0]]), [-np.log(2 * np.pi), -np.log(2 * np.pi) - 2.5])
    assert p_z.sample(5, seed=1).shape == [5, LATENT]


def test_mixture_of_gaussians_clips_its_log_variances_as_the_encoder_does():
    prior = PRIORS["mog"]()
    prior.log_vars.assign(np.linspace(-20, 20, K * LATENT).reshape(K, LATENT))
    log_vars = prior.parameters().log_vars.numpy()
    assert log_vars.min() == -6 and log_vars.max() == 2


# === Gradients ===


def gradients(prior, encoder):
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(prior.distribution(encoder).log_prob(RNG.normal(size=(20, LATENT)).astype(np.float32)))
    return tape.gradient(loss, [prior.trainable_variables, encoder.trainable_variables])


def test_gradients_reach_pseudo_inputs_weights_and_encoder():
    of_prior, of_encoder = gradients(PRIORS["vampprior, weighted"](), make_encoder())
    assert len(of_prior) == 2 and len(of_encoder) == 6
    for gradient in (*of_prior, *of_encoder):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 1e-6


def test_pseudo_inputs_are_clipped_and_have_no_gradient_outside():
    prior = PRIORS["vampprior"]()
    raw = RNG.uniform(-0.5, 1.5, size=(K, *INPUT)).astype(np.float32)
    prior.raw_pseudo_inputs.assign(raw)
    np.testing.assert_array_equal(prior.pseudo_inputs, np.clip(raw, 0, 1))
    (gradient,), _ = gradients(prior, make_encoder())
    outside = (raw < 0) | (raw > 1)
    assert outside.any() and (gradient.numpy()[outside] == 0).all() and (gradient.numpy()[~outside] != 0).all()


def test_what_is_trainable():
    trainable = {name: {v.name for v in make().trainable_variables} for name, make in PRIORS.items()}
    assert trainable["standard"] == trainable["vampprior_data"] == set()
    assert trainable["mog, weighted"] == {"means", "log_vars", "logits"}
    assert trainable["vampprior"] == {"pseudo_inputs"}
    assert trainable["vampprior, weighted"] == {"pseudo_inputs", "logits"}
    weighted_data = priors.VampPriorData(K, INPUT, weighted=True)
    assert {v.name for v in weighted_data.trainable_variables} == {"logits"}


# === Pseudo-inputs ===


def test_initial_pseudo_inputs():
    prior = priors.VampPrior(200, (28, 28, 1), mean=0.5, stddev=0.02, seed=1)
    raw = prior.raw_pseudo_inputs.numpy()
    assert raw.mean() == pytest.approx(0.5, abs=1e-3) and raw.std() == pytest.approx(0.02, rel=0.01)
    assert (priors.VampPrior(200, (28, 28, 1), seed=2).raw_pseudo_inputs.numpy() != raw).any()


def test_pseudo_inputs_from_data_are_exact_without_noise_and_inside_with_it():
    prior, data = PRIORS["vampprior_data"](), RNG.integers(0, 2, (9, *INPUT)).astype(np.float32)
    prior.set_pseudo_inputs(data)
    np.testing.assert_array_equal(prior.pseudo_inputs, data[:K])
    prior.set_pseudo_inputs(data, noise_stddev=0.01, seed=3)
    raw = prior.raw_pseudo_inputs.numpy()
    assert (raw > 0).all() and (raw < 1).all()  # reflected, so that every entry has a gradient
    assert np.sqrt(np.mean((raw - data[:K]) ** 2)) == pytest.approx(0.01, rel=0.5)


@pytest.mark.parametrize("data", [np.zeros((K - 1, *INPUT)), np.zeros((K, 7)), np.zeros(K)])
def test_pseudo_inputs_from_too_little_or_other_data(data):
    with pytest.raises(ValueError, match="num_components may be at most the number of training examples"):
        PRIORS["vampprior"]().set_pseudo_inputs(data)


@pytest.mark.parametrize("value", [255.0, -0.1, np.nan])
def test_pseudo_inputs_from_data_out_of_bounds(value):
    with pytest.raises(ValueError, match=r"finite and lie in \[0.0, 1.0\]"):
        PRIORS["vampprior"]().set_pseudo_inputs(np.full((K, *INPUT), value))


def test_a_vampprior_without_encoder():
    with pytest.raises(ValueError, match="needs the encoder"):
        PRIORS["vampprior"]().distribution()


# === In a user's own model ===


@keras.saving.register_keras_serializable("test_priors")
class OwnVAE(keras.Model):
    """A VAE as a user of Keras would write it: nothing of the zoo but the prior, trained by `fit`."""

    def __init__(self, prior, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.prior, self.encoder, self.decoder = prior, encoder, decoder

    def call(self, x):
        mean, log_var = self.encoder(x)
        z = mean + tf.exp(0.5 * log_var) * tf.random.stateless_normal(tf.shape(mean), (1, 2))
        log_q = -0.5 * tf.reduce_sum(np.log(2 * np.pi) + log_var + tf.square(z - mean) * tf.exp(-log_var), -1)
        self.add_loss(tf.reduce_mean(log_q - self.prior.distribution(self.encoder).log_prob(z)))  # the rate
        return self.decoder(z)

    def get_config(self):
        parts = ("prior", "encoder", "decoder")
        return {**super().get_config(), **{p: keras.saving.serialize_keras_object(getattr(self, p)) for p in parts}}

    @classmethod
    def from_config(cls, config):
        parts = {p: keras.saving.deserialize_keras_object(config.pop(p)) for p in ("prior", "encoder", "decoder")}
        return cls(**parts, **config)


@every_prior
def test_a_prior_in_a_users_model_trains_and_survives_saving(make, tmp_path):
    prior = make()
    z = keras.Input((LATENT,))
    model = OwnVAE(prior, make_encoder(), keras.Model(z, keras.layers.Dense(6, kernel_initializer="zeros")(z)))
    model.compile(keras.optimizers.Adam(0.03), loss="mse", run_eagerly=True)
    x = RNG.uniform(size=(64, *INPUT)).astype(np.float32)
    before = [v.numpy() for v in prior.weights]
    losses = model.fit(x, x, epochs=5, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for old, new in zip(before, prior.weights, strict=True):
        assert (old != new.numpy()).any() == new.trainable

    model.save(tmp_path / "own.keras")
    loaded = keras.models.load_model(tmp_path / "own.keras")
    probe = RNG.normal(size=(10, LATENT)).astype(np.float32)
    expected = prior.distribution(model.encoder).log_prob(probe)
    np.testing.assert_array_equal(loaded.prior.distribution(loaded.encoder).log_prob(probe), expected)


@every_prior
def test_config_round_trip(make):
    prior, encoder = make(), make_encoder()
    clone = type(prior).from_config(prior.get_config())
    probe = RNG.normal(size=(10, LATENT)).astype(np.float32)
    expected = prior.distribution(encoder).log_prob(probe)
    np.testing.assert_array_equal(clone.distribution(encoder).log_prob(probe), expected)  # the seed is in the config
    clone.set_weights(prior.get_weights())
    np.testing.assert_array_equal(clone.distribution(encoder).log_prob(probe), expected)


def test_noise_wider_than_the_bounds_is_reflected_into_them():
    prior = priors.VampPrior(300, (4,), bounds=(-1.0, 2.0))
    prior.set_pseudo_inputs(np.full((300, 4), 0.5, np.float32), noise_stddev=10.0)
    values = prior.raw_pseudo_inputs.numpy()
    assert values.min() >= -1.0 and values.max() <= 2.0
    assert np.abs(values.mean() - 0.5) < 0.15  # folded evenly, not collected at the bounds
    assert np.mean((values == -1.0) | (values == 2.0)) < 0.01


@pytest.mark.parametrize("bounds", [(0.0, np.inf), (-np.inf, 0.0), (-np.inf, np.inf)])
def test_noise_is_reflected_at_the_side_that_has_a_bound(bounds):
    prior = priors.VampPrior(300, (4,), bounds=bounds)
    prior.set_pseudo_inputs(np.zeros((300, 4), np.float32), noise_stddev=1.0)
    values = prior.raw_pseudo_inputs.numpy()
    assert np.isfinite(values).all() and values.min() >= bounds[0] and values.max() <= bounds[1]
    np.testing.assert_allclose(np.sqrt(np.mean(values**2)), 1.0, atol=0.1)


@pytest.mark.parametrize("bounds", [(1.0, 0.0), (0.0, 0.0), (0.0, None), (np.nan, 1.0)])
def test_what_are_no_bounds(bounds):
    with pytest.raises(InvalidValue, match="bounds must be"):
        priors.VampPrior(3, (4,), bounds=bounds)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": 4}, r"input_shape must be a tuple of integers, such as \(4,\), got 4"),
        ({"covariates": 3}, r"covariates must be a tuple of integers, such as \(3,\), got 3"),
        ({"stddev": -1.0}, "stddev not negative; got 0.5 and -1.0"),
        ({"mean": np.nan}, "mean and stddev must be finite"),
    ],
)
def test_arguments_of_another_kind(arguments, message):
    with pytest.raises(InvalidValue, match=message):
        priors.VampPrior(3, **{"input_shape": (4,), **arguments})


def test_a_mixture_of_nothing():
    for make in (lambda: priors.MixtureOfGaussians(0, 2), lambda: priors.VampPrior(0, (4,))):
        with pytest.raises(InvalidValue, match="num_components must be at least 1, got 0"):
            make()


def test_one_log_variance_for_all_latents():
    x = keras.Input((4,))
    mean, log_var = keras.layers.Dense(3)(x), keras.layers.Dense(1)(x)
    whole = keras.layers.Concatenate()([log_var, log_var, log_var])
    prior = priors.VampPrior(5, (4,))
    z = RNG.normal(size=(7, 3)).astype(np.float32)
    one, three = (prior.distribution(keras.Model(x, [mean, v])).log_prob(z) for v in (log_var, whole))
    np.testing.assert_allclose(one, three, rtol=1e-6)


@every_prior
def test_what_a_prior_with_components_offers(make):
    prior, encoder = make(), make_encoder()
    parameters = prior.parameters(encoder)
    assert isinstance(parameters, tuple)
    if prior.has_components:
        p, z = prior.from_parameters(parameters), RNG.normal(size=(5, LATENT)).astype(np.float32)
        assert len(parameters[0]) == K
        np.testing.assert_allclose(scipy.special.logsumexp(p.component_log_probs(z), axis=1), p.log_prob(z), rtol=1e-5)
        assert p.sample_component(tf.constant([0, K - 1]), tf.constant([1, 2])).shape == (2, LATENT)
