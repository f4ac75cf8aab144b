"""The autoregressive decoders of the top-down model: causality, a likelihood that sums to one, and drawing by pixels."""

import numpy as np
import pytest
import tensorflow as tf

from vampzoo import models, random
from vampzoo.config import ModelConfig
from vampzoo.errors import InvalidValue
from vampzoo.models.drawing import DrawsPixels
from vampzoo.networks import block_made

RNG = np.random.default_rng(0)
LIKELIHOODS = ["bernoulli", "discretized_logistic"]
SMALL = {
    "model": "topdown_hvae",
    "layers": 2,
    "latent_size": 2,
    "state_size": 3,
    "layer_units": 4,
    "pixel_units": 3,
    "pixel_layers": 3,
    "conv_maps": 5,
}


DECODERS = {  # fields, and rows above a block and columns beside it that a pixel depends on
    "pixel": ({"decoder": "pixel"}, (3, 4)),
    "block": ({"decoder": "block"}, (0, 0)),
    "block and window": ({"decoder": "block", "block_window": 2}, (2, 2)),
}


@pytest.fixture(params=DECODERS)
def decoder(request):
    return request.param


@pytest.fixture
def pixel_model(tiny_model, decoder):
    """A function: fields of a ModelConfig -> a small top-down model with such a decoder, whose weights are scaled up."""

    def create(scale=3, **fields):
        model = tiny_model(**{**SMALL, **DECODERS[decoder][0], "image_shape": (8, 12, 1), **fields})
        for layer in model.p_x_network.parts():
            layer.set_weights([scale * w for w in layer.get_weights()])
        return model

    return create


def as_list(parameters):
    return list(parameters) if isinstance(parameters, list | tuple) else [parameters]


def images(n, shape, likelihood="bernoulli"):
    x = RNG.random((n, *shape)) if likelihood != "bernoulli" else RNG.integers(0, 2, (n, *shape))
    return x.astype(np.float32)


def drawing_order(height, width):
    """[H, W]: the place of each pixel in the order of drawing, by the words of the docstring."""
    order = np.zeros((height, width), int)
    blocks = [(top, left) for top in range(0, height, 4) for left in range(0, width, 4)]
    pixels = [(top + r, left + c) for top, left in blocks for r in range(4) for c in range(4)]
    for i, pixel in enumerate(pixels):
        order[pixel] = i
    return order


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_pixel_depends_on_what_comes_before_it_where_it_looks_and_on_nothing_else(pixel_model, decoder, likelihood):
    shape = height, width, _ = (12, 16, 2)
    model = pixel_model(image_shape=shape, likelihood=likelihood)
    x = tf.constant(images(1, shape, likelihood))
    features = model.p_x_features(tf.random.stateless_normal([1, 3], [0, 1]))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        first, *others = as_list(model.p_x_network([x, *features]))
        total = tf.add_n([tf.reduce_sum(other) for other in others]) if others else None
    jacobian = np.abs(tape.jacobian(first, x)[0, ..., 0, :, :, :])  # [H, W, C, H, W, C]
    if others:
        assert tape.gradient(total, x) is None  # the scales are the latents' alone
    depends = jacobian.max(axis=(2, 5)) > 0  # in any channel on any, [H, W, H, W]
    order = drawing_order(height, width)
    for row in range(height):
        for column in range(width):
            top, left = row // 4 * 4, column // 4 * 4
            rows, columns = np.indices((height, width))
            above, beside = DECODERS[decoder][1]
            inside = (
                (rows >= top - above) & (rows < top + 4) & (columns >= left - beside) & (columns < left + 4 + beside)
            )
            expected = inside & (order < order[row, column])
            np.testing.assert_array_equal(depends[row, column], expected)
            assert jacobian[row, column][:, expected].min(initial=1) > 0  # in every channel on every


def test_the_likelihood_sums_to_one_over_all_images(pixel_model):
    model = pixel_model(image_shape=(4, 4, 1))
    bits = np.arange(2**16)[:, np.newaxis] >> np.arange(16) & 1
    x = bits.reshape(-1, 4, 4, 1).astype(np.float32)
    state = tf.repeat(tf.random.stateless_normal([1, 3], [0, 1]), len(x), axis=0)
    log_probs = model.p_x(state, x=x).log_prob(x).numpy().astype(np.float64)
    assert abs(np.exp(log_probs).sum() - 1) < 1e-4
    assert np.exp(log_probs).max() > 10 * 2.0**-16  # and is not uniform


def test_over_several_blocks_it_sums_to_one_given_the_rest(pixel_model):
    """All values of ten pixels, the last ones in the order of drawing, given those before them."""
    model = pixel_model()
    order = drawing_order(8, 12).reshape(-1)
    last = np.argsort(order)[-10:]
    x = np.repeat(images(1, (8, 12, 1)).reshape(1, -1), 2**10, axis=0)
    x[:, last] = np.arange(2**10)[:, np.newaxis] >> np.arange(10) & 1
    x = x.reshape(-1, 8, 12, 1)
    pixels = model.p_x(tf.zeros([2**10, 3]), x=x).distribution
    log_probs = pixels.log_prob(x).numpy().reshape(2**10, -1)
    np.testing.assert_array_equal(np.ptp(np.delete(log_probs, last, axis=1), axis=0), 0)  # nothing looks ahead
    assert abs(np.exp(log_probs[:, last].sum(axis=1)).sum() - 1) < 1e-5


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_loop_over_pixels_computes_what_one_pass_does(pixel_model, decoder, likelihood):
    shape = (8, 12, 2)
    model = pixel_model(image_shape=shape, likelihood=likelihood)
    x = tf.constant(images(3, shape, likelihood))
    features = model.p_x_features(tf.random.stateless_normal([3, 3], [0, 1]))
    order = drawing_order(8, 12)
    at_once = decoder == "block"  # all blocks
    where = [order % 16 == i if at_once else order == i for i in range(16 if at_once else 96)]
    grid, seen = (2, 3) if at_once else (1, 1), []

    def draw(parameters, i):  # in eager mode the loop is Python's
        seen.append([p.numpy() for p in as_list(parameters)])
        return tf.reshape(tf.boolean_mask(x, where[int(i)], axis=1), [3, *grid, 2])

    np.testing.assert_array_equal(model.p_x_network.generate(features, draw), x)
    assert len(seen) == len(where)  # each pixel once
    for j, expected in enumerate(as_list(model.p_x_network([x, *features]))):
        sequential = np.full(x.shape, np.nan)
        for pixels, step in zip(where, seen, strict=True):
            sequential[:, pixels] = step[j].reshape(3, -1, 2)
        np.testing.assert_allclose(sequential, expected, rtol=1e-4, atol=1e-5)


def test_draws_have_the_frequencies_of_the_likelihood(pixel_model):
    model = pixel_model(image_shape=(4, 4, 1))
    state = tf.random.stateless_normal([1, 3], [0, 2])
    drawn = model.draw_x(tf.repeat(state, 4000, axis=0), seed=1).numpy()
    assert set(np.unique(drawn)) == {0.0, 1.0}
    bits = np.arange(2**16)[:, np.newaxis] >> np.arange(16) & 1
    x = bits.reshape(-1, 4, 4, 1).astype(np.float32)
    probabilities = np.exp(model.p_x(tf.repeat(state, len(x), axis=0), x=x).log_prob(x).numpy())
    for statistic in (x, x * np.roll(x, 1, axis=2)):  # of pixels, and of pairs, which depend on each other
        expected = np.tensordot(probabilities, statistic, 1)
        found = (drawn if statistic is x else drawn * np.roll(drawn, 1, axis=2)).mean(axis=0)
        deviation = np.sqrt(expected * (1 - expected) / 4000) + 1e-3
        assert np.abs((found - expected) / deviation).max() < 4.5


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_draws_depend_on_the_seed_alone(pixel_model, likelihood):
    model = pixel_model(likelihood=likelihood)
    latents = {"z2": tf.random.stateless_normal([5, 2], [0, 1]), "z1": tf.random.stateless_normal([5, 2], [0, 2])}
    compiled = model.decode_posterior(latents, seed=3).numpy()
    in_a_graph = tf.function(lambda: model.decode_posterior(latents, seed=3), autograph=False)().numpy()
    np.testing.assert_allclose(in_a_graph, compiled, atol=1e-6)
    assert (model.decode_posterior(latents, seed=4).numpy() != compiled).any()
    assert model.sample(3, seed=1).shape == model.reconstruct(compiled[:3], seed=1).shape == (3, 8, 12, 1)


def test_every_pixel_depends_on_all_latents(pixel_model):
    model = pixel_model()
    latents = [tf.random.stateless_normal([1, 2], [0, i]) for i in range(2)]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(latents)
        state = model.add_to_state(model.add_to_state(None, 2, latents[0]), 1, latents[1])
        features = model.p_x_features(state)  # not p_x, whose probabilities are clipped
        logits = tf.reshape(model.p_x_network([tf.zeros([1, 8, 12, 1]), *features]), [96])
    for z in latents:
        assert np.abs(tape.jacobian(logits, z)).min() > 0


def test_an_images_samples_equal_repeats_of_it(pixel_model):
    model = pixel_model()
    x, noise = images(2, (8, 12, 1)), model.draw_noise(6, random.key(1))
    together = model.elbo_terms(x, noise, num_samples=3)
    np.testing.assert_allclose(model.elbo_terms(np.repeat(x, 3, 0), noise).log_weight, together.log_weight, rtol=1e-5)
    assert np.isfinite(model.log_likelihood(x, num_samples=7, jit_compile=False)).all()


def test_the_masked_weights_are_zero_and_stay_so(pixel_model):
    model = pixel_model(scale=1)  # with larger ones some units are saturated
    x = images(4, (8, 12, 1))
    with tf.GradientTape() as tape:
        loss = -tf.reduce_sum(model.elbo_terms(x, model.draw_noise(4, random.key(1))).log_weight)
    kernels = [layer.kernel for layer in model.p_x_network.parts()]
    for layer, gradient in zip(model.p_x_network.parts(), tape.gradient(loss, [k.value for k in kernels]), strict=True):
        mask = np.kron(layer.mask, np.ones((layer.num_in, layer.num_out)))
        for array in (layer.kernel.numpy(), gradient.numpy()):
            assert np.abs(array[mask == 0]).max() == 0
            assert np.abs(array[mask == 1]).min() > 0


def test_a_graph_holds_the_masks_of_pixels_and_not_of_weights(pixel_model):
    """Each graph of a SavedModel has its own constants: with the masks of all weights these were a fifth of a preset."""
    model = pixel_model()
    inputs = [tf.zeros([1, 8, 12, 1]), *(tf.zeros([1, *f.shape[1:]]) for f in as_list(model.p_x_features.output))]
    graph = tf.function(lambda *x: model.p_x_network(list(x))).get_concrete_function(*inputs).graph.as_graph_def()
    constants = [tf.make_ndarray(node.attr["value"].tensor).size for node in graph.node if node.op == "Const"]
    largest = max(layer.mask.size for layer in model.p_x_network.parts())
    assert max(constants) == largest < max(np.prod(layer.kernel_shape) for layer in model.p_x_network.parts())


def test_what_draws_pixels_replaces_nothing_of_a_model_unasked():
    own = {name for name in vars(DrawsPixels) if not name.startswith("__")}
    of_models = {name for part in models.LatentVariableModel.__mro__ for name in vars(part)}
    assert own & of_models == {"networks", "generative_networks"}


def test_images_that_blocks_do_not_divide_are_refused(decoder):
    with pytest.raises(InvalidValue, match=r"must be divisible by 4, got 28x30"):
        models.create(ModelConfig(**{**SMALL, **DECODERS[decoder][0], "image_shape": (28, 30, 1)}))


def test_without_a_window_blocks_are_independent_given_the_latents(tiny_model):
    """ln p(x|s) is the sum of what each block has when the others are blank, less what the blank ones have."""
    model = tiny_model(**{**SMALL, "decoder": "block", "image_shape": (8, 12, 1)})
    x, state = images(1, (8, 12, 1)), tf.random.stateless_normal([1, 3], [0, 1])
    one_block = np.zeros((6, 8, 12, 1), np.float32)
    for i in range(6):
        place = (slice(i // 3 * 4, i // 3 * 4 + 4), slice(i % 3 * 4, i % 3 * 4 + 4))
        one_block[(i, *place)] = x[(0, *place)]

    def log_p(x):
        return model.log_p_x(x, tf.repeat(state, len(x), axis=0)).numpy().astype(np.float64)

    np.testing.assert_allclose(log_p(x)[0], log_p(one_block).sum() - 5 * log_p(np.zeros_like(x))[0], rtol=1e-5)


def test_an_image_that_is_needed_and_missing_is_an_error(pixel_model):
    with pytest.raises(InvalidValue, match="needs x"):
        pixel_model().p_x(tf.zeros([1, 3]))


def test_the_window_comes_before_the_block_but_for_its_own_pixels():
    mask = block_made._window_mask(3, 4).reshape(7, 12, 4, 4)
    assert mask[:3].all()
    assert mask[:, :4].all()
    assert not mask[3:, 8:].any()
    assert mask[3:, 4:8].sum() == 16 * 15 / 2
