"""Proposals of importance sampling other than q(z|x): Gaussians over the noise that q's draws are made of.

Every model draws its latents layer by layer as mean + sigma * e, with standard normal noise e and a mean and sigma that
may depend on x and on the layers drawn before. With the noise e of all layers together, a change of variables gives

    p(x) = integral of N(e; 0, I) w(e) de,    w(e) = p(x, z(e)) / q(z(e)|x).

Noise from N(0, I) is q itself. Noise from any other density r gives the weights w(e) N(e; 0, I) / r(e), and their mean is
p(x), too. r(e) = N(e; a, s^2), one a and s for each image, layer and unit, is q with its means moved by a sigmas and its
sigmas scaled by s: in two layers

    r(z1|x, z2) = N(z1; mu1(x, z2) + a1 sigma1(x, z2), s1^2 sigma1^2(x, z2)),

so that a layer still follows the layers that it is conditioned on. A model needs nothing for it but `elbo_terms`, however
many layers it has.

Dimensions: B images, S samples, M latents of a layer.
"""

from typing import NamedTuple

import tensorflow as tf


class NoiseProposal(NamedTuple):
    """r(e) = N(e; shift, exp(2 log_scale)) for the noise of each layer; zeros are q(z|x) itself."""

    shift: dict  # {layer: [B, M]}, in sigmas of q
    log_scale: dict  # {layer: [B, M]}, log of the factor on q's sigma

    def rows(self, first, last):
        """The proposals of the images from `first` to before `last`."""
        return tf.nest.map_structure(lambda t: t[first:last], self)

    def inflated(self, factor):
        """The same with all standard deviations multiplied by a number."""
        return self._replace(log_scale=tf.nest.map_structure(lambda t: t + tf.math.log(factor), self.log_scale))

    def draw(self, noise):
        """Noise from r, made of standard normal noise.

        Args:
            noise: {layer: [S, M]}, which broadcasts against the parameters.

        Returns:
            e, {layer: [S, M]}, and log N(e; 0, I) - log r(e), [S], nats.
        """
        moved = {name: self.shift[name] + tf.exp(self.log_scale[name]) * n for name, n in noise.items()}  # [S, M] each
        return moved, self.log_ratio(moved)

    def log_ratio(self, moved):
        """log N(e; 0, I) - log r(e), [S], nats, of noise e, {layer: [S, M]}."""
        terms = []
        for name, e in moved.items():
            standard = (e - self.shift[name]) * tf.exp(-self.log_scale[name])  # [S, M]
            terms.append(
                tf.reduce_sum(0.5 * (tf.square(standard) - tf.square(e)) + self.log_scale[name], axis=-1)
            )  # [S]
        return tf.add_n(terms)
