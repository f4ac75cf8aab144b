"""Faults, with real processes: whatever stops a training, the same command goes on as if nothing had happened."""

import os
import random
import signal
import time

import child_runs
import pytest

# 1 runs the long forms: a hundred kills, two thousand epochs.
FULL = os.environ.get("VAMPZOO_FULL_TESTS") == "1"
NUM_KILLS = 100 if FULL else 3


def wait_for(condition, process, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert process.is_alive(), f"the process ended with code {process.exitcode}"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def history_length(folder):
    path = folder / "history.csv"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The result of a training of 30 epochs that was left alone."""
    folder = tmp_path_factory.mktemp("reference")
    child_runs.call(child_runs.train, folder / "run", 30, folder / "result.npz")
    return folder / "result.npz"


def test_kills_at_random_moments(tmp_path, reference):
    """Every killed run resumes, and ends with the weights and the history of one that was left alone."""
    moments = random.Random(0)
    kills = finished = epochs = 0
    while kills < NUM_KILLS:
        run, result = tmp_path / f"run{finished}", tmp_path / f"result{finished}.npz"
        process = child_runs.start(child_runs.train, run, 30, result)
        epochs = moments.randint(epochs, 30)
        while process.is_alive() and history_length(run) <= epochs:  # its first line is the header
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.05))
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
        else:
            assert process.exitcode == 0
            child_runs.assert_same_results(result, reference)
            finished, epochs = finished + 1, 0
    child_runs.call(child_runs.train, run, 30, result)
    child_runs.assert_same_results(result, reference)
    print(f"{kills} kills, {finished + 1} runs finished")


def test_full_disk(tmp_path, reference):
    """The message names the folder, the old checkpoint stays, and with room again the run goes on from there."""
    run = tmp_path / "run"
    message = child_runs.call(child_runs.train_on_a_full_disk, run, 30)
    assert str(run) in message and "disk full" in message
    assert not list(run.glob(".writing*"))
    child_runs.call(child_runs.train, run, 30, tmp_path / "result.npz")
    child_runs.assert_same_results(tmp_path / "result.npz", reference)


def _workers(path, epochs, result):
    ports = child_runs.free_ports(2)
    return [child_runs.start(child_runs.train_as_worker, i, ports, path, epochs, result) for i in (0, 1)]


def test_worker_killed_in_mid_epoch(tmp_path):
    """The other ends with a message and a code of its own; both started again end as if nothing had happened."""
    run, result = tmp_path / "run", tmp_path / "result.npz"
    first, second = _workers(run, 100_000, result)
    wait_for(lambda: history_length(run) > 3, second)
    second.kill()
    first.join(60)
    assert first.exitcode == 3
    message = result.with_suffix(".lost0").read_text()
    assert "another worker was lost" in message and f"they resume {run}" in message

    epochs = history_length(run) + 20
    for process in (both := _workers(run, epochs, result)):
        process.join(240)
    assert [process.exitcode for process in both] == [0, 0]
    for process in (both := _workers(tmp_path / "reference", epochs, tmp_path / "reference.npz")):
        process.join(240)
    assert [process.exitcode for process in both] == [0, 0]
    child_runs.assert_same_results(result, tmp_path / "reference.npz")


def test_sigterm_to_one_worker_stops_both(tmp_path):
    run = tmp_path / "run"
    both = _workers(run, 100_000, tmp_path / "result.npz")
    wait_for(lambda: history_length(run) > 3, both[1])
    os.kill(both[1].pid, signal.SIGTERM)
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert list((run / "checkpoints").glob("*.index"))


@pytest.mark.skipif(not FULL, reason="takes minutes; VAMPZOO_FULL_TESTS=1 runs it")
def test_memory_stays_flat(tmp_path):
    early, late = child_runs.call(child_runs.memory_of_a_long_run, tmp_path, 2000, 100, timeout=580)
    print(f"{early / 2**20:.1f} MiB after 100 epochs, {late / 2**20:.1f} MiB at the end")
    assert late < 1.05 * early
