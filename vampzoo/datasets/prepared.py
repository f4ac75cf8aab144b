"""Images of prepared TFDS datasets; prepares those that are not yet."""

import contextlib
import difflib
import importlib
import pathlib
import sys

import numpy as np
import requests
import tensorflow_datasets as tfds
from absl import logging

from vampzoo.datasets.downloads import no_download, reachable
from vampzoo.datasets.errors import DataError
from vampzoo.datasets.npz import MAX_PIXELS
from vampzoo.datasets.pixels import check_pixels
from vampzoo.datasets.sources import SourceFileBuilder
from vampzoo.files import sha256

# The datasets of the paper that TFDS itself has: (its name for it, split -> the part of TFDS's splits).
IN_TFDS = {
    "static_mnist": ("binarized_mnist", {"train": "train", "validation": "validation", "test": "test"}),
    "dynamic_mnist": ("mnist", {"train": "train[:50000]", "validation": "train[50000:]", "test": "test"}),
}
# The builders of this package whose name would be taken in TFDS.
BUILDER_NAMES = {"omniglot": "omniglot_28x28"}


def read_named(name, *, data_dir, manual_dir):
    """The images of one of `DATASETS`.

    Returns:
      dict of "train", "validation" and "test": uint8 or float32 [N, H, W, C].

    Raises:
      DataError: it cannot be prepared or read.
    """
    if name in IN_TFDS:
        tfds_name, parts = IN_TFDS[name]
        builder = _tfds_builder(tfds_name, data_dir)
    else:
        module = BUILDER_NAMES.get(name, name)
        module = importlib.import_module(f"vampzoo.datasets.{module}.{module}_dataset_builder")
        builder, parts = _construct(module.Builder, name, data_dir), None
    _prepare(builder, manual_dir)
    return _read(builder, parts or {"train": "train", "validation": "validation", "test": "test"})


def read_tfds(name, *, data_dir, manual_dir):
    """The images of any TFDS dataset that has exactly one image feature, of fixed size, or one called "image".

    Returns:
      dict of "train" and those of "validation" and "test" that the dataset has: uint8 or float32 [N, H, W, C].

    Raises:
      DataError: there is no such dataset, it has no such images, is too large, or cannot be prepared or read.
    """
    builder = _tfds_builder(name, data_dir)
    _image_feature(builder)  # Before gigabytes of something else are downloaded.
    _prepare(builder, manual_dir)
    available = [split for split in ("train", "validation", "test") if split in builder.info.splits]
    if "train" not in available:
        raise DataError(f"tfds:{name} has no split train; it has: {', '.join(builder.info.splits) or 'none'}.")
    return _read(builder, {split: split for split in available})


def _tfds_builder(name, data_dir):
    try:
        return _construct(lambda **kwargs: tfds.builder(name, try_gcs=False, **kwargs), name, data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        near = difflib.get_close_matches(name, tfds.list_builders(with_community_datasets=False), n=3)
        hint = f" Did you mean: {', '.join(near)}?" if near else " See https://www.tensorflow.org/datasets/catalog."
        raise DataError(f"TFDS has no dataset {name!r}.{hint}") from error


def _construct(make_builder, name, data_dir):
    try:
        return make_builder(data_dir=None if data_dir is None else str(data_dir))
    except tfds.core.registered.DatasetNotFoundError:
        raise
    except Exception as error:  # A damaged folder makes TFDS raise JSON's errors, protobuf's and others.
        folder = data_dir or tfds.core.constants.DATA_DIR
        raise DataError(f"{name}: what is prepared in {folder} cannot be opened: {error}") from error


def _prepare(builder, manual_dir):
    """Prepares a dataset in its TFDS folder, unless it is prepared there and from the source file that is given."""
    folder = pathlib.Path(manual_dir) if manual_dir is not None else builder.data_dir_root / "downloads" / "manual"
    mode = tfds.GenerateMode.REUSE_DATASET_IF_EXISTS
    if builder.data_path.exists():
        if not _is_stale(builder, folder):
            return
        logging.info("%s: %s differs from what %s was prepared from.", builder.name, folder, builder.data_path)
        builder.read(folder / builder.SOURCE.filename)  # TFDS deletes the old before it looks at the new.
        mode = tfds.GenerateMode.REUSE_CACHE_IF_EXISTS
    files = _files_to_download(builder, folder)
    hosts = {url.split("/")[2]: url for url in files}
    if hosts and not any(map(reachable, hosts.values())):
        raise no_download(builder.name, files, folder, f"no connection to {', '.join(hosts)}")

    config = tfds.download.DownloadConfig(
        manual_dir=str(folder),
        download_mode=mode,
        compute_stats=tfds.download.ComputeStatsMode.SKIP,
        try_download_gcs=False,
    )
    try:
        with contextlib.redirect_stdout(sys.stderr):  # TFDS prints; standard output is for results.
            builder.download_and_prepare(download_config=config)
    except DataError:
        raise
    except (requests.RequestException, tfds.download.DownloadError) as error:
        raise no_download(builder.name, files, folder, error) from error
    except Exception as error:  # No space, no permission, bad files: each part of TFDS has its own errors.
        if builder.data_path.exists() and mode == tfds.GenerateMode.REUSE_DATASET_IF_EXISTS:
            builder.info.read_from_directory(builder.data_path)  # Another process was faster.
        else:
            raise DataError(f"{builder.name}: cannot be prepared in {builder.data_path}: {error}") from error


def _is_stale(builder, folder):
    """Whether the folder holds a source file other than the one that the dataset was prepared from."""
    if not isinstance(builder, SourceFileBuilder):
        return False
    source = folder / builder.SOURCE.filename
    return source.is_file() and sha256(source) != builder.info.metadata.get("source_sha256")


def _files_to_download(builder, folder):
    """dict from address to file name, of what the folder does not hold."""
    if isinstance(builder, SourceFileBuilder):
        files = {builder.SOURCE.url: builder.SOURCE.filename}
    else:
        files = {url: info.filename or url.split("/")[-1] for url, info in (builder.url_infos or {}).items()}
    return {url: filename for url, filename in files.items() if not (folder / filename).exists()}


def _image_feature(builder):
    """The name of the feature that holds the images."""
    features = builder.info.features or {}
    images = {key: feature for key, feature in features.items() if isinstance(feature, tfds.features.Image)}
    key = "image" if "image" in features else next(iter(images), None)
    if key is None or ("image" not in features and len(images) != 1):
        raise DataError(f"{builder.name} has no feature image; its features: {', '.join(features) or 'none'}.")
    shape = features[key].shape
    if None in shape:
        raise DataError(f"{builder.name} has images of the shape {list(shape)}: all must be of one size.")
    return key


def _read(builder, parts):
    """dict from split to the images of a part of TFDS's splits, such as train[:50000]."""
    key = _image_feature(builder)
    height, width, channels = builder.info.features[key].shape
    splits = {}
    for split, part in parts.items():
        where = f"{builder.name}: split {part} in {builder.data_path}"
        try:
            expected = builder.info.splits[part].num_examples
        except Exception as error:
            raise DataError(f"{where} does not exist: {error}") from error
        if expected * height * width * channels > MAX_PIXELS:
            raise DataError(
                f"{where} has {expected} images {[height, width, channels]}: more than {MAX_PIXELS:,} pixels."
            )
        try:
            dataset = builder.as_dataset(split=part, shuffle_files=False).map(lambda example: example[key])
            images = np.concatenate(list(tfds.as_numpy(dataset.batch(10_000))))
        except Exception as error:  # TensorFlow's errors of damaged records, missing files, images that do not decode.
            raise DataError(f"{where} cannot be read: {error}. Remove that folder to prepare it anew.") from error
        if len(images) != expected:
            raise DataError(
                f"{where} has {len(images)} images instead of {expected}. Remove that folder to prepare it anew."
            )
        splits[split] = check_pixels(images, where)
    return splits
