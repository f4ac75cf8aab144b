"""Hostile files of data: they end in an error that names the file, soon and without the memory that they claim."""

import io
import pickle
import struct
import tarfile
import time
import zipfile

import numpy as np
import pytest

from vampzoo.datasets.errors import DataError
from vampzoo.datasets.histopathology import histopathology_dataset_builder as histopathology
from vampzoo.datasets.npz import read_npz

SECONDS = 20  # an idle machine takes three for the largest


def refused(function, path, message, ends):
    begin = time.monotonic()
    with pytest.raises(DataError, match=message) as caught:
        function(path)
    assert time.monotonic() - begin < SECONDS
    assert path.name in str(caught.value) and "\n" not in str(caught.value)
    ends(caught.value)


# === Pickles ===


def doubled(depth, leaf=b"K\x01"):
    """A pickle of {"training": a list of two references to a list of two references to ...}: 2^depth leaves."""
    text = b"\x80\x02}X\x08\x00\x00\x00training" + b"(" + leaf + leaf + b"lq\x00"
    for level in range(depth):
        text += b"(h" + bytes([level]) + b"h" + bytes([level]) + b"lq" + bytes([level + 1])
        text = text.replace(b"lq" + bytes([level]) + b"(h", b"lq" + bytes([level]) + b"0(h")  # dropped from the stack
    return text + b"s."


def many_encoded(count, length):
    """A pickle that encodes one long string ever again."""
    text = b"\x80\x02}X\x08\x00\x00\x00training(c_codecs\nencode\nq\x000X" + struct.pack("<I", length) + b"a" * length
    text += b"q\x010"
    for _ in range(count):
        text += b"h\x00(h\x01X\x06\x00\x00\x00latin1tR"
    return text + b"ls."


def in_one_list(array, count):
    return pickle.dumps({"training": [array] * count})


def nested(depth):
    return b"\x80\x02}X\x08\x00\x00\x00training" + b"(" * depth + b"K\x01" + b"l" * depth + b"s."


class Evil:
    def __reduce__(self):
        return print, ("I ran",)


PICKLES = {
    "references 30 deep": lambda: doubled(30),
    "references 100 deep": lambda: doubled(100),
    "a string encoded 2,000 times": lambda: many_encoded(2000, 2**20),
    "one array a million times": lambda: in_one_list(np.ones(1000), 10**6),
    "a list in a list, 9 deep": lambda: nested(9),
    "a list in a list, 500 deep": lambda: nested(500),
    "12 million numbers": lambda: b"\x80\x02}X\x08\x00\x00\x00training](" + b"K\x01" * 12_000_000 + b"es.",
    "a function": lambda: pickle.dumps(Evil()),
    "a set": lambda: pickle.dumps({"training": {1}}),
    "text": lambda: pickle.dumps({"training": ["one", "two"]}),
    "none": lambda: pickle.dumps({"training": None}),
    "complex": lambda: pickle.dumps({"training": np.ones(3, complex)}),
    "objects": lambda: pickle.dumps({"training": np.array([None])}),
    "a list": lambda: pickle.dumps([1, 2]),
    "nothing": lambda: b"",
    "an empty error": lambda: b"0.",
    "a stop": lambda: b".",
    "half": lambda: pickle.dumps({"training": np.ones((3, 784))})[:200],
    "a huge length": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "an unknown opcode": lambda: b"\xff\xff",
    "a memo of nothing": lambda: b"h\x05.",
    "a shape that does not fit": lambda: pickle.dumps({"training": np.ones((3, 784))}).replace(
        b"M\x10\x03", b"M\x11\x03"
    ),
}


@pytest.mark.parametrize("make", PICKLES.values(), ids=PICKLES)
def test_pickles(tmp_path, ends, make):
    data = make()
    path = tmp_path / "histopathology.pkl.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        member = tarfile.TarInfo("histopathology.pkl")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    message = r"histopathology\.pkl(: training| cannot be unpickled: .*\w|: .* has no array)"
    refused(lambda p: histopathology.Builder.read(None, p), path, message, ends)


ARCHIVES = {
    "text": b"dear diary",
    "empty": b"",
    "zeros": bytes(1000),
    "gzip of nothing": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    "half a gzip": b"\x1f\x8b\x08\x00\x00\x00",
}


@pytest.mark.parametrize("data", ARCHIVES.values(), ids=ARCHIVES)
def test_archives(tmp_path, ends, data):
    path = tmp_path / "histopathology.pkl.tar.gz"
    path.write_bytes(data)
    refused(
        lambda p: histopathology.Builder.read(None, p), path, "cannot be read as a .tar.gz file|has no member", ends
    )


# === npz ===


def npy(shape, dtype, data=b""):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": dtype})
    return file.getvalue() + data


NPZ = {
    "longdoubles that claim 16 GiB": ((2**20, 32, 32), "<f16", bytes(2**21)),
    "doubles that claim 8 GiB": ((2**20, 32, 32), "<f8", b""),
    "bytes that claim 1 GiB": ((2**20, 32, 32), "|u1", b""),
    "a terabyte": ((2**30, 32, 32), "|u1", b""),
    "more than 64 bits": ((2**40, 2**40, 2**40), "|u1", b""),
    "one image that is not there": ((1, 4, 4), "|u1", b""),
    "half an array": ((4, 4, 4), "<f4", bytes(100)),
    "negative sizes": ((-1, 4, 4), "|u1", bytes(16)),
    "no images": ((0, 4, 4), "|u1", b""),
    "objects": ((1, 4, 4), "|O", bytes(16)),
    "records": ((1, 4, 4), [("a", "<f4"), ("b", "<f4")], bytes(128)),
    "strings": ((1, 4, 4), "<U4", bytes(256)),
    "dates": ((1, 4, 4), "<M8[s]", bytes(128)),
    "complex": ((1, 4, 4), "<c8", bytes(128)),
    "one number": ((), "|u1", b"\x01"),
    "seven axes": ((1, 1, 1, 1, 1, 1, 1), "|u1", b"\x01"),
    "bytes beyond 255": ((1, 2, 2), "<i4", struct.pack("<4i", 0, 1, 2, 256)),
    "infinite values": ((1, 1, 2), "<f4", struct.pack("<2f", 0, float("inf"))),
}


@pytest.mark.parametrize(("shape", "dtype", "data"), NPZ.values(), ids=NPZ)
def test_npz_arrays(tmp_path, ends, shape, dtype, data):
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.npy", npy(shape, dtype, data))
    refused(read_npz, path, r"array train|cannot be read as an \.npz file: .*\w", ends)


FILES = {
    "text": b"dear diary",
    "empty": b"",
    "a zip of nothing": b"PK\x05\x06" + bytes(18),
    "half a zip": b"PK\x03\x04",
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_npz_files(tmp_path, ends, data):
    path = tmp_path / "mine.npz"
    path.write_bytes(data)
    refused(read_npz, path, r"cannot be read as an \.npz file: .*\w|has no array train", ends)


@pytest.mark.parametrize(
    "member", [b"", b"\x93NUMPY", b"\x93NUMPY\x09\x00", b"no array", b"\x93NUMPY\x01\x00\xff\xff{"]
)
def test_npz_members(tmp_path, ends, member):
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.npy", member)
    refused(read_npz, path, r"cannot be read as an \.npz file: .*\w|has the \.npy version", ends)
