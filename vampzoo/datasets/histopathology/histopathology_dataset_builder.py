"""TFDS builder of Histopathology, grey."""

import pathlib
import tarfile

import numpy as np

from vampzoo.datasets.errors import DataError
from vampzoo.datasets.histopathology.numpy_pickle import load_arrays
from vampzoo.datasets.sources import Source, SourceFileBuilder, float_images

SPLITS = {"train": "training", "validation": "validation", "test": "test"}
MEMBER = "histopathology.pkl"
MAX_BYTES = 2**29  # Of the pickle. As float64, 10,800 images of 28x28 are 68 MB.


class Builder(SourceFileBuilder):
    """Histopathology, grey: intensities, clipped to [1/512, 1 - 1/512]."""

    SOURCE = Source(
        url="https://github.com/jmtomczak/vae_householder_flow/raw/master/datasets/histopathologyGray/"
        "histopathology.pkl.tar.gz",
        filename="histopathology.pkl.tar.gz",
    )

    @property
    def image_feature(self):
        return float_images(28, 28)

    def read(self, path):
        pickled = _read_member(path)
        try:
            arrays = load_arrays(pickled)
        except Exception as error:  # A damaged or hostile pickle makes its reader raise nearly anything.
            raise DataError(f"{path}: {MEMBER} cannot be unpickled: {str(error) or type(error).__name__}.") from error
        return {split: _images(arrays, array, f"{path}: {MEMBER}") for split, array in SPLITS.items()}


def _read_member(path):
    """The bytes of the pickle. Nothing is extracted: no path in the archive is ever used."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = pathlib.PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts:
                    raise DataError(f"{path} has a member outside of its own folder: {member.name}.")
                if member.size > MAX_BYTES:
                    raise DataError(f"{path}: {member.name} has {member.size:,} bytes, more than {MAX_BYTES:,}.")
                if name.name == MEMBER and member.isfile():
                    return archive.extractfile(member).read()
    except DataError:
        raise
    except Exception as error:  # A truncated or foreign file: tarfile's errors, zlib's, EOFError.
        raise DataError(f"{path} cannot be read as a .tar.gz file: {str(error) or type(error).__name__}") from error
    raise DataError(f"{path} has no member {MEMBER}.")


def _images(arrays, array, where):
    if array not in arrays:
        raise DataError(f"{where} has no array {array}; it has: {', '.join(arrays) or 'nothing'}.")
    images = arrays[array]
    if images.dtype.kind not in "buif" or images.ndim < 2 or images.size == 0 or images[0].size != 784:
        raise DataError(
            f"{where}: {array} is {images.dtype} of the shape {list(images.shape)}; "
            "it must be numbers [N, 784] or [N, 28, 28]."
        )
    if not np.isfinite(images).all():
        raise DataError(f"{where}: {array} holds NaN or infinite values.")
    if images.min() < 0 or images.max() > 1:
        raise DataError(f"{where}: {array} holds {images.min():.4g} to {images.max():.4g}, not [0, 1].")
    return np.clip(images.reshape(-1, 28, 28, 1).astype(np.float32), np.float32(1 / 512), np.float32(1 - 1 / 512))
