"""One, two and four devices, one and two machines: the same numbers."""

import json

import child_runs
import numpy as np
import pytest
import tiny_run

import vampzoo
from vampzoo import evaluation, training


def assert_equal_runs(run, reference, terms_rtol=1e-5):
    np.testing.assert_allclose(run["terms"], reference["terms"], rtol=terms_rtol, atol=1e-5)
    for name in ("samples", "elbo", "likelihoods"):
        np.testing.assert_allclose(run[name], reference[name], rtol=1e-4, atol=1e-4)
    for w, expected in zip(run["weights"], reference["weights"], strict=True):
        np.testing.assert_allclose(w, expected, atol=2e-4)


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    return child_runs.call(child_runs.train_on_replicas, tmp_path_factory.mktemp("one"), 1, 7)


@pytest.mark.parametrize(("num_replicas", "jit_compile"), [(2, True), (4, False)])
def test_replicas_equal_one_device(tmp_path, one_device, num_replicas, jit_compile):
    """7 images a batch and 2 in the last: neither can be divided evenly, and some replica gets none."""
    run = child_runs.call(child_runs.train_on_replicas, tmp_path, num_replicas, 7, "vae", jit_compile)
    assert_equal_runs(run, one_device)


def test_two_replicas_of_a_deep_hierarchy_equal_one_device(tmp_path):
    runs = [child_runs.call(child_runs.train_on_replicas, tmp_path / str(n), n, 7, "topdown_hvae") for n in (1, 2)]
    assert_equal_runs(runs[1], runs[0], terms_rtol=3e-4)  # the rates of a hierarchy are large at first


def test_statistics_of_two_replicas_are_their_mean(tmp_path):
    """Means average over equal shares to the mean of all; variances leave out what lies between the shares."""
    one, two = (child_runs.call(child_runs.statistics_on_replicas, tmp_path / str(n), n) for n in (1, 2))
    np.testing.assert_allclose(two[0], one[0], rtol=1e-4, atol=1e-6)
    assert np.all(two[1] <= one[1] * (1 + 1e-4))
    assert np.all(two[1] > 0.5 * one[1])
    assert not np.allclose(one[1], 1.0)


def test_a_step_that_overflows_in_any_replica_is_left_out():
    states = child_runs.call(child_runs.overflow_in_the_second_replica)
    for (weight, scale), expected in zip(states[:2], (2.0**14, 2.0**13), strict=True):
        np.testing.assert_array_equal(weight, np.ones(3))
        assert scale == expected
    weight, scale = states[2]  # finite everywhere
    assert scale == 2.0**13
    assert np.all(weight < 1)


def test_two_processes_equal_one(tmp_path, one_device):
    ports = child_runs.free_ports(2)
    arguments = [(index, ports, tmp_path, 7) for index in (0, 1)]
    runs = child_runs.call_together(child_runs.measure_as_worker, *arguments)
    for run in runs:
        assert_equal_runs(run, one_device)
    np.testing.assert_array_equal(runs[0]["likelihoods"], runs[1]["likelihoods"])


def test_two_processes_train_and_evaluate_batch_normalisation(tmp_path):
    """One of them alone writes weights, shows samples and reports: none of that may wait for the other."""
    images = (np.random.default_rng(0).random([48, 4, 4]) < 0.3).astype(np.float32)
    np.savez(tmp_path / "images.npz", train=images[:32], validation=images[32:40], test=images[40:])
    arguments = ["--dataset=npz", f"--data_file={tmp_path / 'images.npz'}", "--model=pixel_hvae", "--num_components=3"]
    arguments += ["--epochs=1", "--batch_size=8", "--warmup_epochs=1", "--num_samples=7", "--ema_momentum=0.9"]
    arguments += ["--image_epochs=1", "--checkpoint_seconds=0", "--strategy=multi_worker", "--nojit_compile"]
    arguments += [f"--run_dir={tmp_path / 'run'}"]
    ports = child_runs.free_ports(2)
    workers = [(index, ports, "train", *arguments) for index in (0, 1)]
    runs = child_runs.call_together(child_runs.run_program_as_worker, *workers)
    assert [code for code, _, _ in runs] == [0, 0], runs
    result = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    with tiny_run.shallow_convolutions():
        model = vampzoo.load(tmp_path / "run")
    again, _ = evaluation.evaluate(model, images[40:, ..., np.newaxis], 7, jit_compile=False)
    np.testing.assert_allclose(result["elbo"], again["elbo"], rtol=1e-4)


@pytest.mark.parametrize(
    "tf_config",
    [
        None,
        "{",
        "[]",
        '{"cluster": {}}',
        '{"cluster": {"worker": []}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_bad_tf_config(monkeypatch, tf_config):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if tf_config is not None:
        monkeypatch.setenv("TF_CONFIG", tf_config)
    with pytest.raises(ValueError, match=r'needs the environment variable TF_CONFIG.*"index": 0'):
        training.create_strategy("multi_worker")


def test_unknown_strategy():
    with pytest.raises(ValueError, match="'tpu' is unknown; the valid values are: auto, one_device, mirrored"):
        training.create_strategy("tpu")


def test_workers_of_one_process():
    import tensorflow as tf

    workers = training.Workers(tf.distribute.get_strategy())
    assert workers.is_chief and workers.num == 1
    np.testing.assert_array_equal(workers.gather(3, True, 0), [[3, 1, 0]])
