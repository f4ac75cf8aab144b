"""The training loop: epochs, validation, early stopping, checkpoints."""

import contextlib
import math
import signal
import time

import keras
import numpy as np
import tensorflow as tf

from vampzoo import evaluation, models, objectives, optimizers, random
from vampzoo.training.checkpoints import Checkpoints, Position
from vampzoo.training.early_stopping import EarlyStopping
from vampzoo.training.reporting import Progress, TensorBoard
from vampzoo.training.run_folder import atomic_path
from vampzoo.training.steps import VALIDATION, TrainingSteps

SEGMENT_SECONDS = 2.0  # Python looks up this often: for signals, the progress bar, checkpoints


class NotFinite(RuntimeError):
    """The loss became NaN or infinite."""


class Interrupted(Exception):
    """A signal asked the training to stop; its state was saved."""

    def __init__(self, signal_number):
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


class Trainer:
    """Trains a model on a dataset, in a run folder that it can be resumed from.

    Args:
        model_config: a `ModelConfig`.
        config: a `TrainingConfig`.
        dataset: a `vampzoo.datasets.Dataset`.
        folder: a `RunFolder`.
        strategy: a `tf.distribute` strategy; None for the default one.
        jit_compile: whether to compile with XLA.
        checkpoint_seconds: time between two checkpoints (0: every epoch).
        image_epochs: epochs between two image grids in TensorBoard (0: none).

    Raises:
        ValueError: if the pseudo-inputs are to come from fewer training images than there are components.
        RunFolderError: if no checkpoint of an old run can be read.
    """

    def __init__(
        self,
        model_config,
        config,
        dataset,
        folder,
        *,
        strategy=None,
        jit_compile=True,
        checkpoint_seconds=60.0,
        image_epochs=20,
    ):
        self.config = config
        self.folder = folder
        self.dataset = dataset
        self.checkpoint_seconds = checkpoint_seconds
        self.image_epochs = image_epochs
        strategy = strategy or tf.distribute.get_strategy()
        with strategy.scope():
            self.model = models.create(model_config, config.seed)
            self._initialise_pseudo_inputs()
            self.optimizer = create_optimizer(config, steps_per_epoch=-(-len(dataset.train) // config.batch_size))
            self.optimizer.build(self.model.trainable_variables)
            self._best_weights = tf.Module(name="best")
            self._best_weights.values = [tf.Variable(w.value, trainable=False) for w in self.model.weights]
        self.steps = TrainingSteps(
            self.model,
            self.optimizer,
            dataset.train,
            batch_size=config.batch_size,
            seed=config.seed,
            dynamic=dataset.spec.dynamic,
            strategy=strategy,
            jit_compile=jit_compile,
        )
        self.validation_elbo = evaluation.DatasetElbo(self.model, dataset.validation, jit_compile=jit_compile)
        self.early_stopping = EarlyStopping(config.patience, config.warmup_epochs)
        self.position = Position(len(self.steps.metric_names))
        self.checkpoints = Checkpoints(
            folder.checkpoints,
            model=self.model,
            optimizer=self.optimizer,
            best=self._best_weights,
            position=self.position,
            early_stopping=self.early_stopping,
        )
        self._signal = None
        self._best_unsaved = False

    def _initialise_pseudo_inputs(self):
        """From training images: with noise for `pseudo_inputs_from_data`, at random and as they are for VampPrior-data."""
        prior, images = self.model.prior_layer, self.dataset.train
        if type(prior).__name__ == "VampPriorData":
            order = np.random.default_rng(self.config.seed).permutation(len(images))
            prior.set_pseudo_inputs(images[order])
        elif self.config.pseudo_inputs_from_data:
            prior.set_pseudo_inputs(images, noise_stddev=0.01, seed=self.config.seed)

    # === The loop ===

    def fit(self):
        """Trains until early stopping or the last epoch; afterwards the model has its best weights.

        Returns:
            The model.

        Raises:
            NotFinite: if the loss is NaN or infinite; the last good checkpoint stays.
            Interrupted: after SIGINT or SIGTERM, when the state has been saved.
        """
        resumed = self.checkpoints.restore(lambda text: print(text, flush=True))
        done = int(self.position.epoch) - 1
        self.folder.truncate_history(done)
        progress = Progress(self.config.epochs, initial=done)
        if resumed:
            progress.message(f"resuming {self.folder.path} at epoch {done + 1}, step {int(self.position.step)}")
        tensorboard = TensorBoard(self.folder.tensorboard, self.model, self.dataset.validation, self.config.seed)
        self._last_checkpoint = time.monotonic()
        handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while int(self.position.epoch) <= self.config.epochs and not self.early_stopping.should_stop:
                row = self._epoch(progress)
                progress.epoch(row, force=self.early_stopping.should_stop)
                tensorboard.scalars(row)
                if self.image_epochs and row["epoch"] % self.image_epochs == 0:
                    tensorboard.images(row["epoch"])
                if time.monotonic() - self._last_checkpoint >= self.checkpoint_seconds:
                    self.save()
            self.save()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            progress.close()
            tensorboard.close()
        self._assign_best()
        return self.model

    def _on_signal(self, number, frame):
        self._signal = number

    def _epoch(self, progress):
        """The rest of the current epoch, its validation and its row in the history."""
        epoch = int(self.position.epoch)
        beta = objectives.beta(epoch, self.config.warmup_epochs)
        start, first_step = time.monotonic(), int(self.position.step)
        length, steps = 1, self.steps.steps_per_epoch
        while (step := int(self.position.step)) < steps:
            segment_start = time.monotonic()
            last = min(step + length, steps)
            sums = self.steps.run(
                tf.constant(epoch), tf.constant(step), tf.constant(last), tf.constant(beta, tf.float32)
            ).numpy()
            if not np.all(np.isfinite(sums)):
                raise NotFinite(
                    f"the loss is not finite in epoch {epoch}, steps {step} to {last}: "
                    f"{dict(zip(self.steps.metric_names, sums.tolist(), strict=True))}. The last good checkpoint is kept "
                    f"in {self.folder.checkpoints}; a smaller --learning_rate may help"
                )
            self.position.sums.assign_add(sums.astype(np.float64))
            self.position.step.assign(last)
            progress.part((last - step) / steps)
            seconds = time.monotonic() - segment_start
            length = max(1, min(2 * (last - step), int((last - step) * SEGMENT_SECONDS / max(seconds, 1e-3))))
            self._stop_if_asked()
        train_seconds = time.monotonic() - start
        row = self._finish_epoch(epoch, beta, (steps - first_step) / max(train_seconds, 1e-9))
        self.position.seconds.assign_add(time.monotonic() - start)
        self._stop_if_asked()
        return row

    def _finish_epoch(self, epoch, beta, steps_per_second):
        means = self.position.sums.numpy() / self.steps.num_images
        with self._averaged_weights():
            terms = self.validation_elbo(random.key(self.config.seed, VALIDATION, epoch))
            validation_elbo = float(terms["elbo"].mean())
            if not math.isfinite(validation_elbo):
                raise NotFinite(f"the validation ELBO is not finite after epoch {epoch}: {validation_elbo}")
            if self.early_stopping.update(epoch, -validation_elbo):
                for best, weight in zip(self._best_weights.values, self.model.weights, strict=True):
                    best.assign(weight.value)
                self._best_unsaved = True
        self.position.epoch.assign(epoch + 1)
        self.position.step.assign(0)
        self.position.sums.assign(tf.zeros_like(self.position.sums))
        row = {
            "epoch": epoch,
            "beta": beta,
            "elbo": float(-means.sum()),
            **dict(zip(self.steps.metric_names, means.tolist(), strict=True)),
            "validation_elbo": validation_elbo,
            "best_validation_elbo": self.best_validation_elbo,
            "images_per_second": steps_per_second * self.steps.batch_size,
        }
        self.folder.append_history(row)
        return row

    # === State ===

    @property
    def epochs_done(self):
        return int(self.position.epoch) - 1

    @property
    def best_epoch(self):
        return int(self.early_stopping.best_epoch)

    @property
    def best_validation_elbo(self):
        """Nats."""
        return float(-self.early_stopping.best_loss.numpy())

    @property
    def seconds(self):
        """Time spent in epochs, over all sessions of the run."""
        return float(self.position.seconds)

    def _stop_if_asked(self):
        if self._signal is not None:
            self.save()
            raise Interrupted(self._signal)

    def save(self):
        """Writes a checkpoint, and the best weights if they are newer than their file."""
        self.checkpoints.save()
        if self._best_unsaved:
            current = [tf.identity(w.value) for w in self.model.weights]
            self._assign_best()
            with atomic_path(self.folder.weights) as temporary:
                self.model.save_weights(temporary)
            for weight, value in zip(self.model.weights, current, strict=True):
                weight.assign(value)
            self._best_unsaved = False
        self._last_checkpoint = time.monotonic()

    def _assign_best(self):
        for weight, best in zip(self.model.weights, self._best_weights.values, strict=True):
            weight.assign(best)

    def _averaged_weights(self):
        """A context in which the model has its averaged weights, if the optimiser keeps any."""
        return AveragedWeights(self.model, self.optimizer) if self.config.ema_momentum else contextlib.nullcontext()


class AveragedWeights:
    """Gives the model the optimiser's moving average of its weights, and the current ones back afterwards."""

    def __init__(self, model, optimizer):
        self._variables, self._optimizer = model.trainable_variables, optimizer

    def __enter__(self):
        self._current = [tf.identity(v.value) for v in self._variables]
        self._optimizer.finalize_variable_values(self._variables)

    def __exit__(self, *exception):
        for variable, value in zip(self._variables, self._current, strict=True):
            variable.assign(value)


def create_optimizer(config, steps_per_epoch):
    """The Keras optimiser that a `TrainingConfig` describes."""
    cls = optimizers.NormalizedAdam if config.optimizer == "normalized_adam" else keras.optimizers.Adam
    learning_rate = config.learning_rate
    if config.learning_rate_decay_epochs:
        learning_rate = keras.optimizers.schedules.CosineDecay(
            learning_rate, config.learning_rate_decay_epochs * steps_per_epoch
        )
    optimizer = cls(
        learning_rate=learning_rate,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        weight_decay=config.weight_decay or None,
        use_ema=config.ema_momentum > 0,
        ema_momentum=config.ema_momentum or 0.99,
        ema_overwrite_frequency=None,
    )
    if config.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "pseudo_inputs", "logits", "means", "log_vars"])
    return optimizer
