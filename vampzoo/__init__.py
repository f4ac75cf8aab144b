"""vampzoo: the Keras 3 / TensorFlow Probability model zoo of *VAE with a VampPrior* (Tomczak and Welling, 2018).

    import vampzoo
    model = vampzoo.load("hvae_vampprior_caltech101")
    images = model.sample(16, seed=1)  # [16, 28, 28, 1]

Submodules are imported at first use, so that `import vampzoo` itself takes no time.
"""

import importlib
import os

from vampzoo import quiet

__version__ = "1.0.0"

# TensorFlow's start-up notices say nothing that a user of the zoo can act on; must be set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
quiet.install()

if os.environ.setdefault("KERAS_BACKEND", "tensorflow") != "tensorflow":
    raise ImportError(
        f"vampzoo needs Keras' TensorFlow backend, but KERAS_BACKEND={os.environ['KERAS_BACKEND']!r}. "
        "Unset KERAS_BACKEND or set it to 'tensorflow' before importing vampzoo."
    )

_SUBMODULES = (
    "callbacks",
    "client",
    "config",
    "datasets",
    "distributions",
    "errors",
    "evaluation",
    "figures",
    "files",
    "models",
    "networks",
    "objectives",
    "optimizers",
    "priors",
    "random",
    "training",
    "zoo",
)
_FROM_ZOO = ("load", "presets", "push")


# Public names of modules inside a room.
_ELSEWHERE = {"layers": "vampzoo.networks.layers", "serving": "vampzoo.zoo.serving"}

__all__ = [*_SUBMODULES, *_ELSEWHERE, *_FROM_ZOO]


def __getattr__(name):
    if name in _SUBMODULES or name in _ELSEWHERE:
        return importlib.import_module(_ELSEWHERE.get(name, f"vampzoo.{name}"))
    if name in _FROM_ZOO:
        return getattr(importlib.import_module("vampzoo.zoo"), name)
    raise AttributeError(f"module 'vampzoo' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
