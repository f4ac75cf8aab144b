"""What every latent-variable model of the zoo can do, said once in terms of its factors.

Dimensions: B batch, S importance samples, N draws, M latents of a layer, (H, W, C) image. Log-densities in nats.
"""

import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf

from vampzoo import memory, random
from vampzoo.config import LIKELIHOODS, ModelConfig
from vampzoo.errors import InvalidValue
from vampzoo.models import components, images, notebook, saving
from vampzoo.models.fitting import ElboModel
from vampzoo.models.importance import compiled_importance_estimate, samples_tensor
from vampzoo.networks.layers import GatedDense


def repeat_rows(t, num_samples):
    """[B, ...] -> [B k, ...], each row k times."""
    return t if num_samples == 1 else tf.repeat(t, num_samples, axis=0)


def repeat_to(features, latents):
    """features [B, F] -> [B k, F], each row k times, for latents [B k, M]."""
    k = tf.shape(latents)[0] // tf.maximum(tf.shape(features)[0], 1)
    return tf.ensure_shape(tf.repeat(features, k, axis=0), [latents.shape[0], *features.shape[1:]])


def joined_by_gates(network):
    """Whether a network of (features, latents) takes features [B, F] beside latents [B k, M].

    `GatedDense` joins those, which saves the work on equal rows. Of other networks, which may concatenate the two say, the
    features must have as many rows.
    """
    if not hasattr(network, "operations"):  # no functional model: what it does inside is not known
        return False
    inputs = {op: getattr(op, "input", None) for op in network.operations}
    joints = [op for op, tensors in inputs.items() if isinstance(tensors, list) and len(tensors) > 1]
    return all(isinstance(joint, GatedDense) for joint in joints)


def check_built(**networks):
    """Refuses a network, or a list with one, that has no weights as yet, which nothing could train or save."""
    for name, network in networks.items():
        if not all(part.built for part in (network if isinstance(network, (list, tuple)) else [network])):
            raise InvalidValue(
                f"{name} is not built: make it a functional model, or begin it with its input, as "
                "keras.Sequential([keras.Input((40,)), ...])"
            )


def num_latents(factor, network):
    """M of a network of a factor of q.

    Args:
        factor: its name, such as "q_z".
        network: a functional model whose outputs are a mean and a log-variance, [B, M] each.

    Raises:
        InvalidValue: for another one.
    """
    shapes = [output.shape for output in getattr(network, "outputs", None) or ()]
    if len(shapes) != 2 or any(len(shape) != 2 for shape in shapes):
        raise InvalidValue(
            f"{factor} must be a functional Keras model with two outputs, mean and log_var of [B, M] each; this one has "
            f"{shapes or 'none that Keras knows of'}"
        )
    return shapes[0][-1]


def check_latents(factor, network, size):
    """Refuses a network of a factor of p over another number of latents than q has, which TensorFlow might broadcast.

    Args:
        factor: its name, such as "p_z1".
        network: as for `num_latents`.
        size: that number.
    """
    if (width := num_latents(factor, network)) != size:
        raise InvalidValue(f"{factor} is over {width} latents, and q over {size}")


def _check_prior(prior, latent_size, image_shape):
    """Refuses a prior over latents, or with pseudo-inputs, of another size, which TensorFlow might broadcast."""
    size = getattr(prior, "latent_size", latent_size)  # that of a VampPrior is its encoder's
    if size != latent_size:
        raise InvalidValue(f"the prior is over {size} latents, and the encoder has {latent_size}")
    shape = getattr(prior, "event_shape", None)
    if shape is not None and not getattr(prior, "covariates", ()) and tuple(shape) != tuple(image_shape):
        raise InvalidValue(f"the prior's pseudo-inputs have the shape {tuple(shape)}, and images {tuple(image_shape)}")


def _check_decoder(p_x, likelihood, image_shape):
    """Refuses a network whose outputs are not the parameters of a likelihood of such images."""
    outputs = getattr(p_x, "outputs", None)  # which Keras knows of functional models alone
    if not outputs:
        return
    shapes = [tuple(output.shape[1:]) for output in outputs]
    wanted = [image_shape] * (1 if likelihood == "bernoulli" else 2)
    if shapes != wanted:
        raise InvalidValue(f"p_x gives {shapes} for each image, and the likelihood {likelihood} takes {wanted}")


class LatentVariableModel(ElboModel):
    """A prior over the top latent, an image likelihood, and between them whatever a subclass says.

    A subclass gives `elbo_terms`, `posterior`, `decode` and, as methods named after them, the factors they consist of.

    Args:
        latent_sizes: {"z2": M2, ...}, top layer first.
        prior: a `vampzoo.priors.Prior` over the top layer.
        prior_encoder: the network of q(top layer | x), which a VampPrior evaluates at its pseudo-inputs.
        likelihood: one of `vampzoo.config.LIKELIHOODS`.
        image_shape: (H, W, C).
        p_x: the network whose output are the likelihood's parameters, to check its shape; None: not known.

    Raises:
        InvalidValue: if the sizes of the prior or of p_x's output are not those of the latents and images.
    """

    title = ""  # name of the preset or run, of its data, and its folder: `vampzoo.load` sets them
    trained_on = ""
    loaded_from = None
    model_config = None  # the `ModelConfig` that `vampzoo.models.create` made it of
    weights_sha256 = None  # of the file that the weights were read from, if it was a run's

    importance_chunk = 1000  # samples of one image evaluated at once: bounds the memory; other chunks are other draws

    def __init__(self, *, latent_sizes, prior, prior_encoder, likelihood, image_shape, name, p_x=None):
        super().__init__(name=name)
        _check_prior(prior, next(iter(latent_sizes.values())), image_shape)
        if p_x is not None and likelihood not in LIKELIHOODS:
            raise InvalidValue(
                f"likelihood={likelihood!r} is unknown; the valid values are: {', '.join(LIKELIHOODS)}; for one of your own "
                "override p_x"
            )
        if p_x is not None:
            if len(image_shape) != 3:
                raise InvalidValue(
                    f"the likelihood {likelihood} is one of images [B, H, W, C], and the encoder takes "
                    f"{tuple(image_shape)}: give it a channel axis, as keras.Input((28, 28, 1)), or override p_x with a "
                    "likelihood of your own"
                )
            _check_decoder(p_x, likelihood, tuple(image_shape))
        self.latent_sizes = dict(latent_sizes)
        self.prior_layer = prior
        self.prior_encoder = prior_encoder
        self.likelihood = likelihood
        self.image_shape = tuple(image_shape)

    # === The factors that all models share ===

    def prior_parameters(self):
        """The prior's parameters as tensors: the pseudo-inputs are encoded here, and nowhere else."""
        return self.prior_layer.parameters(self.prior_encoder)

    def prior(self, parameters=None):
        """p(z) of the top layer, a tfd distribution over [M]; from `parameters` if they are at hand already."""
        return self.prior_layer.from_parameters(self.prior_parameters() if parameters is None else parameters)

    @property
    def pseudo_inputs(self):
        """The VampPrior's u_k, [K, H, W, C].

        Raises:
            AttributeError: for a prior without pseudo-inputs.
        """
        return self.prior_layer.pseudo_inputs

    # === What a subclass defines ===

    def networks(self):
        """The networks that the constructor takes, by the names of its arguments: Keras layers, or lists of them.

        What `.keras` files are made from; a model whose constructor takes anything else says it in `get_config`.
        """
        raise NotImplementedError  # abstract

    def generative_networks(self):
        """The networks of p(x|z) and of the factors between the layers: a list of Keras models.

        A method, since Keras would save what a property returns a second time, under the property's name.
        """
        raise NotImplementedError  # abstract

    def times_applied(self, network):
        """How often one pass applies a network: as many times as there are layers that share it."""
        return 1

    def elbo_terms(self, x, noise, prior_parameters=None, training=False, num_samples=1):
        """Distortion and rates, from one sample of each latent or several.

        Args:
            x: [B, H, W, C] in [0, 1]. One image (B = 1) is broadcast against the noise: S samples for that image, with
                what depends on x alone computed once.
            noise: as `draw_noise` gives it, [B, M] (or [S, M]; or [B k, M]: see `num_samples`) for each layer.
            prior_parameters: result of `prior_parameters`, to encode the pseudo-inputs once for many calls.
            training: whether layers with a training mode (batch normalisation) are in it.
            num_samples: k, a Python integer: samples for each image, what depends on x alone being computed once. The k
                rows of an image are neighbours, in the noise and in the result.

        Returns:
            `vampzoo.objectives.ElboTerms`, of [B k].
        """
        raise NotImplementedError  # abstract

    def posterior(self, x, noise=None):
        """{layer: `DiagonalGaussian`} over the latents given x [B, H, W, C].

        Lower layers are conditioned on the means of those above, or on draws of them if there is `noise`.
        """
        raise NotImplementedError  # abstract

    def decode(self, z, noise=None, seed=0):
        """Images [N, H, W, C] for latents of the top layer z [N, M].

        They are pictures of p(x|z) (`vampzoo.distributions.IndependentPixels.picture`); an autoregressive decoder draws
        pixels in turn from `seed` instead.

        Args:
            z: [N, M].
            noise: {layer: [N, M]} for drawing the lower layers; without it they take their means.
            seed: for decoders that draw pixels.
        """
        raise NotImplementedError  # abstract

    # === Sampling and encoding ===

    def draw_noise(self, num, seed):
        """Standard normals {layer: [num, M]} from an int32 seed [2]."""
        return {
            name: random.normal([num, size], random.fold_in(seed, layer))
            for layer, (name, size) in enumerate(self.latent_sizes.items())
        }

    def ancestral(self, n, seed, component=None, prior_parameters=None):
        """Images [n, H, W, C] drawn from the model: z from the prior, or from one of its components, then down.

        Args:
            n: integer or scalar tensor.
            seed: int32 [2].
            component: index of the mixture component to draw around (scalar), None for the whole prior.
            prior_parameters: as for `elbo_terms`.
        """
        prior = self.prior(prior_parameters)
        z_seed = random.fold_in(seed, 0)
        z = (
            prior.sample(n, seed=z_seed)
            if component is None
            else prior.sample_component(tf.fill([n], component), z_seed)
        )
        return self.decode(z, self.draw_noise(n, random.fold_in(seed, 1)), random.fold_in(seed, 2))

    def sample(self, n, seed=0, component=None, batch_size=500):
        """Draws images from the model.

        Args:
            n: number of images.
            seed: integer; the same seed gives the same images, in batches of the same size.
            component: draw around this pseudo-input (or MoG component) only.
            batch_size: how many are computed at once; each batch has draws of its own.

        Returns:
            NumPy [n, H, W, C]: pictures of p(x|z) for random z (the paper's figures), or drawn pixels if the decoder is
            autoregressive.

        Raises:
            InvalidValue: for n < 1, or a component that does not exist.
        """
        if n < 1:
            raise InvalidValue(f"n must be at least 1, got {n}")
        memory.check(2 * 4 * n * math.prod(self.image_shape), f"n={n} images")  # the batches, and all in one array
        parameters = self.prior_parameters()
        if component is not None:
            components.check_mixture(self.prior_layer)
            num_components = len(parameters[0])
            if not 0 <= component < num_components:
                raise InvalidValue(f"component must be in [0, {num_components}), got {component}")
        batches = [
            self.ancestral(min(batch_size, n - first), random.key(seed, first), component, parameters).numpy()
            for first in range(0, n, batch_size)
        ]
        return np.concatenate(batches)

    def encode(self, x):
        """{layer: (mean, scale)}, NumPy [B, M] each, of the posterior of x [B, H, W, C]."""
        posterior = self.posterior(self.as_images(x))
        return {name: (q.mean().numpy(), q.stddev().numpy()) for name, q in posterior.items()}

    def reconstruct(self, x, seed=0):
        """Images [B, H, W, C] decoded from the posterior means of x (NumPy)."""
        return self.call(self.as_images(x), random.key(seed)).numpy()

    def call(self, x, seed=0):
        """Reconstruction of x [B, H, W, C] from its posterior means; `seed` matters for autoregressive decoders."""
        return self.decode_posterior({name: q.mean() for name, q in self.posterior(x).items()}, seed)

    def decode_posterior(self, latents, seed=0):
        """Images [B, H, W, C] for a value [B, M] of every layer."""
        raise NotImplementedError  # abstract

    # === Likelihood ===

    def elbo(self, x, seed=0):
        """One-sample ELBO of each image of x [B, H, W, C], NumPy [B], nats.

        Raises:
            InvalidValue: for what are no images of the likelihood, or none.
        """
        x = self.as_data(x)
        return self.elbo_terms(x, self.draw_noise(len(x), random.key(seed))).log_weight.numpy()

    def log_likelihood(self, x, num_samples=5000, seed=0, jit_compile=True):
        """Importance-sampled log p(x) of each image (Burda et al., 2016; section 5.2 of the paper).

        Args:
            x: [B, H, W, C].
            num_samples: S.
            seed: integer.
            jit_compile: whether to compile with XLA, which takes seconds once and repays them after a few images.

        Returns:
            NumPy [B], nats: a lower bound in expectation, tight as S grows.

        Raises:
            InvalidValue: for num_samples < 1 or more than 2^31 - 1, what are no images of the likelihood, or none.
        """
        num_samples = samples_tensor(num_samples)
        # Kept out of Keras' attribute tracking: a compiled function is no part of the model and must not be exported.
        compiled = self.__dict__.setdefault("_compiled_importance_estimates", {})
        how = jit_compile, self.importance_chunk  # which a graph holds as a number
        if how not in compiled:
            compiled[how] = compiled_importance_estimate(self, jit_compile)
        x = self.as_data(x)
        estimate = compiled[how](x, num_samples, random.key(seed), tf.constant(0), self.prior_parameters())
        return estimate.log_likelihood.numpy()

    def log_weights(self, x, noise, prior_parameters=None, proposal=None, num_samples=1):
        """log p(x, z) - log r(z|x) for latents drawn with `noise` from r.

        Args:
            x, noise, prior_parameters, num_samples: as for `elbo_terms`.
            proposal: r, a `vampzoo.models.proposals.NoiseProposal` whose rows broadcast against the noise; None is q.

        Returns:
            [B k], nats.
        """
        log_ratio = 0.0
        if proposal is not None:
            noise, log_ratio = proposal.draw(noise)
        return self.elbo_terms(x, noise, prior_parameters, num_samples=num_samples).log_weight + log_ratio

    # === Components of the prior ===

    def responsibilities(self, x, num_samples=10, seed=0):
        """Which component of the prior explains which image: E_q(z|x)[p(k|z)] over the top layer.

        Args:
            x: [B, H, W, C].
            num_samples: draws of z an image.
            seed: integer.

        Returns:
            NumPy [B, K]; each row sums to 1.

        Raises:
            InvalidValue: if the prior is no mixture, num_samples < 1, or there are no images.
        """
        return components.responsibilities(
            self, images.some_images(x, self.image_shape, self.likelihood), num_samples, seed
        )

    def component_usage(self, x, num_samples=10, seed=0):
        """The share of the images x that each component explains, NumPy [K]: the mean of `responsibilities`."""
        return self.responsibilities(x, num_samples, seed).mean(axis=0)

    # === .keras files ===

    def get_config(self):
        config = None if self.model_config is None else dataclasses.asdict(self.model_config)
        return {**saving.described(self), "importance_chunk": self.importance_chunk, "model_config": config}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        importance_chunk, model_config = config.pop("importance_chunk"), config.pop("model_config")
        parts = {name: saving.part_from_data(value, custom_objects) for name, value in config.items()}
        model = cls(**parts)
        model.importance_chunk = importance_chunk
        model.model_config = model_config and ModelConfig.from_dict(model_config)
        return model

    def save(self, filepath, *args, **kwargs):
        """Writes the model, and if it is compiled its optimiser, to a `.keras` file: arguments as in Keras.

        `keras.saving.load_model` reads it, once `vampzoo.models` is imported.

        Raises:
            InvalidValue: if the file could not be loaded again, before anything is written.
        """
        if "_can_be_saved" not in self.__dict__:
            saving.check(self)
            self.__dict__["_can_be_saved"] = True
        if not str(filepath).endswith(".keras"):
            raise InvalidValue(f"{filepath} must end in .keras: of other files Keras could not make this model again")
        super().save(filepath, *args, **kwargs)

    def export(self, filepath, *args, input_signature=None, **kwargs):
        """Writes `call` as a SavedModel: arguments as in Keras. `vampzoo.export` writes all that a model can do.

        Args:
            input_signature: by default [images [B, H, W, C] float32].
        """
        images_spec = keras.InputSpec(shape=(None, *self.image_shape), dtype="float32")
        super().export(filepath, *args, input_signature=input_signature or [images_spec], **kwargs)

    # === Input ===

    def as_images(self, x):
        """x as float32 [B, H, W, C], once it has passed the checks of `vampzoo.models.images.as_images`."""
        return images.as_images(x, self.image_shape, self.likelihood)

    def as_data(self, x):
        """x as float32 [B, H, W, C], once it has passed the checks of `vampzoo.models.images.as_data`."""
        return images.as_data(x, self.image_shape, self.likelihood)

    # === In a notebook ===

    def describe(self):
        """One line: the model's name, prior, likelihood, latents and parameters."""
        latents = " + ".join(f"{size} ({name})" for name, size in self.latent_sizes.items())
        return (
            f"{self.name}, prior {type(self.prior_layer).__name__}, likelihood {self.likelihood}, "
            f"latents {latents}, {self.count_params():,} parameters"
        )

    def _repr_html_(self):
        return notebook.as_html(self)
