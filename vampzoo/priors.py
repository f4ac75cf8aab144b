"""The priors of the paper: standard normal, mixture of Gaussians, VampPrior (Eq. 9) and their weighted forms (Eq. 16).

Dimensions: K components, M latents, I... the shape of one encoder input.

A prior is a Keras layer that holds only its own weights. The encoder is an argument of `distribution`, not a part of
the layer: the very same encoder serves q(z|x) and the prior, and a saved prior does not bring a second copy of it along.

    prior = VampPrior(num_components=500, input_shape=(28, 28, 1))
    p_z = prior.distribution(encoder)  # encoder(u) returns [mean, log_var], each [K, M]
    rate = q_z.log_prob(z) - p_z.log_prob(z)  # no closed form exists for KL(Gaussian || mixture)
"""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from vampzoo import distributions


class MixtureParameters(NamedTuple):
    """A mixture's parameters as tensors, for whoever wants to encode the pseudo-inputs once and use them often."""

    logits: tf.Tensor  # [K]
    means: tf.Tensor  # [K, M]
    log_vars: tf.Tensor  # [K, M]


class Prior(keras.layers.Layer):
    """What every prior offers: its parameters, and its distribution over z [..., M]."""

    def parameters(self, encoder=None):
        """The distribution's parameters as a (possibly empty) tuple of tensors."""
        raise NotImplementedError  # abstract

    def from_parameters(self, parameters):
        """The tfd distribution over [M] that `parameters` describe."""
        return distributions.DiagonalGaussianMixture(*parameters)

    def distribution(self, encoder=None):
        """p(z), built anew from the current weights, so that gradients reach them and the encoder."""
        return self.from_parameters(self.parameters(encoder))


@keras.saving.register_keras_serializable("vampzoo")
class StandardNormal(Prior):
    """p(z) = N(0, I).

    Args:
        latent_size: M.
    """

    def __init__(self, latent_size, **kwargs):
        super().__init__(**kwargs)
        self.latent_size = latent_size
        self.built = True

    def parameters(self, encoder=None):
        return ()

    def from_parameters(self, parameters):
        zeros = tf.zeros([self.latent_size])
        return distributions.DiagonalGaussian(zeros, zeros)

    def get_config(self):
        return {**super().get_config(), "latent_size": self.latent_size}


class MixturePrior(Prior):
    """The weights pi_k of a mixture: uniform, or trainable on the simplex (Eq. 16) as the softmax of free logits."""

    def __init__(self, num_components, weighted=False, **kwargs):
        super().__init__(**kwargs)
        self.num_components = num_components
        self.weighted = weighted
        self.logits = self.add_weight((num_components,), "zeros", name="logits") if weighted else None

    def mixture_logits(self):
        """log pi_k up to a constant, [K]."""
        return tf.convert_to_tensor(self.logits) if self.weighted else tf.zeros([self.num_components])

    def get_config(self):
        return {**super().get_config(), "num_components": self.num_components, "weighted": self.weighted}


@keras.saving.register_keras_serializable("vampzoo")
class MixtureOfGaussians(MixturePrior):
    """p(z) = sum_k pi_k N(z; mean_k, exp(log_var_k)) with trainable means and log-variances.

    Means start as draws from N(0, I) and log-variances at 0. Log-variances are clipped to the range of the encoder's
    heads, so that the mixture and the VampPrior differ in nothing but where their components come from.

    Args:
        num_components: K.
        latent_size: M.
        weighted: whether the mixture weights are trained.
        seed: integer that decides the initial means.
    """

    def __init__(self, num_components, latent_size, weighted=False, seed=None, **kwargs):
        super().__init__(num_components, weighted, **kwargs)
        self.latent_size = latent_size
        self.seed = seed
        shape = (num_components, latent_size)
        self.means = self.add_weight(shape, keras.initializers.RandomNormal(0.0, 1.0, seed=seed), name="means")
        self.log_vars = self.add_weight(shape, "zeros", name="log_vars")
        self.built = True

    def parameters(self, encoder=None):
        log_vars = tf.clip_by_value(tf.convert_to_tensor(self.log_vars), *distributions.LOG_VAR_RANGE)
        return MixtureParameters(self.mixture_logits(), tf.convert_to_tensor(self.means), log_vars)

    def get_config(self):
        return {**super().get_config(), "latent_size": self.latent_size, "seed": self.seed}


@keras.saving.register_keras_serializable("vampzoo")
class VampPrior(MixturePrior):
    """p(z) = sum_k pi_k q(z|u_k): the encoder's posteriors at learnable pseudo-inputs (Eq. 9).

    Args:
        num_components: K.
        input_shape: I..., shape of one input of the encoder, without the batch axis.
        weighted: whether the mixture weights are trained (Eq. 16).
        mean, stddev: of the normal that initialises the pseudo-inputs.
        bounds: range to which the pseudo-inputs are clipped, hard, with zero gradient outside; None for data that
            has no range.
        seed: integer that decides the initial pseudo-inputs.
    """

    def __init__(
        self,
        num_components,
        input_shape,
        weighted=False,
        mean=0.5,
        stddev=0.02,
        bounds=(0.0, 1.0),
        seed=None,
        **kwargs,
    ):
        super().__init__(num_components, weighted, **kwargs)
        self.event_shape = tuple(input_shape)
        self.mean, self.stddev, self.seed = mean, stddev, seed
        self.bounds = None if bounds is None else tuple(bounds)
        self.raw_pseudo_inputs = self.add_weight(
            (num_components, *self.event_shape),
            keras.initializers.RandomNormal(mean, stddev, seed=seed),
            trainable=self._train_pseudo_inputs,
            name="pseudo_inputs",
        )
        self.built = True

    _train_pseudo_inputs = True

    @property
    def pseudo_inputs(self):
        """u_k = clip(w_k), [K, I...]."""
        raw = tf.convert_to_tensor(self.raw_pseudo_inputs)
        return raw if self.bounds is None else tf.clip_by_value(raw, *self.bounds)

    def set_pseudo_inputs(self, data, noise_stddev=0.0, seed=0):
        """Sets the pseudo-inputs to the first K rows of `data`, with noise that is reflected into the bounds.

        A pseudo-input outside the bounds would get no gradient, and half of those that start at black or white would
        be outside; reflection keeps the noise and all the gradients.

        Args:
            data: [N >= K, I...].
            noise_stddev: standard deviation of the added normal noise (the paper's code: 0.01).
            seed: integer that decides the noise.

        Raises:
            ValueError: if `data` has too few rows or another shape, is out of bounds or not finite.
        """
        values = np.array(data[: self.num_components], np.float32)
        if values.shape != (self.num_components, *self.event_shape):
            raise ValueError(
                f"{self.num_components} pseudo-inputs of shape {self.event_shape} cannot be taken from data of shape "
                f"{np.shape(data)}: num_components may be at most the number of training examples"
            )
        low, high = self.bounds or (-np.inf, np.inf)
        if not (np.isfinite(values) & (values >= low) & (values <= high)).all():
            raise ValueError(f"data for pseudo-inputs must be finite and lie in [{low}, {high}]")
        values += noise_stddev * np.random.default_rng(seed).standard_normal(values.shape, np.float32)
        if self.bounds is not None:
            values = high - np.abs(high - (low + np.abs(values - low)))
        self.raw_pseudo_inputs.assign(values)

    def parameters(self, encoder=None):
        """Encodes the pseudo-inputs: K encoder evaluations, which is what a VampPrior costs.

        Raises:
            ValueError: if no encoder is given.
        """
        if encoder is None:
            raise ValueError("a VampPrior needs the encoder: prior.distribution(encoder)")
        means, log_vars = encoder(self.pseudo_inputs)  # [K, M] each
        return MixtureParameters(self.mixture_logits(), means, log_vars)

    def get_config(self):
        config = {name: getattr(self, name) for name in ("mean", "stddev", "bounds", "seed")}
        return {**super().get_config(), "input_shape": self.event_shape, **config}


@keras.saving.register_keras_serializable("vampzoo")
class VampPriorData(VampPrior):
    """The VampPrior with K training examples in place of learnable pseudo-inputs ("VampPrior data", section 5.2).

    Call `set_pseudo_inputs` with the examples before training. They are stored in the weights: a model with this prior
    carries training data.
    """

    _train_pseudo_inputs = False
