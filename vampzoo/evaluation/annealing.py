"""Annealed importance sampling (Neal, 2001) with Hamiltonian Monte Carlo: a second way to the same log p(x).

It walks from a proposal r to the posterior over the distributions r(z|x)^(1 - t) p(x, z)^t, t from 0 to 1, and its weights
have the mean p(x) as those of importance sampling have, with far less spread: r need only be where the walk may begin. Their
average is a lower bound in expectation, too. It is a check of other estimates: an image takes as long as with some 40,000
samples of importance sampling.

The walk is in the standard normal noise of the proposal (`vampzoo.models.proposals`): r is N(0, I) there, and the posterior
is close to it, which suits one step size for all directions.

Dimensions: B images, C chains an image, T temperatures, D noise of all layers together.
"""

import tensorflow as tf
import tensorflow_probability as tfp

from vampzoo import random

NUM_CHAINS = 16  # C
NUM_LEAPFROG_STEPS = 3
PILOT_STEPS = 100  # of a walk that only finds the step size of each image
TARGET_ACCEPTANCE = 0.75
ADAPTATION_RATE = 0.05  # by which a step of the pilot makes the step size larger or smaller
FIRST_STEP_SIZE = 0.2


class Afresh(tfp.mcmc.TransitionKernel):
    """A kernel that computes log-density and gradient where it starts, instead of taking them from its last step.

    `tfp.mcmc.sample_annealed_importance_chain` changes the density between two steps and hands on what the last step knew of
    the old one (tensorflow/probability, issue 1429). Hamiltonian Monte Carlo would accept by a ratio that is off by about
    log p(x) / T nats, and leave no temperature's distribution invariant: an estimate that is nats too low.

    Args:
        inner: a `tfp.mcmc` kernel.
    """

    def __init__(self, inner):
        self._inner = inner

    @property
    def is_calibrated(self):
        return self._inner.is_calibrated

    def bootstrap_results(self, init_state):
        return self._inner.bootstrap_results(init_state)

    def one_step(self, current_state, previous_kernel_results, seed=None):
        return self._inner.one_step(current_state, self.bootstrap_results(current_state), seed=seed)


class AnnealedImportanceSampling:
    """The AIS estimate of log p(x), compiled at the first call.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        steps: T.
        jit_compile: whether to compile with XLA.
    """

    def __init__(self, model, steps=200, jit_compile=True):
        self.model = model
        self.steps = steps
        self._run = tf.function(self._walk, jit_compile=jit_compile, autograph=False)

    def __call__(self, x, seed, prior_parameters, proposal=None):
        """Log-weights of the chains: log of the mean of exp of a row is the estimate.

        Args:
            x: [B, H, W, C].
            seed: int32 [2].
            prior_parameters: result of `model.prior_parameters`.
            proposal: where the walk begins, a `vampzoo.models.proposals.NoiseProposal` of B rows; None is q(z|x).

        Returns:
            NumPy [B, C], nats.
        """
        return self._run(x, seed, prior_parameters, proposal).numpy()

    def _walk(self, x, seed, prior_parameters, proposal):
        num_images, sizes = tf.shape(x)[0], list(self.model.latent_sizes.values())
        if proposal is not None:
            proposal = tf.nest.map_structure(lambda t: tf.repeat(t, NUM_CHAINS, axis=0), proposal)  # [B C, M]

        def log_normal(state):
            """log N(e; 0, I) up to a constant that the two densities share, [C, B], of noise [C, B, D]."""
            return -0.5 * tf.reduce_sum(tf.square(state), axis=-1)

        def log_joint(state):
            rows = tf.reshape(tf.transpose(state, [1, 0, 2]), [-1, sum(sizes)])  # [B C, D]
            noise = dict(zip(self.model.latent_sizes, tf.split(rows, sizes, axis=1), strict=True))
            log_weights = self.model.log_weights(x, noise, prior_parameters, proposal, num_samples=NUM_CHAINS)
            return log_normal(state) + tf.transpose(tf.reshape(log_weights, [-1, NUM_CHAINS]))  # [C, B]

        def hmc(log_prob, step_size):
            return tfp.mcmc.HamiltonianMonteCarlo(log_prob, step_size, NUM_LEAPFROG_STEPS)

        shape = [NUM_CHAINS, num_images, sum(sizes)]
        # The walk whose weights count uses none of the pilot's numbers but its step sizes.
        pilot = tfp.mcmc.SimpleStepSizeAdaptation(
            hmc(log_joint, tf.fill([1, num_images, 1], FIRST_STEP_SIZE)),
            num_adaptation_steps=PILOT_STEPS,
            target_accept_prob=TARGET_ACCEPTANCE,
            adaptation_rate=ADAPTATION_RATE,
        )
        _, step_sizes = tfp.mcmc.sample_chain(
            num_results=PILOT_STEPS // 2,
            num_burnin_steps=PILOT_STEPS - PILOT_STEPS // 2,
            current_state=random.normal(shape, random.fold_in(seed, 0)),
            kernel=pilot,
            trace_fn=lambda _, results: results.new_step_size,
            seed=random.fold_in(seed, 1),
        )
        step_size = tf.reduce_mean(step_sizes, axis=0)  # [1, B, 1]
        _, log_weights, _ = tfp.mcmc.sample_annealed_importance_chain(
            num_steps=self.steps,
            proposal_log_prob_fn=log_normal,
            target_log_prob_fn=log_joint,
            current_state=random.normal(shape, random.fold_in(seed, 2)),
            make_kernel_fn=lambda log_prob: Afresh(hmc(log_prob, step_size)),
            seed=random.fold_in(seed, 3),
        )
        return tf.transpose(log_weights)  # [B, C]
