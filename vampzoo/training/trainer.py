"""The training loop: epochs, validation, early stopping, checkpoints."""

import contextlib
import dataclasses
import math
import time

import numpy as np
import tensorflow as tf

from vampzoo import evaluation, files, memory, models, objectives, optimizers, random
from vampzoo.errors import NOT_FINITE, InvalidValue
from vampzoo.models import weights
from vampzoo.training.checkpoints import Checkpoints, Position
from vampzoo.training.dropout import UnitDropout
from vampzoo.training.early_stopping import EarlyStopping
from vampzoo.training.errors import Interrupted, NotFinite, memory_errors_explained
from vampzoo.training.precision import compute_dtype
from vampzoo.training.reporting import Progress, TensorBoard
from vampzoo.training.run_folder import RunFolderError, describe_model
from vampzoo.training.signals import DeferredSignals
from vampzoo.training.steps import VALIDATION, TrainingSteps
from vampzoo.training.strategy import Workers, map_rows_over_replicas
from vampzoo.training.usage import ComponentUsage
from vampzoo.training.weights import BestWeights, own_weights_kept

MAX_MODEL_SEED = 400_000  # Keras' seeds have 32 bits, and a model gives its layers 10,000 of its own
SEGMENT_SECONDS = 2.0  # Python looks up this often: for signals, the progress bar, checkpoints


class Trainer:
    """Trains a model on a dataset, in a run folder that it can be resumed from.

    Args:
        model: a `ModelConfig`, or a `vampzoo.models.LatentVariableModel`, made in the strategy's scope: on networks of one's
            own, say. It is trained from the weights that it has, pseudo-inputs included unless `pseudo_inputs_from_data` is
            set, and is what `fit` returns. A run folder can be loaded by
            name (`vampzoo.load`, the programs) only if its model came from a `ModelConfig`; of others it holds the weights,
            for `load_weights` on a model built by the same code.
        config: a `TrainingConfig`.
        dataset: a `vampzoo.datasets.Dataset`.
        folder: a `RunFolder`.
        strategy: a `tf.distribute` strategy; None for the default one.
        jit_compile: whether to compile with XLA.
        checkpoint_seconds: time between two checkpoints, which are written at the ends of epochs and between
            segments of one; 0: at each of them.
        image_epochs: epochs between two image grids, and measurements of the prior's components, in TensorBoard (0: none).
        start: a `vampzoo.models.LatentVariableModel` whose weights those networks start with that both have
            (`vampzoo.models.start_from`), and the prior, unless its pseudo-inputs come from the data; None: as they are.
        pseudo_input_chunk: pseudo-inputs encoded at once, of a VampPrior (0: all, or as a given model's prior has it).
            Bounds the memory, not the result. XLA is then used on GPUs only: on a CPU its convolutions in a loop are slow.

    Raises:
        InvalidValue: if the pseudo-inputs are to come from fewer training images than there are components, or if there is
            nothing for dropout to leave out, or no pseudo-inputs for `pseudo_inputs_from_data`, or if `shift_pixels` would
            leave nothing of an image, or if `start` has nothing in common with the model.
        RunFolderError: if no checkpoint of an old run can be read.
    """

    def __init__(
        self,
        model,
        config,
        dataset,
        folder,
        *,
        strategy=None,
        jit_compile=True,
        checkpoint_seconds=60.0,
        image_epochs=20,
        start=None,
        pseudo_input_chunk=0,
    ):
        if not tf.config.list_physical_devices("GPU"):  # which have a memory of their own
            check_step_memory(model, config, len(dataset.train))
        if config.shift_pixels >= min(dataset.train.shape[1:3]):
            raise InvalidValue(
                f"shift_pixels={config.shift_pixels} would move images out of sight: they have "
                f"{dataset.train.shape[1]}x{dataset.train.shape[2]} pixels"
            )
        self._given = model
        self.config = config
        self.folder = folder
        self.dataset = dataset
        self.checkpoint_seconds = checkpoint_seconds
        self.image_epochs = image_epochs
        self.strategy = strategy = strategy or tf.distribute.get_strategy()
        self.workers = Workers(strategy)
        with self.workers.loss_explained():
            self.workers.wait()  # the one that writes has made the folder before any other looks into it
            with memory_errors_explained(), strategy.scope():
                self._create_model(pseudo_input_chunk, start)
        prior = self.model.prior_layer
        in_chunks = prior.has_pseudo_inputs and 0 < pseudo_input_chunk < prior.num_components
        if in_chunks and not tf.config.list_logical_devices("GPU"):
            jit_compile = False
        self.steps = TrainingSteps(
            self.model,
            self.optimizer,
            dataset.train,
            batch_size=config.batch_size,
            seed=config.seed,
            objective=config.objective,
            num_samples=config.objective_samples,
            one_sample_epochs=config.one_sample_epochs,
            dropout=UnitDropout(self.model, config.q_dropout, config.p_dropout),
            shift_pixels=config.shift_pixels,
            shift_epochs=config.shift_epochs,
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
        self.early_stopping = EarlyStopping(config.patience, config.first_epochs)
        self.position = Position(len(self.steps.metric_names))
        self.checkpoints = self._create_checkpoints()
        self._signals = DeferredSignals()
        self._best_unsaved = False
        self._epochs_before = 0
        self._segment = 1  # steps until Python looks up again

    def _create_model(self, pseudo_input_chunk, start):
        """The model, its optimiser and the copy of its best weights, in the strategy's scope."""
        config = self.config
        given = isinstance(self._given, models.LatentVariableModel)
        if given:
            if config.mixed_precision != "none":
                raise InvalidValue(
                    f"mixed_precision={config.mixed_precision!r} is for a ModelConfig: what the networks of a model compute "
                    "in was decided when they were made"
                )
            self.model = self._given
        else:
            with compute_dtype(config.mixed_precision):
                self.model = models.create(self._given, config.seed % MAX_MODEL_SEED)
        prior = self.model.prior_layer
        if pseudo_input_chunk:
            prior.chunk_size = pseudo_input_chunk  # other priors have no use for it
        if config.pseudo_inputs_from_data and not prior.has_pseudo_inputs:
            raise InvalidValue(
                "--pseudo_inputs_from_data is for a VampPrior, and this prior has no pseudo-inputs: leave it out, or give "
                "--nopseudo_inputs_from_data"
            )
        self.started = models.start_from(self.model, start) if start is not None else ([], [])  # what with, and without
        if config.pseudo_inputs_from_data or not (given or "prior" in self.started[0]):
            prior.start_at_examples(self.dataset.train, config.seed, config.pseudo_inputs_from_data)
        steps_per_epoch = -(-len(self.dataset.train) // config.batch_size)
        self.optimizer = optimizers.create(config, self.model.trainable_variables, steps_per_epoch)
        self.optimizer.build(self.model.trainable_variables)
        self._best = BestWeights(self.model)

    def _create_checkpoints(self):
        # TensorFlow finds the trainable weights through the optimiser, but none in the lists that Keras keeps of layers.
        statistics = tf.Module(name="statistics")
        statistics.values = [w.value for w in self.model.non_trainable_weights]
        return Checkpoints(
            self.folder.checkpoints,
            writer=self.folder.writer,
            model=self.model,
            optimizer=self.optimizer,
            best=self._best,
            statistics=statistics,
            position=self.position,
            early_stopping=self.early_stopping,
        )

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
        resumed = not self.folder.overwrite and self.checkpoints.restore(Progress.message)
        self._check_same_position()
        self._best_unsaved = self.best_epoch > 0  # a kill may have come between checkpoint and weights
        self._epochs_before = self.epochs_done
        progress = Progress(self.config.epochs, initial=self.epochs_done, quiet=not self.folder.writer)
        if resumed and self.folder.writer:
            progress.message(
                f"resuming {self.folder.path} at epoch {self.epochs_done + 1}, step {int(self.position.step)}"
            )
        events = self.folder.tensorboard if self.folder.writer else None
        settings = {"dataset": self.dataset.spec.name}
        settings |= describe_model(self.model) | dataclasses.asdict(self.config)
        tensorboard = TensorBoard(events, self.model, self.dataset.validation, self.config.seed, settings)
        usage = ComponentUsage(self.model, self.dataset.validation, self.config.seed)
        self._last_checkpoint = time.monotonic()
        try:
            with self._lost_in_training(), self._signals:
                while self.epochs_done < self.config.epochs and not self.early_stopping.should_stop:
                    with memory_errors_explained():
                        row = self._epoch(progress)
                    progress.epoch(row, force=self.early_stopping.should_stop)
                    tensorboard.scalars(row)
                    due = self.image_epochs and (row["epoch"] == 1 or row["epoch"] % self.image_epochs == 0)
                    if due:
                        self._show(row["epoch"], tensorboard, usage, progress)
                self.save()
                self._look_up()
            self.workers.wait_to_leave()
        except (Interrupted, NotFinite):  # in all workers alike
            self.workers.wait_to_leave()
            raise
        finally:
            progress.close()
            tensorboard.close()
        return self._best_model()

    def _lost_in_training(self):
        remedy = (
            f". Start all workers again with the same command: they resume {self.folder.path} from its last checkpoint"
        )
        return self.workers.loss_explained("another worker was lost, or the way to it", remedy)

    def _check_same_position(self):
        """All workers must have restored the same state."""
        with self.workers.loss_explained():
            positions = self.workers.gather(self.position.epoch.numpy(), self.position.step.numpy())
        if len(np.unique(positions, axis=0)) > 1:
            self.workers.wait_to_leave()
            raise RunFolderError(
                f"the workers see different checkpoints in {self.folder.path}: --run_dir must be one folder on storage that "
                "all of them share"
            )

    def _begin_folder(self):
        """Makes the folder this run's, now that there is something to keep: a run that fails before leaves it as it was."""
        if self.folder.writer and not self.folder.begun:
            self.folder.begin()
            self.folder.truncate_history(self._epochs_before)

    def _show(self, epoch, tensorboard, usage, progress):
        """What is costlier than a row: images, the components in use, and advice if most are dead after warm-up."""
        with self._validated_weights(epoch):  # to which all workers contribute
            if not self.folder.writer:
                return
            measures = usage.measure()
            tensorboard.scalars(
                {"epoch": epoch, **{f"validation_components/{name}": value for name, value in measures.items()}}
            )
            tensorboard.images(epoch, usage.shares)
        if epoch >= self.config.warmup_epochs and (advice := usage.advice(measures)):
            progress.message(advice)

    def _epoch(self, progress):
        """The rest of the current epoch, its validation and its row in the history."""
        epoch = int(self.position.epoch)
        beta = objectives.beta(epoch, self.config.warmup_epochs)
        start, first_step = time.monotonic(), int(self.position.step)
        self._counted = start
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
                    f"the loss is {NOT_FINITE} in epoch {epoch}, steps {step} to {last}: "
                    f"{dict(zip(self.steps.metric_names, sums.tolist(), strict=True))}; {self._advice}"
                )
            self.position.sums.assign(sums)
            self.position.step.assign(last)
            progress.part((last - step) / steps)
            seconds = time.monotonic() - segment_start
            self._segment = max(1, min(2 * self._segment, int((last - step) * SEGMENT_SECONDS / max(seconds, 1e-3))))
            if last < steps:
                self._count_seconds()
                self._look_up()
        train_seconds = time.monotonic() - start
        row = self._finish_epoch(epoch, beta, (steps - first_step) / max(train_seconds, 1e-9))
        self._count_seconds()
        self._look_up()
        return row

    def _count_seconds(self):
        """Adds the time since it was last counted: before each checkpoint, so that one within an epoch has it, too."""
        now = time.monotonic()
        self.position.seconds.assign_add(now - self._counted)
        self._counted = now

    def _finish_epoch(self, epoch, beta, steps_per_second):
        means = self.position.sums.numpy() / self.steps.num_images
        self.steps.share_statistics()
        with self._validated_weights(epoch):
            terms = self.validation_elbo(random.key(self.config.seed, VALIDATION, epoch))
            selection = self.config.selection
            validation_elbo, validated = (float(terms[name].mean()) for name in ("elbo", selection))
            if not math.isfinite(validation_elbo + validated):
                raise NotFinite(
                    f"the validation ELBO is {NOT_FINITE} after epoch {epoch}: {validation_elbo}; {self._advice}"
                )
            if self.early_stopping.update(epoch, -validated):
                self._best.copy_from(self.model)
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
        self._begin_folder()
        self.folder.append_history(row)
        return row

    # === State ===

    @property
    def epochs_done(self):
        """How many epochs are complete."""
        return int(self.position.epoch) - 1

    @property
    def best_epoch(self):
        """The epoch whose weights are the best so far; 0 before the first."""
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
        votes = self.workers.gather(self._segment, due, self._signals.number or 0)
        self._segment, due = int(votes[0, 0]), bool(votes[0, 1])  # the chief's
        signal_number = int(
            votes[:, 2].max()
        )  # one that came since is left to the next vote, for the others know nothing
        if due or signal_number:
            self.save()
        if signal_number:
            raise Interrupted(signal_number)

    def save(self):
        """Writes a checkpoint, and after it the best weights if they are newer than their file.

        Raises:
            NotFinite: if a weight is not finite: such a state is not worth keeping.
            RunFolderError: if the folder cannot be written; what it held before stays.
        """
        if not all(tf.reduce_all(tf.math.is_finite(w.value)) for w in self.model.trainable_weights):
            raise NotFinite(f"the weights are {NOT_FINITE} in epoch {self.epochs_done + 1}; {self._advice}")
        self._begin_folder()
        self.steps.share_statistics()
        self.checkpoints.save()  # first: weights without a checkpoint tell a run whose checkpoints somebody deleted
        if self._best_unsaved:
            self._save_best_weights()
        self._last_checkpoint = time.monotonic()

    def _save_best_weights(self):
        self._best_unsaved = False
        if not self.folder.writer:
            return
        with own_weights_kept(self.model):
            self._best.copy_to(self.model)
            try:
                files.write_bytes(self.folder.weights, weights.to_bytes(self.model))
            except OSError as error:
                raise RunFolderError(
                    f"{self.folder.weights} cannot be written (disk full or not writable?): {error}. What the run folder "
                    "held is kept; the same command resumes from its last checkpoint"
                ) from error

    def _best_model(self):
        """The model with its best weights, in float32 as it will be loaded."""
        if self.config.mixed_precision == "none":
            model = self.model
        else:
            with self.strategy.scope():
                model = models.create(self._given)
            for name in ("chunk_size", "began_as_data"):  # what a prior knows beside its weights
                if hasattr(self.model.prior_layer, name):
                    setattr(model.prior_layer, name, getattr(self.model.prior_layer, name))
        self._best.copy_to(model)
        return model

    @contextlib.contextmanager
    def _validated_weights(self, epoch):
        """A context in which the model has the weights to be validated: averaged ones, if the optimiser keeps any."""
        if not self.config.ema_momentum:
            yield
            return
        with own_weights_kept(self.model):
            self.optimizer.finalize_variable_values(self.model.trainable_variables)
            self.steps.estimate_statistics(epoch)
            yield

    @property
    def _advice(self):
        of_this_run = self.folder.begun or not self.folder.overwrite
        if of_this_run and any(self.folder.checkpoints.glob("ckpt-*.index")):
            kept = f"the last good checkpoint is kept in {self.folder.checkpoints}"
            return f"{kept}; a smaller --learning_rate may help, in another --run_dir or with --overwrite"
        return "there was nothing to keep yet; a smaller --learning_rate may help"


def check_step_memory(model, config, num_images):
    """Refuses numbers of samples with which not even the images of a step's decoder fit into the memory.

    Args:
        model: a `ModelConfig` or a model.
        config: a `TrainingConfig`.
        num_images: N of the training images.

    Raises:
        TooLarge: if so; the message names the flags.
    """
    image_bytes = 4 * math.prod(model.image_shape)
    rows = min(config.batch_size, num_images) * config.objective_samples
    flags = f"--batch_size={config.batch_size} and --objective_samples={config.objective_samples}"
    memory.check(2 * rows * image_bytes, f"a step with {flags}")  # and as much for gradients
    memory.check(
        config.selection_samples * image_bytes, f"validation with --selection_samples={config.selection_samples}"
    )
