"""The building blocks of the paper's networks (section 5, "gating mechanism"; initialisation as in the published code)."""

import math

import keras
import tensorflow as tf
from keras import ops


def split_halves(variable):
    """Marks a variable whose last axis holds the two halves of a gate as two tensors.

    Both halves share one matrix product for speed. The paper's optimiser normalises the gradient of each tensor by
    itself, so it must go on seeing two (`vampzoo.optimizers.NormalizedAdam` reads this mark).
    """
    variable.num_tensors = 2
    return variable


def uniform_fan_in(fan_in, seed, scale=1.0):
    """scale U(-1/sqrt(fan_in), 1/sqrt(fan_in)): all biases, and the weights of convolutions."""
    limit = scale / math.sqrt(fan_in)
    return keras.initializers.RandomUniform(-limit, limit, seed=seed)


def he_normal(seed, scale=1.0):
    """scale N(0, 2/fan_in), not truncated: dense weights (He et al., 2015).

    So the published code, whose tables the paper prints, although the paper says Glorot (section 5.1).
    """
    return keras.initializers.VarianceScaling(
        2.0 * scale**2, mode="fan_in", distribution="untruncated_normal", seed=seed
    )


@keras.saving.register_keras_serializable("vampzoo")
class GatedDense(keras.layers.Layer):
    """(xA + a) * sigmoid(xB + b): the linear branch has no activation.

    Takes one tensor [B, I], or a list of tensors whose last axes are concatenated. The parts of a list may have batch
    sizes that broadcast, or B and B k, of which the first is then repeated, each row k times: each part meets its own rows
    of the kernel and the products are added. That is what lets an importance sampler compute the part that depends on x
    once for all samples.

    Args:
        units: O, width of the output.
        seed: integer that decides the initial weights.
    """

    def __init__(self, units, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.seed = seed
        self.thin = None  # units [B, O] -> units: set by `vampzoo.training.dropout` while a training step is traced

    def build(self, input_shape):
        shapes = input_shape if isinstance(input_shape[0], list | tuple) else [input_shape]
        fan_in = sum(shape[-1] for shape in shapes)
        width = 2 * self.units
        self.kernel = split_halves(self.add_weight((fan_in, width), he_normal(self.seed), name="kernel"))
        self.bias = split_halves(
            self.add_weight((width,), uniform_fan_in(fan_in, None if self.seed is None else self.seed + 1), name="bias")
        )

    def call(self, inputs):
        parts = inputs if isinstance(inputs, list | tuple) else [inputs]
        if len({part.shape[0] for part in parts}) == 1 and parts[0].shape[0] is not None:
            parts = [ops.concatenate(parts, axis=-1)]  # one product, and no gradient put together from slices
        num_rows = max((part.shape[0] or 0) for part in parts)  # 0 while a batch size is not known
        affine, row = self.bias, 0
        for part in parts:
            rows = self.kernel[row : row + part.shape[-1]]  # [I, 2 O]
            affine = affine + _repeat_to(ops.matmul(part, rows), num_rows)  # [B, 2 O]
            row += part.shape[-1]
        units = affine[..., : self.units] * ops.sigmoid(affine[..., self.units :])  # [B, O]
        return units if self.thin is None else self.thin(units)

    def compute_output_shape(self, input_shape):
        shape = input_shape[0] if isinstance(input_shape[0], list | tuple) else input_shape
        return (*shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "seed": self.seed}


def _repeat_to(t, num_rows):
    """[B, O] -> [num_rows, O], each row as often; one row, or an unknown number, is left to broadcast."""
    batch = t.shape[0]
    return t if not batch or batch == 1 or batch >= num_rows else ops.repeat(t, num_rows // batch, axis=0)


def affine(units, seed, fan_in, name, scale=1.0):
    """A dense layer without activation, initialised as the paper's code does, times `scale`."""
    return keras.layers.Dense(
        units,
        kernel_initializer=he_normal(seed, scale),
        bias_initializer=uniform_fan_in(fan_in, seed + 1, scale),
        name=name,
    )


@keras.saving.register_keras_serializable("vampzoo")
class GatedConv2D(keras.layers.Layer):
    """The gate of `GatedDense` with convolutions: [B, H, W, I] -> [B, H', W', O].

    Zeros are padded on all four sides, as many whatever the stride: with kernel 3, stride 2 and padding 1, 28 becomes 14
    becomes 7. (Keras' "same" pads an even size at the bottom and right only, which is another network.)

    Both branches are one convolution, which under XLA is faster on a CPU than two.

    Args:
        filters: O.
        kernel_size: height and width of the kernel.
        strides: in both directions.
        padding: rows and columns of zeros on each side.
        seed: integer that decides the initial weights.
    """

    def __init__(self, filters, kernel_size, strides, padding, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.strides, self.padding = filters, kernel_size, strides, padding
        self.seed = seed

    def build(self, input_shape):
        fan_in = self.kernel_size**2 * input_shape[-1]
        width = 2 * self.filters
        seeds = (None, None) if self.seed is None else (self.seed, self.seed + 1)
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], width)
        self.kernel = split_halves(self.add_weight(shape, uniform_fan_in(fan_in, seeds[0]), name="kernel"))
        self.bias = split_halves(self.add_weight((width,), uniform_fan_in(fan_in, seeds[1]), name="bias"))

    def call(self, inputs):
        kernel = tf.convert_to_tensor(self.kernel)
        affine = pad_and_convolve(inputs, kernel, self.strides, (self.padding,) * 4) + self.bias  # [B, H', W', 2 O]
        return affine[..., : self.filters] * ops.sigmoid(affine[..., self.filters :])  # [B, H', W', O]

    def compute_output_shape(self, input_shape):
        margin = 2 * self.padding - self.kernel_size
        height, width = (None if n is None else (n + margin) // self.strides + 1 for n in input_shape[1:3])
        return (input_shape[0], height, width, self.filters)

    def get_config(self):
        names = ("filters", "kernel_size", "strides", "padding", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def pad_and_convolve(x, kernel, strides, padding):
    """Convolves x [B, H, W, I] with kernel [h, w, I, O] after padding zeros (top, bottom, left, right)."""
    top, bottom, left, right = padding
    return tf.nn.conv2d(x, kernel, strides, [[0, 0], [top, bottom], [left, right], [0, 0]])


def every_layer(layer):
    """A layer and all layers below it, each once, in the order in which they were made.

    Keras models tell their layers; a layer of ours that consists of others tells them by a method `parts`.
    """
    found = {}

    def visit(layer):
        if id(layer) not in found:
            found[id(layer)] = layer
            for part in layer.layers if isinstance(layer, keras.Model) else getattr(layer, "parts", list)():
                visit(part)

    visit(layer)
    return list(found.values())


def batch_normalizations(layer):
    """The layers among `every_layer` that have moving statistics of the batches."""
    return [part for part in every_layer(layer) if isinstance(part, keras.layers.BatchNormalization)]
