"""How workers meet before they train together, and how they leave.

Is TF_CONFIG right, and can every other worker be reached? TensorFlow itself waits for more than an hour, without a word.
And it has no public barrier after which nobody needs another.
"""

import contextlib
import json
import os
import socket
import sys
import time

from vampzoo.errors import InvalidValue
from vampzoo.training.errors import WorkerLost

WORKER_TIMEOUT = 300.0  # seconds
QUIET_SECONDS = 5.0  # before it says for whom it waits
REPEAT_SECONDS = 30.0
_EXAMPLE = (
    'for the first of two machines for example {"cluster": {"worker": ["host1:12345", "host2:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


def read_tf_config(text):
    """The addresses of all workers, and the index of this one.

    Args:
        text: the value of the environment variable TF_CONFIG; None if it is not set.

    Returns:
        ([(host, port), ...], index).

    Raises:
        InvalidValue: if it describes no workers, or not in this form.
    """

    def refuse(reason):
        return InvalidValue(
            f"strategy=multi_worker needs the environment variable TF_CONFIG, {_EXAMPLE}; {reason}: it is {text!r}"
        )

    try:
        tf_config = json.loads(text or "")
        cluster, task = tf_config["cluster"], tf_config["task"]
        workers, kind, index = cluster["worker"], task["type"], task["index"]
    except (ValueError, KeyError, TypeError):
        raise refuse("it has no cluster.worker, task.type and task.index") from None
    if set(cluster) != {"worker"} or kind != "worker":
        raise refuse("all tasks must be workers, none chief, ps or evaluator")
    if not isinstance(workers, list) or not workers:
        raise refuse("cluster.worker must be a list of addresses")
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(workers):
        raise refuse(f"task.index must be an integer from 0 to {len(workers) - 1}")
    addresses = []
    for worker in workers:
        host, colon, port = worker.rpartition(":") if isinstance(worker, str) else ("", "", "")
        if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise refuse(f"{worker!r} is no HOST:PORT")
        addresses.append((host.strip("[]"), int(port)))
    if len(set(addresses)) < len(addresses):
        raise refuse("two workers have the same address")
    return addresses, index


def wait_for_workers(addresses, index, timeout=WORKER_TIMEOUT, report=None):
    """Waits until every other worker accepts connections; meanwhile this one does.

    Args:
        addresses: [(host, port), ...] of all workers.
        index: of this one.
        timeout: seconds after which it gives up.
        report: called with messages; None: prints them to standard error.

    Raises:
        InvalidValue: if the port of this worker is in use.
        WorkerLost: if another worker cannot be reached in time; the message names it.
    """
    report = report or (lambda text: print(text, file=sys.stderr, flush=True))
    begin = time.monotonic()
    next_report = begin + QUIET_SECONDS
    missing = {i: "" for i in range(len(addresses)) if i != index}
    with contextlib.closing(_listen(addresses[index][1])):  # closed for TensorFlow, which listens there from then on
        while True:
            for i in list(missing):
                missing[i] = _problem(addresses[i])
                if not missing[i]:
                    del missing[i]
            if not missing:
                return
            names = ", ".join(f"{addresses[i][0]}:{addresses[i][1]} ({why})" for i, why in missing.items())
            now = time.monotonic()
            if now - begin >= timeout:
                raise WorkerLost(
                    f"gave up after {timeout:g} seconds of waiting for {names}. Start the command on all machines of "
                    "TF_CONFIG; --worker_timeout sets how long they wait for each other"
                )
            if now >= next_report:
                report(f"waiting for {names}")
                next_report = now + REPEAT_SECONDS
            time.sleep(min(0.2, timeout))


def _listen(port):
    listener = socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("", port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise InvalidValue(
            f"port {port}, which TF_CONFIG gives this worker, cannot be used: {error.strerror}"
        ) from error
    return listener


def _problem(address):
    """Why an address cannot be reached; "" if it can."""
    try:
        socket.create_connection(address, 2.0).close()
    except (socket.gaierror, UnicodeError):  # of a name that cannot be one
        return "unknown host"
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def meet(timeout=WORKER_TIMEOUT):
    """Reads TF_CONFIG and waits for the workers that it lists; returns how many there are.

    Raises:
        InvalidValue, WorkerLost: as for `read_tf_config` and `wait_for_workers`.
    """
    addresses, index = read_tf_config(os.environ.get("TF_CONFIG"))
    wait_for_workers(addresses, index, timeout)
    return len(addresses)


class Departure:
    """Where the chief waits for all other workers, on a port of its own, to let them go at one moment; time after time.

    Args:
        num_workers: how many there are with the chief.

    Attributes:
        port: for `wait_for_release`.
    """

    def __init__(self, num_workers):
        self._num_others = num_workers - 1
        self._listener = _listen(0)
        self.port = self._listener.getsockname()[1]

    def release(self, timeout):
        """Waits until all others have come, for `timeout` seconds at most; then lets those go that have."""
        end = time.monotonic() + timeout
        with contextlib.ExitStack() as arrived:  # closing their connections is the signal
            for _ in range(self._num_others):
                self._listener.settimeout(max(0.001, end - time.monotonic()))
                with contextlib.suppress(OSError):
                    connection, _ = self._listener.accept()
                    arrived.enter_context(contextlib.closing(connection))


def wait_for_release(chief, timeout):
    """Waits for the chief's `Departure.release`, for `timeout` seconds at most, or until the chief is gone.

    Args:
        chief: (host, port), the port that of its `Departure`.
        timeout: seconds.
    """
    with contextlib.suppress(OSError), contextlib.closing(socket.create_connection(chief, timeout)) as connection:
        connection.settimeout(timeout)
        connection.recv(1)  # ends when the chief closes
