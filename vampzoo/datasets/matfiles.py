"""Arrays of a MATLAB file, checked."""

import numpy as np
import scipy.io

from vampzoo.datasets.errors import DataError


def read_mat(path, shapes):
    """Reads arrays of real numbers. SciPy's reader never executes anything of the file.

    Args:
      path: the file.
      shapes: dict from the array's name to its shape, None for any size.

    Returns:
      dict from name to array.

    Raises:
      DataError: not a MATLAB file, an array missing or of another shape, or not finite numbers.
    """
    try:
        contents = scipy.io.loadmat(path, variable_names=list(shapes))
    except Exception as error:  # A truncated or foreign file makes the reader raise nearly anything.
        raise DataError(f"{path} cannot be read as a MATLAB file: {str(error) or type(error).__name__}") from error
    for name, shape in shapes.items():
        if name not in contents:
            raise DataError(f"{path} has no array {name}.")
        array = contents[name]
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif":
            raise DataError(f"{path}: {name} is not an array of real numbers.")
        fits = len(shape) == array.ndim and all(
            want in (None, size) for want, size in zip(shape, array.shape, strict=True)
        )
        if not fits or 0 in array.shape:
            wanted = " x ".join("any" if want is None else str(want) for want in shape)
            raise DataError(f"{path}: {name} has the shape {list(array.shape)}; it must be {wanted}, and not empty.")
        if not np.isfinite(array).all():
            raise DataError(f"{path}: {name} holds NaN or infinite values.")
    return {name: contents[name] for name in shapes}


def column_major_images(rows, height, width):
    """Images [N, H, W, 1] from rows [N, H * W] that list the pixels column by column, as MATLAB does."""
    return rows.reshape(-1, width, height).swapaxes(1, 2)[..., np.newaxis]
