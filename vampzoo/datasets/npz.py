"""A user's own images: an .npz file with the arrays train, and optionally validation and test."""

import pathlib
import zipfile

import numpy as np

from vampzoo.datasets.errors import DataError
from vampzoo.datasets.pixels import SPLITS, check_pixels

# Training keeps the images on the device as float32, so what is larger than this would not fit anyway; and a small
# archive that unpacks to terabytes is refused before a byte of it is unpacked.
MAX_PIXELS = 2**30
MAX_BYTES = 2**32  # of an array as it is in the file


def read_npz(path):
    """The arrays of an .npz file, checked. Nothing in the file is ever unpickled.

    Args:
      path: the file. Arrays `train`, optionally `validation` and `test`: [N, H, W] or [N, H, W, C] of bool, integers in
        0..255 or floats in [0, 1]. Other arrays are not looked at.

    Returns:
      dict from split to uint8 or float32 [N, H, W, C].

    Raises:
      DataError: no such file, not an .npz file, or not such arrays.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise DataError(f"data_file {path} is not a file. It must be an .npz file with the array train.")
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            if "train" not in names:
                raise DataError(
                    f"data_file {path} has no array train; it has: {', '.join(sorted(names)) or 'nothing'}."
                )
            splits = {split: _read_array(archive, split, path) for split in SPLITS if split in names}
    except DataError:
        raise
    except Exception as error:  # A damaged or hostile archive makes its readers raise nearly anything.
        raise DataError(
            f"data_file {path} cannot be read as an .npz file: {str(error) or type(error).__name__}"
        ) from error

    shape = splits["train"].shape[1:]
    for split, images in splits.items():
        if images.shape[1:] != shape:
            raise DataError(
                f"data_file {path}: images of {split} are {list(images.shape[1:])}, those of train {list(shape)}."
            )
    return splits


def _read_array(archive, split, path):
    where = f"data_file {path}: array {split}"
    with archive.open(f"{split}.npy") as member:
        version = np.lib.format.read_magic(member)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise DataError(f"{where} has the .npy version {version}; known are 1.0 and 2.0.")
        shape, _, dtype = read_header(member)
    if dtype.hasobject:
        raise DataError(f"{where} holds Python objects, which are never unpickled; save it with a numeric dtype.")
    pixels = 1
    for size in shape:  # Python integers: a product in NumPy could overflow.
        pixels *= size
    num_bytes = pixels * dtype.itemsize
    if pixels > MAX_PIXELS or num_bytes > MAX_BYTES:
        raise DataError(
            f"{where} has the shape {list(shape)} of {dtype}: {num_bytes / 2**30:,.1f} GiB. At most {MAX_PIXELS:,} pixels "
            f"and {MAX_BYTES / 2**30:.0f} GiB are read."
        )
    if num_bytes > (held := archive.getinfo(f"{split}.npy").file_size):
        raise DataError(f"{where} claims {num_bytes:,} bytes, and the file holds {held:,}: it is damaged.")
    with archive.open(f"{split}.npy") as member:
        return check_pixels(np.lib.format.read_array(member, allow_pickle=False), where)
