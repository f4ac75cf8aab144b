"""Which libraries a run was made with."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp


def library_versions():
    """{library: version} of what computes: for config.json, so that a difference can be traced."""
    libraries = {"tensorflow": tf, "keras": keras, "tensorflow_probability": tfp}
    return {name: library.__version__ for name, library in libraries.items()}
