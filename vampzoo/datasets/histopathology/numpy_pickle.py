"""Reads NumPy arrays from a pickle without running anything of it.

A pickle is a program. The few functions and classes that a pickle of arrays refers to are replaced by those of this
file, which build arrays of plain numbers and do nothing else; whatever else it refers to is refused. NumPy's own are
kept out, too: its `dtype.__setstate__` believes what it is told, and so could take bytes for pointers to objects.
"""

import io
import pickle
import re

import numpy as np

# The images as nested lists of numbers are 8.5 million objects, three lists deep. References within a pickle may make few
# bytes stand for ever more of both.
MAX_OBJECTS = 10_000_000
MAX_DEPTH = 8
MAX_BYTES = 2**30  # that stand-ins may copy, altogether


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

    def __init__(self, budget):
        self.array = np.zeros(0)
        self._budget = budget

    def __setstate__(self, state):
        _, shape, dtype, is_fortran, data = state
        self.fill(data, dtype, shape, "F" if is_fortran else "C")

    def fill(self, data, dtype, shape, order):
        self._budget.take(len(data))
        # Python 2 wrote bytes as strings.
        data = data.encode("latin1") if isinstance(data, str) else bytes(data)
        self.array = np.frombuffer(data, dtype.dtype).reshape(shape, order=order)
        return self


class _Budget:
    """Counts the bytes that the stand-ins of one pickle copy."""

    def __init__(self):
        self._left = MAX_BYTES

    def take(self, num_bytes):
        self._left -= num_bytes
        if self._left < 0:
            raise pickle.UnpicklingError(f"its references stand for more than {MAX_BYTES:,} bytes")


def _stand_ins(budget):
    """{(module, name): what stands for it}."""

    def reconstruct(*ignored):
        return _Array(budget)

    def from_buffer(data, dtype, shape, order):
        """numpy.core.numeric._frombuffer, as pickle protocol 5 has it."""
        return _Array(budget).fill(data, dtype, shape, order)

    def scalar(dtype, data):
        """numpy.core.multiarray.scalar."""
        return _Array(budget).fill(data, dtype, (), "C")

    def encode(text, encoding):
        """_codecs.encode: the way in which Python 3 writes bytes in protocols before 3."""
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"it refers to the encoding {encoding!r}")
        budget.take(len(text))
        return text.encode("latin1")

    def no_bytes():
        """bytes: the way in which protocols before 3 write empty ones."""
        return b""

    found = {
        ("numpy", "dtype"): _DType,
        ("numpy", "ndarray"): reconstruct,
        ("_codecs", "encode"): encode,
        ("__builtin__", "bytes"): no_bytes,
    }
    for core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
        found[f"{core}.multiarray", "_reconstruct"] = reconstruct
        found[f"{core}.multiarray", "scalar"] = scalar
        found[f"{core}.numeric", "_frombuffer"] = from_buffer
    return found


class _Unpickler(pickle.Unpickler):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._stand_ins = _stand_ins(_Budget())

    def find_class(self, module, name):
        try:
            return self._stand_ins[module, name]
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
    objects = _Objects()
    return {str(key): np.asarray(_resolve(value, objects)) for key, value in contents.items()}


class _Objects:
    """Counts what the references of a pickle stand for."""

    def __init__(self):
        self._left = MAX_OBJECTS

    def take(self, count, depth):
        self._left -= count
        if self._left < 0 or depth > MAX_DEPTH:
            raise pickle.UnpicklingError(
                f"its references stand for more than {MAX_OBJECTS:,} objects, or for lists more than {MAX_DEPTH} deep"
            )


def _resolve(value, objects, depth=0):
    if isinstance(value, _Array):
        if depth:  # arrays in a list are copied into one
            objects.take(value.array.size, depth)
        return value.array
    objects.take(1, depth)
    if isinstance(value, (list, tuple)):
        return [_resolve(item, objects, depth + 1) for item in value]
    if not isinstance(value, (bool, int, float)):
        raise pickle.UnpicklingError(f"it holds a {type(value).__name__} where only numbers are allowed")
    return value
