"""The factors against closed forms and float64 references."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from vampzoo import distributions
from vampzoo.distributions import DiagonalGaussian, DiagonalGaussianMixture, DiscretizedLogistic, PixelBernoulli

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def the_same_draws_in_any_order():
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


def reference_log_prob(z, logits, means, log_vars):
    """log sum_k pi_k N(z; mean_k, exp(log_var_k)), the definition, in float64 from float32 parameters."""
    z, logits, means, log_vars = (np.asarray(a, np.float32).astype(np.float64) for a in (z, logits, means, log_vars))
    squares = (z[:, None] - means) ** 2 / np.exp(log_vars)  # [N, K, M]
    log_normals = -0.5 * (np.log(2 * np.pi) + log_vars + squares).sum(-1)  # [N, K]
    return scipy.special.logsumexp(log_normals + scipy.special.log_softmax(logits), axis=1)


def mixture(num_components, size, center=0.0, log_var=(-2.0, 1.0), weighted=False):
    return (
        RNG.normal(size=num_components) if weighted else np.zeros(num_components),
        center + RNG.normal(size=(num_components, size)),
        RNG.uniform(*log_var, size=(num_components, size))
        if isinstance(log_var, tuple)
        else np.full((num_components, size), log_var),
    )


# === Diagonal Gaussian ===


def test_gaussian_log_prob_and_reparameterization():
    loc, log_var, noise = RNG.normal(size=(3, 5, 4)).astype(np.float32)
    q = DiagonalGaussian(loc, log_var)
    z, log_q = q.reparameterize(noise)
    expected = scipy.stats.norm(loc, np.exp(0.5 * log_var)).logpdf(z).sum(-1)
    np.testing.assert_allclose(q.log_prob(z), expected, atol=1e-5)
    np.testing.assert_allclose(log_q, expected, atol=1e-5)
    assert q.batch_shape == [5] and q.event_shape == [4]
    assert q[1:3].batch_shape == [2]
    np.testing.assert_array_equal(q.copy(loc=loc + 1).mean(), loc + 1)


@pytest.mark.parametrize("shapes", [([2, 3], [2, 1], [2, 1]), ([2, 3], [3], [3]), ([3], [3], [4, 2, 3])])
def test_gaussian_reparameterization_of_parameters_that_broadcast(shapes):
    loc, log_var, noise = (RNG.normal(size=shape).astype(np.float32) for shape in shapes)
    q = DiagonalGaussian(loc, log_var)
    z, log_q = q.reparameterize(noise)
    assert log_q.shape == z.shape[:-1]
    np.testing.assert_allclose(log_q, q.log_prob(z), atol=1e-5)


def test_gaussian_gradient_of_the_reparameterized_density_is_that_of_log_prob():
    loc, log_var = tf.constant([[0.3, -2.0]]), tf.constant([[0.5, -3.0]])
    noise = tf.constant(RNG.normal(size=(4, 2)), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([loc, log_var])
        q = DiagonalGaussian(loc, log_var)
        z, log_q = q.reparameterize(noise)
        log_prob = q.log_prob(z)
    assert tape.gradient(log_q, loc) is None  # the density of a draw does not depend on where it is centred
    np.testing.assert_allclose(tape.gradient(log_prob, loc), tf.zeros_like(loc), atol=1e-4)
    np.testing.assert_allclose(tape.gradient(log_q, log_var), tape.gradient(log_prob, log_var), atol=1e-4)


# === Mixture ===


@pytest.mark.parametrize(
    ("case", "bound"),
    [
        ({"num_components": 1, "size": 3}, 1e-5),
        ({"num_components": 500, "size": 40}, 2e-5),
        ({"num_components": 20, "size": 4, "weighted": True}, 1e-5),
        ({"num_components": 500, "size": 40, "center": 10.0, "log_var": -6.0}, 1e-4),  # sigma at its lower clip
        ({"num_components": 50, "size": 40, "center": -10.0, "log_var": (-6.0, 2.0), "weighted": True}, 1e-4),
    ],
)
def test_mixture_log_prob_is_the_manual_logsumexp(case, bound):
    parameters = mixture(**case)
    p = DiagonalGaussianMixture(*parameters)
    near = p.sample(50, seed=1).numpy()
    error = np.abs(p.log_prob(near).numpy() - reference_log_prob(near, *parameters))
    assert error.max() < bound
    far = near + RNG.normal(scale=5, size=near.shape).astype(np.float32)
    np.testing.assert_allclose(p.log_prob(far), reference_log_prob(far, *parameters), rtol=1e-6, atol=bound)


@pytest.mark.parametrize("log_var", [-6.0, 0.0])
@pytest.mark.parametrize("center", [0.0, -10.0])
def test_mixture_around_a_center_is_the_same_density(center, log_var):
    parameters = mixture(num_components=500, size=40, center=center, log_var=(-6.0, 2.0), weighted=True)
    p = DiagonalGaussianMixture(*parameters)
    q = DiagonalGaussian(parameters[1][7:8] + 0.1, tf.fill([1, 40], log_var))  # [1, M], near a component
    z = q.reparameterize(RNG.standard_normal((200, 40)).astype(np.float32))[0]
    expected = reference_log_prob(z.numpy(), *parameters)
    error = np.abs(p.log_prob_around(q.loc[0], z - q.loc).numpy() - expected)
    assert (error < 1e-4 + 2e-6 * np.abs(expected)).all()  # near a component the bound of the next test is this small
    np.testing.assert_array_equal(distributions.log_prob_of_draws(p, q, z), p.log_prob_around(q.loc[0], z - q.loc))


def cancelled(offsets, center, logits, means, log_vars):
    """What `log_prob_around` says that cancels, [N]: sum_k r_k sum_m (|offset| + |center - mean_k|)^2 / (2 sigma_k^2)."""
    z = (center + offsets).astype(np.float64)[:, np.newaxis]  # [N, 1, M]
    precisions = np.exp(-log_vars.astype(np.float64))  # [K, M]
    exponents = -0.5 * (np.square(z - means) * precisions + log_vars).sum(axis=-1) + logits  # [N, K]
    reach = np.abs(offsets)[:, np.newaxis] + np.abs(center - means)  # [N, K, M]
    return (scipy.special.softmax(exponents, axis=1) * (0.5 * np.square(reach) * precisions).sum(axis=-1)).sum(axis=1)


@pytest.mark.parametrize("seed", range(10))
def test_the_error_around_a_center_is_bounded_by_what_cancels(seed):
    """In mixtures and posteriors of any width and place, with draws that lie to one side of the centre, too."""
    rng = np.random.default_rng(seed)
    for size in (1, 2, 8, 40):
        num_components = int(rng.integers(1, 300))
        spread, narrowest = 10 ** rng.uniform(-1, 1), rng.choice([-6.0, rng.uniform(-6, 2)])
        means = spread * rng.normal(size=(num_components, size)) + rng.uniform(-10, 10)
        log_vars = np.clip(narrowest + rng.uniform(0, 3) * rng.normal(size=means.shape), -6, 2)
        logits = rng.normal(size=num_components)
        parameters = [t.astype(np.float32) for t in (logits, means, log_vars)]
        center = (means[0] + 10 ** rng.uniform(-2, 1) * rng.normal(size=size)).astype(np.float32)
        scale = np.exp(0.5 * np.clip(rng.choice([2.0, rng.uniform(-6, 2)]) + rng.normal(size=size), -6, 2))
        shift = rng.choice([0.0, 3.0]) * rng.normal(size=size)  # in standard deviations
        z = (center + scale * (shift + rng.normal(size=(50, size)))).astype(np.float32)
        offsets = z - center
        expected = reference_log_prob(z, *parameters)
        error = np.abs(DiagonalGaussianMixture(*parameters).log_prob_around(center, offsets).numpy() - expected)
        bound = 1e-6 * (1 + np.abs(expected) + cancelled(offsets, center, *parameters))
        assert (error < bound).all(), (size, num_components, error / bound)


def test_draws_of_many_posteriors_are_scored_by_the_prior_itself():
    p = DiagonalGaussianMixture(*mixture(3, 2))
    q = DiagonalGaussian(tf.constant([[9.0, 0.0], [-9.0, 1.0]]), tf.zeros([2, 2]))
    np.testing.assert_array_equal(distributions.log_prob_of_draws(p, q, q.loc), p.log_prob(q.loc))
    standard = DiagonalGaussian(tf.zeros(2), tf.zeros(2))
    one = DiagonalGaussian(tf.ones([1, 2]), tf.zeros([1, 2]))
    np.testing.assert_array_equal(distributions.log_prob_of_draws(standard, one, q.loc), standard.log_prob(q.loc))


def test_mixture_log_prob_of_any_leading_shape():
    p = DiagonalGaussianMixture(*mixture(3, 2))
    z = p.sample([4, 5], seed=1)
    assert z.shape == [4, 5, 2] and p.log_prob(z).shape == [4, 5] and p.log_prob(z[0, 0]).shape == []
    np.testing.assert_allclose(p.log_prob(z)[2, 3], p.log_prob(z[2, 3]), rtol=1e-6)


def test_mixture_gradients_are_those_of_the_definition():
    parameters = [tf.constant(p, tf.float32) for p in mixture(5, 3, center=4.0, log_var=-5.0, weighted=True)]
    z = DiagonalGaussianMixture(*parameters).sample(20, seed=1)

    def gradients(log_prob, dtype):
        cast = [tf.cast(t, dtype) for t in (z, *parameters)]
        with tf.GradientTape() as tape:
            tape.watch(cast)
            total = tf.reduce_sum(log_prob(*cast))
        return tape.gradient(total, cast)

    def definition(z, logits, means, log_vars):
        squares = tf.square(z[:, None] - means) * tf.exp(-log_vars)
        log_normals = -0.5 * tf.reduce_sum(np.log(2 * np.pi) + log_vars + squares, -1)
        return tf.reduce_logsumexp(log_normals + tf.nn.log_softmax(logits), axis=1)

    ours = gradients(lambda z, *p: DiagonalGaussianMixture(*p).log_prob(z), tf.float32)
    for gradient, expected in zip(ours, gradients(definition, tf.float64), strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(gradient / scale, expected / scale, atol=2e-6)


def test_mixture_samples_have_its_mean_and_covariance_and_every_component_occurs():
    logits, _, log_vars = mixture(8, 2, log_var=(-6.0, -5.0), weighted=True)
    means = np.mgrid[0:4, 0:2].reshape(2, 8).T - [1.0, 0.5]  # [8, 2], a grid
    p = DiagonalGaussianMixture(logits, means, log_vars)
    n = 40_000
    z = p.sample(n, seed=3).numpy().astype(np.float64)
    pi = scipy.special.softmax(logits)
    mean = pi @ means
    covariance = np.diag(pi @ np.exp(log_vars)) + np.einsum("k,ki,kj->ij", pi, means - mean, means - mean)
    np.testing.assert_allclose(p.mean(), mean, atol=1e-5)
    np.testing.assert_allclose(p.covariance(), covariance, atol=1e-4)
    assert (np.abs(z.mean(0) - mean) < 4 * np.sqrt(np.diag(covariance) / n)).all()
    np.testing.assert_allclose(np.cov(z.T), covariance, atol=0.03 * np.abs(covariance).max())
    nearest = ((z[:, None] - means) ** 2).sum(-1).argmin(1)  # the components do not overlap
    assert scipy.stats.chisquare(np.bincount(nearest, minlength=8), n * pi).pvalue > 0.001


def test_mixture_samples_ten_thousand_at_full_size_without_drawing_every_component():
    p = DiagonalGaussianMixture(*mixture(500, 40))
    draw = tf.function(lambda: p.sample(10_000, seed=1)).get_concrete_function()
    widest = max(
        np.prod(t.shape) for op in draw.graph.get_operations() for t in op.outputs if t.shape.is_fully_defined()
    )
    assert draw().shape == [10_000, 40]
    assert widest <= 10_000 * 40


def test_mixture_component_samples():
    logits, means, log_vars = mixture(4, 3, log_var=-6.0)
    p = DiagonalGaussianMixture(logits, means, log_vars)
    z = p.sample_component(tf.constant([2, 0, 2]), tf.constant([1, 2])).numpy()
    assert (np.abs(z - means[[2, 0, 2]]) < 6 * np.exp(-3)).all()
    assert (z[0] != z[2]).any()


@pytest.mark.parametrize(
    "make",
    [
        lambda: DiagonalGaussian([[0.0, 1.0]], [[0.0, 0.5]]),
        lambda: DiagonalGaussianMixture(*mixture(3, 2)),
        lambda: PixelBernoulli([0.0, 1.0, -1.0]),
        lambda: DiscretizedLogistic([0.2, 0.5], [-1.0, -2.0]),
    ],
)
def test_what_is_sampled_can_be_scored(make):
    p = make()
    x = p.sample(6, seed=tf.constant([1, 2]))
    assert x.dtype == tf.float32 and x.shape == [6, *p.batch_shape, *p.event_shape]
    assert np.isfinite(p.log_prob(x)).all()


def test_same_integer_seed_same_sample():
    for p in (DiagonalGaussian([[0.0] * 3], [[0.0] * 3]), DiagonalGaussianMixture(*mixture(3, 2))):
        np.testing.assert_array_equal(p.sample(5, seed=1), p.sample(5, seed=1))
        assert (p.sample(5, seed=1).numpy() != p.sample(5, seed=2).numpy()).any()
        assert (p.sample(5).numpy() != p.sample(5).numpy()).any()  # no seed: anything


# === Bernoulli ===


def test_bernoulli_log_prob_is_that_of_clipped_probabilities():
    logits = np.float32([-1e6, -50, -11, -0.3, 0, 2, 11, 50, 1e6])
    probabilities = np.clip(scipy.special.expit(logits.astype(np.float64)), 1e-5, 1 - 1e-5)
    for x in (0.0, 1.0, 0.25):
        expected = x * np.log(probabilities) + (1 - x) * np.log1p(-probabilities)
        np.testing.assert_allclose(PixelBernoulli(logits).log_prob(x), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(PixelBernoulli(logits).mean(), probabilities, rtol=1e-4)


def test_bernoulli_gradient_vanishes_outside_the_clip_only():
    logits = tf.constant([-20.0, -1.0, 0.0, 3.0, 20.0])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        log_prob = PixelBernoulli(logits).log_prob(tf.ones([5]))
    expected = np.where(np.abs(logits) > distributions.LOGIT_LIMIT, 0, 1 - scipy.special.expit(logits.numpy()))
    np.testing.assert_allclose(tape.gradient(log_prob, logits), expected, atol=1e-6)


# === Discretised logistic ===

CENTERS = (np.arange(256) + 0.5) / 256


@pytest.mark.parametrize("loc", [0.0, 1 / 512, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("log_scale", [-20.0, -4.5, -2.0, 0.0, 5.0])
def test_open_logistic_sums_to_one_and_equals_float64(loc, log_scale):
    log_prob = DiscretizedLogistic(loc, log_scale).log_prob(CENTERS.astype(np.float32)).numpy().astype(np.float64)
    assert np.exp(log_prob).sum() == pytest.approx(1.0, abs=2e-6)

    # A difference of survival functions where the distribution functions are both near 1, so float64 is exact enough.
    loc, scale = np.clip(loc, 1 / 512, 1 - 1 / 512), np.exp(np.clip(log_scale, -4.5, 0))
    edges = np.arange(257) / 256
    edges[[0, -1]] = -np.inf, np.inf
    cdf, sf = scipy.stats.logistic.cdf(edges, loc, scale), scipy.stats.logistic.sf(edges, loc, scale)
    expected = np.log(np.where(edges[:-1] < loc, np.diff(cdf), -np.diff(sf)))
    np.testing.assert_allclose(log_prob, expected, rtol=3e-6, atol=1e-5)


@pytest.mark.parametrize(("loc", "log_scale"), [(0.5, -4.5), (0.001, -3.0), (0.8, 0.0), (0.3, -1.0)])
def test_closed_logistic_is_the_published_formula(loc, log_scale):
    loc32 = np.clip(np.float32(loc), 1 / 512, 1 - 1 / 512).astype(np.float64)
    scale = np.exp(np.float64(np.float32(log_scale)))
    a = (np.floor(256 * CENTERS) / 256 - loc32) / scale
    expected = np.log(scipy.special.expit(a + 1 / (256 * scale)) - scipy.special.expit(a) + 1e-7)
    ours = DiscretizedLogistic(loc, log_scale, open_edges=False).log_prob(CENTERS.astype(np.float32))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
    assert np.exp(expected).sum() < 1 + 1e-4


def test_logistic_scores_all_values_of_a_bin_alike():
    p = DiscretizedLogistic(0.4, -2.0)
    np.testing.assert_array_equal(p.log_prob([100 / 256, 100.5 / 256, 100.99 / 256]), [p.log_prob(100 / 256)] * 3)
    np.testing.assert_array_equal(p.log_prob(1.0), p.log_prob(255 / 256))


def test_logistic_samples_have_its_probabilities():
    p = DiscretizedLogistic(0.9, -2.5)
    n = 50_000
    x = p.sample(n, seed=1).numpy()
    counts = np.bincount(np.floor(x * 256).astype(int), minlength=256)
    np.testing.assert_array_equal(x * 256 % 1, 0.5)
    expected = n * np.exp(p.log_prob(CENTERS.astype(np.float32)).numpy().astype(np.float64))
    common = expected > 5
    rest = [counts[~common].sum()], [expected[~common].sum()]
    observed, expected = np.concatenate([counts[common], rest[0]]), np.concatenate([expected[common], rest[1]])
    assert scipy.stats.chisquare(observed, expected * n / expected.sum()).pvalue > 0.01


@pytest.mark.parametrize("open_edges", [True, False])
def test_logistic_mean_is_that_of_the_bins(open_edges):
    """By enumeration, and by draws; near an edge it is far from the location."""
    p = DiscretizedLogistic([[0.02, 0.5, 0.9]], [[0.0, -2.0, -4.0]], open_edges=open_edges)
    centers = (np.arange(256, dtype=np.float32) + 0.5) / 256
    probabilities = np.exp([p.log_prob(np.full([1, 3], c)).numpy() for c in centers])  # [256, 1, 3]
    expected = np.einsum("b,bij->ij", centers, probabilities) / probabilities.sum(axis=0)
    np.testing.assert_allclose(p.mean(), expected, atol=1e-5)
    assert abs(p.mean()[0, 0] - 0.02) > 0.1
    np.testing.assert_allclose(p.mean(), tf.reduce_mean(p.sample(20_000, seed=1), axis=0), atol=0.01)


def test_a_picture_shows_locations_and_probabilities():
    parameters = tf.constant([0.3, -2.0], shape=[1, 1, 2, 1])
    logistic = distributions.image_likelihood("discretized_logistic", (parameters, tf.zeros_like(parameters)))
    bernoulli = distributions.image_likelihood("bernoulli", parameters)
    for p in (logistic, bernoulli):
        np.testing.assert_allclose(p.picture(), tf.sigmoid(parameters), rtol=1e-6)


def test_logistic_gradients_are_finite_everywhere():
    loc = tf.constant(np.linspace(0.01, 0.99, 5)[:, None], tf.float32)
    log_scale = tf.constant([[-4.4], [-4.0], [-2.0], [-1.0], [-0.1]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([loc, log_scale])
        log_prob = DiscretizedLogistic(loc, log_scale).log_prob(tf.constant(CENTERS[None], tf.float32))
    assert log_prob.shape == [5, 256]
    for parameter in (loc, log_scale):
        assert np.isfinite(tape.gradient(log_prob, parameter)).all()


# === Image likelihoods ===


def test_image_likelihood_sums_over_pixels():
    x = RNG.integers(0, 2, (3, 4, 5, 1)).astype(np.float32)
    logits, log_scale = RNG.normal(size=(2, 3, 4, 5, 1)).astype(np.float32) - 1.0
    p = distributions.image_likelihood("bernoulli", logits)
    assert p.batch_shape == [3] and p.event_shape == [4, 5, 1]
    np.testing.assert_allclose(p.log_prob(x), np.sum(PixelBernoulli(logits).log_prob(x), (1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(p[1].log_prob(x[1]), p.log_prob(x)[1], rtol=1e-6)
    for likelihood, open_edges in (("discretized_logistic", True), ("discretized_logistic_closed", False)):
        p = distributions.image_likelihood(likelihood, (logits, log_scale))
        pixels = DiscretizedLogistic(scipy.special.expit(logits), log_scale, open_edges)
        np.testing.assert_allclose(p.log_prob(x), np.sum(pixels.log_prob(x), (1, 2, 3)), rtol=1e-5)


def test_unknown_likelihood_names_the_valid_ones():
    with pytest.raises(ValueError, match="bernoulli, discretized_logistic, discretized_logistic_closed"):
        distributions.image_likelihood("gaussian", None)


@pytest.mark.parametrize("shapes", [((2, 3), (3,)), ((3,), (2, 3)), ((2, 1, 3), (4, 3))], ids=str)
def test_parameters_are_broadcast_against_each_other(shapes):
    first, second = (tf.zeros(shape) for shape in shapes)
    full = np.broadcast_shapes(*shapes)
    gaussian = distributions.DiagonalGaussian(first, second)
    assert gaussian.batch_shape == full[:-1] and gaussian.sample(5).shape == (5, *full)
    assert gaussian.mean().shape == full and gaussian.covariance().shape == (*full, full[-1])
    pixels = distributions.DiscretizedLogistic(first, second)
    assert pixels.batch_shape == full and pixels.sample(5).shape == (5, *full) and pixels.mean().shape == full
