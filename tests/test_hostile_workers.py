"""Hostile situations of several workers: every wait ends, and no mixture is trained."""

import concurrent.futures
import json
import os
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from vampzoo import training
from vampzoo.errors import InvalidValue
from vampzoo.training import WorkerLost, rendezvous


def tf_config(workers=("a:1", "b:2"), kind="worker", index=0, **cluster):
    return json.dumps({"cluster": {"worker": workers, **cluster}, "task": {"type": kind, "index": index}})


BAD = {
    "not set": None,
    "empty": "",
    "no JSON": "{",
    "a list": "[]",
    "a number": "3",
    "no cluster": '{"task": {"type": "worker", "index": 0}}',
    "no task": '{"cluster": {"worker": ["a:1"]}}',
    "cluster is a list": '{"cluster": [], "task": {"type": "worker", "index": 0}}',
    "no workers": tf_config([]),
    "workers are text": tf_config("a:1"),
    "workers are an object": tf_config({"0": "a:1"}),
    "port missing": tf_config(["a", "b"]),
    "port empty": tf_config(["a:", "b:2"]),
    "port a word": tf_config(["a:http", "b:2"]),
    "port 0": tf_config(["a:0", "b:2"]),
    "port 65536": tf_config(["a:65536", "b:2"]),
    "port negative": tf_config(["a:-1", "b:2"]),
    "port in other digits": tf_config(["a:\u0661", "b:2"]),
    "host missing": tf_config([":1", "b:2"]),
    "address a number": tf_config([1, 2]),
    "address null": tf_config([None]),
    "address doubled": tf_config(["a:1", "a:1"]),
    "chief": tf_config(chief=["c:3"]),
    "ps": tf_config(ps=["c:3"]),
    "task is chief": tf_config(kind="chief"),
    "task is evaluator": tf_config(kind="evaluator"),
    "index too large": tf_config(index=2),
    "index negative": tf_config(index=-1),
    "index text": tf_config(index="0"),
    "index true": tf_config(index=True),
    "index null": tf_config(index=None),
    "index 0.5": tf_config(index=0.5),
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_tf_config(ends, monkeypatch, text):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InvalidValue, match=r'needs the environment variable TF_CONFIG.*"index": 0') as caught:
        training.create_strategy("multi_worker")
    assert "\n" not in str(caught.value)
    ends(str(caught.value).split("}}, ")[-1].split("}};")[-1])


def test_good_tf_config():
    assert rendezvous.read_tf_config(tf_config(["a:1", "[::1]:2"], index=1)) == ([("a", 1), ("::1", 2)], 1)


@pytest.fixture
def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(rendezvous, "QUIET_SECONDS", 0.1)


OTHERS = {
    "nobody there": ("127.0.0.1", "connection refused"),
    "unknown host": ("no-such-host.invalid", "unknown host"),
    "host that cannot be": ("a..b", "unknown host|label empty"),
}


@pytest.mark.parametrize(("host", "why"), OTHERS.values(), ids=OTHERS)
def test_worker_that_cannot_be_reached(ends, free_port, impatient, host, why):
    said, begin = [], time.monotonic()
    addresses = [("127.0.0.1", free_port), (host, 9)]
    with pytest.raises(WorkerLost, match=rf"gave up after 0\.5 seconds of waiting for {host}:9 \(.*({why})") as caught:
        rendezvous.wait_for_workers(addresses, 0, 0.5, said.append)
    assert time.monotonic() - begin < 30
    assert said and said[0].startswith(f"waiting for {host}:9")
    ends(caught.value)


def test_port_in_use(ends, free_port):
    with socket.socket() as s:
        s.bind(("", free_port))
        s.listen()
        with pytest.raises(InvalidValue, match=f"port {free_port}, which TF_CONFIG gives this worker") as caught:
            rendezvous.wait_for_workers([("127.0.0.1", free_port), ("127.0.0.1", 9)], 0, 5)
    ends(caught.value)


def test_worker_that_comes_later(ends, free_port, impatient):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        other = s.getsockname()[1]
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def come():
        listener.bind(("127.0.0.1", other))
        listener.listen()

    said = []
    threading.Timer(0.6, come).start()
    rendezvous.wait_for_workers([("127.0.0.1", free_port), ("127.0.0.1", other)], 0, 30, said.append)
    listener.close()
    assert len(said) == 1 and said[0].startswith(f"waiting for 127.0.0.1:{other}")
    ends(f"{said[0]}; then it goes on")


def test_alone_waits_for_nobody(free_port):
    rendezvous.wait_for_workers([("127.0.0.1", free_port)], 0, 0.0)


_CONNECT = """
import sys
from vampzoo import training
training.create_strategy("multi_worker", float(sys.argv[1]))
"""


def test_worker_that_ends_while_they_connect(ends, free_port):
    with socket.create_server(("127.0.0.1", 0)) as other:  # can be reached, and never says a word
        workers = [f"127.0.0.1:{free_port}", f"127.0.0.1:{other.getsockname()[1]}"]
        tf_config = json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": 0}})
        command = [sys.executable, "-c", _CONNECT, "3"]
        environment = {**os.environ, "TF_CONFIG": tf_config}
        process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert process.returncode == 1
    assert "connecting 2 workers: ends after 3 seconds if one is lost" in process.stderr
    assert "Timeout (0:00:03)!" in process.stderr
    ends("connecting 2 workers: ends after 3 seconds if one is lost; exit code 1")


# === Leaving ===


def test_nobody_leaves_before_all_have_come():
    departure = rendezvous.Departure(3)
    chief = "127.0.0.1", departure.port
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for _ in range(2):  # as often as they like
            first = pool.submit(rendezvous.wait_for_release, chief, 30)
            own = pool.submit(departure.release, 30)
            assert not concurrent.futures.wait([first, own], 0.3).done
            second = pool.submit(rendezvous.wait_for_release, chief, 30)
            assert not concurrent.futures.wait([first, own, second], 10).not_done


def test_a_worker_that_never_comes_is_not_waited_for_for_ever(ends):
    departure = rendezvous.Departure(3)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        came = pool.submit(rendezvous.wait_for_release, ("127.0.0.1", departure.port), 30)
        pool.submit(departure.release, 0.5).result(10)
        came.result(10)  # is let go with the chief
    ends("the others leave when the time is over")


def test_a_chief_that_is_gone_is_not_waited_for(ends, free_port):
    rendezvous.wait_for_release(("127.0.0.1", free_port), 60)
    departure = rendezvous.Departure(2)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waits = pool.submit(rendezvous.wait_for_release, ("127.0.0.1", departure.port), 60)
        assert not concurrent.futures.wait([waits], 0.3).done
        del departure  # its socket is closed, as at the end of its process
        waits.result(10)
    ends("leaves at once")


# === Mixtures ===

SAME = {"data": {"fingerprint": "0"}, "settings of the training": {"seed": 0, "batch_size": 8}, "--evaluate": True}


def gather_with(other):
    """A `gather` of two workers, the second of which passed `other`."""
    passed = []

    def record(*numbers):
        passed.append(numbers)
        return np.array([numbers])

    workers = training.Workers(tf.distribute.get_strategy())
    workers.num = 2
    workers.wait_to_leave = lambda: None
    workers.gather = record
    workers.check_same(**other)
    workers.gather = lambda *numbers: np.array([numbers, passed[0]], np.float64)
    return workers


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"fingerprint": "1"}}, "different data:"),
        ({"settings of the training": {"seed": 1, "batch_size": 8}}, "different settings of the training:"),
        ({"settings of the training": {"seed": 0, "batch_size": 4}}, "different settings of the training:"),
        ({"--evaluate": False}, "different --evaluate:"),
        ({"data": {}, "--evaluate": 1}, "different data, --evaluate:"),
    ],
)
def test_workers_with_different_flags_or_data(ends, change, message):
    with pytest.raises(InvalidValue, match=message) as caught:
        gather_with({**SAME, **change}).check_same(**SAME)
    ends(caught.value)


def test_workers_with_the_same_flags_and_data():
    gather_with(dict(SAME)).check_same(**SAME)


def test_worker_that_ended_before(ends):
    workers = gather_with(SAME)

    def gather(*numbers):
        raise tf.errors.UnavailableError(None, None, "connection reset\nand much more")

    workers.gather = gather
    with pytest.raises(
        WorkerLost, match=r"another worker ended before the training began.*\(connection reset\)"
    ) as caught:
        workers.check_same(**SAME)
    ends(caught.value)
