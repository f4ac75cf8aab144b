"""The top-down HVAE with an autoregressive decoder: p(x|z_1, ..., z_L) is a product over pixels, of blocks or of all."""

import keras

from vampzoo.distributions import image_likelihood
from vampzoo.errors import InvalidValue
from vampzoo.models.base import repeat_rows
from vampzoo.models.drawing import DrawsPixels
from vampzoo.models.topdown_hvae import TopDownHVAE


@keras.saving.register_keras_serializable("vampzoo")
class PixelTopDownHVAE(DrawsPixels, TopDownHVAE):
    """The top-down model whose pixels depend on pixels before them as well as on all latents.

    Which these are is the decoder's to say: with a window all that lie near, else those of the pixel's block of 4x4. Images
    that it decodes are drawn from p(x|s_0): such a decoder has no mean image.

    Args:
        p_x_features: state [B, S] -> [context [B, N, .], parameters of the image likelihood that the latents alone give].
        p_x: a `vampzoo.networks.BlockMADE`.
        **networks: the others, as for `TopDownHVAE`.
    """

    def __init__(self, *, name="pixel_topdown_hvae", **networks):
        super().__init__(name=name, **networks)

    def p_x(self, state, training=False, x=None):
        """prod_i p(x_i | x_1 ... x_{i-1}, s_0), teacher-forced: pixel i's factor given pixels of x before it.

        Args:
            state: s_0 [B k, S].
            training: whether dropout drops.
            x: [B, H, W, C].

        Raises:
            InvalidValue: without x.
        """
        if x is None:
            raise InvalidValue(
                "p(x|z) of an autoregressive decoder needs x: a pixel's distribution depends on the pixels before it"
            )
        features = self.p_x_features(state, training=training)
        return image_likelihood(self.likelihood, self.p_x_network([x, *features], training=training))

    def log_p_x(self, x, state, num_samples=1, training=False):
        return self.p_x(state, training, x).log_prob(repeat_rows(x, num_samples))

    def draw_x(self, state, seed):
        return self.draw_pixels(state, seed)
