"""Keras' `compile`, `fit` and `evaluate` for models with an ELBO, which is then the only thing that they can train.

    model.compile("adam")                                   # the ELBO; no loss can be named
    model.fit(images, validation_data=validation_images, epochs=100, callbacks=[vampzoo.callbacks.WarmUp(20)])

What XLA compiles is the arithmetic of a step. The noise is drawn outside, where that is much faster on a CPU, and is a
function of (seed, step): two trainings with the same seed, data and order see the same draws.

Dimensions: B batch, k samples of the latents an image, M latents of a layer, (H, W, C) image. Everything in nats.
"""

import contextlib
import functools
import inspect
import numbers

import keras
import tensorflow as tf

from vampzoo import objectives, optimizers, random
from vampzoo.config import LIKELIHOODS, OBJECTIVES
from vampzoo.errors import InvalidValue
from vampzoo.models import dreg
from vampzoo.networks.layers import batch_normalizations

# What a seed is folded with, so that no two uses of it share a stream.
NOISE, BINARISATION, EVALUATION_NOISE, EVALUATION_BINARISATION = range(100, 104)

_MARK = "vampzoo: "  # begins the message of an assertion about data, which TensorFlow wraps in text of its own


def losses_and_terms(model, x, noise, prior_parameters, beta, *, objective="elbo", num_samples=1, training=False):
    """What is minimised for each image of a batch, and what it is made of.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        x: [B, H, W, C].
        noise: as `model.draw_noise` gives it, [B k, M] a layer.
        prior_parameters: result of `model.prior_parameters`.
        beta: weight of the rate.
        objective: one of `vampzoo.config.OBJECTIVES`.
        num_samples: k, a Python integer.
        training: as for `elbo_terms`.

    Returns:
        Losses [B], each with what the networks' weight regularisers add, and `vampzoo.objectives.ElboTerms` of [B, k].
    """

    def terms_of(noise):
        terms = model.elbo_terms(x, noise, prior_parameters, training=training, num_samples=num_samples)  # of [B k]
        return tf.nest.map_structure(lambda t: tf.reshape(t, [-1, num_samples]), terms)  # of [B, k]

    if objective == "dreg":
        losses, terms = dreg.losses_and_terms(terms_of, noise, beta)
    else:
        terms = terms_of(noise)
        losses = objectives.training_loss(terms, beta, objective)
    # Of layers of one's own; those of the zoo have none.
    penalties = [v.regularizer(v) for v in model.trainable_variables if getattr(v, "regularizer", None)]
    return (losses + tf.add_n(penalties) if penalties else losses), terms


class _Fitting:
    """What `compile` was told, and what `fit` keeps between steps.

    A plain object in the model's `__dict__`: Keras would save metrics and variables that it finds among a model's
    attributes, and a weights file would then depend on whether its model had been compiled.
    """

    def __init__(self, model, objective, num_samples, dynamic, seed, jit_compile):
        self.settings = {"objective": objective, "num_samples": num_samples, "dynamic": dynamic, "seed": seed}
        self.objective, self.num_samples, self.dynamic = objective, num_samples, dynamic
        self.jit_compile = jit_compile
        self.seed = seed
        self.beta = tf.Variable(1.0, trainable=False, name="beta")
        layers = [f"rate_{name}" for name in model.latent_sizes] if len(model.latent_sizes) > 1 else []
        bound = ["importance_bound"] if objective != "elbo" else []
        self.metrics = {
            name: keras.metrics.Mean(name=name) for name in ("loss", "elbo", "distortion", "rate", *layers, *bound)
        }


class ElboModel(keras.Model):
    """A Keras model whose `fit` maximises its ELBO.

    A subclass has `elbo_terms`, `draw_noise`, `prior_parameters`, `latent_sizes`, `likelihood` and `image_shape`
    (`vampzoo.models.LatentVariableModel` says what they are).
    """

    def compile(
        self,
        optimizer="normalized_adam",
        loss=None,
        *,
        objective="elbo",
        num_samples=1,
        dynamic=False,
        seed=0,
        jit_compile="auto",
        run_eagerly=False,
        steps_per_execution=1,
        auto_scale_loss=True,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
    ):
        """Says how `fit` trains.

        `fit(x, validation_data=x_val)` takes images alone: arrays, or a `tf.data.Dataset` of batches. It reports, and
        callbacks monitor, `elbo`, `distortion`, `rate` (with several layers `rate_z2`, ... too) and `loss`, what is
        minimised; of the validation data with `val_` before the name and with the rate's weight at 1.

        Args:
            optimizer: "normalized_adam" (the paper's), any name that Keras knows, or a Keras optimiser.
            objective: "elbo", or "iwae" for the importance-weighted bound of Burda et al. (2016), which is then reported
                as `importance_bound`; "dreg" for that bound with the gradient of Tucker et al. (2019).
            num_samples: k, samples of the latents an image in each step; "iwae" needs at least 2.
            dynamic: whether images are intensities in [0, 1], to be binarised anew at each use. Of validation images each
                has one binarisation throughout, and those of 0 and 1 stay what they are.
            seed: integer. The draws of a step are a function of it and of the number of steps that the optimiser has done.
            jit_compile: whether to compile with XLA; "auto": unless `run_eagerly`.
            run_eagerly, steps_per_execution, auto_scale_loss: as in Keras.
            loss, loss_weights, metrics, weighted_metrics: refused: the model says itself what is to be minimised.

        Raises:
            InvalidValue: for a loss, metrics, or an argument out of range.
        """
        refused = {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
        }
        for name, value in refused.items():
            if value is not None:
                raise InvalidValue(
                    f"{name}={value!r} cannot be given: the model maximises its ELBO, reconstruction and prior both, and "
                    "reports elbo, distortion and rate. Call model.compile(optimizer), or "
                    'model.compile(optimizer, objective="iwae", num_samples=k); the reconstruction term is decided by '
                    "the model's likelihood"
                )
        if objective not in OBJECTIVES:
            raise InvalidValue(f"objective={objective!r} is unknown; the valid values are: {', '.join(OBJECTIVES)}")
        least = 2 if objective == "iwae" else 1  # with one sample it is the ELBO
        if not isinstance(num_samples, numbers.Integral) or num_samples < least:
            raise InvalidValue(
                f"num_samples must be an integer of at least {least} for objective={objective}, got {num_samples}"
            )
        if not isinstance(seed, numbers.Integral):
            raise InvalidValue(f"seed must be an integer, got {seed!r}")
        num_samples, seed = int(num_samples), int(seed)  # NumPy's are none that a .keras file could hold
        if dynamic and self.likelihood != "bernoulli":
            raise InvalidValue(f"dynamic=True is for the likelihood bernoulli; this model's is {self.likelihood}")
        if optimizer == "normalized_adam":
            optimizer = optimizers.NormalizedAdam()
        if jit_compile == "auto":
            jit_compile = not run_eagerly
        # Keras is to compile nothing with XLA itself: it would compile the draws, too.
        super().compile(
            optimizer,
            jit_compile=False,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            auto_scale_loss=auto_scale_loss,
        )
        with self.distribute_strategy.scope():
            self.__dict__["_fitting"] = _Fitting(self, objective, num_samples, dynamic, seed, jit_compile)

    @property
    def beta(self):
        """The weight of the rate in `fit`, a variable: 1 but for `vampzoo.callbacks.WarmUp`.

        Raises:
            InvalidValue: before `compile`.
        """
        return self._compiled_fitting.beta

    @property
    def _compiled_fitting(self):
        fitting = self.__dict__.get("_fitting")
        if fitting is None:
            raise InvalidValue("call model.compile(optimizer) first")
        return fitting

    @property
    def metrics(self):
        fitting = self.__dict__.get("_fitting")
        return list(fitting.metrics.values()) if fitting else []

    # === Keras' entrances ===

    def fit(self, *args, **kwargs):
        """Keras' `fit`, on images alone: see `compile`.

        Raises:
            InvalidValue: if there is anything beside images, or they are not what the likelihood is a distribution of; or
                for batch normalisation on several replicas.
        """
        _check_unweighted(super().fit, args, kwargs)
        beta = tf.identity(self.beta)
        try:
            with _data_errors_explained():
                return super().fit(*args, **kwargs)
        except BaseException:
            self.beta.assign(beta)  # an interrupted warm-up has left it smaller
            raise

    def evaluate(self, *args, **kwargs):
        """Keras' `evaluate`, on images alone: elbo, distortion and rate with the draws of `compile`'s seed.

        Raises:
            InvalidValue: as for `fit`.
        """
        self._compiled_fitting  # noqa: B018 raises before `compile`
        _check_unweighted(super().evaluate, args, kwargs)
        with _data_errors_explained():
            return super().evaluate(*args, **kwargs)

    def make_train_function(self, force=False):
        if self.distribute_strategy.num_replicas_in_sync > 1 and batch_normalizations(self):
            raise InvalidValue(
                "fit does not share the moving statistics of batch normalisation between replicas; vampzoo.training.Trainer "
                "and python -m vampzoo.train do"
            )
        if self.train_function is None or force:
            with self.distribute_strategy.scope():
                if not self.optimizer.built:
                    self.optimizer.build(self.trainable_variables)
            # With several replicas the update must talk to the others, which XLA cannot.
            if self.distribute_strategy.num_replicas_in_sync == 1:
                self.__dict__["_training_values"] = self._compiled(functools.partial(self._step, self._gradients))
            else:
                self.__dict__["_training_values"] = functools.partial(self._step, self._compiled(self._gradients))
        return super().make_train_function(force)

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            self.__dict__["_evaluation_values"] = self._compiled(self._evaluated)
        return super().make_test_function(force)

    def train_step(self, data):
        x, noise = self._draw(_only_images(data), NOISE, BINARISATION)
        return self._report(self._training_values(x, noise, tf.convert_to_tensor(self._fitting.beta)))

    def test_step(self, data):
        x, noise = self._draw(_only_images(data), EVALUATION_NOISE, EVALUATION_BINARISATION)
        return self._report(self._evaluation_values(x, noise))

    def _compiled(self, function):
        return tf.function(function, jit_compile=True, autograph=False) if self._fitting.jit_compile else function

    # === A step ===

    def _draw(self, x, noise_stream, binarisation_stream):
        """Checked images [B, H, W, C], and noise [B k, M] for each layer."""
        fitting = self._fitting
        x = checked_images(x, self.image_shape, self.likelihood, fitting.dynamic)
        seed = random.key(fitting.seed)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        # Images seen in this epoch or evaluation: the batches of an evaluation, or those whose gradients are accumulated,
        # belong to one step of the optimiser.
        seen = tf.cast(fitting.metrics["loss"].count, tf.int32)
        step = tf.cast(self.optimizer.iterations, tf.int32)
        if fitting.dynamic:
            # That of a validation image does not depend on the step, so that epochs can be compared.
            when = (step, seen) if binarisation_stream == BINARISATION else (seen,)
            x = random.bernoulli(x, random.fold_in(seed, binarisation_stream, *when, replica))
        noise_seed = random.fold_in(seed, noise_stream, step, seen, replica)
        return x, self.draw_noise(tf.shape(x)[0] * fitting.num_samples, noise_seed)

    def _step(self, gradients_of, x, noise, beta):
        gradients, values = gradients_of(x, noise, beta)
        gradients = optimizers.sharing_overflow(self.optimizer, gradients)
        self.optimizer.apply(gradients, self.trainable_variables)  # sums over the replicas
        return values

    def _gradients(self, x, noise, beta):
        with tf.GradientTape() as tape:
            losses, terms = self._minimised(x, noise, beta, self._fitting.objective, training=True)
            loss = tf.reduce_mean(losses) / self.distribute_strategy.num_replicas_in_sync
            loss = self.optimizer.scale_loss(loss)  # by 1, but for float16
        gradients = tape.gradient(loss, [v.value for v in self.trainable_variables])
        return gradients, self._named(losses, terms)

    def _evaluated(self, x, noise):
        # "dreg" and "iwae" differ in the gradient alone, and here is none.
        objective = "iwae" if self._fitting.objective == "dreg" else self._fitting.objective
        return self._named(*self._minimised(x, noise, 1.0, objective, training=False))

    def _minimised(self, x, noise, beta, objective, training):
        return losses_and_terms(
            self,
            x,
            noise,
            self.prior_parameters(),
            beta,
            objective=objective,
            num_samples=self._fitting.num_samples,
            training=training,
        )

    def _named(self, losses, terms):
        """{metric: [B]}, means over the k samples."""
        values = {"loss": losses}
        means = tf.nest.map_structure(lambda t: tf.reduce_mean(t, axis=1), terms)  # of [B]
        values |= {"elbo": means.log_weight, "distortion": means.distortion, "rate": means.rate}
        values |= {f"rate_{name}": rate for name, rate in means.rates.items()}
        if self._fitting.objective != "elbo":
            values["importance_bound"] = objectives.importance_bound(terms.log_weight, axis=1)
        return {name: values[name] for name in self._fitting.metrics}

    def _report(self, values):
        for name, metric in self._fitting.metrics.items():
            metric.update_state(values[name])
        return {name: metric.result() for name, metric in self._fitting.metrics.items()}

    # === What `.keras` files hold of it ===

    def get_compile_config(self):
        if not self.compiled:
            return None
        return {
            "optimizer": keras.optimizers.serialize(self.optimizer),
            **self._fitting.settings,
            "jit_compile": self._fitting.jit_compile,
            "run_eagerly": self.run_eagerly,
            "steps_per_execution": self.steps_per_execution,
            # Kept as what came of it: on loading, an optimiser that scales the loss is not wrapped anew.
            "auto_scale_loss": isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer),
        }

    def compile_from_config(self, config):
        self.compile(**{**config, "optimizer": keras.optimizers.deserialize(config["optimizer"])})
        self.optimizer.build(self.trainable_variables)  # for the state that the file holds of it


# === Data ===


def _only_images(data):
    """The images of what Keras hands to a step.

    Raises:
        InvalidValue: if there are labels, targets, sample weights or names beside them.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if y is not None or sample_weight is not None or not tf.is_tensor(x):
        raise InvalidValue(
            "the ELBO is a function of images alone: fit(x), without targets, labels or weights. Of a tf.data.Dataset "
            'keep the images: dataset.map(lambda x, y: x), or dataset.map(lambda example: example["image"])'
        )
    return x


def _check_unweighted(method, args, kwargs):
    """Refuses weights among the arguments of Keras' `method`: without targets it would leave them out and say nothing."""
    given = inspect.signature(method).bind(*args, **kwargs).arguments
    for name in ("sample_weight", "class_weight"):
        if given.get(name) is not None:
            raise InvalidValue(f"{name} cannot be given: the ELBO is a mean over images that count alike")


def checked_images(x, image_shape, likelihood, dynamic):
    """A batch as float32 [B, H, W, C], with assertions in its graph that the likelihood is one of such images.

    Args:
        x: [B, H, W, C], or [B, H, W] if C = 1; of any numeric type.
        image_shape: (H, W, C), or another shape for a likelihood of a subclass's own.
        likelihood: one of `vampzoo.config.LIKELIHOODS`; of others the values are not known, and only NaN are refused.
        dynamic: whether images will be binarised.

    Raises:
        InvalidValue: for another shape.
    """
    # Keras has seen images of several shapes, or with and without the channel axis, and makes one graph for all.
    if not x.shape[1:].is_fully_defined():
        x = _of_unknown_rank(x, image_shape)
    if x.shape.rank == len(image_shape) and image_shape[-1] == 1:
        x = x[..., tf.newaxis]
    if x.shape.rank != len(image_shape) + 1 or not x.shape[1:].is_compatible_with(image_shape):
        raise InvalidValue(f"images must have shape [B, {', '.join(map(str, image_shape))}], got {x.shape}")
    x = tf.ensure_shape(tf.cast(x, tf.float32), [x.shape[0], *image_shape])
    if likelihood not in LIKELIHOODS:
        checks = {"the data hold NaN or infinities": tf.reduce_all(tf.math.is_finite(x))}
    else:
        checks = {
            "images must lie in [0, 1] and hold no NaN; divide those from 0 to 255 by 255": tf.reduce_all(
                (x >= 0) & (x <= 1)
            )
        }
        if likelihood == "bernoulli" and not dynamic:
            advice = (
                "grey values have no likelihood under a Bernoulli: compile(..., dynamic=True) draws 0 and 1 with these "
                "probabilities anew at each use, x > 0.5 does so once; the likelihood discretized_logistic models greys"
            )
            checks[advice] = tf.reduce_all((x == 0) | (x == 1))
    assertions = [tf.debugging.Assert(ok, [f"{_MARK}{message}"]) for message, ok in checks.items()]
    with tf.control_dependencies([a for a in assertions if a is not None]):
        return tf.identity(x)


def _of_unknown_rank(x, image_shape):
    """x as [B, H, W, C], with an assertion in its graph that it is that, or [B, H, W] if C = 1."""
    shapes = [image_shape, image_shape[:-1]] if image_shape[-1] == 1 else [image_shape]
    sizes = tf.shape(x)[1:]
    fits = [
        tf.cond(tf.equal(tf.size(sizes), len(shape)), lambda s=shape: tf.reduce_all(sizes == s), lambda: False)
        for shape in shapes
    ]
    message = f"images must have shape [B, {', '.join(map(str, image_shape))}], and these have another"
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_any(fits), [f"{_MARK}{message}"])]):
        return tf.reshape(x, [-1, *image_shape])


@contextlib.contextmanager
def _data_errors_explained():
    """A context in which an assertion of `checked_images` is an `InvalidValue`."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        _, found, rest = str(error).partition(_MARK)
        if not found:
            raise
        raise InvalidValue(rest.splitlines()[0].rstrip("]'\" ")) from None
