"""What models with an autoregressive decoder share: a network for it to be conditioned on, and drawing pixel by pixel."""

import tensorflow as tf

from vampzoo import random
from vampzoo.distributions import image_likelihood


class DrawsPixels:
    """Beside a model whose p(x|z) is a product over pixels, each given those before it: what it decodes are draws.

    Such a decoder has no mean image.

    Args:
        p_x_features: a network of the latents, or of what the model makes of them, to what conditions the pixels.
        p_x: a network of x and that, such as `vampzoo.networks.PixelCNN`, whose method `generate` visits pixels in order.
        **others: what the model takes.
    """

    def __init__(self, *, p_x_features, p_x, **others):
        super().__init__(p_x=p_x, **others)
        self.p_x_features = p_x_features
        # Kept out of Keras' attribute tracking: a compiled function is no part of the model.
        for name, jit_compile in (("_compiled_draw_pixels", True), ("_traced_draw_pixels", None)):
            draw = tf.function(self._draw_pixels, jit_compile=jit_compile, autograph=False, reduce_retracing=True)
            self.__dict__[name] = draw

    def networks(self):
        return {**super().networks(), "p_x_features": self.p_x_features}

    def generative_networks(self):
        return [*super().generative_networks(), self.p_x_features]

    def draw_pixels(self, inputs, seed):
        """Images [B, H, W, C] drawn from p(x|.), given the inputs of `p_x_features` of B rows; `seed` decides the draws."""
        # XLA compiles the loop where it may. Within another graph the loop is part of that, as a function, which all
        # signatures of an exported model share.
        draw = self._compiled_draw_pixels if tf.executing_eagerly() else self._traced_draw_pixels
        return draw(inputs, random.key(seed))

    def _draw_pixels(self, inputs, seed):
        def draw_pixel(parameters, i):
            return image_likelihood(self.likelihood, parameters).sample(seed=random.fold_in(seed, i))

        return self.p_x_network.generate(self.p_x_features(inputs), draw_pixel)
