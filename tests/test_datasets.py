"""Datasets: the registry, pixel values and splits, and a user's own .npz file."""

import io
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from vampzoo import datasets
from vampzoo.datasets import DataError
from vampzoo.datasets.pixels import for_likelihood
from vampzoo.datasets.splitting import split_off
from vampzoo.errors import Hint


@pytest.fixture
def save(tmp_path):
    def save_npz(**arrays):
        path = tmp_path / "images.npz"
        np.savez(path, **arrays)
        return path

    return save_npz


def bytes_images(n=30, height=4, width=5, seed=0):
    return np.random.default_rng(seed).integers(0, 256, [n, height, width, 1], dtype=np.uint8)


def test_import_is_light():
    code = (
        "import sys, vampzoo.datasets as d; d.spec('glyphs'); "
        "print([m for m in ('tensorflow', 'tensorflow_datasets', 'matplotlib', 'scipy', 'keras') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"


def test_specs_follow_the_paper():
    specs = datasets.DATASETS
    assert all(specs[name].name == name == datasets.spec(name).name for name in specs)
    assert {name for name in specs if specs[name].dynamic} == {"dynamic_mnist", "omniglot"}
    assert {name for name in specs if specs[name].likelihood != "bernoulli"} == {"frey_faces", "histopathology"}
    assert specs["frey_faces"].image_shape == (28, 20, 1)
    assert [name for name in specs if specs[name].num_components == 1000] == ["omniglot"]
    assert (specs["histopathology"].pseudo_inputs_mean, specs["histopathology"].pseudo_inputs_stddev) == (0.4, 0.05)


@pytest.mark.parametrize("name", ["mnist", "", "tfd:mnist", "NPZ"])
def test_unknown_names_list_the_valid_ones(name):
    for call in (datasets.spec, datasets.load):
        with pytest.raises(DataError, match=r"Unknown dataset .*static_mnist.*glyphs.*, npz, tfds:NAME"):
            call(name)


def test_bad_arguments(tmp_path, save):
    path = save(train=bytes_images())
    with pytest.raises(
        DataError, match=r"likelihood 'gauss'.*bernoulli, discretized_logistic, discretized_logistic_cl"
    ):
        datasets.load("npz", data_file=path, likelihood="gauss")
    with pytest.raises(DataError, match=r"binarization 'yes'.*none, dynamic, static, threshold"):
        datasets.load("npz", data_file=path, binarization="yes")
    with pytest.raises(DataError, match="'npz' needs data_file"):
        datasets.load("npz")
    with pytest.raises(DataError, match="takes no data_file"):
        datasets.load("glyphs", data_file=path)
    with pytest.raises(DataError, match=r"manual_dir .*nowhere does not exist"):
        datasets.load("frey_faces", manual_dir=tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"data_dir .*images.npz is not a folder"):
        datasets.load("frey_faces", data_dir=path)
    with pytest.raises(DataError, match="goes with likelihood='bernoulli'"):
        datasets.load("npz", data_file=path, binarization="static")
    with pytest.raises(DataError, match="grey values, which likelihood='bernoulli' cannot model"):
        datasets.load("npz", data_file=path, likelihood="bernoulli", binarization="none")


# === Pixels ===


def test_grey_bytes_become_the_centres_of_their_bins():
    everything = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    splits, likelihood, dynamic = for_likelihood({"train": everything}, "here")
    assert (likelihood, dynamic) == ("discretized_logistic", False)
    assert_array_equal(splits["train"].ravel(), (np.arange(256) + 0.5) / 256)
    assert splits["train"].dtype == np.float32


@pytest.mark.parametrize("likelihood", ["discretized_logistic", "discretized_logistic_closed"])
def test_grey_floats_stay_inside_the_bins(likelihood):
    x = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8, 1)
    splits, found, _ = for_likelihood({"train": x}, "here", likelihood=likelihood)
    assert found == likelihood
    assert splits["train"].min() == np.float32(1 / 512) and splits["train"].max() == np.float32(1 - 1 / 512)
    assert_array_equal(splits["train"].ravel()[1:-1], x.ravel()[1:-1])


@pytest.mark.parametrize("binary", [np.eye(4, dtype=np.uint8), np.eye(4, dtype=np.float32)])
@pytest.mark.parametrize("binarization", [None, "none", "dynamic", "static", "threshold"])
def test_binary_images_are_never_changed(binary, binarization):
    splits, likelihood, dynamic = for_likelihood(
        {"train": binary.reshape(1, 4, 4, 1)}, "here", likelihood="bernoulli", binarization=binarization
    )
    assert_array_equal(splits["train"].reshape(4, 4), np.eye(4))
    assert (likelihood, dynamic) == ("bernoulli", False)


@pytest.mark.parametrize("binarization", [None, "none", "dynamic", "static", "threshold"])
def test_black_and_white_bytes_are_binary_for_a_bernoulli_model(binarization):
    black_and_white = {"train": 255 * np.eye(4, dtype=np.uint8).reshape(1, 4, 4, 1)}
    splits, _, dynamic = for_likelihood(black_and_white, "here", likelihood="bernoulli", binarization=binarization)
    assert_array_equal(splits["train"].reshape(4, 4), np.eye(4))
    assert not dynamic


def test_black_and_white_bytes_without_a_likelihood_are_grey_with_a_hint():
    black_and_white = {"train": 255 * np.eye(4, dtype=np.uint8).reshape(1, 4, 4, 1)}
    with pytest.warns(Hint, match="here holds 0 and 255 alone.*--likelihood=bernoulli"):
        _, likelihood, _ = for_likelihood(black_and_white, "here")
    assert likelihood == "discretized_logistic"


@pytest.mark.parametrize("kind", ["bits beside them", "one split is black"])
def test_black_and_white_bytes_beside_other_splits(kind):
    eye = np.eye(4, dtype=np.uint8).reshape(1, 4, 4, 1)
    bits = eye.astype(np.float32) if kind == "bits beside them" else np.zeros_like(eye)
    splits = {"train": 255 * eye, "validation": bits, "test": 255 * eye}
    for binarization in (None, "none", "dynamic"):
        binary, _, dynamic = for_likelihood(splits, "here", likelihood="bernoulli", binarization=binarization)
        assert not dynamic
        for split, expected in (("train", eye), ("validation", bits), ("test", eye)):
            assert_array_equal(binary[split], expected)
    with pytest.warns(Hint, match="0 and 255 alone"):
        for_likelihood(splits, "here")


def test_a_nearly_black_split_of_a_grey_array_is_grey(save):
    """Of few images the one that is split off may hold nothing but the bytes 0 and 1: these are grey levels all the same."""
    train = bytes_images(12)
    (taken,) = split_off({"train": np.arange(12)}, "here")["test"]
    train[taken] = np.arange(20).reshape(4, 5, 1) % 2
    path = save(train=train)
    grey = datasets.load("npz", data_file=path).test
    assert_array_equal(np.unique(grey), np.float32([0.5 / 256, 1.5 / 256]))
    drawn = datasets.load("npz", data_file=path, likelihood="bernoulli").test
    assert drawn.mean() < 0.2  # with probabilities of 0 and 1/255
    bits = (train > 127).astype(np.uint8)  # in an array of its own they are bits, as before
    beside = datasets.load("npz", data_file=save(train=train, validation=train, test=bits), likelihood="bernoulli")
    assert_array_equal(beside.test, bits)


def test_binarization():
    x = bytes_images(200)
    raw = {"train": x, "validation": x, "test": x}

    default, _, dynamic = for_likelihood(raw, "here", likelihood="bernoulli")
    assert dynamic
    assert_array_equal(default["train"], x.astype(np.float32) / 255)
    for split in ("validation", "test"):
        assert set(np.unique(default[split])) == {0, 1}
        # Draws with probability x: their mean is that of x, up to 6 standard errors.
        assert abs(default[split].mean() - x.mean() / 255) < 6 * 0.5 / np.sqrt(x.size)
    assert (default["validation"] != default["test"]).any()  # Splits are drawn independently.
    assert (default["test"][x == 0] == 0).all() and (default["test"][x == 255] == 1).all()

    again, _, _ = for_likelihood(raw, "here", likelihood="bernoulli", binarization="dynamic")
    assert_array_equal(again["test"], default["test"])

    static, _, dynamic = for_likelihood(raw, "here", likelihood="bernoulli", binarization="static")
    assert not dynamic and set(np.unique(static["train"])) == {0, 1}
    assert_array_equal(static["test"], default["test"])

    threshold, _, dynamic = for_likelihood(raw, "here", likelihood="bernoulli", binarization="threshold")
    assert not dynamic
    assert_array_equal(threshold["train"], x >= 128)


# === npz ===


def test_npz_with_all_splits(save):
    path = save(train=bytes_images(7), validation=bytes_images(3)[..., 0], test=bytes_images(2), label=np.zeros(7))
    dataset = datasets.load("npz", data_file=path)
    assert dataset.train.shape == (7, 4, 5, 1) and dataset.validation.shape == (3, 4, 5, 1)
    assert dataset.spec.image_shape == (4, 5, 1) and dataset.spec.name == "npz"
    assert dataset.spec.likelihood == "discretized_logistic"
    assert_array_equal(dataset.test, (bytes_images(2) + np.float32(0.5)) / 256)


def test_npz_binary_is_bernoulli(save):
    for images in (bytes_images() > 99, (bytes_images() > 99).astype(np.int64), (bytes_images() > 99) * 1.0):
        dataset = datasets.load("npz", data_file=save(train=images))
        assert dataset.spec.likelihood == "bernoulli" and not dataset.spec.dynamic
        assert set(np.unique(dataset.train)) == {0, 1}


@pytest.mark.parametrize("train", [np.uint8, np.float32])
def test_npz_test_images_may_be_bits_where_training_images_are_grey(save, train):
    random = np.random.default_rng(0)
    grey, bits = random.integers(0, 256, (20, 4, 4)), random.random((6, 4, 4)) < 0.5
    grey = grey.astype(np.uint8) if train == np.uint8 else (grey / 255).astype(np.float32)
    path = save(train=grey, validation=bits, test=bits.astype(np.uint8))
    data = datasets.load("npz", data_file=path, likelihood="bernoulli")
    assert data.spec.dynamic
    np.testing.assert_allclose(data.train[..., 0], grey / 255 if train == np.uint8 else grey, atol=1e-6)
    for images in (data.validation, data.test):
        np.testing.assert_array_equal(images[..., 0], bits)


def test_npz_missing_splits_come_off_train(save):
    x = np.arange(100, dtype=np.uint8).reshape(100, 1, 1)
    both = datasets.load("npz", data_file=save(train=x))
    assert [len(both.train), len(both.validation), len(both.test)] == [80, 10, 10]
    parts = np.concatenate([both.train, both.validation, both.test]).ravel()
    assert_array_equal(np.sort(parts), (np.arange(100) + 0.5) / 256)  # Nothing is lost or doubled.
    assert datasets.load("npz", data_file=save(train=x)).fingerprint == both.fingerprint

    one = datasets.load("npz", data_file=save(train=x, test=x))
    assert [len(one.train), len(one.validation), len(one.test)] == [90, 10, 100]

    with pytest.raises(DataError, match=r"images.npz has 2 training images, too few to split validation and test off"):
        datasets.load("npz", data_file=save(train=x[:2]))


def test_fingerprint_notices_one_pixel(save):
    x = bytes_images()
    first = datasets.load("npz", data_file=save(train=x, validation=x, test=x)).fingerprint
    y = x.copy()
    y[3, 2, 1, 0] ^= 1
    assert datasets.load("npz", data_file=save(train=x, validation=y, test=x)).fingerprint != first
    assert len(first) == 64 and int(first, 16)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros([5, 784]), r"shape \[5, 784\]; it must be \[N, H, W\]"),
        (np.zeros([0, 4, 4]), r"shape \[0, 4, 4\]"),
        (np.zeros([5, 0, 4]), r"shape \[5, 0, 4\]"),
        (np.zeros([2, 2, 2, 2, 2]), r"shape \[2, 2, 2, 2, 2\]"),
        (np.float64(1), r"shape \[\]"),
        (np.zeros([5, 3, 8, 8]), r"looks like \[N, C, H, W\]: channels must come last.*\(0, 2, 3, 1\)"),
        (np.full([5, 4, 4], np.nan), "NaN or infinite"),
        (np.full([5, 4, 4], np.inf), "NaN or infinite"),
        (np.full([5, 4, 4], 255.0), r"floats from 255 to 255; floats must be in \[0, 1\]"),
        (np.full([5, 4, 4], -1), r"integers from -1 to -1; they must be in 0..255"),
        (np.full([5, 4, 4], 65535, np.uint16), "integers from 65535"),
        (np.zeros([5, 4, 4], complex), "complex128, not numbers"),
        (np.zeros([5, 4, 4], "U3"), "not numbers"),
        (np.zeros([5, 4, 4], [("a", "f4")]), "not numbers"),
        (np.full([5, 4, 4], None), "Python objects, which are never unpickled"),
    ],
)
def test_npz_bad_arrays(save, array, message):
    path = save(train=bytes_images(), validation=array)
    with pytest.raises(DataError, match=r"images.npz: array validation (has|holds).*" + message):
        datasets.load("npz", data_file=path)


def test_npz_bad_files(tmp_path, save):
    with pytest.raises(DataError, match=r"data_file .*none.npz is not a file"):
        datasets.load("npz", data_file=tmp_path / "none.npz")
    with pytest.raises(DataError, match="is not a file"):
        datasets.load("npz", data_file=tmp_path)
    with pytest.raises(DataError, match="has no array train; it has: a, b"):
        datasets.load("npz", data_file=save(a=bytes_images(), b=bytes_images()))
    with pytest.raises(DataError, match=r"images of test are \[3, 5, 1\], those of train \[4, 5, 1\]"):
        datasets.load("npz", data_file=save(train=bytes_images(), test=bytes_images(height=3)))

    whole = save(train=bytes_images()).read_bytes()
    for content in (b"", b"PK", b"not a zip file", whole[: len(whole) // 2]):
        path = tmp_path / "damaged.npz"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"damaged.npz cannot be read as an .npz file: ."):
            datasets.load("npz", data_file=path)


def npz_of(header, data=b""):
    """An archive whose train.npy has this header, whatever its data."""
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, header)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("train.npy", member.getvalue() + data)
    return archive.getvalue()


def test_npz_bombs_are_refused_unread(tmp_path):
    path = tmp_path / "bomb.npz"
    for shape in [(2**20, 2**10, 2**10), (2**40, 2**40, 2**40)]:
        path.write_bytes(npz_of({"descr": "|u1", "fortran_order": False, "shape": shape}))
        with pytest.raises(DataError, match=r"bomb.npz: array train has the shape .*pixels and 4 GiB are read"):
            datasets.load("npz", data_file=path)
    path.write_bytes(npz_of({"descr": "|V1000000", "fortran_order": False, "shape": (2**20, 2, 2)}))
    with pytest.raises(DataError, match="GiB are read"):
        datasets.load("npz", data_file=path)
    # A header that promises more than there is.
    path.write_bytes(npz_of({"descr": "|u1", "fortran_order": False, "shape": (100, 28, 28)}, b"few"))
    with pytest.raises(DataError, match="it is damaged"):
        datasets.load("npz", data_file=path)


FUZZ = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def check_load_or_error(path):
    """Whatever the file: images that a model can use, or an error that names the file."""
    try:
        dataset = datasets.load("npz", data_file=path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        for images in (dataset.train, dataset.validation, dataset.test):
            assert images.dtype == np.float32 and images.shape[1:] == dataset.spec.image_shape and len(images)
            assert images.min() >= 0 and images.max() <= 1


@FUZZ
@given(data=st.data())
def test_npz_fuzz_of_arrays(tmp_path, data):
    shapes = st.lists(st.integers(0, 4), max_size=5)
    dtypes = st.sampled_from(["?", "u1", "i1", ">i4", "u8", "f2", "<f8", ">f4", "g", "c8", "S2", "M8[s]", "O", "V3"])
    values = st.sampled_from([0, 1, 0.5, 2, 255, 256, -1, np.nan, np.inf])
    arrays = {}
    for name in data.draw(st.sets(st.sampled_from(["train", "validation", "test", "extra"]))):
        with np.errstate(all="ignore"):
            try:
                arrays[name] = np.full(data.draw(shapes), data.draw(values)).astype(data.draw(dtypes))
            except (ValueError, TypeError, OverflowError):
                arrays[name] = np.zeros(3)
    path = tmp_path / "fuzz.npz"
    np.savez(path, **arrays)
    check_load_or_error(path)


@FUZZ
@given(position=st.integers(0, 2000), change=st.binary(min_size=1, max_size=4), compressed=st.booleans())
def test_npz_fuzz_of_bytes(tmp_path, position, change, compressed):
    path = tmp_path / "fuzz.npz"
    (np.savez_compressed if compressed else np.savez)(path, train=bytes_images(), test=bytes_images(5))
    content = bytearray(path.read_bytes())
    content[position : position + len(change)] = change
    path.write_bytes(content)
    check_load_or_error(path)


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(self.path),)


def test_npz_runs_nothing(tmp_path, save):
    path = save(train=np.array([[[Touch(tmp_path / "ran")]]], dtype=object))
    with pytest.raises(DataError, match="never unpickled"):
        datasets.load("npz", data_file=path)
    assert not (tmp_path / "ran").exists()
