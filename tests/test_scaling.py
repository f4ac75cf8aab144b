"""The calculation of how far training scales, against its own formula."""

import math

import child_runs
import pytest

from vampzoo import config, scaling
from vampzoo.scaling import Cost

RATE, BANDWIDTH = 1e12, 1e10


def share(cost, num_gpus, batch):
    reduce = scaling.reduce_seconds(cost, num_gpus, BANDWIDTH)
    return reduce / (reduce + scaling.step_seconds(cost, num_gpus, batch, RATE))


def test_numbers_worked_out_by_hand():
    """10^8 operations an image, 10^8 for the pseudo-inputs, 10^7 bytes, a batch of 100; 10^12 flop, 10^10 bytes per s.

    With 2 GPUs: (50 + 1) 10^8 / 10^12 = 5.1 ms of computing, 2 * 1/2 * 10^7 / 10^10 = 1 ms of all-reduce, 16% of the whole.
    With 1: 10.1 ms and nothing to reduce. A GPU's part of the batch that 10% allows with many: (b + 1) 0.1 ms = 9 * 2 ms, so
    b = 179.
    """
    cost = Cost(image_flops=1e8, fixed_flops=1e8, reduced_bytes=1e7)
    assert scaling.step_seconds(cost, 2, 100, RATE) == pytest.approx(5.1e-3)
    assert scaling.reduce_seconds(cost, 2, BANDWIDTH) == pytest.approx(1e-3)
    assert scaling.gpus_until_felt(cost, 100, RATE, BANDWIDTH) == 2
    just_below = Cost(image_flops=1e8, fixed_flops=1e8, reduced_bytes=0.999e7)  # b = 178.8, off the edge of rounding
    assert scaling.smallest_batch(just_below, RATE, BANDWIDTH) == 179


def test_the_program_has_a_row_for_every_model(capsys):
    code, out, err = child_runs.call(child_runs.run_program, "scaling", "--components=5")
    assert code == 0, err
    rows = [line.split() for line in out.splitlines()[1:]]
    assert {row[0] for row in rows} == set(config.MODELS) and {len(row) for row in rows} == {8}


def test_ring_all_reduce():
    cost = Cost(0, 0, reduced_bytes=1e10)
    assert [scaling.reduce_seconds(cost, n, BANDWIDTH) for n in (1, 2, 4, math.inf)] == [0, 1, 1.5, 2]


@pytest.mark.parametrize("fixed", [0.0, 1e8])
@pytest.mark.parametrize("batch", [100, 1000])
def test_number_of_gpus_is_where_the_share_passes_a_tenth(batch, fixed):
    cost = Cost(image_flops=1e8, fixed_flops=fixed, reduced_bytes=1e7)
    n = scaling.gpus_until_felt(cost, batch, RATE, BANDWIDTH)
    assert share(cost, n - 1, batch) <= 0.1 < share(cost, n, batch)


def test_never():
    assert scaling.gpus_until_felt(Cost(1e8, 1e12, 1e7), 100, RATE, BANDWIDTH) is None


def test_batch_for_any_number_of_gpus():
    cost = Cost(image_flops=1e8, fixed_flops=1e8, reduced_bytes=1.23e7)
    batch, many = scaling.smallest_batch(cost, RATE, BANDWIDTH), 10**9
    assert share(cost, many, batch * many) <= 0.1 < share(cost, many, (batch - 1) * many)


def test_cost_from_shapes(tiny_model):
    """VAE, 20 pixels, 8 units, 2 latents, 6 components: six times the weights an image, less the image's gradient."""
    model = tiny_model(model="vae")
    encoder = [(20, 16), (8, 16), (8, 2), (8, 2)]
    decoder = [(2, 16), (8, 16), (8, 20)]
    weights = sum(i * o for i, o in encoder + decoder)
    mixture = 3 * 2 * 6 * 2 * 2  # forward and two gradients of [2M] times [2M, K]
    cost = scaling.cost(model)
    assert cost.image_flops == 6 * weights - 2 * 20 * 16 + mixture
    assert cost.fixed_flops == 6 * 6 * sum(i * o for i, o in encoder)  # six pseudo-inputs, their gradient included
    assert cost.reduced_bytes == 4 * model.count_params()
