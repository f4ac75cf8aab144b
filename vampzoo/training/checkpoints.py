"""Checkpoints of a training: everything that decides how it goes on."""

import contextlib
import functools
import re
import tempfile

import tensorflow as tf

from vampzoo import files
from vampzoo.training.run_folder import RunFolderError

LIST = "checkpoint"  # TensorFlow's name of the file that lists them


class Position(tf.Module):
    """Where a training stands: `step` steps of `epoch` (from 1) are done, with these sums of their terms."""

    def __init__(self, num_sums):
        super().__init__(name="position")
        self.epoch = tf.Variable(1, dtype=tf.int64, trainable=False)
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.sums = tf.Variable(tf.zeros([num_sums], tf.float64), trainable=False)
        self.seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)


def _listed(folder):
    """Names of the checkpoints that the list in a folder has, newest first; none if it is missing or damaged."""
    try:
        text = (folder / LIST).read_text()
    except (OSError, ValueError):
        return []
    # `all_model_checkpoint_paths: "ckpt-3"`, the oldest first; a run that was moved may have whole paths.
    names = re.findall(r'^all_model_checkpoint_paths: "(?:[^"\n]*/)?(ckpt-\d+)"$', text, re.MULTILINE)
    return names[::-1]


class Checkpoints:
    """Saves and restores; the last two are kept, so that a damaged one costs little.

    Args:
        folder: pathlib.Path, where to.
        writer: whether this process is the one that writes there. Every worker of a training must take part in saving
            (tf.distribute asks for it); the others write to a temporary folder, and all restore what the one wrote.
        items: trackable objects by name (model, optimizer, ...).
    """

    def __init__(self, folder, writer=True, **items):
        self._checkpoint = tf.train.Checkpoint(**items)
        self._writer = writer
        self._folder = folder
        self._temporary = None if writer else tempfile.TemporaryDirectory(prefix="vampzoo_")
        self._contexts = contextlib.ExitStack()

    @functools.cached_property
    def _plain_path(self):
        return self._contexts.enter_context(files.path_without_patterns(self._folder))

    @functools.cached_property
    def _manager(self):
        """Made at the first save: it keeps what is in the folder then, and a run that begins anew empties it before."""
        if self._writer and not _listed(self._folder):
            (self._folder / LIST).unlink(missing_ok=True)  # a damaged list is more than the manager can take
        folder = self._plain_path if self._writer else self._temporary.name
        return tf.train.CheckpointManager(self._checkpoint, folder, max_to_keep=2 if self._writer else 1)

    def save(self):
        """Writes a checkpoint.

        Raises:
            RunFolderError: if it cannot be written; the ones before stay.
        """
        try:
            self._manager.save()
        except (tf.errors.OpError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise RunFolderError(
                f"no checkpoint could be written to {self._folder} (disk full or not writable?): {reason}. "
                "The checkpoints before it are kept; the same command resumes from there"
            ) from error

    def restore(self, report):
        """Restores the newest checkpoint that is whole; returns whether there was one.

        Args:
            report: called with a message for each damaged checkpoint that is passed over.

        Raises:
            RunFolderError: if there are checkpoints but none can be read.
        """
        names = _listed(self._folder) or self._unlisted()
        for name in names:
            try:
                self._checkpoint.restore(f"{self._plain_path}/{name}").assert_existing_objects_matched()
                return True
            except Exception as error:  # of a damaged file TensorFlow raises nearly anything
                reason = (str(error) or type(error).__name__).splitlines()[0]
                report(f"checkpoint {self._folder / name} is damaged ({reason}); trying the one before")
        if names:
            raise RunFolderError(
                f"no checkpoint in {self._folder} can be read, so training cannot go on; the best weights beside it were "
                "not touched. Choose another --run_dir, or use --overwrite to delete them and start anew"
            )
        return False

    def _unlisted(self):
        """Names of the checkpoints in the folder, newest first, for when the file that lists them is gone or damaged."""
        indices = self._folder.glob("ckpt-*.index")
        return [path.stem for path in sorted(indices, key=lambda p: p.stat().st_mtime_ns, reverse=True)]
