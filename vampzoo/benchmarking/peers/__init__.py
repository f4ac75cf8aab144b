"""What people would use instead, written or wrapped to be timed beside vampzoo with equal sizes.

Nothing outside the benchmark imports these modules, and they need the extra `bench` (PyTorch).
"""

import importlib

from vampzoo.errors import InvalidValue

PEERS = ("torch", "torch_compile", "pythae")


class Unsupported(InvalidValue):
    """The peer has no such model or prior."""


def create(peer, config, images, batch_size):
    """Prepares a peer for timing.

    Args:
        peer: one of `PEERS`.
        config: a `vampzoo.config.ModelConfig`.
        images: NumPy [N, H, W, C] float32, 0 or 1.
        batch_size: B.

    Returns:
        A function: number of steps -> makes that many training steps on random batches.

    Raises:
        Unsupported: if the peer has no such model.
        ImportError: if the package that it needs is not installed.
    """
    name = "pythae_vamp" if peer == "pythae" else "torch_twins"
    module = importlib.import_module(f"{__name__}.{name}")
    if config.likelihood != "bernoulli" or config.weighted:
        raise Unsupported(f"{peer}: only unweighted priors and a Bernoulli likelihood are there to compare with")
    return module.training_steps(config, images, batch_size, **({"compiled": True} if peer == "torch_compile" else {}))
