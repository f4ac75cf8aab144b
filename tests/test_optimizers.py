"""Adam on normalised gradients against NumPy, and what Keras adds around it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from vampzoo.networks import layers
from vampzoo.optimizers import NormalizedAdam, normalize

RNG = np.random.default_rng(0)


def adam(value, gradients, learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
    """Kingma and Ba's Algorithm 1 in float64, in the efficient order of computation that they give below it."""
    m, v = np.zeros_like(value), np.zeros_like(value)
    for t, g in enumerate(gradients, 1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        value = value - learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (np.sqrt(v) + epsilon)
    return value


def normalized(gradient):
    return gradient / (np.linalg.norm(gradient) + 1e-7)


def apply(optimizer, variable, gradients):
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient, tf.float32)], [variable])
    return variable.numpy()


@pytest.mark.parametrize("shape", [(), (4,), (3, 4), (3, 3, 2, 4)])
def test_five_steps_equal_the_reference(shape):
    start, gradients = (
        RNG.normal(size=shape),
        RNG.normal(size=(5, *shape)) * np.logspace(-3, 3, 5).reshape(-1, *[1] * len(shape)),
    )
    updated = apply(NormalizedAdam(0.01), keras.Variable(start), gradients)
    np.testing.assert_allclose(updated, adam(start, [normalized(g) for g in gradients], 0.01), atol=1e-6)
    plain = apply(keras.optimizers.Adam(0.01, epsilon=1e-8), keras.Variable(start), gradients)
    np.testing.assert_allclose(plain, adam(start, gradients, 0.01), atol=1e-6)
    if len(shape):
        assert np.abs(updated - plain).max() > 1e-4  # the two do differ


@pytest.mark.parametrize("shape", [(8,), (3, 8), (3, 3, 2, 8)])
def test_the_halves_of_a_gate_are_normalised_by_themselves(shape):
    variable = layers.split_halves(keras.Variable(np.zeros(shape)))
    gradients = RNG.normal(size=(3, *shape)) * np.array([1.0] * 4 + [100.0] * 4)
    halves = [
        adam(np.zeros((*shape[:-1], 4)), [normalized(g) for g in np.split(gradients, 2, -1)[half]], 0.01)
        for half in range(2)
    ]
    np.testing.assert_allclose(apply(NormalizedAdam(0.01), variable, gradients), np.concatenate(halves, -1), atol=1e-6)


def test_a_gated_layer_marks_its_weights():
    layer = layers.GatedDense(3)
    layer.build((None, 2))
    assert layer.kernel.num_tensors == layer.bias.num_tensors == 2


def test_normalised_gradients_have_norm_one_and_zero_stays_zero():
    gradient = tf.constant(RNG.normal(size=(5, 6)) * 1e4, tf.float32)
    assert np.linalg.norm(normalize(gradient)) == pytest.approx(1.0)
    assert np.linalg.norm(normalize(gradient, 2)) == pytest.approx(np.sqrt(2))
    np.testing.assert_array_equal(normalize(tf.zeros([3, 4]), 2), np.zeros((3, 4)))


def test_a_sparse_gradient_counts_as_its_dense_form():
    table = keras.Variable(np.ones((4, 2)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.gather(table.value, [1, 3, 3]) * [[1.0, 2.0]])
    gradient = tape.gradient(loss, table.value)
    assert isinstance(gradient, tf.IndexedSlices)
    dense = np.array([[0, 0], [1, 2], [0, 0], [2, 4]], np.float64)
    NormalizedAdam(0.01).apply([gradient], [table])
    np.testing.assert_allclose(table, adam(np.ones((4, 2)), [normalized(dense)], 0.01), atol=1e-6)


def test_keras_own_settings_reach_it():
    start, gradient = np.full((2, 2), 3.0), RNG.normal(size=(2, 2))
    decayed = apply(NormalizedAdam(0.01, weight_decay=0.1), keras.Variable(start), [gradient])
    np.testing.assert_allclose(decayed, adam(start * (1 - 0.1 * 0.01), [normalized(gradient)], 0.01), atol=1e-6)

    variable = keras.Variable(start)
    optimizer = NormalizedAdam(0.01, use_ema=True, ema_momentum=0.9)
    steps = [apply(optimizer, variable, [gradient]) for _ in range(3)]
    average = steps[0]  # Keras starts the average at the first update
    for step in steps[1:]:
        average = 0.9 * average + 0.1 * step
    optimizer.finalize_variable_values([variable])
    np.testing.assert_allclose(variable, average, atol=1e-5)


def test_config_round_trip():
    optimizer = NormalizedAdam(0.02, beta_1=0.8, epsilon=1e-6, weight_decay=0.1, ema_momentum=0.5, use_ema=True)
    assert NormalizedAdam.from_config(optimizer.get_config()).get_config() == optimizer.get_config()
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(restored) is NormalizedAdam
