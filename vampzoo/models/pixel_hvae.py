"""The HVAE with an autoregressive decoder (PixelHVAE): Eq. 10-15 with p(x|z1, z2) a PixelCNN."""

import keras

from vampzoo.distributions import image_likelihood
from vampzoo.errors import InvalidValue
from vampzoo.models.drawing import DrawsPixels
from vampzoo.models.hvae import HVAE


@keras.saving.register_keras_serializable("vampzoo")
class PixelHVAE(DrawsPixels, HVAE):
    """The two-layer model whose pixels depend on the pixels before them as well as on both latents.

    Images that it decodes are drawn from p(x|z1, z2) pixel by pixel: such a decoder has no mean image.

    Args:
        p_x_features: (z1 [B, M1], z2 [B, M2]) -> features [B, H, W, F] that condition every pixel.
        p_x: a `vampzoo.networks.pixel_cnn.PixelCNN`.
        **networks: the others, as for `HVAE`.
    """

    def __init__(self, *, name="pixel_hvae", **networks):
        super().__init__(name=name, **networks)

    def p_x(self, z1, z2, x=None, training=False):
        """prod_i p(x_i | x_1 ... x_{i-1}, z1, z2), teacher-forced: pixel i's factor given the pixels of x before it.

        Args:
            z1: [B, M1].
            z2: [B, M2].
            x: [B, H, W, C], or [1, H, W, C] for many latents.
            training: whether batch normalisation uses the statistics of the batch and updates the moving ones, and dropout
                drops.

        Raises:
            InvalidValue: without x.
        """
        if x is None:
            raise InvalidValue(
                "p(x|z1, z2) of a PixelHVAE needs x: a pixel's distribution depends on the pixels before it"
            )
        features = self.p_x_features([z1, z2], training=training)  # [B, H, W, F]
        return image_likelihood(self.likelihood, self.p_x_network([x, features], training=training))

    def decode_posterior(self, latents, seed=0):
        return self.draw_pixels([latents["z1"], latents["z2"]], seed)
