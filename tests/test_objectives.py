"""The objective's small parts by hand."""

import numpy as np
import pytest
import tensorflow as tf

from vampzoo import objectives
from vampzoo.objectives import ElboTerms

TERMS = ElboTerms(tf.constant([3.0, 5.0]), {"z2": tf.constant([1.0, 2.0]), "z1": tf.constant([0.5, -1.0])})


@pytest.mark.parametrize(
    ("epoch", "warmup_epochs", "expected"),
    [(1, 100, 0.01), (50, 100, 0.5), (100, 100, 1.0), (101, 100, 1.0), (1, 0, 1)],
)
def test_warmup(epoch, warmup_epochs, expected):
    assert objectives.beta(epoch, warmup_epochs) == pytest.approx(expected)


def test_elbo_terms():
    np.testing.assert_allclose(TERMS.rate, [1.5, 1.0])
    np.testing.assert_allclose(TERMS.log_weight, [-4.5, -6.0])
    np.testing.assert_allclose(objectives.beta_elbo_loss(TERMS, 0.5), [3.75, 5.5])
    np.testing.assert_allclose(objectives.beta_elbo_loss(TERMS, 1.0), -TERMS.log_weight)


def test_bits_per_dimension():
    uniform = -560 * np.log(256)  # 8 bits for every pixel
    assert objectives.bits_per_dimension(uniform, 560) == pytest.approx(8.0)


def test_an_objective_that_does_not_exist():
    with pytest.raises(ValueError, match="objective='iwea' is unknown; the valid values are: elbo, iwae"):
        objectives.training_loss(TERMS, 1.0, "iwea")
