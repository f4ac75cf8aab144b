"""Checkpoints of a training: everything that decides how it goes on."""

import tempfile

import tensorflow as tf

from vampzoo.training.run_folder import RunFolderError


class Position(tf.Module):
    """Where a training stands: `step` steps of `epoch` (from 1) are done, with these sums of their terms."""

    def __init__(self, num_sums):
        super().__init__(name="position")
        self.epoch = tf.Variable(1, dtype=tf.int64, trainable=False)
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.sums = tf.Variable(tf.zeros([num_sums], tf.float64), trainable=False)
        self.seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)


def _listed(folder):
    """The checkpoints that the list in a folder names, newest first; none if it is missing or damaged."""
    try:
        state = tf.train.get_checkpoint_state(str(folder))
    except ValueError:  # an empty list, as a power failure may leave it
        return []
    return list(state.all_model_checkpoint_paths)[::-1] if state else []


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
        if writer and not _listed(folder):
            (folder / "checkpoint").unlink(missing_ok=True)  # a damaged list is more than the manager can take
        self._temporary = None if writer else tempfile.TemporaryDirectory(prefix="vampzoo_")
        own_folder = str(folder) if writer else self._temporary.name
        self._manager = tf.train.CheckpointManager(self._checkpoint, own_folder, max_to_keep=2 if writer else 1)
        self._folder = folder

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
        paths = _listed(self._folder) or self._unlisted()
        for path in paths:
            try:
                self._checkpoint.restore(path).assert_existing_objects_matched()
                return True
            except Exception as error:  # of a damaged file TensorFlow raises nearly anything
                reason = (str(error) or type(error).__name__).splitlines()[0]
                report(f"checkpoint {path} is damaged ({reason}); trying the one before")
        if paths:
            raise RunFolderError(f"no checkpoint in {self._folder} can be read; use --overwrite to start anew")
        return False

    def _unlisted(self):
        """Checkpoints in the folder, newest first, for when the file that lists them is gone or damaged."""
        indices = self._folder.glob("ckpt-*.index")
        return [str(path.with_suffix("")) for path in sorted(indices, key=lambda p: p.stat().st_mtime_ns, reverse=True)]
