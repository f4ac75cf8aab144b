"""TFDS builder of Frey Faces."""

import numpy as np
import tensorflow_datasets as tfds

from vampzoo.datasets.errors import DataError
from vampzoo.datasets.matfiles import read_mat
from vampzoo.datasets.sources import Source, SourceFileBuilder

NUM_VALIDATION = NUM_TEST = 200
SHUFFLE_SEED = 777


class Builder(SourceFileBuilder):
    """Frey Faces, uint8 [28, 20, 1], split at random with `SHUFFLE_SEED` (the paper's split was not fixed)."""

    SOURCE = Source(url="https://cs.nyu.edu/~roweis/data/frey_rawface.mat", filename="frey_rawface.mat")

    @property
    def image_feature(self):
        return tfds.features.Image(shape=(28, 20, 1))

    def read(self, path):
        columns = read_mat(path, {"ff": (560, None)})["ff"]
        if columns.min() < 0 or columns.max() > 255 or (columns != np.floor(columns)).any():
            raise DataError(f"{path}: ff holds values other than the integers 0..255.")
        faces = columns.T.astype(np.uint8).reshape(-1, 28, 20, 1)  # Each column lists its image row by row.
        if len(faces) <= NUM_VALIDATION + NUM_TEST:
            raise DataError(f"{path}: ff has {len(faces)} images; {NUM_VALIDATION + NUM_TEST} are not for training.")
        # RandomState: its streams never change between NumPy versions.
        faces = faces[np.random.RandomState(SHUFFLE_SEED).permutation(len(faces))]
        train, validation, test = np.split(faces, [-NUM_VALIDATION - NUM_TEST, -NUM_TEST])
        return {"train": train, "validation": validation, "test": test}
