"""The autoregressive decoder of PixelHVAE: in one pass for a given image, or pixel by pixel to draw one.

p(x|z1, z2) = prod_i p(x_i | x_1 ... x_{i-1}, z1, z2) over pixels in raster order (van den Oord et al., 2016). The
channels of one pixel are independent given the pixels before it. Dimensions: B batch, I and O channels in and out,
F filters, T taps, H W pixels.
"""

import math

import keras
import tensorflow as tf
from keras import ops

from vampzoo.networks.layers import pad_and_convolve, uniform_fan_in


@keras.saving.register_keras_serializable("vampzoo")
class CausalConv2D(keras.layers.Layer):
    """A masked 3x3 convolution without bias, [B, H, W, I] -> [B, H, W, O], that consists of the taps the mask keeps.

    In raster order: three pixels above, the one to the left and, for mask B, the centre. The masked taps are no
    parameters, so that they neither have gradients nor count in the norm by which the optimiser divides.

    Args:
        filters: O.
        centre: whether the centre is seen: mask B if so, else mask A.
        fan_in: what the initial weights are scaled by; None for 9 I, that of the whole 3x3 kernel as in the paper's code.
        seed: integer that decides the initial weights.
    """

    def __init__(self, filters, centre, fan_in=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.centre, self.fan_in, self.seed = filters, centre, fan_in, seed

    def build(self, input_shape):
        shape = (5 if self.centre else 4, input_shape[-1], self.filters)  # [T, I, O]
        fan_in = self.fan_in or 9 * input_shape[-1]
        self.kernel = self.add_weight(shape, uniform_fan_in(fan_in, self.seed), name="kernel")

    def call(self, inputs):
        taps = tf.convert_to_tensor(self.kernel)
        # Zeros make up the second row of a 2x3 kernel: cheaper than a 3x3 one, and than a convolution for each row.
        kernel = tf.reshape(tf.pad(taps, [[0, 6 - taps.shape[0]], [0, 0], [0, 0]]), (2, 3, *taps.shape[1:]))
        return pad_and_convolve(inputs, kernel, 1, (1, 0, 1, 1))

    def at_pixel(self, taps):
        """The output [B, O] at one pixel from its T inputs, [B, T I] in raster order."""
        kernel = tf.cast(tf.convert_to_tensor(self.kernel), taps.dtype)
        return tf.matmul(taps, tf.reshape(kernel, [-1, self.filters]))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        names = ("filters", "centre", "fan_in", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


class ReplicaBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation whose moving statistics each replica keeps for itself.

    Keras' own cannot be updated by one replica among several. The training steps make them the mean over the replicas
    before anything reads them (`TrainingSteps.share_statistics`). Outside of a replica those of the first are read, without
    a word of the others, so that one of several workers can save a model or draw from it.

    In training, the statistics are those of the replica's part of the batch over all pixels, so that images and pixels see
    each other through them (p(x|z1, z2) is a normalised distribution only afterwards, with the moving statistics); rows
    that fill up the last batch of an epoch count too. Momentum and epsilon are those of the paper's code.
    """

    def __init__(self, momentum=0.9, epsilon=1e-5, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def add_weight(self, shape, initializer, name, trainable=True, **kwargs):
        if trainable:
            return super().add_weight(shape=shape, initializer=initializer, name=name, **kwargs)
        return keras.Variable(
            initializer,
            shape,
            trainable=False,
            autocast=False,
            name=name,
            synchronization="on_read",
            aggregation="only_first_replica",
        )


@keras.saving.register_keras_serializable("vampzoo")
class PixelCNN(keras.layers.Layer):
    """(x [B, H, W, C], features [B, H, W, F]) -> parameters of the image likelihood [B, H, W, C].

    One mask A convolution of x, to which the features of the latents are added, then mask B convolutions, each
    followed by batch normalisation and ReLU; a 1x1 output. The features are not masked: they may tell each pixel
    everything about the latents.

    Args:
        filters: F.
        depth: number of causal convolutions.
        fan_in: of the first layer, features included.
        heads: 1x1 convolutions that end the network, one for each parameter of the likelihood.
        seeds: iterator of integers that decide the initial weights.
    """

    def __init__(self, filters, depth, fan_in, heads, seeds, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.fan_in = filters, fan_in
        self.seeds = [next(seeds) for _ in range(depth)]
        how = {"dtype": self.dtype_policy}  # and not what is the global one when a file is loaded
        self.convolutions = [
            CausalConv2D(filters, centre=i > 0, fan_in=None if i else fan_in, seed=seed, name=f"causal_{i}", **how)
            for i, seed in enumerate(self.seeds)
        ]
        self.norms = [ReplicaBatchNormalization(name=f"norm_{i}", **how) for i in range(depth)]
        self.heads = heads

    def get_config(self):
        config = {"filters": self.filters, "depth": len(self.seeds), "fan_in": self.fan_in, "seeds": list(self.seeds)}
        return {**super().get_config(), **config, "heads": [head.get_config() for head in self.heads]}

    @classmethod
    def from_config(cls, config):
        heads = [keras.layers.Conv2D.from_config(head) for head in config["heads"]]
        return cls(**{**config, "seeds": iter(config["seeds"]), "heads": heads})

    def parts(self):
        """The layers that this one consists of."""
        return [*self.convolutions, *self.norms, *self.heads]

    def operations_of(self, image_shape):
        """Multiplications and additions for an image (H, W, C) in each layer, of which the first is the one on x."""
        pixels = math.prod(image_shape[:2])
        return [2 * pixels * math.prod(layer.kernel.shape) for layer in (*self.convolutions, *self.heads)]

    def build(self, input_shape):
        x_shape, h_shape = input_shape
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            convolution.build(h_shape if i else x_shape)
            norm.build(h_shape)
        for head in self.heads:
            head.build(h_shape)

    def call(self, inputs, training=False):
        x, features = inputs
        h = features + self.convolutions[0](x)  # [B, H, W, F]; a single x is broadcast against many features
        h = ops.relu(self.norms[0](h, training=training))
        for convolution, norm in zip(self.convolutions[1:], self.norms[1:], strict=True):
            h = ops.relu(norm(convolution(h), training=training))
        return self._outputs(h)

    def _outputs(self, h):
        outputs = [head(h) for head in self.heads]
        return outputs[0] if len(outputs) == 1 else outputs

    def generate(self, features, draw):
        """Draws images, visiting each pixel once.

        What a pixel needs of the layers below it was computed when the pixels before it were drawn. The last W + 1
        inputs of each layer are kept, and a pixel costs each layer one product: all pixels together what one pass of
        the whole network costs, where a pass for each pixel would be H W passes. Batch normalisation uses its moving
        statistics.

        Args:
            features: [B, H, W, F].
            draw: (parameters of the likelihood [B, 1, 1, C], index of the pixel) -> its value [B, 1, 1, C].

        Returns:
            [B, H, W, C].
        """
        _, height, width, filters = features.shape
        batch, slots, channels = tf.shape(features)[0], width + 1, self.convolutions[0].kernel.shape[1]
        features = tf.cast(features, tf.float32)  # whatever the precision of training
        features = tf.reshape(tf.transpose(features, [1, 2, 0, 3]), [height * width, -1, filters])  # [H W, B, F]
        sizes = [channels] + [filters] * (len(self.convolutions) - 1)
        recent = [tf.zeros([slots, batch, size]) for size in sizes]  # of pixel i in slot i mod (W + 1)

        def before(values, i):
            """The inputs at the pixels above left, above, above right and left of pixel i; zeros outside the image."""
            row, column = i // width, i % width
            inside = [(row > 0) & (column > 0), row > 0, (row > 0) & (column < width - 1), column > 0]
            taps = [
                tf.where(ok, values[(i - offset) % slots], 0.0)  # [B, I]
                for ok, offset in zip(inside, (width + 1, width, width - 1, 1), strict=True)
            ]
            return tf.concat(taps, axis=-1)  # [B, 4 I]

        def keep(values, i, new):
            return tf.tensor_scatter_nd_update(values, [[i % slots]], new[tf.newaxis])

        def step(i, recent, images):
            h = features[i] + self.convolutions[0].at_pixel(before(recent[0], i))  # [B, F]
            kept = []
            for layer, norm in enumerate(self.norms):
                if layer:
                    taps = tf.concat([before(recent[layer], i), h], axis=-1)  # [B, 5 F]
                    kept.append(keep(recent[layer], i, h))
                    h = self.convolutions[layer].at_pixel(taps)
                h = tf.nn.relu(tf.cast(norm(h[:, tf.newaxis, tf.newaxis])[:, 0, 0], tf.float32))
            pixel = draw(self._outputs(h[:, tf.newaxis, tf.newaxis]), i)[:, 0, 0]  # [B, C]
            kept.insert(0, keep(recent[0], i, pixel))
            return i + 1, kept, tf.tensor_scatter_nd_update(images, [[i]], pixel[tf.newaxis])

        images = tf.zeros([height * width, batch, channels])
        _, _, images = tf.while_loop(
            lambda i, *_: i < height * width, step, [tf.constant(0), recent, images], parallel_iterations=1
        )
        return tf.transpose(tf.reshape(images, [height, width, batch, channels]), [2, 0, 1, 3])
