"""What a training says: a progress bar, TensorBoard scalars and image grids."""

import contextlib
import sys
import time

import tensorflow as tf
from tqdm import tqdm

from vampzoo import figures
from vampzoo.evaluation import components
from vampzoo.training.run_folder import RunFolderError

LINE_SECONDS = 10.0  # between two lines where there is no terminal to draw a bar on


class Progress:
    """A bar over epochs with the latest terms; without a terminal, a line every ten seconds.

    Args:
        epochs: the most that may be run.
        initial: epochs that are done already.
        quiet: show nothing of it, as befits all workers but one.
    """

    def __init__(self, epochs, initial, quiet=False):
        self._bar = tqdm(
            total=epochs,
            initial=initial,
            unit="epoch",
            file=sys.stderr,
            disable=quiet or not sys.stderr.isatty(),
            dynamic_ncols=True,
            bar_format="{l_bar}{bar:12}| {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]",
        )
        self._quiet = quiet
        self._last_line = -LINE_SECONDS
        self._epochs = epochs
        self._start, self._initial = time.monotonic(), initial

    def part(self, fraction):
        """Moves the bar by a fraction of an epoch."""
        self._bar.update(fraction)

    def epoch(self, row, force=False):
        """Shows a row of the history."""
        best = next(value for name, value in row.items() if name.startswith("best_"))
        rates = " ".join(f"{name} {value:.1f}" for name, value in row.items() if name.startswith("rate_"))
        text = (
            f"elbo {row['elbo']:.2f} val {row['validation_elbo']:.2f} best {best:.2f} | distortion "
            f"{row['distortion']:.1f} {rates} beta {row['beta']:.2f} | {row['images_per_second']:.0f} images/s"
        )
        self._bar.set_postfix_str(text)
        now = time.monotonic()
        force = force or row["epoch"] == self._epochs
        if self._bar.disable and not self._quiet and (force or now - self._last_line >= LINE_SECONDS):
            self._last_line = now
            remaining = (self._epochs - row["epoch"]) * (now - self._start) / max(1, row["epoch"] - self._initial)
            print(f"epoch {row['epoch']}/{self._epochs} {text} | at most {remaining / 60:.0f} min", file=sys.stderr)

    @staticmethod
    def message(text):
        """Prints a line above the bar."""
        tqdm.write(text, file=sys.stderr)

    def close(self):
        """Leaves the bar as it stands."""
        self._bar.close()


class TensorBoard:
    """Writes scalars every epoch and image grids now and then.

    Args:
        folder: of the event files; None: write none.
        model: the model whose samples are shown.
        validation: [N, H, W, C], of which the first images are reconstructed.
        seed: integer; every grid uses the same draws, so that they can be compared.

    Raises:
        RunFolderError: if the events cannot be written.
    """

    NUM_IMAGES = 64

    def __init__(self, folder, model, validation, seed):
        self._writer = None if folder else tf.summary.create_noop_writer()
        self._folder = folder
        self._model = model
        self._originals = validation[: self.NUM_IMAGES // 2]
        self._seed = seed

    @contextlib.contextmanager
    def _step(self, epoch):
        """A context in which summaries are written for that epoch, and are in their file at its end."""
        try:
            if self._folder and not (self._writer and self._folder.is_dir()):  # the first time, or somebody deleted it
                self._folder.mkdir(parents=True, exist_ok=True)
                self._writer = tf.summary.create_file_writer(str(self._folder))
            with self._writer.as_default(step=epoch):
                yield
        except (tf.errors.OpError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise RunFolderError(f"{self._folder} cannot be written (disk full or not writable?): {reason}") from error

    def scalars(self, row):
        """Writes a row of the history."""
        with self._step(row["epoch"]):
            for name, value in row.items():
                if name != "epoch":
                    tf.summary.scalar(name, value)

    def images(self, epoch, usage=None):
        """Writes grids of samples, reconstructions and pseudo-inputs.

        Args:
            epoch: integer.
            usage: NumPy [K], the share of the data that each pseudo-input explains: the most used are shown.
        """
        titles = {}
        pictures = {
            "samples": self._model.sample(self.NUM_IMAGES, seed=self._seed),
            "reconstructions": figures.side_by_side(self._originals, self._model.reconstruct(self._originals)),
        }
        if self._model.prior_layer.has_pseudo_inputs:
            shown = components.most_used(usage, self.NUM_IMAGES)
            pictures["pseudo_inputs"] = self._model.pseudo_inputs.numpy()[shown]
            titles["pseudo_inputs"] = components.usage_title(usage, shown)
        with self._step(epoch):
            for name, images in pictures.items():
                tf.summary.image(name, figures.tile(images)[tf.newaxis], description=titles.get(name))

    def close(self):
        """Writes what is left and closes the file."""
        with contextlib.suppress(tf.errors.OpError):  # what an earlier write complained about already
            if self._writer:
                self._writer.close()
