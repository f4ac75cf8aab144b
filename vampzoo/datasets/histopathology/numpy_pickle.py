"""Reads NumPy arrays from a pickle without running anything of it.

A pickle is a program. The few functions and classes that a pickle of arrays refers to are replaced by those of this
file, which build arrays of plain numbers and do nothing else; whatever else it refers to is refused. NumPy's own are
kept out, too: its `dtype.__setstate__` believes what it is told, and so could take bytes for pointers to objects.
"""

import io
import pickle
import re

import numpy as np


class _DType:
    """Stands for numpy.dtype: a kind of number, and its byte order."""

    def __init__(self, code, align=False, copy=False):
        if not re.fullmatch("b1|[fiu][1248]", str(code)) or code == "f1":
            raise pickle.UnpicklingError(f"it holds an array of {code!r}; only real numbers are allowed")
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        self.dtype = self.dtype.newbyteorder({">": ">", "<": "<"}.get(state[1], "|"))


class _Array:
    """Stands for numpy.ndarray, as numpy.core.multiarray._reconstruct leaves it: empty, until its state comes."""

    def __init__(self, *ignored):
        self.array = np.zeros(0)

    def __setstate__(self, state):
        _, shape, dtype, is_fortran, data = state
        self.array = _from_buffer(data, dtype, shape, "F" if is_fortran else "C").array


def _from_buffer(data, dtype, shape, order):
    """numpy.core.numeric._frombuffer, as pickle protocol 5 has it."""
    result = _Array()
    # Python 2 wrote bytes as strings.
    data = data.encode("latin1") if isinstance(data, str) else bytes(data)
    result.array = np.frombuffer(data, dtype.dtype).reshape(shape, order=order)
    return result


def _scalar(dtype, data):
    """numpy.core.multiarray.scalar."""
    return _from_buffer(data, dtype, (), "C")


def _encode(text, encoding):
    """_codecs.encode: the way in which Python 3 writes bytes in protocols before 3."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it refers to the encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes():
    """bytes: the way in which protocols before 3 write empty ones."""
    return b""


_STAND_INS = {
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}
for _core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
    _STAND_INS[f"{_core}.multiarray", "_reconstruct"] = _Array
    _STAND_INS[f"{_core}.multiarray", "scalar"] = _scalar
    _STAND_INS[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it refers to {module}.{name}, but only NumPy arrays are allowed; nothing of it was run"
            ) from None

    def persistent_load(self, pid):
        raise pickle.UnpicklingError("it refers to objects outside of itself")


def load_arrays(data):
    """Unpickles a dict of arrays, or of lists of arrays or numbers, written by Python 2 or 3 and NumPy 1 or 2.

    Args:
      data: bytes of the pickle.

    Returns:
      dict from str to NumPy array.

    Raises:
      Exception: of nearly any class, if the pickle is damaged or holds anything else.
    """
    contents = _Unpickler(io.BytesIO(data), encoding="latin1").load()
    if not isinstance(contents, dict):
        raise pickle.UnpicklingError(f"it holds a {type(contents).__name__} instead of a dict")
    return {str(key): np.asarray(_resolve(value)) for key, value in contents.items()}


def _resolve(value):
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, (list, tuple)):
        return [_resolve(item) for item in value]
    return value
