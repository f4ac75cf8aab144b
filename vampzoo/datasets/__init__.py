"""Datasets of the paper, and any other of small images, as NumPy arrays.

    from vampzoo import datasets
    caltech = datasets.load("caltech101_silhouettes", manual_dir="downloads")
    caltech.train  # float32 [4100, 28, 28, 1]

Light to import: TensorFlow and TFDS are loaded at the first `load` of a dataset that needs them.
"""

from vampzoo.config import LIKELIHOODS
from vampzoo.datasets.copies import copies
from vampzoo.datasets.errors import DataError
from vampzoo.datasets.loading import Dataset, load
from vampzoo.datasets.pixels import draw_bits
from vampzoo.datasets.specs import BINARIZATIONS, DATASETS, DatasetSpec, spec
from vampzoo.datasets.variants import OVERLAPS, VARIANTS

__all__ = [
    "BINARIZATIONS",
    "DATASETS",
    "LIKELIHOODS",
    "OVERLAPS",
    "VARIANTS",
    "DataError",
    "Dataset",
    "DatasetSpec",
    "copies",
    "draw_bits",
    "load",
    "spec",
]
