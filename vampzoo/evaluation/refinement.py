"""Proposals that are fitted to one image at a time: q(z|x), improved by gradient steps.

The encoder answers for all images with one network, and its answer for an image that it was not trained on can be far from
the best Gaussian (the amortisation gap; Cremer et al., 2018). What is fitted here changes the proposal of importance
sampling alone, never the model: its estimates are of the same p(x), and as much lower bounds as those from q(z|x).

Dimensions: B images, k draws a step, M latents of a layer.
"""

import keras
import tensorflow as tf

from vampzoo.models.proposals import NoiseProposal

NUM_DRAWS = 8  # k: the bound of 8 samples is what the steps climb
LEARNING_RATE = 0.05  # of Adam, in sigmas of q; falls to 0 along a cosine
INFLATION = 1.1  # a proposal narrower than the posterior has weights without bound, a wider one only loses some samples


class Refiner:
    """Fits a `NoiseProposal` to every image of a batch: Adam on the importance-weighted bound of k draws.

    Each step has k fresh draws, the same for all images, so that an image does not notice its batch. The gradient is the
    doubly reparameterised one (Tucker et al., 2019, Eq. 8), whose noise vanishes where the proposal is the posterior.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        batch_size: B, images that are refined at once.
        steps: how many gradient steps.
        jit_compile: whether to compile with XLA.
    """

    def __init__(self, model, batch_size, steps=200, jit_compile=True):
        self.model = model
        self.steps = steps
        shapes = {name: (batch_size, size) for name, size in model.latent_sizes.items()}
        self._parameters = NoiseProposal(
            *({name: keras.Variable(tf.zeros(shape)) for name, shape in shapes.items()} for _ in range(2))
        )
        self._variables = tf.nest.flatten(self._parameters)
        schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
        # The gradients change as the bound is climbed: an average over 100 steps is long enough.
        self._optimizer = keras.optimizers.Adam(schedule, beta_2=0.99)
        self._optimizer.build(self._variables)
        self._fit = tf.function(self._climb, jit_compile=jit_compile, autograph=False)

    def __call__(self, x, seed, prior_parameters):
        """The `NoiseProposal` of each image.

        Args:
            x: [B, H, W, C].
            seed: int32 [2], for the draws of the steps; the estimate needs others.
            prior_parameters: result of `model.prior_parameters`.
        """
        # Drawn out here, as XLA is slow at random numbers on a CPU.
        noise = self.model.draw_noise(self.steps * NUM_DRAWS, seed)
        noise = {name: tf.reshape(n, [self.steps, NUM_DRAWS, -1]) for name, n in noise.items()}  # [steps, k, M] each
        return self._fit(x, noise, prior_parameters)

    def _climb(self, x, noise, prior_parameters):
        for variable in (*self._variables, *self._optimizer.variables):
            variable.assign(tf.zeros_like(variable))

        def next_step(step):
            draws = {name: n[step] for name, n in noise.items()}  # [k, M] each
            self._optimizer.apply(self._gradients(x, draws, prior_parameters), self._variables)
            return (step + 1,)

        tf.while_loop(lambda step: step < self.steps, next_step, (tf.constant(0),))
        return tf.nest.map_structure(tf.convert_to_tensor, self._parameters).inflated(INFLATION)

    def _gradients(self, x, draws, prior_parameters):
        """Of minus the bound with respect to shifts and log-scales."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            parameters = tf.nest.map_structure(tf.convert_to_tensor, self._parameters)  # [B, M] each
            tape.watch(parameters)
            proposal = tf.nest.map_structure(lambda t: tf.repeat(t, NUM_DRAWS, axis=0), parameters)  # [B k, M]
            tiled = {name: tf.tile(d, [tf.shape(x)[0], 1]) for name, d in draws.items()}  # [B k, M]
            moved, _ = proposal.draw(tiled)
            # Through the draws alone: the density's own parameters are held.
            log_ratio = tf.nest.map_structure(tf.stop_gradient, proposal).log_ratio(moved)  # [B k]
            terms = self.model.elbo_terms(x, moved, prior_parameters, num_samples=NUM_DRAWS)
            log_weights = tf.reshape(terms.log_weight + log_ratio, [-1, NUM_DRAWS])  # [B, k]
            shares = tf.stop_gradient(tf.nn.softmax(log_weights, axis=1))  # [B, k]
            loss = -tf.reduce_sum(tf.square(shares) * log_weights)
        return tape.gradient(loss, tf.nest.flatten(parameters))
