"""Gated layers against NumPy, and the initialisation of the paper's code."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats

from vampzoo.networks import layers

RNG = np.random.default_rng(0)


def test_gated_dense_is_linear_times_sigmoid():
    layer = layers.GatedDense(3, seed=0)
    x = RNG.normal(size=(5, 4)).astype(np.float32) * 3
    output = layer(x).numpy()
    a, b = np.split(layer.kernel.numpy(), 2, axis=1)
    bias_a, bias_b = np.split(layer.bias.numpy(), 2)
    np.testing.assert_allclose(output, (x @ a + bias_a) * scipy.special.expit(x @ b + bias_b), rtol=1e-5, atol=1e-6)
    assert np.abs(output).max() > 1  # the linear branch has no activation


def test_a_list_of_inputs_is_a_concatenation_that_broadcasts():
    layer = layers.GatedDense(3, seed=0)
    one, many = RNG.normal(size=(1, 4)).astype(np.float32), RNG.normal(size=(6, 2)).astype(np.float32)
    output = layer([one, many])
    joint = layers.GatedDense(3, seed=0)
    np.testing.assert_allclose(output, joint(np.hstack([np.repeat(one, 6, 0), many])), rtol=1e-5, atol=1e-6)


def test_a_row_of_a_list_meets_the_rows_of_its_samples():
    layer = layers.GatedDense(3, seed=0)
    images, samples = RNG.normal(size=(2, 4)).astype(np.float32), RNG.normal(size=(6, 2)).astype(np.float32)
    joint = layers.GatedDense(3, seed=0)
    expected = joint(np.hstack([np.repeat(images, 3, 0), samples]))
    np.testing.assert_allclose(layer([images, samples]), expected, rtol=1e-5, atol=1e-6)


def test_convolutions_of_images_of_any_size():
    assert layers.GatedConv2D(3, 3, 2, 1)(keras.Input((None, 28, 1))).shape == (None, None, 14, 3)


def test_initial_weights_have_the_published_distribution():
    fan_in = 400
    gated = layers.GatedDense(300, seed=1)
    gated.build((None, fan_in))
    dense = layers.affine(300, 2, fan_in, name="mean")
    dense.build((None, fan_in))
    for layer in (gated, dense):
        weights = layer.kernel.numpy().ravel() * np.sqrt(fan_in / 2)
        assert scipy.stats.kstest(weights, "norm").pvalue > 0.01  # N(0, 2/fan_in), not truncated
        biases = layer.bias.numpy() * np.sqrt(fan_in)
        assert scipy.stats.kstest(biases, "uniform", args=(-1, 2)).pvalue > 0.01  # U(+-1/sqrt(fan_in))


def test_fan_in_of_a_joint_layer_is_that_of_the_concatenation():
    layer = layers.GatedDense(200, seed=1)
    layer.build([(None, 30), (None, 50)])
    assert layer.kernel.shape == (80, 400)
    assert np.std(layer.kernel.numpy()) == pytest.approx(np.sqrt(2 / 80), rel=0.03)


def test_the_halves_of_a_gate_start_different_and_the_seed_decides():
    def kernel(seed):
        layer = layers.GatedDense(5, seed=seed)
        layer.build((None, 4))
        return layer.kernel.numpy()

    assert (kernel(3)[:, :5] != kernel(3)[:, 5:]).all()
    np.testing.assert_array_equal(kernel(3), kernel(3))
    assert (kernel(3) != kernel(4)).all()


@pytest.mark.parametrize("sizes", [(4,), (4, 2)])
def test_gated_dense_survives_a_keras_file(sizes, tmp_path):
    inputs = [keras.Input((size,)) for size in sizes]
    model = keras.Model(inputs, layers.GatedDense(3, seed=0)(inputs if len(inputs) > 1 else inputs[0]))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = [RNG.normal(size=(5, size)).astype(np.float32) for size in sizes]
    np.testing.assert_array_equal(loaded(x), model(x))
    assert [v.num_tensors for v in loaded.trainable_variables] == [2, 2]  # what the optimiser must know
