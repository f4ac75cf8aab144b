"""TFDS builder of Caltech 101 Silhouettes."""

import numpy as np
import tensorflow_datasets as tfds

from vampzoo.datasets.errors import DataError
from vampzoo.datasets.matfiles import column_major_images, read_mat
from vampzoo.datasets.sources import Source, SourceFileBuilder

SPLITS = {"train": "train_data", "validation": "val_data", "test": "test_data"}


class Builder(SourceFileBuilder):
    """Caltech 101 Silhouettes, split 1: uint8 0 and 1, the object 1 as in the paper (the file has it 0)."""

    SOURCE = Source(
        url="https://people.cs.umass.edu/~marlin/data/caltech101_silhouettes_28_split1.mat",
        filename="caltech101_silhouettes_28_split1.mat",
    )

    @property
    def image_feature(self):
        return tfds.features.Image(shape=(28, 28, 1))

    def read(self, path):
        arrays = read_mat(path, dict.fromkeys(SPLITS.values(), (None, 784)))
        for array, rows in arrays.items():
            if not np.isin(rows, (0, 1)).all():
                raise DataError(f"{path}: {array} holds values other than 0 and 1.")
        return {
            split: column_major_images(1 - arrays[array].astype(np.uint8), 28, 28) for split, array in SPLITS.items()
        }
