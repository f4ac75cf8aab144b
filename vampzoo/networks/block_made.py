"""An autoregressive decoder made of dense layers: pixel by pixel within a block, and block by block or all blocks alike.

One network, the same for all blocks of 4x4 pixels, is a masked autoencoder (MADE, Germain et al., 2015) of the pixels of a
block in raster order. It also sees what the latents say of that block, and

- with a window the pixels around it that come before, so many rows above and columns to either side:
  p(x|s) = prod_i p(x_i | x_1 ... x_{i-1}, s) over all pixels, the blocks in raster order;
- without one nothing else: p(x|s) = prod_b prod_i p(x_bi | x_b1 ... x_b{i-1}, s), blocks independent given the latents,
  which have to say everything about what is larger than a block.

The channels of one pixel are independent given the pixels before it. All of it is products with matrices, N rows an image,
which a CPU does faster than convolutions of few channels at every pixel.

Dimensions: B batch, k samples, N = H W / 16 blocks, P = 16 pixels of a block, C channels, F units of a pixel, W window.
"""

import math

import keras
import numpy as np
import tensorflow as tf

from vampzoo.errors import InvalidValue
from vampzoo.networks.layers import uniform_fan_in

SIDE = 4  # of a block
_PIXELS = SIDE * SIDE


def _window_mask(above, beside):
    """[W, P]: whether a pixel of the window comes before a pixel of the block.

    Of the window, which has `above` rows above the block and `beside` columns on either side of it, those above the block
    and to its left do; those to its right, of which the next block consists, do not. Without either it is the block.
    """
    rows, columns = np.indices((SIDE + above, SIDE + 2 * beside))
    rows, columns = (rows - above).reshape(-1, 1), (columns - beside).reshape(-1, 1)  # [W, 1], seen from the block
    own_rows, own_columns = np.divmod(np.arange(_PIXELS), SIDE)  # [P]
    in_block = (rows >= 0) & (columns >= 0) & (columns < SIDE)
    earlier = (rows < own_rows) | ((rows == own_rows) & (columns < own_columns))
    return (rows < 0) | (columns < 0) | (in_block & earlier)


def _block_mask():
    """[P, P]: whether a pixel is the other or comes before it, of units that see no more than what comes before theirs."""
    return np.triu(np.ones((_PIXELS, _PIXELS), bool))


class _MaskedDense(keras.layers.Layer):
    """x (A * mask) + a, [..., P' I] -> [..., P O]: where the mask is 0 the weights are 0 from the start, without a gradient.

    Args:
        mask: array [P', P] of booleans, whether a pixel of the output hears of one of the input. The weights between two
            pixels share its entry, which a graph then holds once, and not once for each weight.
        num_in: I, numbers of each pixel of the input.
        num_out: O, numbers of each pixel of the output.
        seed: integer that decides the initial weights, which are uniform, like those of convolutions.
    """

    def __init__(self, mask, num_in, num_out, seed, **kwargs):
        super().__init__(**kwargs)
        self.mask = mask
        self.num_in, self.num_out, self.seed = num_in, num_out, seed

    @property
    def kernel_shape(self):
        """Inputs and outputs."""
        return self.mask.shape[0] * self.num_in, self.mask.shape[1] * self.num_out

    def build(self, input_shape):
        inputs = np.float32(self.mask.sum()) * self.num_in
        fan_in = inputs / self.mask.shape[1]  # the mean: the last pixel sees all of the inputs, the first few
        self.kernel = self.add_weight(self.kernel_shape, uniform_fan_in(fan_in, self.seed), name="kernel")
        self.kernel.assign(self._masked(tf.convert_to_tensor(self.kernel)))
        self.bias = self.add_weight(self.kernel_shape[1:], uniform_fan_in(fan_in, self.seed + 1), name="bias")

    def call(self, inputs):
        kernel = self._masked(tf.convert_to_tensor(self.kernel))
        return tf.matmul(inputs, kernel) + tf.convert_to_tensor(self.bias)

    def _masked(self, kernel):
        num_from, num_to = self.mask.shape
        between_pixels = tf.reshape(kernel, [num_from, self.num_in, num_to, self.num_out])  # [P', I, P, O]
        mask = tf.cast(self.mask, kernel.dtype)[:, tf.newaxis, :, tf.newaxis]  # [P', 1, P, 1]
        return tf.reshape(between_pixels * mask, self.kernel_shape)


@keras.saving.register_keras_serializable("vampzoo")
class BlockMADE(keras.layers.Layer):
    """(x [B, H, W, C], context [B k, N, .], parameters) -> parameters of the image likelihood, [B k, H, W, C] each.

    The parameters that go in are those that the latents alone give, one or two; what the pixels before it say of a pixel
    is added to the first of them, logits or the mean before its sigmoid. Units are gated by nothing: ELU, and residual
    layers after the first. The context is added to the units of the first: F numbers for each block, the same for all of
    its pixels, or P F.

    Args:
        units: F, of each pixel in each layer.
        depth: number of hidden layers, at least one, which is of the window.
        channels: C.
        seeds: iterator of integers that decide the initial weights.
        window: rows above a block that it sees, and columns on either side; (0, 0) for none.
        context_each: whether each pixel of a block has a context of its own.
    """

    def __init__(self, units, depth, channels, seeds, window, context_each, **kwargs):
        super().__init__(**kwargs)
        self.units, self.channels, self.window, self.context_each = units, channels, tuple(window), context_each
        self.seeds = [next(seeds) for _ in range(depth + 1)]
        how = {"dtype": self.dtype_policy}  # and not what is the global one when a file is loaded
        before, up_to = _window_mask(*window), _block_mask()
        seen = [(before, channels), *[(up_to, units)] * (depth - 1)]
        self.hidden = [
            _MaskedDense(mask, num_in, units, seed, name=f"hidden_{i}", **how)
            for i, ((mask, num_in), seed) in enumerate(zip(seen, self.seeds[:-1], strict=True))
        ]
        self.out = _MaskedDense(up_to, units, channels, self.seeds[-1], name="out", **how)

    def get_config(self):
        config = {"units": self.units, "depth": len(self.hidden), "channels": self.channels, "seeds": list(self.seeds)}
        return {**super().get_config(), **config, "window": self.window, "context_each": self.context_each}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "seeds": iter(config["seeds"])})

    @property
    def context_size(self):
        """Numbers that the context has for each block."""
        return self.units * (_PIXELS if self.context_each else 1)

    def parts(self):
        """The layers that this one consists of, in order."""
        return [*self.hidden, self.out]

    def operations_of(self, image_shape):
        """Multiplications and additions for an image (H, W, C) in each layer, of which the first is the one on x."""
        return [2 * num_blocks(image_shape) * math.prod(layer.kernel_shape) for layer in self.parts()]

    def build(self, input_shape):
        for layer in self.parts():
            layer.build((None, layer.kernel_shape[0]))

    def call(self, inputs):
        x, context, *parameters = inputs
        blocks = num_blocks(x.shape[1:])  # N
        seen = _windows(x, *self.window)  # [B, H / 4, W / 4, ., ., C]
        h = self.hidden[0](tf.reshape(seen, [-1, self.hidden[0].kernel_shape[0]]))  # [B N, P F], of x alone
        h = tf.reshape(h, [-1, blocks, _PIXELS * self.units])  # [B, N, P F]
        h = tf.repeat(h, tf.shape(context)[0] // tf.maximum(tf.shape(x)[0], 1), axis=0)  # [B k, N, P F]
        terms = self._terms(tf.reshape(h, [-1, _PIXELS * self.units]), tf.reshape(context, [-1, self.context_size]))
        return _one_or_list([parameters[0] + _from_blocks(terms, x.shape[1:]), *parameters[1:]])

    def _terms(self, h, context):
        """What is added for each pixel of a block [R, P C], from what it sees gives [R, P F] and its context [R, .]."""
        h = tf.nn.elu(h + (context if self.context_each else tf.tile(context, [1, _PIXELS])))  # [R, P F]
        for layer in self.hidden[1:]:
            h = h + tf.nn.elu(layer(h))
        return self.out(h)

    def generate(self, features, draw):
        """Draws images: with a window pixel by pixel, each at the cost of its block; else in P steps, one for all blocks.

        Args:
            features: [context [B, N, .], parameters [B, H, W, C], one or two], as `call` takes them.
            draw: (parameters of the likelihood, index of the step) -> values, of the same shape: [B, 1, 1, C] of a pixel,
                or [B, H / 4, W / 4, C] of one in each block.

        Returns:
            [B, H, W, C].
        """
        context, *parameters = (tf.cast(t, tf.float32) for t in features)  # whatever the precision of training
        return (self._generate_in_order if any(self.window) else self._generate_blocks)(context, parameters, draw)

    def _generate_blocks(self, context, parameters, draw):
        shape = height, width, channels = parameters[0].shape[1:]
        grid = [-1, height // SIDE, width // SIDE, channels]
        context = tf.reshape(context, [-1, self.context_size])  # [B N, P F]
        parameters = [tf.reshape(_blocks(t), [-1, _PIXELS, channels]) for t in parameters]  # [B N, P, C]

        def step(i, pixels):  # pixels [B N, P, C], zeros where nothing is drawn yet
            terms = self._terms(self.hidden[0](tf.reshape(pixels, [-1, _PIXELS * channels])), context)
            term = tf.cast(tf.reshape(terms, [-1, _PIXELS, channels])[:, i], tf.float32)  # [B N, C]
            first, *others = (t[:, i] for t in parameters)
            of_pixels = _one_or_list([tf.reshape(t, grid) for t in (first + term, *others)])  # [B, H / 4, W / 4, C]
            value = tf.reshape(draw(of_pixels, i), [-1, 1, channels])
            return i + 1, tf.where(tf.range(_PIXELS)[:, tf.newaxis] == i, value, pixels)

        _, pixels = tf.while_loop(
            lambda i, _: i < _PIXELS, step, [tf.constant(0), tf.zeros_like(parameters[0])], parallel_iterations=1
        )
        return _from_blocks(pixels, shape)

    def _generate_in_order(self, context, parameters, draw):
        _, height, width, channels = parameters[0].shape
        batch, across = tf.shape(context)[0], width // SIDE
        above, beside = self.window
        of_window = [SIDE + above, SIDE + 2 * beside, batch, channels]
        context = tf.transpose(context, [1, 0, 2])  # [N, B, F]
        parameters = [tf.transpose(t, [1, 2, 0, 3]) for t in parameters]  # [H, W, B, C]

        def step(i, images):  # images [above + H, W + 2 beside, B, C], zeros around them and where nothing is drawn yet
            block, pixel = i // _PIXELS, i % _PIXELS
            top, left = block // across * SIDE, block % across * SIDE
            window = tf.slice(images, [top, left, 0, 0], of_window)
            window = tf.reshape(tf.transpose(window, [2, 0, 1, 3]), [batch, self.hidden[0].kernel_shape[0]])  # [B, W C]
            terms = self._terms(self.hidden[0](window), context[block])
            term = tf.cast(tf.reshape(terms, [batch, _PIXELS, channels])[:, pixel], tf.float32)  # [B, C]
            row, column = top + pixel // SIDE, left + pixel % SIDE
            first, *others = (t[row, column] for t in parameters)  # [B, C]
            of_pixel = _one_or_list([t[:, tf.newaxis, tf.newaxis] for t in (first + term, *others)])
            value = draw(of_pixel, i)[:, 0, 0]  # [B, C]
            return i + 1, tf.tensor_scatter_nd_update(images, [[row + above, column + beside]], value[tf.newaxis])

        images = tf.zeros([above + height, width + 2 * beside, batch, channels])
        _, images = tf.while_loop(
            lambda i, _: i < height * width, step, [tf.constant(0), images], parallel_iterations=1
        )
        return tf.transpose(images[above:, beside : beside + width], [2, 0, 1, 3])


def num_blocks(image_shape):
    """N of images (H, W, C).

    Raises:
        InvalidValue: if blocks do not divide them.
    """
    height, width, _ = image_shape
    if height % SIDE or width % SIDE:
        raise InvalidValue(
            f"the decoders block and pixel consist of blocks of {SIDE}x{SIDE} pixels: height and width must be divisible "
            f"by {SIDE}, got {height}x{width}; pad the images, or use another decoder"
        )
    return height * width // _PIXELS


def _blocks(x):
    """x [B, H, W, C] -> its blocks, [B, H / 4, W / 4, 4, 4, C]."""
    _, height, width, channels = x.shape
    x = tf.reshape(x, [-1, height // SIDE, SIDE, width // SIDE, SIDE, channels])
    return tf.transpose(x, [0, 1, 3, 2, 4, 5])


def _from_blocks(pixels, image_shape):
    """Pixels of blocks, B N P C numbers in any shape -> [B, H, W, C]."""
    height, width, channels = image_shape
    pixels = tf.reshape(pixels, [-1, height // SIDE, width // SIDE, SIDE, SIDE, channels])
    return tf.reshape(tf.transpose(pixels, [0, 1, 3, 2, 4, 5]), [-1, height, width, channels])


def _windows(x, above, beside):
    """x [B, H, W, C] -> what each block sees, [B, H / 4, W / 4, ., ., C], with zeros outside the image."""
    if not above and not beside:
        return _blocks(x)
    _, height, width, _ = x.shape
    padded = tf.pad(x, [[0, 0], [above, 0], [beside, beside], [0, 0]])
    rows = tf.stack([padded[:, top : top + SIDE + above] for top in range(0, height, SIDE)], axis=1)
    return tf.stack([rows[:, :, :, left : left + SIDE + 2 * beside] for left in range(0, width, SIDE)], axis=2)


def _one_or_list(parameters):
    return parameters[0] if len(parameters) == 1 else parameters
