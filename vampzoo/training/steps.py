"""The training steps: data on the device, noise from (seed, step), many steps in one graph.

Dimensions: B global batch, R replicas, N training images, k samples of the latents for each image. What a step computes does
not depend on R: order, binarisation and noise are drawn for the global batch, and each replica takes its rows.

What is compiled by XLA is the arithmetic. Draws and the gathering of batches stay outside, where they are much faster on
a CPU and the same whether XLA is used or not.
"""

import contextlib
import functools

import numpy as np
import tensorflow as tf

from vampzoo import objectives, optimizers, random
from vampzoo.models.fitting import losses_and_terms
from vampzoo.networks.layers import batch_normalizations
from vampzoo.training.dropout import UnitDropout
from vampzoo.training.shifts import shifted

# What a seed is folded with, so that no two uses of the run's seed share a stream.
ORDER, BINARISATION, NOISE, VALIDATION, DROPOUT, SHIFT = range(6)
MAX_STATISTICS_STEPS = 32  # batches that statistics are averaged over


class TrainingSteps:
    """Runs steps of the objective on in-memory images.

    Args:
        model: a `vampzoo.models.LatentVariableModel`, made in the strategy's scope.
        optimizer: a Keras optimiser, made there too.
        images: [N, H, W, C] float32 in [0, 1].
        batch_size: B.
        seed: integer.
        objective: one of `vampzoo.config.OBJECTIVES`.
        num_samples: k.
        one_sample_epochs: in the first so many epochs k is 1.
        dropout: a `vampzoo.training.dropout.UnitDropout`; None for none.
        shift_pixels: by how many pixels at most an image is moved, anew at each use (`vampzoo.training.shifts`); 0: none is.
        shift_epochs: in the first so many epochs; 0: in all.
        dynamic: whether images are intensities, to be binarised anew at each use.
        strategy: a `tf.distribute` strategy.
        jit_compile: whether to compile with XLA.
    """

    def __init__(
        self,
        model,
        optimizer,
        images,
        *,
        batch_size,
        seed,
        dynamic,
        strategy,
        jit_compile,
        objective="elbo",
        num_samples=1,
        one_sample_epochs=0,
        dropout=None,
        shift_pixels=0,
        shift_epochs=0,
    ):
        self.model = model
        self.optimizer = optimizer
        self.objective = objective
        self._samples_in = functools.partial(
            objectives.samples_in, one_sample_epochs=one_sample_epochs, num_samples=num_samples
        )
        self.dropout = dropout or UnitDropout(model)
        self.strategy = strategy
        self.num_images = len(images)
        self.batch_size = min(batch_size, self.num_images)
        self.steps_per_epoch = -(-self.num_images // self.batch_size)
        self.metric_names = ["distortion", *(f"rate_{name}" for name in model.latent_sizes)]
        self._images = tf.constant(images)
        self._seed = random.key(seed)
        self._dynamic = dynamic
        self._shift_pixels, self._shift_epochs = shift_pixels, shift_epochs
        self._norms = batch_normalizations(model)
        replicas = strategy.num_replicas_in_sync
        self._rows = -(-self.batch_size // replicas)  # images of a replica; the last one may be padded
        self._padding = self._rows * replicas - self.batch_size
        # What XLA compiles: with one replica the whole step; with more, what comes before and after they sum gradients.
        compiled = functools.partial(tf.function, jit_compile=jit_compile, autograph=False)
        if replicas == 1:
            self._replica_step = compiled(functools.partial(self._step, self._gradients))
            self._replica_statistics = compiled(self._update_statistics)
        else:
            self._replica_step = functools.partial(self._step, compiled(self._gradients))
            inner = getattr(optimizer, "inner_optimizer", optimizer)  # float16's is within one that scales the loss
            inner.compile_replicas = jit_compile
            self._replica_statistics = self._update_statistics

    def run(self, epoch, first, last, beta, sums):
        """Runs steps [first, last) of an epoch (scalar tensors).

        Args:
            epoch: counted from 1; decides order, binarisation, noise and k.
            first, last: of the epoch's steps, counted from 0.
            beta: weight of the rate, float32.
            sums: float64 [1 + L], what the steps before came to. It is carried through, so that an epoch adds up to the
                same bits however it is cut.

        Returns:
            float64 [1 + L]: `sums` and, over the images of these steps, distortion and each layer's rate, nats.
        """
        return self._run(epoch, first, last, beta, sums, self._samples_in(int(epoch)))

    @tf.function(autograph=False)
    def _run(self, epoch, first, last, beta, sums, num_samples):
        """`run`, with k as a Python integer: each has a graph of its own."""
        order = random.permutation(self.num_images, random.fold_in(self._seed, ORDER, epoch))  # [N]

        def next_step(step, sums):
            x, weights, noise, masks = self._global_batch(order, epoch, step, num_samples)
            replica_sums = self.strategy.run(self._on_replica, args=(x, weights, noise, masks, beta))
            of_step = self.strategy.reduce(tf.distribute.ReduceOp.SUM, replica_sums, axis=None)
            return step + 1, sums + tf.cast(of_step, tf.float64)

        return tf.while_loop(lambda step, _: step < last, next_step, (first, sums))[1]

    def estimate_statistics(self, epoch):
        """Gives batch normalisation the statistics that the weights as they are now produce.

        Averaged weights are nobody's: the moving statistics that training left belong to the current weights, and a
        deep network amplifies the difference (Izmailov et al., 2018, section 3.2). They become the mean over the first
        batches of the epoch, at most `MAX_STATISTICS_STEPS`, with all units. Without batch normalisation nothing happens.

        Args:
            epoch: integer, whose order, binarisation and noise are drawn.
        """
        if self._norms:
            self._estimate_statistics(tf.constant(epoch), self._samples_in(epoch))

    @tf.function(autograph=False)
    def _estimate_statistics(self, epoch, num_samples):
        order = random.permutation(self.num_images, random.fold_in(self._seed, ORDER, epoch))  # [N]

        def next_step(step):
            x, _, noise, _ = self._global_batch(order, epoch, step, num_samples)
            kept = tf.cast(step, tf.float32) / tf.cast(step + 1, tf.float32)  # share of the batches before, for a mean
            self.strategy.run(self._statistics_on_replica, args=(x, noise, kept))
            return (step + 1,)

        num_steps = min(self.steps_per_epoch, MAX_STATISTICS_STEPS)
        tf.while_loop(lambda step: step < num_steps, next_step, (tf.constant(0),))
        self._share_statistics()

    def share_statistics(self):
        """Gives batch normalisation the mean over the replicas of the moving statistics that each has for itself.

        All workers must call it alike. That moving averages are linear makes it the same whenever it is called, but for
        rounding. With one replica, or without batch normalisation, nothing happens.
        """
        if self._norms and self.strategy.num_replicas_in_sync > 1:
            self._share_statistics()

    @tf.function(autograph=False)
    def _share_statistics(self):
        def of_replica():
            return [tf.identity(weight.value) for weight in statistics]

        statistics = [weight for norm in self._norms for weight in norm.non_trainable_weights]
        for weight, values in zip(statistics, self.strategy.run(of_replica), strict=True):
            weight.assign(self.strategy.reduce(tf.distribute.ReduceOp.MEAN, values, axis=None))

    def _statistics_on_replica(self, x, noise, kept):
        x, noise = self._share_of_replica((x, noise))
        self._replica_statistics(x, noise, kept)

    def _update_statistics(self, x, noise, kept):
        with self._momentum(kept):
            prior_parameters = self.model.prior_parameters()
            self.model.elbo_terms(x, noise, prior_parameters, training=True, num_samples=_samples_of(x, noise))

    @contextlib.contextmanager
    def _momentum(self, value):
        """A context, of tracing, in which this much of the moving statistics is kept at an update."""
        before = [norm.momentum for norm in self._norms]
        try:
            for norm in self._norms:
                norm.momentum = value
            yield
        finally:
            for norm, momentum in zip(self._norms, before, strict=True):
                norm.momentum = momentum

    def _global_batch(self, order, epoch, step, num_samples):
        """Of one step: images [R rows, H, W, C], weights [R rows] (0 for padding), noise {layer: [R rows k, M]} and
        masks of dropout, [R rows, O] each."""
        position = step * self.batch_size + tf.range(self.batch_size)  # [B]
        weights = tf.cast(position < self.num_images, tf.float32)  # the last batch of an epoch may be partial
        x = tf.gather(self._images, tf.gather(order, position % self.num_images))  # [B, H, W, C]
        if self._shift_pixels:
            pixels = self._shift_pixels
            if self._shift_epochs:
                pixels = tf.where(epoch <= self._shift_epochs, pixels, 0)
            x = shifted(x, pixels, random.fold_in(self._seed, SHIFT, epoch, step))
        if self._dynamic:
            x = random.bernoulli(x, random.fold_in(self._seed, BINARISATION, epoch, step))
        noise = self.model.draw_noise(
            self.batch_size * num_samples, random.fold_in(self._seed, NOISE, epoch, step)
        )  # [B k, M] a layer
        masks = self.dropout.draw(self.batch_size, random.fold_in(self._seed, DROPOUT, epoch, step))
        if self._padding:
            weights = tf.pad(weights, [[0, self._padding]])
            x, noise, masks = tf.nest.map_structure(self._pad, (x, noise, masks))
        return x, weights, noise, masks

    def _pad(self, t):
        """t [B, ...] or [B k, ...] with the rows of as many further images that all replicas have equally many.

        They are the first ones again, since batch normalisation sees them: weights of 0 keep them out of the loss alone.
        """
        k = t.shape[0] // self.batch_size
        index = np.arange(self.batch_size + self._padding) % self.batch_size  # of images
        return tf.gather(t, np.reshape(k * index[:, np.newaxis] + np.arange(k), [-1]))

    def _on_replica(self, x, weights, noise, masks, beta):
        """A replica's part of the step; every replica sees the global batch and takes its share."""
        share = 1.0 / tf.reduce_sum(weights)  # of one image in the mean over the global batch
        x, weights, noise, masks = self._share_of_replica((x, weights, noise, masks))
        return self._replica_step(x, weights, share, noise, masks, beta)

    def _share_of_replica(self, batch):
        """The part of a global batch, a nest of tensors, that is this replica's: its images, and what belongs to them."""
        context = tf.distribute.get_replica_context()

        def share(t):
            rows = t.shape[0] // context.num_replicas_in_sync
            first = rows * context.replica_id_in_sync_group
            return tf.ensure_shape(t[first : first + rows], [rows, *t.shape[1:]])

        return tf.nest.map_structure(share, batch)

    def _step(self, gradients_of, x, weights, share, noise, masks, beta):
        gradients, sums = gradients_of(x, weights, share, noise, masks, beta)
        gradients = optimizers.sharing_overflow(self.optimizer, gradients)
        self.optimizer.apply(gradients, self.model.trainable_variables)  # sums over the replicas
        return sums

    def _gradients(self, x, weights, share, noise, masks, beta):
        with tf.GradientTape() as tape:
            prior_parameters = self.model.prior_parameters()
            with self.dropout.thinned(masks):
                losses, terms = losses_and_terms(
                    self.model,
                    x,
                    noise,
                    prior_parameters,
                    beta,
                    objective=self.objective,
                    num_samples=_samples_of(x, noise),
                    training=True,
                )  # [R rows], terms of [R rows, k]
            loss = share * tf.reduce_sum(weights * losses)
            loss = self.optimizer.scale_loss(loss)  # by 1, but for float16
        gradients = tape.gradient(loss, [v.value for v in self.model.trainable_variables])
        means = (tf.reduce_mean(t, axis=1) for t in (terms.distortion, *terms.rates.values()))  # [R rows] each
        sums = tf.stack([tf.reduce_sum(weights * t) for t in means])  # [1 + L]
        return gradients, sums


def _samples_of(x, noise):
    """k, from x [B, H, W, C] and noise {layer: [B k, M]}."""
    return next(iter(noise.values())).shape[0] // x.shape[0]
