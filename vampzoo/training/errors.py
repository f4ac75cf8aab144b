"""What can go wrong in a training, and what its user can do about it."""

import contextlib
import signal

import tensorflow as tf

from vampzoo.errors import VampzooError


class NotFinite(VampzooError, RuntimeError):
    """The loss became NaN or infinite."""


class OutOfMemory(VampzooError, RuntimeError):
    """The model or a step of its training does not fit into memory."""


class WorkerLost(VampzooError, RuntimeError):
    """Another worker of the training died or cannot be reached."""


class Interrupted(Exception):
    """A signal asked the training to stop; its state was saved."""

    def __init__(self, signal_number):
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


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
