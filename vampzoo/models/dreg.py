"""The doubly reparameterised gradient of the importance-weighted bound (Tucker et al., 2019), for any number of layers.

Let z = T(noise) be the draws of all layers, l = ln p(x|z) + beta [ln p(z) - ln q(z|x)] the log-weight of one of k samples,
and v its share of the sum of the weights. The gradient of the bound ln 1/k sum exp(l) is

    sum over samples of v [ln p's own gradient + beta * (minus ln q's own) + dl/dz dT],

"own" being that at a given z, and dT that of the draws. The middle one, a score function, is what makes the gradient of q
noisier the tighter the bound gets. E_q[f(z) d ln q(z)] = E_noise[df/dz dT] with f = v, where dv/dz = (v - v^2) dl/dz,
puts in its place a gradient through the draws:

    sum over samples of v [ln p's own gradient] + v (1 - beta + beta v) dl/dz dT.

It has the same mean, and for beta = 1 q's part vanishes where q(z|x) = p(z|x). The identity holds for the draws of all
layers as one vector, so for a hierarchy as for one layer: dT goes down the layers that a draw decides. A VampPrior is p's,
though q's weights are in it: so its gradient is one of ln p's own, and is left as it is. For k = 1 this is the gradient of
the ELBO by Roeder et al. (2017).

Dimensions: B batch, k samples, M latents of a layer.
"""

import contextlib

import tensorflow as tf

from vampzoo import objectives
from vampzoo.errors import InvalidValue


class _Gate:
    """An identity that gradients pass only while it is open."""

    def __init__(self):
        self._open = False

    @contextlib.contextmanager
    def opened(self):
        self._open = True
        try:
            yield
        finally:
            self._open = False

    def __call__(self, t):
        @tf.custom_gradient
        def identity(t):
            return tf.identity(t), lambda upstream: upstream if self._open else tf.zeros_like(upstream)

        return identity(t)


class _GatedNoise:
    """What a model takes for the noise of a layer: draws, and densities of theirs, that are given once the gate is shut."""

    def __init__(self, noise, gate):
        self.noise = noise  # [B k, M]
        self._gate = gate
        self._scale = self._draws = None
        self.log_q = None  # [B k], as the model has it

    def __tf_tensor__(self, dtype=None, name=None):
        raise InvalidValue(
            'objective="dreg" needs a model whose draws all come from DiagonalGaussian.reparameterize(noise[layer]); this '
            "one computes with the noise itself"
        )

    def draw_from(self, q):
        """As `DiagonalGaussian.reparameterize`."""
        self._scale = q.stddev()
        self._draws, log_q = q.reparameterize(self.noise)  # [B k, M], [B k]
        self.log_q = self._gate(log_q)
        return self._gate(self._draws), self.log_q

    def along(self, slope):
        """dl/dz z, [B k], with the gradient of z alone: `slope` [B k, M] is dl/dnoise, which is dl/dz sigma.

        dl/dz counts what a draw changes in the layers that are drawn from it, so that z need only be this layer's.
        """
        return tf.reduce_sum(tf.stop_gradient(slope / self._scale) * self._draws, axis=-1)


def losses_and_terms(terms_of, noise, beta):
    """What is minimised for each image, -ln 1/k sum exp(l), with the doubly reparameterised gradient.

    Args:
        terms_of: a function noise -> `vampzoo.objectives.ElboTerms` of [B, k], whose draws all come from
            `DiagonalGaussian.reparameterize`, and with them ln q(z|x). It is called once.
        noise: {layer: [B k, M]}.
        beta: weight of the rate in each log-weight.

    Returns:
        Losses [B], and the terms, whose values alone are meant.

    Raises:
        InvalidValue: if the terms have draws of another kind, or ln q(z|x) from elsewhere: by `q.log_prob(z)`, say, whose
            gradient has a score function that the gate would not stop.
    """
    gate = _Gate()
    with tf.GradientTape() as tape:
        tape.watch(noise)
        draws = {name: _GatedNoise(t, gate) for name, t in noise.items()}
        terms = terms_of(draws)
        log_weights = -objectives.beta_elbo_loss(terms, beta)  # l [B, k]
    with gate.opened():
        log_qs = {name: t.log_q for name, t in draws.items()}
        slopes, used = tape.gradient(log_weights, (noise, log_qs))  # {layer: [B k, M]}, {layer: [B k]}
    for name, slope in used.items():
        if slope is None:
            raise InvalidValue(
                f'objective="dreg" needs ln q({name}) as DiagonalGaussian.reparameterize gives it beside the draw, and this '
                "model has it from elsewhere (q.log_prob(z)?) or leaves it out: then its gradient is another"
            )
    shares = tf.stop_gradient(tf.nn.softmax(log_weights, axis=1))  # v [B, k]
    along = tf.add_n([draws[name].along(slope) for name, slope in slopes.items()])  # [B k]
    along = tf.reshape(along, tf.shape(shares))  # [B, k]
    # The gate is shut: what is left of the gradient of l is that of ln p at given draws.
    surrogate = -tf.reduce_sum(shares * (log_weights + (1.0 - beta + beta * shares) * along), axis=1)  # [B]
    losses = tf.stop_gradient(-objectives.importance_bound(log_weights, axis=1) - surrogate) + surrogate
    return losses, terms
