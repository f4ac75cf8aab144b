"""How far data-parallel training of each model scales: a calculation from the model's own shapes, not a measurement.

    python -m vampzoo.scaling --gpu_tflops=19.5 --efficiency=0.3 --network_gigabytes=25

With N GPUs and a global batch of B images a GPU computes

    t_step(N, B) = (a B/N + c) / (rate * efficiency)

where a is the cost of an image and c that of the pseudo-inputs, which every GPU encodes anew
(`vampzoo.models.flops`). Then the gradients, float32 also in mixed precision, are summed by NCCL's ring all-
reduce. Each of its 2 (N - 1) rounds sends 1/N of the S = 4 * parameters bytes over every link:

    t_reduce(N) = 2 (N - 1)/N * S / bandwidth

The two follow one another. The all-reduce is felt where its share t_reduce / (t_step + t_reduce) exceeds a tenth. The table:

    ms      t_step on one GPU at the given global batch
    GPUs    smallest N for which it does at the given global batch
    batch   smallest number of images a GPU for which it does not, with infinitely many GPUs (t_reduce -> 2 S / bandwidth)

Left out are the latency of the rounds, memory traffic and the launch of kernels, so these are bounds: for models as small as
these, latency is felt first.
"""

import math
from typing import NamedTuple

from absl import flags

from vampzoo import config, program
from vampzoo.errors import InvalidValue

_GROUP = "scaling"
flags.DEFINE_float(
    "gpu_tflops", 19.5, "10^12 operations a second of one GPU (A100: 19.5 in float32)", module_name=_GROUP
)
flags.DEFINE_float("efficiency", 0.3, "share of it that training reaches", lower_bound=0.001, module_name=_GROUP)
flags.DEFINE_float("network_gigabytes", 25.0, "10^9 bytes a second between two machines", module_name=_GROUP)
flags.DEFINE_float("share", 0.1, "of the all-reduce in a step, from which on it is felt", module_name=_GROUP)
flags.DEFINE_integer("global_batch", 100, "images in a step, over all GPUs", lower_bound=1, module_name=_GROUP)
flags.DEFINE_integer("components", config.NUM_COMPONENTS, "K of the VampPrior", lower_bound=1, module_name=_GROUP)


class Cost(NamedTuple):
    """What a model's training step costs.

    Attributes:
        image_flops: a, operations an image.
        fixed_flops: c, operations a step whatever the batch.
        reduced_bytes: S, what the GPUs sum over one another.
    """

    image_flops: float
    fixed_flops: float
    reduced_bytes: float


def cost(model):
    """The `Cost` of a `vampzoo.models.LatentVariableModel`."""
    from vampzoo.models import flops

    one, two = flops.training_step(model, 1), flops.training_step(model, 2)
    parameters = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return Cost(image_flops=two - one, fixed_flops=2 * one - two, reduced_bytes=4 * parameters)


def step_seconds(cost, num_gpus, batch, rate):
    """t_step: seconds of computation for `batch` images over all GPUs, at `rate` operations a second."""
    return (cost.image_flops * batch / num_gpus + cost.fixed_flops) / rate


def reduce_seconds(cost, num_gpus, bandwidth):
    """t_reduce: seconds of the all-reduce, at `bandwidth` bytes a second; with infinitely many GPUs for math.inf."""
    rounds = 2.0 if math.isinf(num_gpus) else 2.0 * (num_gpus - 1) / num_gpus
    return rounds * cost.reduced_bytes / bandwidth


def gpus_until_felt(cost, batch, rate, bandwidth, share=0.1):
    """Smallest number of GPUs for which the all-reduce takes more than `share` of a step of `batch` images.

    The share grows with N, since t_step falls and t_reduce grows.

    Returns:
        N, or None if it never does (a VampPrior's fixed cost may be larger than any all-reduce).
    """

    def exceeds(num_gpus):
        reduce = reduce_seconds(cost, num_gpus, bandwidth)
        return reduce > share * (step_seconds(cost, num_gpus, batch, rate) + reduce)

    if not exceeds(2**40):
        return None
    low, high = 1, 2**40  # exceeds(high), not exceeds(low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if exceeds(middle) else (middle, high)
    return high


def smallest_batch(cost, rate, bandwidth, share=0.1):
    """Fewest images a GPU for which the all-reduce takes at most `share` of a step, however many GPUs there are."""
    reduce = reduce_seconds(cost, math.inf, bandwidth)
    flops = reduce * (1 - share) / share * rate  # what t_step must come to
    return max(1, math.ceil((flops - cost.fixed_flops) / cost.image_flops))


def main(argv):
    values = flags.FLAGS
    rate = values.gpu_tflops * 1e12 * values.efficiency
    bandwidth = values.network_gigabytes * 1e9
    if not (0 < rate < math.inf and 0 < bandwidth < math.inf and 0 < values.share < 1):
        raise InvalidValue("--gpu_tflops and --network_gigabytes must be positive and finite, --share between 0 and 1")

    from vampzoo import models

    print(
        f"{'model':<14}{'prior':<11}{'parameters':>11}{'GFLOP/step':>12}{'ms':>8}{'MB reduced':>12}{'GPUs':>7}"
        f"{'batch a GPU':>13}"
    )
    for name in config.MODELS:
        for prior in ("standard", "mog" if name == "deep_vae" else "vampprior"):  # which has no encoder q(z2|x)
            model_config = config.ModelConfig(model=name, prior=prior, num_components=values.components)
            c = cost(models.create(model_config))
            gflops = (c.image_flops * values.global_batch + c.fixed_flops) / 1e9
            milliseconds = 1e3 * step_seconds(c, 1, values.global_batch, rate)
            gpus = gpus_until_felt(c, values.global_batch, rate, bandwidth, values.share)
            print(
                f"{name:<14}{prior:<11}{c.reduced_bytes // 4:>11,}{gflops:>12.2f}{milliseconds:>8.2f}"
                f"{c.reduced_bytes / 1e6:>12.2f}{gpus or 'never':>7}{smallest_batch(c, rate, bandwidth, values.share):>13,}"
            )


if __name__ == "__main__":
    program.run(main, __doc__)
