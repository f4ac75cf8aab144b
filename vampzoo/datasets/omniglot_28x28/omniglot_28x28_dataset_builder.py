"""TFDS builder of OMNIGLOT at 28x28. (TFDS' own `omniglot` is the original at 105x105.)"""

import numpy as np

from vampzoo.datasets.errors import DataError
from vampzoo.datasets.matfiles import column_major_images, read_mat
from vampzoo.datasets.sources import Source, SourceFileBuilder, float_images

NUM_VALIDATION = 1345
SHUFFLE_SEED = 777


class Builder(SourceFileBuilder):
    """OMNIGLOT as Burda et al. (2015) use it: intensities in [0, 1].

    The images that are not for testing are shuffled with `SHUFFLE_SEED`; the last `NUM_VALIDATION` are for validation.
    """

    SOURCE = Source(
        url="https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat", filename="chardata.mat"
    )

    @property
    def image_feature(self):
        return float_images(28, 28)

    def read(self, path):
        arrays = read_mat(path, {"data": (784, None), "testdata": (784, None)})
        for array, columns in arrays.items():
            if columns.min() < 0 or columns.max() > 1:
                raise DataError(f"{path}: {array} holds {columns.min():.4g} to {columns.max():.4g}, not [0, 1].")
        data, test = (column_major_images(arrays[array].T.astype(np.float32), 28, 28) for array in ("data", "testdata"))
        if len(data) <= NUM_VALIDATION:
            raise DataError(f"{path}: data has {len(data)} images; {NUM_VALIDATION} are for validation alone.")
        # RandomState: its streams never change between NumPy versions.
        data = data[np.random.RandomState(SHUFFLE_SEED).permutation(len(data))]
        return {"train": data[:-NUM_VALIDATION], "validation": data[-NUM_VALIDATION:], "test": test}
