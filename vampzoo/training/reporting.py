"""What a training says: a progress bar, TensorBoard scalars and image grids."""

import contextlib
import shutil
import sys
import time

import tensorflow as tf
from tqdm import tqdm

from vampzoo import figures
from vampzoo.config import SELECTION_TITLES
from vampzoo.evaluation import components
from vampzoo.training.run_folder import RunFolderError

WIDE = 160  # columns in which a bar with all terms has room
LINE_SECONDS = 10.0  # between two lines where there is no terminal to draw a bar on


class Progress:
    """A bar over epochs with the latest terms; without a terminal, a line every ten seconds.

    The bar says "compiling" until the first steps are done, and fits into 80 columns; wider terminals get more terms.

    Args:
        epochs: the most that may be run; if more are done already, these are shown.
        initial: epochs that are done already.
        quiet: show nothing of it, as befits all workers but one.
    """

    def __init__(self, epochs, initial, quiet=False):
        epochs = max(epochs, initial)
        self._bar = tqdm(
            total=epochs,
            initial=initial,
            unit="epoch",
            file=sys.stderr,
            disable=quiet or not sys.stderr.isatty(),
            dynamic_ncols=True,
            bar_format="{bar:6}| {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]",
        )
        self._compiling = initial < epochs
        if self._compiling:
            self._bar.set_postfix_str("compiling")
        self._quiet = quiet
        self._last_line = -LINE_SECONDS
        self._epochs = epochs
        self._start, self._initial = time.monotonic(), initial

    def part(self, fraction):
        """Moves the bar by a fraction of an epoch."""
        if self._compiling:
            self._compiling = False
            self._bar.set_postfix_str("", refresh=False)
        self._bar.update(fraction)

    def epoch(self, row, force=False):
        """Shows a row of the history."""
        best_name, best = next((name, value) for name, value in row.items() if name.startswith("best_"))
        selection = best_name.removeprefix("best_")  # what the best epoch is chosen by
        selected = row[selection]
        validation = f"val {selected:.2f}"
        if selection != "validation_elbo":
            validation = f"val elbo {row['validation_elbo']:.2f} bound {selected:.2f}"
        rates = " ".join(f"{name} {value:.1f}" for name, value in row.items() if name.startswith("rate_"))
        text = (
            f"elbo {row['elbo']:.2f} {validation} best {best:.2f} | distortion "
            f"{row['distortion']:.1f} {rates} beta {row['beta']:.2f} | {row['images_per_second']:.0f} images/s"
        )
        brief = f"elbo {row['elbo']:.1f} val {selected:.1f} best {best:.1f}"
        self._bar.set_postfix_str(text if shutil.get_terminal_size().columns >= WIDE else brief)
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
    """Writes scalars every epoch, image grids now and then, and the settings for its table of runs.

    What is known of several sets of images has one tag, in the folders train/, validation/ and test/ of `folder`: so
    TensorBoard draws it into one chart.

    Args:
        folder: of the event files; None: write none.
        model: the model whose samples are shown.
        validation: [N, H, W, C], of which the first images are reconstructed.
        seed: integer; every grid uses the same draws, so that they can be compared.
        settings: {name: value} of the model and its training, with `selection`, for the page HPARAMS; None: no page.

    Raises:
        RunFolderError: if the events cannot be written.
    """

    NUM_IMAGES = 64
    COLUMNS = 8  # even: an image and its reconstruction stay together

    def __init__(self, folder, model, validation, seed, settings=None):
        self._folder = folder
        self._writers = {}  # {subfolder: writer}, made when there is something to write
        self._model = model
        self._originals = validation[: self.NUM_IMAGES // 2]
        self._seed = seed
        self._settings = settings or {}

    @contextlib.contextmanager
    def _step(self, epoch, subfolder=""):
        """A context in which summaries are written for that epoch, and are in their file at its end."""
        try:
            place = self._folder / subfolder if self._folder else None
            writer = self._writers.get(subfolder)
            if place and not (writer and place.is_dir()):  # the first time, or somebody deleted it
                place.mkdir(parents=True, exist_ok=True)
                writer = tf.summary.create_file_writer(str(place))
            self._writers[subfolder] = writer = writer or tf.summary.create_noop_writer()
            with writer.as_default(step=epoch):
                yield
        except (tf.errors.OpError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise RunFolderError(f"{self._folder} cannot be written (disk full or not writable?): {reason}") from error

    def scalars(self, row):
        """Writes a row of the history: validation_elbo and elbo are the same tag of validation and train."""
        if self._settings:
            with self._step(row["epoch"]):
                write_settings(self._settings)
            self._settings = {}
        for subfolder, values in split_row(row).items():
            with self._step(row["epoch"], subfolder):
                for name, value in values.items():
                    tf.summary.scalar(name, value)

    def images(self, epoch, usage=None):
        """Writes grids of samples, reconstructions and pseudo-inputs.

        Args:
            epoch: integer.
            usage: NumPy [K], the share of the data that each pseudo-input explains: the most used are shown; None:
                no pseudo-inputs are.
        """
        titles = {}
        pictures = {
            "samples": self._model.sample(self.NUM_IMAGES, seed=self._seed),
            "reconstructions": figures.side_by_side(self._originals, self._model.reconstruct(self._originals)),
        }
        if self._model.prior_layer.has_pseudo_inputs and usage is not None:
            shown = components.most_used(usage, self.NUM_IMAGES)
            pictures["pseudo_inputs"] = self._model.pseudo_inputs.numpy()[shown]
            titles["pseudo_inputs"] = components.usage_title(usage, shown)
        with self._step(epoch):
            for name, images in pictures.items():
                picture = figures.grid(images, self.COLUMNS, scale=2)[tf.newaxis]
                tf.summary.image(name, picture, description=titles.get(name))

    def close(self):
        """Writes what is left and closes the file."""
        for writer in self._writers.values():
            with contextlib.suppress(tf.errors.OpError):  # what an earlier write complained about already
                writer.close()


def split_row(row):
    """A row of the history by what it is about: {"train": {tag: value}, "validation": {tag: value}}, without the epoch."""
    parts = {"train": {}, "validation": {}}
    for name, value in row.items():
        if name != "epoch":
            split = "validation" if "validation_" in name else "train"
            parts[split][name.replace("validation_", "")] = value
    return parts


def table(selection):
    """What TensorBoard's table of runs shows of each: (tag, folder, title)."""
    return (
        (f"best_{selection}", "validation", f"best validation {SELECTION_TITLES[selection]}"),
        ("elbo", "test", "test ELBO"),
        ("log_likelihood", "test", "test log-likelihood"),
    )


def write_settings(settings):
    """Writes settings for TensorBoard's page HPARAMS to the writer that is the default.

    Args:
        settings: {name: value}, with `selection`.
    """
    try:
        from tensorboard.plugins.hparams import api
    except ImportError:  # the page is TensorBoard's, and TensorFlow works without it
        return
    plain = {
        name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in settings.items()
    }
    metrics = [api.Metric(tag, group=folder, display_name=title) for tag, folder, title in table(settings["selection"])]
    api.hparams_config(hparams=[api.HParam(name) for name in plain], metrics=metrics)
    api.hparams(plain)


def write_test_result(folder, epoch, result):
    """Writes what an evaluation on the test images gave as one point in TensorBoard's charts.

    Args:
        folder: of the event files.
        epoch: that of the weights which were evaluated.
        result: contents of evaluation.json.

    Raises:
        RunFolderError: if the events cannot be written.
    """
    values = {
        name: value for name, value in result.items() if isinstance(value, float) and not name.endswith("_stderr")
    }
    values |= {f"rate_{name}": value for name, value in result.get("rates", {}).items()}
    values.pop("seconds", None)
    board = TensorBoard(folder, None, (), 0)
    with board._step(epoch, "test"):
        for name, value in values.items():
            tf.summary.scalar(name, value)
    board.close()
