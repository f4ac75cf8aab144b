"""A model as a SavedModel that TensorFlow Serving runs: signatures in, arrays out, no Python on the way.

Dimensions: B images of a request, n samples, K mixture components, M latents of a layer, (H, W, C) image.

Signatures (images are float32 in [0, 1]; a seed is an int32 pair: [s, 0] is the integer seed s of the Python methods):

    reconstruct       images [B, H, W, C]           -> images [B, H, W, C]; also serving_default
    encode            images                        -> z2_mean, z2_scale [B, M2], z1_mean, z1_scale [B, M1]
    decode            z2 [B, M2]                    -> images [B, H, W, C]
    sample            n, seed [2]                   -> images [n, H, W, C]
    sample_component  component, n, seed [2]        -> images [n, H, W, C]; mixture priors
    elbo              images, seed [2]              -> elbo, distortion, rate [B], nats
    log_likelihood    images, num_samples, seed [2] -> log_likelihood [B], nats
    pseudo_inputs                                   -> pseudo_inputs [K, H, W, C]; VampPriors

A model with one stochastic layer says z where this says z2, and has no z1; one of L layers has them all, zL, ..., z1, and
decode takes zL. Every request is checked inside the graph, before
anything of its size is allocated: B and n are at least 1 and at most `MAX_IMAGES` and `MAX_SAMPLES`, num_samples at most
`MAX_IMPORTANCE_SAMPLES` and B times num_samples at most `max_draws` of the model, components exist, images have the model's
shape and lie in [0, 1], latents are finite and at most `MAX_LATENT`. What fails a check gets INVALID_ARGUMENT.
"""

import pathlib

import keras
import tensorflow as tf

from vampzoo import files, random
from vampzoo.models import flops
from vampzoo.models.importance import importance_estimate
from vampzoo.zoo import weights

# With these the largest request keeps the memory below a few gigabytes in the largest model of the zoo.
MAX_SAMPLES = 500  # n: one batch of `model.sample`, so that the same seed gives the same images
MAX_IMAGES = 1000  # B
MAX_IMPORTANCE_SAMPLES = 10_000  # num_samples; memory depends on `model.importance_chunk` alone, time on B num_samples
MAX_LATENT = 1e6  # absolute value of a latent: far beyond any that a model draws, and far below where decoders overflow
# B num_samples is bounded so that a request takes a core ten seconds or less; one does of the models' products and
# convolutions at least 20 GFLOP/s.
LIKELIHOOD_OPERATIONS = 10 * 20e9

WARMUP_FILE = "tf_serving_warmup_requests"  # in assets.extra/, where TensorFlow Serving looks for it


class ServedModel:
    """The signatures of a model as functions of tensors.

    The prior's parameters are computed here, once, and kept in variables: a VampPrior's pseudo-inputs are not encoded again
    at each request.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
    """

    def __init__(self, model):
        self.model = model
        parameters = model.prior_parameters()
        self.prior_variables = [tf.Variable(t, trainable=False, name=f"prior_{i}") for i, t in enumerate(parameters)]
        self._make_parameters = getattr(type(parameters), "_make", tuple)
        self.num_components = int(parameters[0].shape[0]) if model.prior_layer.has_components else 0
        self.max_draws = max_draws(model)

    def signatures(self):
        """{name: (function, its `tf.TensorSpec`s)}, the default first."""
        top, top_size = next(iter(self.model.latent_sizes.items()))
        images = tf.TensorSpec([None, *self.model.image_shape], tf.float32, "images")
        z = tf.TensorSpec([None, top_size], tf.float32, top)
        seed = tf.TensorSpec([2], tf.int32, "seed")
        n, num_samples, component = (tf.TensorSpec([], tf.int32, name) for name in ("n", "num_samples", "component"))
        result = {
            "reconstruct": (self.reconstruct, [images]),
            "encode": (self.encode, [images]),
            "decode": (self.decode, [z]),
            "sample": (self.sample, [n, seed]),
            "elbo": (self.elbo, [images, seed]),
            "log_likelihood": (self.log_likelihood, [images, num_samples, seed]),
        }
        if self.num_components:
            result["sample_component"] = (self.sample_component, [component, n, seed])
        if self.model.prior_layer.has_pseudo_inputs:
            result["pseudo_inputs"] = (self.pseudo_inputs, [])
        return result

    def prior_parameters(self):
        """The prior's parameters, read from their variables."""
        return self._make_parameters(tf.convert_to_tensor(variable) for variable in self.prior_variables)

    # === Signatures ===

    def reconstruct(self, images):
        """images [B, H, W, C] -> images, from the posterior means."""
        return {"images": self.model.call(self._images(images), random.key(0))}

    def encode(self, images):
        """images [B, H, W, C] -> mean and scale of each layer's posterior, [B, M] each."""
        outputs = {}
        for name, q in self.model.posterior(self._images(images)).items():
            outputs[f"{name}_mean"], outputs[f"{name}_scale"] = q.mean(), q.stddev()
        return outputs

    def decode(self, z):
        """z [B, M] of the top layer -> images [B, H, W, C], from the means of the layers below."""
        z = _of_shape(z, [next(iter(self.model.latent_sizes.values()))], "latents")
        count = _in_range(tf.shape(z)[0], 1, MAX_IMAGES, "the number of latents")
        # NaN compares as false.
        message = f"latents must be finite, from {-MAX_LATENT:.0f} to {MAX_LATENT:.0f}"
        finite = tf.debugging.Assert(tf.reduce_all(tf.abs(z) <= MAX_LATENT), [message])
        with tf.control_dependencies([count, finite]):
            z = tf.identity(z)
        return {"images": self.model.decode(z, seed=random.key(0))}

    def sample(self, n, seed):
        """n, seed [2] -> images [n, H, W, C] drawn from the model."""
        n = _in_range(n, 1, MAX_SAMPLES, "n")
        return {"images": self.model.ancestral(n, random.key(seed, 0), None, self.prior_parameters())}

    def sample_component(self, component, n, seed):
        """component, n, seed [2] -> images [n, H, W, C] drawn around one component of the prior."""
        n = _in_range(n, 1, MAX_SAMPLES, "n")
        component = _in_range(component, 0, self.num_components - 1, "component")
        return {"images": self.model.ancestral(n, random.key(seed, 0), component, self.prior_parameters())}

    def elbo(self, images, seed):
        """images [B, H, W, C], seed [2] -> elbo, distortion and rate, [B] each, nats."""
        images = self._data(images)
        noise = self.model.draw_noise(tf.shape(images)[0], random.key(seed))
        terms = self.model.elbo_terms(images, noise, self.prior_parameters())
        return {"elbo": terms.log_weight, "distortion": terms.distortion, "rate": terms.rate}

    def log_likelihood(self, images, num_samples, seed):
        """images [B, H, W, C], num_samples, seed [2] -> log_likelihood [B], nats."""
        images = self._data(images)
        num_samples = _in_range(num_samples, 1, MAX_IMPORTANCE_SAMPLES, "num_samples")
        draws = tf.shape(images)[0] * num_samples  # at most 10^7
        within = _in_range(draws, 1, self.max_draws, "the number of images times num_samples")
        with tf.control_dependencies([within]):
            num_samples = tf.identity(num_samples)
        estimate = importance_estimate(self.model, images, num_samples, random.key(seed), 0, self.prior_parameters())
        return {"log_likelihood": estimate.log_likelihood}

    def pseudo_inputs(self):
        """-> the pseudo-inputs [K, H, W, C]."""
        return {"pseudo_inputs": self.model.pseudo_inputs}

    def _images(self, images):
        """The images of a request, once they have passed the checks."""
        images = _of_shape(images, self.model.image_shape, "images")
        checks = [
            _in_range(tf.shape(images)[0], 1, MAX_IMAGES, "the number of images"),
            # NaN compares as false.
            tf.debugging.Assert(
                tf.reduce_all((images >= 0) & (images <= 1)), ["images must lie in [0, 1] and hold no NaN"]
            ),
        ]
        with tf.control_dependencies(checks):
            return tf.identity(images)

    def _data(self, images):
        """`_images` of which the likelihood is one: a Bernoulli's are 0 and 1."""
        images = self._images(images)
        if self.model.likelihood != "bernoulli":
            return images
        message = "grey values have no likelihood under a Bernoulli: images must be 0 or 1"
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all((images == 0) | (images == 1)), [message])]):
            return tf.identity(images)


def _of_shape(tensor, shape, name):
    """`tensor`, available only once it is known to have the shape [B, *shape]: TensorFlow Serving passes on any."""
    # Padded, so that of other ranks there is as much to compare.
    found = tf.concat([tf.shape(tensor), tf.fill([len(shape) + 2], -1)], axis=0)[1 : len(shape) + 2]
    wanted = ", ".join(map(str, ["B", *shape]))
    message = [f"{name} must have shape [{wanted}], got", tf.shape(tensor)]
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(found == [*shape, -1]), message)]):
        return tf.ensure_shape(tf.identity(tensor), [None, *shape])


def _in_range(value, low, high, name):
    """`value` (int32 scalar), available only once it is known to lie in [low, high]."""
    check = tf.debugging.Assert((value >= low) & (value <= high), [f"{name} must be from {low} to {high}, got", value])
    with tf.control_dependencies([check]):
        return tf.identity(value)


def max_draws(model):
    """The most importance samples, over all images of a request, that a served model takes.

    It follows from the shapes of the model's networks alone.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
    """
    draws = LIKELIHOOD_OPERATIONS / flops.importance_sample(model)
    return max(1, min(int(draws), MAX_IMAGES * MAX_IMPORTANCE_SAMPLES))


def export(model, folder, name):
    """Writes a SavedModel that loads in TensorFlow alone and in TensorFlow Serving, and from which `vampzoo.load` reads.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        folder: the version folder to write, .../1.
        name: under which it will be served; the warm-up requests carry it.

    Raises:
        ZooError: if the files that were written do not hold the model's weights.
        OSError: if they cannot be written.
    """
    folder = pathlib.Path(folder)
    served = ServedModel(model)
    # The archive finds the variables that its endpoints use; `track(model)` would store each a second time.
    archive = keras.export.ExportArchive()
    archive.add_variable_collection("prior_parameters", served.prior_variables)
    # No endpoint uses what the prior's parameters were computed from: logits, or the log-variances of a mixture.
    archive.add_variable_collection("model_weights", [weight.value for weight in model.weights])
    signatures = served.signatures()
    for signature, (function, specs) in signatures.items():
        archive.add_endpoint(signature, function, specs)
    try:
        with files.path_without_patterns(folder.parent) as parent:
            archive.write_out(f"{parent}/{folder.name}", verbose=False)
        _write_warmup(folder, name, served, signatures)
    except tf.errors.OpError as error:
        raise OSError(f"{folder} cannot be written (disk full?): {str(error).splitlines()[0]}") from error
    weights.write_map(model, folder)


def _write_warmup(folder, name, served, signatures):
    """One small request for each signature, which TensorFlow Serving runs before it reports a version as ready."""
    # Generated stubs of TensorFlow Serving's protocol, which take a moment to import.
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    examples = {
        "images": tf.zeros([1, *served.model.image_shape]),
        "n": tf.constant(1),
        "num_samples": tf.constant(1),
        "component": tf.constant(0),
        "seed": tf.constant([0, 0]),
        next(iter(served.model.latent_sizes)): tf.zeros([1, next(iter(served.model.latent_sizes.values()))]),
    }
    path = folder / "assets.extra" / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, (_, specs) in signatures.items():
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name=name, signature_name=signature),
                inputs={spec.name: tf.make_tensor_proto(examples[spec.name]) for spec in specs},
            )
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
