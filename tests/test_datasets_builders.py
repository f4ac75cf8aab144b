"""Datasets: the TFDS builders, on small files in the format of the real ones."""

import codecs
import io
import os
import pathlib
import pickle
import shutil
import socket
import subprocess
import sys
import tarfile
import types

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds
from numpy.testing import assert_array_equal

from vampzoo import datasets
from vampzoo.datasets import DataError, downloads, prepared
from vampzoo.datasets.frey_faces import frey_faces_dataset_builder as frey_faces
from vampzoo.datasets.glyphs import glyphs_dataset_builder as glyphs
from vampzoo.datasets.histopathology.numpy_pickle import load_arrays
from vampzoo.datasets.omniglot_28x28 import omniglot_28x28_dataset_builder as omniglot

SOURCES = {
    "caltech101_silhouettes": "caltech101_silhouettes_28_split1.mat",
    "omniglot": "chardata.mat",
    "frey_faces": "frey_rawface.mat",
    "histopathology": "histopathology.pkl.tar.gz",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Nothing in this file may use the network, if there is one."""

    def refuse(*args, **kwargs):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture
def folders(tmp_path):
    result = types.SimpleNamespace(data_dir=tmp_path / "tfds", manual_dir=tmp_path / "manual")
    result.manual_dir.mkdir()
    return result


def load(name, folders, **kwargs):
    return datasets.load(name, data_dir=folders.data_dir, manual_dir=folders.manual_dir, **kwargs)


def assert_nothing_remains(folders):
    assert not [path for path in folders.data_dir.rglob("*") if path.is_file()]


# === Dummy files ===


def random_images(n, height=28, width=28, seed=0):
    return np.random.default_rng(seed).integers(0, 256, [n, height, width], dtype=np.uint8)


def matlab_rows(images):
    """[N, H * W], each image column by column."""
    return np.stack([image.ravel(order="F") for image in images])


def write_caltech(folders, images=None, **changes):
    images = random_images(9) > 127 if images is None else images
    rows = (1 - matlab_rows(images)).astype(np.uint8)  # In the file, the object is 0.
    arrays = {"train_data": rows[:4], "val_data": rows[4:7], "test_data": rows[7:], "train_labels": np.ones([4, 1])}
    write_mat(folders, "caltech101_silhouettes", arrays | changes)


def write_omniglot(folders, images=None, **changes):
    images = random_images(omniglot.NUM_VALIDATION + 12) if images is None else images
    columns = matlab_rows(images).T / 255.0
    write_mat(folders, "omniglot", {"data": columns[:, :-2], "testdata": columns[:, -2:]} | changes)


def write_frey(folders, images=None, **changes):
    images = random_images(410, 28, 20) if images is None else images
    write_mat(folders, "frey_faces", {"ff": images.reshape(len(images), -1).T} | changes)


def write_mat(folders, name, arrays):
    arrays = {key: array for key, array in arrays.items() if array is not None}
    scipy.io.savemat(folders.manual_dir / SOURCES[name], arrays)


def write_histopathology(folders, images=None, member="histopathology.pkl", protocol=2, pickled=None, **changes):
    images = random_images(9) / 255 if images is None else images
    images = images.reshape(len(images), -1)
    arrays = {"training": images[:4], "validation": images[4:7], "test": images[7:]} | changes
    if pickled is None:
        pickled = pickle.dumps({key: array for key, array in arrays.items() if array is not None}, protocol)
    info = tarfile.TarInfo(member)
    info.size = len(pickled)
    with tarfile.open(folders.manual_dir / SOURCES["histopathology"], "w:gz") as archive:
        archive.addfile(info, io.BytesIO(pickled))


WRITERS = {
    "caltech101_silhouettes": write_caltech,
    "omniglot": write_omniglot,
    "frey_faces": write_frey,
    "histopathology": write_histopathology,
}


def as_set(images):
    """Images whatever their order."""
    return sorted(image.tobytes() for image in np.ascontiguousarray(images))


# === Splits, orientation, values ===


def test_caltech101_silhouettes(folders):
    images = (random_images(9) > 127).astype(np.float32)
    write_caltech(folders, images)
    dataset = load("caltech101_silhouettes", folders)
    for split, part in (("train", images[:4]), ("validation", images[4:7]), ("test", images[7:])):
        assert as_set(getattr(dataset, split)[..., 0]) == as_set(part)
    assert dataset.spec == datasets.spec("caltech101_silhouettes")
    # What is prepared needs no source file any more.
    (folders.manual_dir / SOURCES["caltech101_silhouettes"]).unlink()
    assert load("caltech101_silhouettes", folders).fingerprint == dataset.fingerprint
    assert datasets.load("caltech101_silhouettes", data_dir=folders.data_dir).fingerprint == dataset.fingerprint


def test_omniglot(folders):
    images = random_images(omniglot.NUM_VALIDATION + 12)
    write_omniglot(folders, images)
    dataset = load("omniglot", folders)
    assert dataset.spec == datasets.spec("omniglot") and dataset.spec.dynamic
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [10, omniglot.NUM_VALIDATION, 2]
    expected = {image.tobytes() for image in (images[:-2] / 255.0).astype(np.float32)}
    assert {image.tobytes() for image in dataset.train[..., 0]} < expected
    assert set(np.unique(dataset.validation)) == set(np.unique(dataset.test)) == {0, 1}

    grey = load("omniglot", folders, likelihood="discretized_logistic")
    clipped = np.clip(images[-2:] / 255.0, 1 / 512, 1 - 1 / 512).astype(np.float32)
    assert as_set(grey.test[..., 0]) == as_set(clipped)
    train_and_validation = as_set(np.concatenate([grey.train, grey.validation])[..., 0])
    assert train_and_validation == as_set(np.clip(images[:-2] / 255.0, 1 / 512, 1 - 1 / 512).astype(np.float32))


def test_frey_faces(folders):
    images = random_images(410, 28, 20)
    write_frey(folders, images)
    dataset = load("frey_faces", folders)
    assert dataset.spec == datasets.spec("frey_faces")
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [10, 200, 200]
    everything = np.concatenate([dataset.train, dataset.validation, dataset.test])[..., 0]
    assert as_set(everything) == as_set((images + np.float32(0.5)) / np.float32(256))

    intensities = load("frey_faces", folders, likelihood="bernoulli")
    assert intensities.spec.dynamic
    assert {image.tobytes() for image in intensities.train[..., 0]} < {
        image.tobytes() for image in images.astype(np.float32) / np.float32(255)
    }


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_histopathology(folders, protocol):
    images = random_images(9) / 255
    write_histopathology(folders, images, protocol=protocol, member="./data/histopathology.pkl")
    dataset = load("histopathology", folders)
    assert dataset.spec == datasets.spec("histopathology")
    clipped = np.clip(images.astype(np.float32), np.float32(1 / 512), np.float32(1 - 1 / 512))
    for split, part in (("train", clipped[:4]), ("validation", clipped[4:7]), ("test", clipped[7:])):
        assert as_set(getattr(dataset, split)[..., 0]) == as_set(part)


def test_glyphs(folders):
    dataset = datasets.load("glyphs", data_dir=folders.data_dir)
    assert dataset.spec == datasets.spec("glyphs")
    total = sum(map(len, (dataset.train, dataset.validation, dataset.test)))
    assert 5000 < len(dataset.train) < 10_000 and 0.7 < len(dataset.train) / total < 0.9
    for images in (dataset.train, dataset.validation, dataset.test):
        assert set(np.unique(images)) == {0, 1}
        assert images.any(axis=(1, 2, 3)).all()
        # The longer side fills the frame, but for a few whose tips cover less than half of a pixel.
        rows, columns = images.any(axis=(2, 3)).sum(1), images.any(axis=(1, 3)).sum(1)
        assert (np.abs(np.maximum(rows, columns) - glyphs.LETTER_SIZE) <= 2).mean() > 0.98
        assert not images[:, [0, 1, -2, -1]].any() and not images[:, :, [0, 1, -2, -1]].any()  # The margin.


def test_no_glyph_is_in_two_splits():
    letters = glyphs.render_letters()
    assert list(glyphs.render_letters().items()) == list(letters.items())
    splits = glyphs.split_letters(letters)
    assert sum(map(len, splits.values())) == len(letters)
    split_of = {image.tobytes(): split for split, examples in splits.items() for _, image in examples}
    assert len(split_of) == len(letters)
    of_code_point = {}
    for image, code_points in letters.items():
        for code_point in code_points:
            assert of_code_point.setdefault(code_point, split_of[image]) == split_of[image]
    assert of_code_point[ord("A")] == of_code_point[ord("\u0391")]  # Latin and Greek
    assert ord("\u00c4") not in of_code_point and ord("1") not in of_code_point


def test_letters_of_one_shape_stay_together_by_way_of_others():
    image = [np.full([28, 28, 1], i, np.uint8).tobytes() for i in range(30)]
    letters = {image[i]: [i] for i in range(27)} | {image[27]: [5, 6], image[28]: [4, 6], image[29]: [4, 7]}
    splits = glyphs.split_letters(letters)
    together = [
        split for split, examples in splits.items() if {4, 5, 6, 7} & {code_point for code_point, _ in examples}
    ]
    assert len(together) == 1


def test_parts_of_a_split(folders, monkeypatch):
    write_frey(folders)
    load("frey_faces", folders)
    frey_module = frey_faces.Builder.name
    monkeypatch.setitem(
        prepared.IN_TFDS,
        "dynamic_mnist",
        (frey_module, {"train": "test[:150]", "validation": "test[150:]", "test": "validation"}),
    )
    dataset = load("dynamic_mnist", folders, binarization="dynamic")  # of other images than those that are so named
    assert [len(dataset.train), len(dataset.validation), len(dataset.test)] == [150, 50, 200]
    assert dataset.spec.dynamic and set(np.unique(dataset.validation)) == {0, 1}


# === Any TFDS dataset ===


def test_tfds_by_name(folders):
    write_frey(folders)
    named = load("frey_faces", folders)
    dataset = load("tfds:frey_faces", folders)
    assert dataset.fingerprint == named.fingerprint
    assert dataset.spec.name == "tfds:frey_faces" and dataset.spec.image_shape == (28, 20, 1)
    assert dataset.spec.likelihood == "discretized_logistic"


def test_tfds_errors(folders):
    with pytest.raises(DataError, match=r"TFDS has no dataset 'fashion_mnis'. Did you mean: fashion_mnist"):
        load("tfds:fashion_mnis", folders)
    with pytest.raises(DataError, match="TFDS has no dataset 'qqqqqqqq'"):
        load("tfds:qqqqqqqq", folders)
    with pytest.raises(DataError, match=r"ag_news_subset has no feature image; its features: .*title"):
        load("tfds:ag_news_subset", folders)
    with pytest.raises(DataError, match="all must be of one size"):
        load("tfds:caltech101", folders)


# === No network ===


@pytest.mark.parametrize("name", list(SOURCES))
@pytest.mark.parametrize("manual", [True, False])
def test_no_network_and_no_file(folders, name, manual):
    folder = folders.manual_dir if manual else folders.data_dir / "downloads" / "manual"
    with pytest.raises(DataError) as error:
        datasets.load(name, data_dir=folders.data_dir, manual_dir=folders.manual_dir if manual else None)
    message = str(error.value)
    assert "https://" in message and SOURCES[name] in message and str(folder) in message
    assert_nothing_remains(folders)
    # Exactly what the message says helps.
    folder.mkdir(parents=True, exist_ok=True)
    folders.manual_dir = folder
    WRITERS[name](folders)
    datasets.load(name, data_dir=folders.data_dir, manual_dir=folder if manual else None)


@pytest.mark.parametrize(
    ("name", "address", "file"),
    [
        ("dynamic_mnist", "https://storage.googleapis.com/cvdf-datasets/mnist/", "train-images-idx3-ubyte.gz"),
        ("static_mnist", "http://www.cs.toronto.edu/~larocheh/", "binarized_mnist_train.amat"),
        ("tfds:fashion_mnist", "http://fashion-mnist", "train-images-idx3-ubyte.gz"),
    ],
)
def test_no_network_for_what_tfds_hosts(folders, name, address, file):
    with pytest.raises(DataError) as error:
        load(name, folders)
    for part in (address, file, str(folders.manual_dir)):
        assert part in str(error.value)
    assert_nothing_remains(folders)


def test_failed_download(folders, monkeypatch):
    monkeypatch.setattr(prepared, "reachable", lambda url: True)

    def download(self, url):
        raise tfds.download.DownloadError("404 Not Found")

    monkeypatch.setattr("tensorflow_datasets.download.DownloadManager.download", download)
    with pytest.raises(DataError, match=r"frey_faces: cannot download \(404 Not Found\)"):
        load("frey_faces", folders)
    assert_nothing_remains(folders)


def test_damaged_download_is_not_kept(folders, monkeypatch):
    monkeypatch.setattr(prepared, "reachable", lambda url: True)
    page = folders.manual_dir / "download"
    page.write_text("<html>moved</html>")
    monkeypatch.setattr("tensorflow_datasets.download.DownloadManager.download", lambda self, url: page)
    with pytest.raises(DataError, match="cannot be read as a MATLAB file"):
        load("frey_faces", folders)
    assert not page.exists()


def test_reachable(monkeypatch):
    asked = []
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: asked.append(address) or io.BytesIO())
    monkeypatch.setattr("urllib.request.getproxies", lambda: {})
    assert downloads.reachable("https://example.org/file") and downloads.reachable("http://example.org:81/file")
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy.example.org:3128"})
    monkeypatch.setattr("urllib.request.proxy_bypass", lambda host: host == "near.example.org")
    assert downloads.reachable("https://example.org/file") and downloads.reachable("https://near.example.org/file")
    assert asked == [
        ("example.org", 443),
        ("example.org", 81),
        ("proxy.example.org", 3128),
        ("near.example.org", 443),
    ]


# === Bad source files ===


@pytest.mark.parametrize("name", list(SOURCES))
@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty", "folder"])
def test_damaged_source(folders, name, damage):
    WRITERS[name](folders)
    path = folders.manual_dir / SOURCES[name]
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes({"truncated": content[: len(content) // 2], "foreign": b"<html>", "empty": b""}[damage])
    with pytest.raises(DataError, match=rf"{SOURCES[name]} cannot be read as a"):
        load(name, folders)
    assert_nothing_remains(folders)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("caltech101_silhouettes", {"val_data": None}, "has no array val_data"),
        ("caltech101_silhouettes", {"val_data": np.zeros([3, 256])}, r"shape \[3, 256\]; it must be any x 784"),
        ("caltech101_silhouettes", {"test_data": np.full([2, 784], 2)}, "test_data holds values other than 0 and 1"),
        ("caltech101_silhouettes", {"train_data": np.full([2, 784], np.nan)}, "train_data holds NaN or infinite"),
        ("caltech101_silhouettes", {"train_data": "text"}, "train_data is not an array of real numbers"),
        ("omniglot", {"data": np.ones([784, 20])}, "data has 20 images; 1345 are for validation"),
        ("omniglot", {"testdata": np.full([784, 2], 1.5)}, r"testdata holds 1.5 to 1.5, not \[0, 1\]"),
        ("omniglot", {"testdata": np.full([784, 2], -np.inf)}, "testdata holds NaN or infinite"),
        ("omniglot", {"testdata": np.zeros([2, 784])}, r"testdata has the shape \[2, 784\]; it must be 784 x any"),
        ("frey_faces", {"ff": np.full([560, 410], 256)}, "ff holds values other than the integers 0..255"),
        ("frey_faces", {"ff": np.full([560, 410], 0.5)}, "ff holds values other than the integers 0..255"),
        ("frey_faces", {"ff": np.zeros([560, 400])}, "ff has 400 images; 400 are not for training"),
        ("histopathology", {"test": None}, "has no array test; it has: training, validation"),
        ("histopathology", {"test": np.zeros([2, 100])}, r"test is float64 of the shape \[2, 100\]"),
        ("histopathology", {"test": np.zeros([0, 784])}, r"test is float64 of the shape \[0, 784\]"),
        ("histopathology", {"test": np.full([2, 784], np.nan)}, "test holds NaN or infinite"),
        ("histopathology", {"test": np.full([2, 784], 255)}, r"test holds 255 to 255, not \[0, 1\]"),
        ("histopathology", {"member": "other.pkl"}, "has no member histopathology.pkl"),
        ("histopathology", {"member": "../histopathology.pkl"}, "has a member outside of its own folder"),
        ("histopathology", {"member": "/tmp/histopathology.pkl"}, "has a member outside of its own folder"),
        ("histopathology", {"pickled": pickle.dumps([1, 2])}, "it holds a list instead of a dict"),
        ("histopathology", {"pickled": b"not a pickle"}, "cannot be unpickled"),
    ],
)  # fmt: skip
def test_wrong_contents(folders, name, changes, message):
    WRITERS[name](folders, **changes)
    with pytest.raises(DataError, match=rf"{SOURCES[name]}\b.*{message}"):
        load(name, folders)
    assert_nothing_remains(folders)


# === The unpickler ===


class Calls:
    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    "function", [os.system, eval, exec, getattr, subprocess.run, np.load, np.memmap, codecs.decode]
)
def test_malicious_pickles_run_nothing(folders, tmp_path, protocol, function):
    code = f"open({str(tmp_path / 'ran')!r}, 'w')"
    command = f"touch {tmp_path / 'ran'}" if function in (os.system, subprocess.run) else code
    write_histopathology(folders, pickled=pickle.dumps({"training": Calls(function, command)}, protocol))
    with pytest.raises(
        DataError, match=r"histopathology.pkl cannot be unpickled: it refers to .*nothing of it was run"
    ):
        load("histopathology", folders)
    assert not (tmp_path / "ran").exists()


def test_pickles_of_objects_are_refused():
    for array in (np.array([None, "text"], object), np.zeros(3, [("a", "O")]), np.zeros(3, complex), np.array(["a"])):
        with pytest.raises(pickle.UnpicklingError, match="only real numbers are allowed"):
            load_arrays(pickle.dumps({"training": array}))
    # A type that lies about itself: NumPy would take the bytes for pointers.
    liar = Calls(np.dtype, "O8", False, True)
    with pytest.raises(pickle.UnpicklingError, match="'O8'"):
        load_arrays(pickle.dumps({"training": liar}))


def test_pickles_of_arrays():
    arrays = {
        "float": np.random.default_rng(0).random([3, 4]),
        "big_endian": np.arange(5, dtype=">f4"),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "bool": np.array([True, False]),
        "scalars": [np.float64(1.5), np.float64(2.5)],
        "list": [np.zeros(3), np.ones(3)],
        "empty": np.zeros([0, 3]),
    }
    for protocol in range(6):
        found = load_arrays(pickle.dumps(arrays, protocol))
        for key, array in arrays.items():
            assert_array_equal(found[key], np.asarray(array), strict=True)
    # As NumPy 1 wrote it, and Python 2: bytes are a string there, and the module is another.
    array = (
        b"(dS'training'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\ntcnumpy\ndtype\n"
        b"(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS'A\\xff'\ntbs."
    )
    assert_array_equal(load_arrays(array)["training"], np.array([65, 255], np.uint8), strict=True)


# === What is prepared already ===


def test_changed_source_is_prepared_anew(folders):
    write_caltech(folders)
    first = load("caltech101_silhouettes", folders)
    write_caltech(folders, np.zeros([9, 28, 28], bool))
    second = load("caltech101_silhouettes", folders)
    assert first.train.any() and not second.train.any() and second.fingerprint != first.fingerprint
    # A damaged one does not replace what is there.
    (folders.manual_dir / SOURCES["caltech101_silhouettes"]).write_bytes(b"damaged")
    with pytest.raises(DataError, match="cannot be read as a MATLAB file"):
        load("caltech101_silhouettes", folders)
    assert datasets.load("caltech101_silhouettes", data_dir=folders.data_dir).fingerprint == second.fingerprint


@pytest.mark.parametrize("damage", ["truncated", "emptied", "removed", "info"])
def test_damaged_prepared_folder(folders, damage):
    write_caltech(folders)
    load("caltech101_silhouettes", folders)
    folder = folders.data_dir / "caltech101_silhouettes" / "1.0.0"
    (records,) = folder.glob("*train*")
    if damage == "truncated":
        records.write_bytes(records.read_bytes()[:-50])
    elif damage == "emptied":
        records.write_bytes(b"")
    elif damage == "removed":
        records.unlink()
    else:
        (folder / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match=str(folders.data_dir)):
        load("caltech101_silhouettes", folders)
    shutil.rmtree(folder)
    load("caltech101_silhouettes", folders)


def test_unwritable_data_dir(folders):
    write_caltech(folders)
    blocked = folders.manual_dir / "file"
    blocked.write_text("")
    with pytest.raises(DataError, match="cannot be prepared in"):
        datasets.load("caltech101_silhouettes", data_dir=blocked / "tfds", manual_dir=folders.manual_dir)


def test_two_processes_prepare_at_once(folders):
    write_caltech(folders)
    code = (
        "import sys; from vampzoo import datasets; "
        "print(datasets.load('caltech101_silhouettes', data_dir=sys.argv[1], manual_dir=sys.argv[2]).fingerprint)"
    )
    command = [sys.executable, "-c", code, str(folders.data_dir), str(folders.manual_dir)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1] == load("caltech101_silhouettes", folders).fingerprint + "\n"


# === As TFDS lays it out ===


@pytest.mark.parametrize("name", ["caltech101_silhouettes", "frey_faces", "glyphs", "histopathology", "omniglot_28x28"])
def test_metadata_is_read(name, tmp_path):
    module = __import__(f"vampzoo.datasets.{name}.{name}_dataset_builder", fromlist=["Builder"])
    builder = module.Builder(data_dir=tmp_path)
    assert builder.name == name
    assert builder.info.description and builder.info.citation.startswith("@")
    assert builder.get_metadata().tags == ["content.data-type.image", "ml.task.image-generation"]
    assert builder.url_infos == {}


# === The real files ===


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The folder of the real source files, and a copy of the prepared ones."""
    manual_dir, prepared_dir = os.environ.get("VAMPZOO_MANUAL_DIR"), os.environ.get("VAMPZOO_DATA_DIR")
    data_dir = tmp_path_factory.mktemp("tfds")
    for name in ("mnist", "binarized_mnist"):
        if prepared_dir and (pathlib.Path(prepared_dir) / name).is_dir():
            shutil.copytree(pathlib.Path(prepared_dir) / name, data_dir / name)
    return types.SimpleNamespace(data_dir=data_dir, manual_dir=manual_dir)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("static_mnist", (50_000, 10_000, 10_000)),
        ("dynamic_mnist", (50_000, 10_000, 10_000)),
        ("omniglot", (23_000, 1345, 8070)),
        ("caltech101_silhouettes", (4100, 2264, 2307)),
        ("frey_faces", (1565, 200, 200)),
        ("histopathology", (6800, 2000, 2000)),
    ],
)
def test_real_data(real, name, sizes):
    if name in SOURCES:
        if not real.manual_dir or not (pathlib.Path(real.manual_dir) / SOURCES[name]).exists():
            pytest.skip(f"VAMPZOO_MANUAL_DIR holds no {SOURCES[name]}")
    elif not (real.data_dir / prepared.IN_TFDS[name][0]).exists():
        pytest.skip(f"VAMPZOO_DATA_DIR holds no {prepared.IN_TFDS[name][0]}")
    dataset = load(name, real)
    assert dataset.spec == datasets.spec(name)
    assert tuple(map(len, (dataset.train, dataset.validation, dataset.test))) == sizes
    # Real images are smooth both ways: neighbours are alike. One that is cut into rows of a wrong length is not.
    x = dataset.test[..., 0].astype(np.float64)
    deviation = x.std()
    for axis in (1, 2):
        assert np.abs(np.diff(x, axis=axis)).mean() < 0.7 * deviation
    if name in ("omniglot", "dynamic_mnist", "frey_faces"):
        assert len(np.unique(dataset.train)) > 100
