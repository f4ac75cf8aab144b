"""The training loop: epochs, validation, early stopping, checkpoints."""

import contextlib
import math
import signal
import threading
import time

import keras
import numpy as np
import tensorflow as tf

from vampzoo import evaluation, models, objectives, optimizers, random
from vampzoo.files import atomic_path
from vampzoo.training.checkpoints import Checkpoints, Position
from vampzoo.training.dropout import UnitDropout
from vampzoo.training.early_stopping import EarlyStopping
from vampzoo.training.reporting import Progress, TensorBoard
from vampzoo.training.run_folder import RunFolderError
from vampzoo.training.steps import VALIDATION, TrainingSteps
from vampzoo.training.strategy import Workers, map_rows_over_replicas

MAX_MODEL_SEED = 400_000  # Keras' seeds have 32 bits, and a model gives its layers 10,000 of its own
SEGMENT_SECONDS = 2.0  # Python looks up this often: for signals, the progress bar, checkpoints


class NotFinite(RuntimeError):
    """The loss became NaN or infinite."""


class OutOfMemory(RuntimeError):
    """The model or a step of its training does not fit into memory."""


@contextlib.contextmanager
def memory_errors_explained():
    """A context in which memory that runs out is an `OutOfMemory` that says what can be done."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise OutOfMemory(
            "the training does not fit into the memory of the device: a smaller --batch_size, --num_components or "
            "--hidden_units needs less, and so does each of several devices (--strategy); with a VampPrior, "
            "--pseudo_input_chunk bounds what the pseudo-inputs need"
        ) from error


class WorkerLost(RuntimeError):
    """Another worker of the training died or cannot be reached."""


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
        pseudo_input_chunk: pseudo-inputs encoded at once, of a VampPrior (0: all). Bounds the memory, not the result.
            XLA is then used on GPUs only: on a CPU its convolutions within a loop take 14 times as long.

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
        pseudo_input_chunk=0,
    ):
        self.model_config = model_config
        self.config = config
        self.folder = folder
        self.dataset = dataset
        self.checkpoint_seconds = checkpoint_seconds
        self.image_epochs = image_epochs
        self.strategy = strategy = strategy or tf.distribute.get_strategy()
        if pseudo_input_chunk and not tf.config.list_logical_devices("GPU"):
            jit_compile = False
        self.workers = Workers(strategy)
        self.workers.wait()  # the one that writes has made the folder before any other looks into it
        with memory_errors_explained(), strategy.scope():
            with compute_dtype(config.mixed_precision):
                self.model = models.create(model_config, config.seed % MAX_MODEL_SEED)
            self.model.prior_layer.chunk_size = pseudo_input_chunk or None  # other priors have no use for it
            self._initialise_pseudo_inputs()
            steps_per_epoch = -(-len(dataset.train) // config.batch_size)
            self.optimizer = create_optimizer(config, self.model.trainable_variables, steps_per_epoch)
            self.optimizer.build(self.model.trainable_variables)
            self._best_weights = tf.Module(name="best")
            self._best_weights.values = [tf.Variable(w.value, trainable=False) for w in self.model.weights]
        # TensorFlow finds the trainable weights through the optimiser, but none in the lists that Keras keeps of layers.
        statistics = tf.Module(name="statistics")
        statistics.values = [w.value for w in self.model.non_trainable_weights]
        self.steps = TrainingSteps(
            self.model,
            self.optimizer,
            dataset.train,
            batch_size=config.batch_size,
            seed=config.seed,
            objective=config.objective,
            num_samples=config.objective_samples,
            dropout=UnitDropout(self.model, config.q_dropout, config.p_dropout),
            dynamic=dataset.spec.dynamic,
            strategy=strategy,
            jit_compile=jit_compile,
        )
        self.map_rows = map_rows_over_replicas(strategy)
        self.validation_elbo = evaluation.DatasetElbo(
            self.model,
            dataset.validation,
            jit_compile=jit_compile,
            map_rows=self.map_rows,
            num_samples=config.selection_samples,
        )
        self.early_stopping = EarlyStopping(config.patience, config.warmup_epochs)
        self.position = Position(len(self.steps.metric_names))
        self.checkpoints = Checkpoints(
            folder.checkpoints,
            writer=folder.writer,
            model=self.model,
            optimizer=self.optimizer,
            best=self._best_weights,
            statistics=statistics,
            position=self.position,
            early_stopping=self.early_stopping,
        )
        self._signal = None
        self._best_unsaved = False
        self._segment = 1  # steps until Python looks up again

    def _initialise_pseudo_inputs(self):
        """From training images: with noise for `pseudo_inputs_from_data`, at random and as they are for VampPrior-data."""
        prior, images = self.model.prior_layer, self.dataset.train
        if type(prior).__name__ == "VampPriorData":
            order = np.random.default_rng(self.config.seed).permutation(len(images))
            prior.set_pseudo_inputs(images[order])
        elif self.config.pseudo_inputs_from_data and hasattr(prior, "pseudo_inputs"):  # other priors have no use for it
            prior.set_pseudo_inputs(images, noise_stddev=0.01, seed=self.config.seed)

    # === The loop ===

    def fit(self):
        """Trains until early stopping or the last epoch; afterwards the model has its best weights.

        Returns:
            The model.

        Raises:
            NotFinite: if the loss is NaN or infinite; the last good checkpoint stays.
            Interrupted: after SIGINT or SIGTERM, to this worker or another, when the state has been saved.
            WorkerLost: if another worker died.
            OutOfMemory: if a step does not fit.
        """
        resumed = self.checkpoints.restore(Progress.message)
        self._best_unsaved = self.best_epoch > 0  # a kill may have come between checkpoint and weights
        self.folder.truncate_history(self.epochs_done)
        progress = Progress(self.config.epochs, initial=self.epochs_done, quiet=not self.folder.writer)
        if resumed and self.folder.writer:
            progress.message(
                f"resuming {self.folder.path} at epoch {self.epochs_done + 1}, step {int(self.position.step)}"
            )
        events = self.folder.tensorboard if self.folder.writer else None
        tensorboard = TensorBoard(events, self.model, self.dataset.validation, self.config.seed)
        self._last_checkpoint = time.monotonic()
        try:
            with self._deferred_signals():
                while self.epochs_done < self.config.epochs and not self.early_stopping.should_stop:
                    with memory_errors_explained():
                        row = self._epoch(progress)
                    progress.epoch(row, force=self.early_stopping.should_stop)
                    tensorboard.scalars(row)
                    if self.folder.writer and self.image_epochs and row["epoch"] % self.image_epochs == 0:
                        tensorboard.images(row["epoch"])
                self.save()
                self._look_up()
            self.workers.wait_to_leave()
        except Interrupted:
            self.workers.wait_to_leave()
            raise
        except tf.errors.OpError as error:
            if self.workers.num == 1:
                raise
            raise WorkerLost(
                f"another worker was lost, or the way to it ({str(error).splitlines()[0]}). Start all workers again with "
                f"the same command: they resume {self.folder.path} from its last checkpoint"
            ) from error
        finally:
            progress.close()
            tensorboard.close()
        return self._best_model()

    @contextlib.contextmanager
    def _deferred_signals(self):
        """A context in which SIGINT and SIGTERM are noted, for the loop to stop where its state can be saved."""

        def note(number, frame):
            self._signal = number

        # Only the main thread may set handlers; in another one signals are somebody else's matter.
        signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        handlers = {number: signal.signal(number, note) for number in signals}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _epoch(self, progress):
        """The rest of the current epoch, its validation and its row in the history."""
        epoch = int(self.position.epoch)
        beta = objectives.beta(epoch, self.config.warmup_epochs)
        start, first_step = time.monotonic(), int(self.position.step)
        steps = self.steps.steps_per_epoch
        while (step := int(self.position.step)) < steps:
            segment_start = time.monotonic()
            last = min(step + self._segment, steps)
            sums = self.steps.run(
                tf.constant(epoch),
                tf.constant(step),
                tf.constant(last),
                tf.constant(beta, tf.float32),
                tf.convert_to_tensor(self.position.sums),
            ).numpy()
            if not np.all(np.isfinite(sums)):
                raise NotFinite(
                    f"the loss is not finite in epoch {epoch}, steps {step} to {last}: "
                    f"{dict(zip(self.steps.metric_names, sums.tolist(), strict=True))}; {self._advice}"
                )
            self.position.sums.assign(sums)
            self.position.step.assign(last)
            progress.part((last - step) / steps)
            seconds = time.monotonic() - segment_start
            self._segment = max(1, min(2 * self._segment, int((last - step) * SEGMENT_SECONDS / max(seconds, 1e-3))))
            if last < steps:
                self._look_up()
        train_seconds = time.monotonic() - start
        row = self._finish_epoch(epoch, beta, (steps - first_step) / max(train_seconds, 1e-9))
        self.position.seconds.assign_add(time.monotonic() - start)
        self._look_up()
        return row

    def _finish_epoch(self, epoch, beta, steps_per_second):
        means = self.position.sums.numpy() / self.steps.num_images
        with self._validated_weights(epoch):
            terms = self.validation_elbo(random.key(self.config.seed, VALIDATION, epoch))
            selection = self.config.selection
            validation_elbo, validated = (float(terms[name].mean()) for name in ("elbo", selection))
            if not math.isfinite(validation_elbo + validated):
                raise NotFinite(f"the validation ELBO is {validation_elbo} after epoch {epoch}; {self._advice}")
            if self.early_stopping.update(epoch, -validated):
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
            f"validation_{selection}": validated,
            f"best_validation_{selection}": self.best_validation,
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
    def best_validation(self):
        """The validation ELBO or importance bound, whichever `selection` names, of the best weights; nats."""
        return float(-self.early_stopping.best_loss.numpy())

    @property
    def seconds(self):
        """Time spent in epochs, over all sessions of the run."""
        return float(self.position.seconds)

    def _look_up(self):
        """Saves and stops if a signal asks for it, saves if it is time to; all workers decide alike."""
        due = time.monotonic() - self._last_checkpoint >= self.checkpoint_seconds
        votes = self.workers.gather(self._segment, due, self._signal or 0)
        self._segment, due = int(votes[0, 0]), bool(votes[0, 1])  # the chief's
        signal_number = int(
            votes[:, 2].max()
        )  # one that came since is left to the next vote, for the others know nothing
        if due or signal_number:
            self.save()
        if signal_number:
            raise Interrupted(signal_number)

    def save(self):
        """Writes a checkpoint, and before it the best weights if they are newer than their file.

        Raises:
            NotFinite: if a weight is not finite: such a state is not worth keeping.
            RunFolderError: if the folder cannot be written; what it held before stays.
        """
        if not all(tf.reduce_all(tf.math.is_finite(w.value)) for w in self.model.trainable_weights):
            raise NotFinite(f"the weights are not finite in epoch {self.epochs_done + 1}; {self._advice}")
        if self._best_unsaved:
            self._save_best_weights()
        self.checkpoints.save()
        self._last_checkpoint = time.monotonic()

    def _save_best_weights(self):
        self._best_unsaved = False
        if not self.folder.writer:
            return
        with self._current_weights_kept():
            self._assign_best()
            try:
                with atomic_path(self.folder.weights) as temporary:
                    self.model.save_weights(temporary)
            except OSError as error:
                raise RunFolderError(
                    f"{self.folder.weights} cannot be written (disk full or not writable?): {error}. What the run folder "
                    "held is kept; the same command resumes from its last checkpoint"
                ) from error

    def _assign_best(self):
        for weight, best in zip(self.model.weights, self._best_weights.values, strict=True):
            weight.assign(best)

    def _best_model(self):
        """The model with its best weights, in float32 as it will be loaded."""
        self._assign_best()
        if self.config.mixed_precision == "none":
            return self.model
        with self.strategy.scope():
            model = models.create(self.model_config)
        for weight, best in zip(model.weights, self._best_weights.values, strict=True):
            weight.assign(best)
        return model

    @contextlib.contextmanager
    def _validated_weights(self, epoch):
        """A context in which the model has the weights to be validated: averaged ones, if the optimiser keeps any."""
        if not self.config.ema_momentum:
            yield
            return
        with self._current_weights_kept():
            self.optimizer.finalize_variable_values(self.model.trainable_variables)
            self.steps.estimate_statistics(epoch)
            yield

    @contextlib.contextmanager
    def _current_weights_kept(self):
        """A context after which the model has the weights again that it has now."""
        current = [tf.identity(w.value) for w in self.model.weights]
        try:
            yield
        finally:
            for weight, value in zip(self.model.weights, current, strict=True):
                weight.assign(value)

    @property
    def _advice(self):
        return f"the last good checkpoint is kept in {self.folder.checkpoints}; a smaller --learning_rate may help"


@contextlib.contextmanager
def compute_dtype(mixed_precision):
    """A context in which new layers compute in bfloat16 or float16, with weights in float32."""
    before = keras.config.dtype_policy()
    if mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{mixed_precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def create_optimizer(config, variables, steps_per_epoch):
    """The Keras optimiser that a `TrainingConfig` describes; for float16 within one that scales the loss."""
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
        # Neither biases nor what belongs to the prior. By variable: Keras' `var_names` are searched for in whole paths.
        optimizer.exclude_from_weight_decay(var_list=[v for v in variables if "kernel" not in v.name])
    return keras.optimizers.LossScaleOptimizer(optimizer) if config.mixed_precision == "float16" else optimizer
