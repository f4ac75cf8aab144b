"""Signals that ask a program to stop, kept until it stands where its state can be saved."""

import signal
import threading


class DeferredSignals:
    """A context in which SIGINT and SIGTERM are noted in `number` (None before the first) instead of acting."""

    def __init__(self):
        self.number = None
        self._handlers = {}

    def __enter__(self):
        # Only the main thread may set handlers; in another one signals are somebody else's matter.
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        self.number = number
