"""The networks: shapes, clips, initial weights, and the parameter counts of the paper's code."""

import numpy as np
import pytest

from vampzoo import models, networks
from vampzoo.config import ModelConfig

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("model", "prior", "count"),
    [
        ("vae", "standard", 1_116_864),
        ("vae", "vampprior", 1_508_864),
        ("hvae", "standard", 2_431_024),
        ("hvae", "vampprior", 2_823_024),
    ],
)
def test_number_of_parameters(model, prior, count):
    created = models.create(ModelConfig(model=model, prior=prior))
    assert created.count_params() == count
    assert sum(np.prod(v.shape) for v in created.trainable_variables) == count


def test_log_variances_are_clipped_hard():
    encoder = networks.mlp_image_encoder((4, 5, 1), 8, 2, seed=0, name="q_z")
    mean, log_var = encoder(1e4 * RNG.normal(size=(50, 4, 5, 1)).astype(np.float32))
    assert mean.shape == log_var.shape == (50, 2)
    assert np.min(log_var) == -6 and np.max(log_var) == 2
    assert np.abs(mean).max() > 100  # means are affine


@pytest.mark.parametrize("likelihood", ["bernoulli", "discretized_logistic"])
def test_decoders_give_the_parameters_of_the_likelihood(likelihood):
    z1, z2 = np.ones((5, 3), np.float32), np.ones((5, 2), np.float32)
    for output in (
        networks.mlp_decoder(2, (4, 5, 1), likelihood, 8, seed=0)(z2),
        networks.mlp_joint_decoder(3, 2, (4, 5, 1), likelihood, 8, seed=0)([z1, z2]),
    ):
        shapes = [tuple(o.shape) for o in (output if isinstance(output, list | tuple) else [output])]
        assert shapes == [(5, 4, 5, 1)] * (1 if likelihood == "bernoulli" else 2)


def test_networks_take_one_image_with_many_latents():
    joint = networks.joint_encoder(7, 2, 8, 8, 3, seed=0)
    features, z2 = RNG.normal(size=(1, 7)).astype(np.float32), RNG.normal(size=(6, 2)).astype(np.float32)
    for one, repeated in zip(joint([features, z2]), joint([np.repeat(features, 6, 0), z2]), strict=True):
        np.testing.assert_allclose(one, repeated, rtol=1e-5, atol=1e-6)


def test_the_seed_alone_decides_the_initial_weights(tiny_model):
    first, again, other = tiny_model(seed=3), tiny_model(seed=3), tiny_model(seed=4)
    for a, b, c in zip(first.weights, again.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a.numpy() != c.numpy()).any()


def test_no_two_weights_start_alike(tiny_model):
    starts = [v.numpy().ravel() for v in tiny_model(prior="mog").weights if v.path != "prior/log_vars"]
    sorted_starts = [tuple(np.sort(np.round(v / np.abs(v).max(), 5))) for v in starts]  # up to scale
    assert len(set(sorted_starts)) == len(sorted_starts)
