"""The priors of the paper: standard normal, mixture of Gaussians, VampPrior (Eq. 9) and their weighted forms (Eq. 16).

Dimensions: K components, M latents, I... the shape of one encoder input.

A prior is a Keras layer that holds only its own weights. The encoder is an argument of `distribution`, not a part of
the layer: the very same encoder serves q(z|x) and the prior, and a saved prior does not bring a second copy of it along.

    prior = VampPrior(num_components=500, input_shape=(28, 28, 1))
    p_z = prior.distribution(encoder)  # encoder(u) returns [mean, log_var], each [K, M]
    rate = q_z.log_prob(z) - p_z.log_prob(z)  # no closed form exists for KL(Gaussian || mixture)
"""

import math
import numbers
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from vampzoo import distributions
from vampzoo.errors import InvalidValue

EXAMPLE_NOISE = 0.01  # standard deviation; the paper's code


class MixtureParameters(NamedTuple):
    """A mixture's parameters as tensors, for whoever wants to encode the pseudo-inputs once and use them often."""

    logits: tf.Tensor  # [K]
    means: tf.Tensor  # [K, M]
    log_vars: tf.Tensor  # [K, M]


class Prior(keras.layers.Layer):
    """What every prior offers: its parameters, and its distribution over z [..., M].

    The parameters of one with components begin with a tensor [K, ...], and its distribution has `component_log_probs` and
    `sample_component`, as `vampzoo.distributions.DiagonalGaussianMixture`.
    """

    has_pseudo_inputs = (
        False  # whether there is an attribute `pseudo_inputs`, and components that an encoder makes of it
    )

    has_components = False  # whether it is a mixture

    def start_at_examples(self, examples, seed, from_data=False):
        """Gives the components their start where that is training examples; other priors have no use for them.

        Args:
            examples: [N, I...], the training data.
            seed: integer that decides which examples are taken, and the noise on them.
            from_data: whether trainable pseudo-inputs start at examples, too.
        """

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

    has_components = True

    def __init__(self, num_components, weighted=False, **kwargs):
        super().__init__(**kwargs)
        if num_components < 1:
            raise InvalidValue(f"num_components must be at least 1, got {num_components}")
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

    Raises:
        InvalidValue: for K < 1.
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
        chunk_size: how many pseudo-inputs are encoded at once, None for all. Bounds the memory; the result is the same but
            for dropout and batch normalisation, which are at inference in chunks: see `encode_in_chunks`. An attribute that
            may be set at any time before the encoder is traced.
        covariates: C_j, numbers of categories of further inputs of the encoder, such as the batch or label of a cell: the
            components are then the posteriors q(z|u_k, c_k) of encoder([u, c_1, ...]) with c_j [K, C_j].
        learn_covariates: whether each c_k is trained with u_k, as the softmax of free logits; if not, it is a category drawn
            at the start, each as likely as the others (`set_covariates` gives others).

    Raises:
        InvalidValue: for K < 1, a number in place of a shape or of covariates, a normal that is none, bounds that are no
            range, or covariates without categories.
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
        chunk_size=None,
        covariates=(),
        learn_covariates=True,
        **kwargs,
    ):
        super().__init__(num_components, weighted, **kwargs)
        for name, value in (("input_shape", input_shape), ("covariates", covariates)):
            if isinstance(value, numbers.Integral):
                raise InvalidValue(f"{name} must be a tuple of integers, such as ({value},), got {value!r}")
        if not (math.isfinite(mean) and 0 <= stddev < math.inf):
            raise InvalidValue(f"mean and stddev must be finite, and stddev not negative; got {mean} and {stddev}")
        if any(size < 1 for size in covariates):
            raise InvalidValue(f"covariates must be positive numbers of categories, got {tuple(covariates)}")
        if bounds is not None and (None in bounds or not bounds[0] < bounds[1]):
            raise InvalidValue(
                f"bounds must be (low, high) with low < high, got {tuple(bounds)}; -np.inf or np.inf is a side without one"
            )
        self.event_shape = tuple(input_shape)
        self.mean, self.stddev, self.seed = mean, stddev, seed
        self.bounds = None if bounds is None else tuple(bounds)
        self.chunk_size = chunk_size
        self.raw_pseudo_inputs = self.add_weight(
            (num_components, *self.event_shape),
            keras.initializers.RandomNormal(mean, stddev, seed=seed),
            trainable=self._train_pseudo_inputs,
            name="pseudo_inputs",
        )
        self.covariates = tuple(covariates)
        self.learn_covariates = learn_covariates and self._train_pseudo_inputs
        self.raw_covariates = [self._add_covariate(i, size) for i, size in enumerate(self.covariates)]
        self.built = True

    def _add_covariate(self, index, size):
        """Logits [K, C] of a learnt covariate, or the drawn categories themselves."""
        seed = None if self.seed is None else self.seed + 1 + index
        if self.learn_covariates:  # not all alike at the start: it is from their differences that they learn
            initializer = keras.initializers.RandomNormal(0.0, 1.0, seed=seed)
        else:
            seed = np.random.randint(2**31) if seed is None else seed  # which `keras.utils.set_random_seed` decides
            drawn = np.random.default_rng(seed).integers(size, size=self.num_components)
            initializer = keras.initializers.Constant(np.eye(size, dtype=np.float32)[drawn])
        return self.add_weight(
            (self.num_components, size), initializer, trainable=self.learn_covariates, name=f"covariate_{index}"
        )

    has_pseudo_inputs = True
    _train_pseudo_inputs = True
    began_as_data = False  # whether `set_pseudo_inputs` gave them their values, so that they may show somebody's data

    def start_at_examples(self, examples, seed, from_data=False):
        """Sets trainable pseudo-inputs to K random examples with noise if `from_data` says so.

        Raises:
            InvalidValue: as for `set_pseudo_inputs`, and for covariates that are not learnt.
        """
        if from_data:
            self._check_no_fixed_covariates()
            self.set_pseudo_inputs(_shuffled(examples, seed), noise_stddev=EXAMPLE_NOISE, seed=seed)

    def _check_no_fixed_covariates(self):
        if self.covariates and not self.learn_covariates:
            raise InvalidValue(
                "which examples are taken is random, and their covariates would stay others': give both, "
                "set_pseudo_inputs(x) and set_covariates(c), with rows in the same order"
            )

    @property
    def pseudo_inputs(self):
        """u_k = clip(w_k), [K, I...]."""
        raw = tf.convert_to_tensor(self.raw_pseudo_inputs)
        return raw if self.bounds is None else tf.clip_by_value(raw, *self.bounds)

    @property
    def pseudo_covariates(self):
        """c_k, a list of [K, C_j] whose rows are not negative and sum to 1."""
        raw = [tf.convert_to_tensor(weight) for weight in self.raw_covariates]
        return [tf.nn.softmax(logits) for logits in raw] if self.learn_covariates else raw

    def set_covariates(self, *categories):
        """Sets covariates that are not learnt, to those of data say.

        Args:
            *categories: for each covariate [N >= K, C_j], one-hot; the first K rows are taken.

        Raises:
            InvalidValue: if the covariates are learnt, the shapes are others, or a row is negative or does not sum to 1.
        """
        if self.learn_covariates:
            raise InvalidValue("these covariates are learnt: learn_covariates=False gives some that can be set")
        values = [np.array(c[: self.num_components], np.float32) for c in categories]
        shapes = [(self.num_components, size) for size in self.covariates]
        if [v.shape for v in values] != shapes:
            raise InvalidValue(f"covariates must have the shapes {shapes}, got {[v.shape for v in values]}")
        if not all(np.all(v >= 0) and np.allclose(v.sum(axis=1), 1) for v in values):
            raise InvalidValue("each row of a covariate must be one-hot, or at least not negative with a sum of 1")
        for weight, value in zip(self.raw_covariates, values, strict=True):
            weight.assign(value)

    def set_pseudo_inputs(self, data, noise_stddev=0.0, seed=0):
        """Sets the pseudo-inputs to the first K rows of `data`, with noise that is reflected into the bounds.

        A pseudo-input outside the bounds would get no gradient, and half of those that start at black or white would
        be outside; reflection keeps the noise and all the gradients.

        Args:
            data: [N >= K, I...].
            noise_stddev: standard deviation of the added normal noise (the paper's code: 0.01).
            seed: integer that decides the noise.

        Raises:
            InvalidValue: if `data` has too few rows or another shape, is out of bounds or not finite.
        """
        values = np.array(data[: self.num_components], np.float32)
        if values.shape != (self.num_components, *self.event_shape):
            raise InvalidValue(
                f"{self.num_components} pseudo-inputs of shape {self.event_shape} cannot be taken from data of shape "
                f"{np.shape(data)}: num_components may be at most the number of training examples"
            )
        low, high = self.bounds or (-np.inf, np.inf)
        if not (np.isfinite(values) & (values >= low) & (values <= high)).all():
            raise InvalidValue(f"data for pseudo-inputs must be finite and lie in [{low}, {high}]")
        values += noise_stddev * np.random.default_rng(seed).standard_normal(values.shape, np.float32)
        if np.isfinite(width := high - low):
            folded = np.mod(values - low, 2 * width)
            values = np.clip(low + np.minimum(folded, 2 * width - folded), low, high)  # but for rounding it is inside
        elif np.isfinite(low):
            values = low + np.abs(values - low)
        elif np.isfinite(high):
            values = high - np.abs(values - high)
        self.raw_pseudo_inputs.assign(values)
        self.began_as_data = True

    def parameters(self, encoder=None):
        """Encodes the pseudo-inputs: K encoder evaluations, which is what a VampPrior costs.

        Raises:
            InvalidValue: if no encoder is given.
        """
        if encoder is None:
            raise InvalidValue("a VampPrior needs the encoder: prior.distribution(encoder)")
        inputs = [self.pseudo_inputs, *self.pseudo_covariates] if self.covariates else self.pseudo_inputs
        if self.chunk_size is None or self.chunk_size >= self.num_components:
            means, log_vars = encoder(inputs)  # [K, M] each
        else:
            means, log_vars = encode_in_chunks(encoder, inputs, self.chunk_size)
        if log_vars.shape != means.shape:  # one for all latents, say
            log_vars = tf.broadcast_to(log_vars, tf.shape(means))
        return MixtureParameters(self.mixture_logits(), means, log_vars)

    def get_config(self):
        names = ("mean", "stddev", "bounds", "seed", "chunk_size", "covariates", "learn_covariates", "began_as_data")
        config = {name: getattr(self, name) for name in names}
        return {**super().get_config(), "input_shape": self.event_shape, **config}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        began_as_data = config.pop("began_as_data", False)  # which files of before do not have
        prior = super().from_config(config)
        prior.began_as_data = began_as_data
        return prior


@keras.saving.register_keras_serializable("vampzoo")
class VampPriorData(VampPrior):
    """The VampPrior with K training examples in place of learnable pseudo-inputs ("VampPrior data", section 4).

    Call `start_at_examples` or `set_pseudo_inputs` before training. They are stored in the weights: a model with this prior
    carries training data.
    """

    _train_pseudo_inputs = False

    def start_at_examples(self, examples, seed, from_data=False):
        """Sets the pseudo-inputs to K random examples as they are.

        Raises:
            InvalidValue: as for `set_pseudo_inputs`, and for covariates, which would be those of others.
        """
        self._check_no_fixed_covariates()
        self.set_pseudo_inputs(_shuffled(examples, seed))


def _shuffled(examples, seed):
    """The examples in a random order: a file's first rows may all be of one class."""
    return examples[np.random.default_rng(seed).permutation(len(examples))]


def encode_in_chunks(encoder, inputs, chunk_size):
    """encoder(inputs), with the activations of `chunk_size` inputs in memory at a time, in the backward pass too.

    That pass computes each chunk's activations anew, so the encoder runs forward twice. The gradients are the same but
    for the order of summation. The chunks are a loop, in which XLA's convolutions are slow on a CPU. (`keras.remat` does
    not serve within a loop: TensorFlow then takes no gradient with respect to the encoder's variables.)

    The encoder is called at inference, whatever mode the model around it is in: dropout would draw other units in the
    backward pass, and batch normalisation would see a chunk, not all K.

    Args:
        encoder: a Keras model, x [N, I...] -> [mean, log_var], each [N, M], without state that a call changes.
        inputs: [K, I...], or a list of such inputs.
        chunk_size: N.

    Returns:
        (means, log_vars), each [K, M].

    Raises:
        InvalidValue: if N is less than 1.
    """
    if chunk_size < 1:
        raise InvalidValue(f"chunk_size must be at least 1, or None for all pseudo-inputs at once; got {chunk_size}")
    is_list = isinstance(inputs, list | tuple)
    inputs = list(inputs) if is_list else [inputs]
    num_inputs, num_parts = inputs[0].shape[0], len(inputs)
    num_chunks = -(-num_inputs // chunk_size)

    def cut(t):
        """[K, I...] -> [number of chunks, N, I...], the last one filled up with the last input again.

        Not with zeros, at which an encoder need not have a derivative: one that takes x / sum(x), say.
        """
        filling = tf.repeat(t[-1:], num_chunks * chunk_size - num_inputs, axis=0)
        return tf.reshape(tf.concat([t, filling], axis=0), [num_chunks, chunk_size, *t.shape[1:]])

    state = [tf.convert_to_tensor(v) for v in encoder.non_trainable_variables]

    def encode(rows, weights):
        outputs, _ = encoder.stateless_call(list(weights), state, list(rows) if is_list else rows[0], training=False)
        return tuple(tf.cast(output, tf.float32) for output in outputs)  # [N, M] each

    @tf.custom_gradient
    def encode_all(*sources):
        chunks, weights = sources[:num_parts], sources[num_parts:]
        signature = (tf.float32, tf.float32)
        outputs = tf.map_fn(lambda c: encode(c, weights), chunks, fn_output_signature=signature, parallel_iterations=1)

        def gradient(*upstream):
            def step(i, to_chunks, to_weights):
                with tf.GradientTape() as tape:
                    sources = (*(c[i] for c in chunks), *weights)
                    tape.watch(sources)
                    means_and_log_vars = encode(sources[:num_parts], sources[num_parts:])
                gradients = tape.gradient(
                    means_and_log_vars, sources, [u[i] for u in upstream], unconnected_gradients="zero"
                )
                to_chunks = [array.write(i, g) for array, g in zip(to_chunks, gradients[:num_parts], strict=True)]
                to_weights = [a + b for a, b in zip(to_weights, gradients[num_parts:], strict=True)]
                return [i + 1, to_chunks, to_weights]

            arrays = [tf.TensorArray(c.dtype, num_chunks) for c in chunks]
            start = [0, arrays, [tf.zeros_like(w) for w in weights]]
            _, to_chunks, to_weights = tf.while_loop(
                lambda i, *_: i < num_chunks, step, start, parallel_iterations=1, maximum_iterations=num_chunks
            )
            return *(array.stack() for array in to_chunks), *to_weights

        return outputs, gradient

    outputs = encode_all(*(cut(t) for t in inputs), *(tf.convert_to_tensor(v) for v in encoder.trainable_variables))
    return tuple(tf.reshape(output, [-1, output.shape[-1]])[:num_inputs] for output in outputs)
