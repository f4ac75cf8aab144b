"""load(): a dataset as arrays, ready to train on."""

import dataclasses
import hashlib
import pathlib

import numpy as np

from vampzoo.datasets.errors import DataError
from vampzoo.datasets.npz import read_npz
from vampzoo.datasets.pixels import SPLITS, check_options, for_likelihood
from vampzoo.datasets.specs import DATASETS, DatasetSpec, unknown_dataset
from vampzoo.datasets.splitting import split_off


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset in memory.

    Attributes:
      spec: what it is; `likelihood` and `dynamic` are those that `load` was asked for.
      train, validation, test: float32 [N, H, W, C] in [0, 1]. If `spec.dynamic`, train holds intensities, and
        validation and test 0 and 1 alone.
      fingerprint: sha256 of the arrays, in hexadecimal: two datasets are the same if theirs are.
    """

    spec: DatasetSpec
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    fingerprint: str


def load(name, *, data_dir=None, manual_dir=None, data_file=None, likelihood=None, binarization=None):
    """Loads a dataset; prepares it first, by download if need be.

    Reading a TFDS dataset runs TensorFlow: a distribution strategy that has to come first must be made before.

    Args:
      name: a key of `DATASETS`; "npz" for the file `data_file`; or "tfds:NAME" for any TFDS dataset of images that
        fits in memory. Of the last two, splits that are missing are taken off train: a tenth of it each, at random
        with a fixed seed.
      data_dir: TFDS's folder of prepared datasets; None: TFDS's own. What is prepared there is used as it is, unless
        `manual_dir` holds a source file other than the one that it was prepared from: then it is prepared anew.
      manual_dir: a folder with source files under their original names, used in place of downloads; None: the folder
        downloads/manual of `data_dir`, as in TFDS.
      data_file: the .npz file of "npz"; see `read_npz`.
      likelihood: "bernoulli", "discretized_logistic" or "discretized_logistic_closed"; None: the dataset's. For npz and
        tfds: bernoulli if the pixels are 0 and 1 alone, else discretized_logistic.
      binarization: "none", "dynamic", "static" or "threshold"; None: the dataset's. See `for_likelihood`.

    Returns:
      A `Dataset`.

    Raises:
      DataError: a bad argument, no file and no network, or a file that is not what it should be.
    """
    check_options(likelihood, binarization)
    for flag, folder in (("data_dir", data_dir), ("manual_dir", manual_dir)):
        if folder is not None and pathlib.Path(folder).exists() and not pathlib.Path(folder).is_dir():
            raise DataError(f"{flag} {folder} is not a folder.")
    if manual_dir is not None and not pathlib.Path(manual_dir).exists():
        raise DataError(f"manual_dir {manual_dir} does not exist.")
    if name == "npz" and data_file is None:
        raise DataError("Dataset 'npz' needs data_file, an .npz file with the array train: --data_file=FILE.")
    if name != "npz" and data_file is not None:
        raise DataError(f"Dataset {name!r} takes no data_file, got {data_file!r}: it is for dataset 'npz'.")

    if name in DATASETS:
        from vampzoo.datasets.prepared import read_named  # TFDS takes seconds to import.

        where, spec = name, DATASETS[name]
        arrays = splits = read_named(name, data_dir=data_dir, manual_dir=manual_dir)
        likelihood = likelihood or spec.likelihood
    elif name == "npz":
        where, spec = f"data_file {data_file}", None
        arrays = read_npz(data_file)
        splits = split_off(arrays, where)
    elif name.startswith("tfds:"):
        from vampzoo.datasets.prepared import read_tfds

        where, spec = name, None
        arrays = read_tfds(name.removeprefix("tfds:"), data_dir=data_dir, manual_dir=manual_dir)
        splits = split_off(arrays, where)
    else:
        raise unknown_dataset(name)

    as_named = name in DATASETS and binarization is None and likelihood == spec.likelihood
    taken_from = {split: "train" for split in splits if split not in arrays}
    splits, likelihood, dynamic = for_likelihood(
        splits, where, likelihood=likelihood, binarization=binarization, taken_from=taken_from
    )
    if spec is None:
        spec = _own_spec(name, where, splits["train"])
    found = (splits["train"].shape[1:], dynamic)
    if as_named and found != (expected := (spec.image_shape, spec.dynamic)):
        raise DataError(
            f"datasets/specs.py says (image_shape, dynamic) = {expected} of {name}, and its builder gives {found}."
        )
    spec = dataclasses.replace(spec, likelihood=likelihood, dynamic=dynamic)
    return Dataset(spec=spec, fingerprint=_fingerprint(splits), **splits)


def _own_spec(name, where, train):
    return DatasetSpec(
        name=name,
        image_shape=train.shape[1:],
        likelihood="",  # Both are set by the caller.
        dynamic=False,
        # Near the data's mean, and so far inside [0, 1] that hardly a pixel is clipped: a clipped one has no gradient.
        pseudo_inputs_mean=round(float(np.clip(train.mean(dtype=np.float64), 0.05, 0.95)), 4),
        pseudo_inputs_stddev=0.01,
        title=where,
        source=where,
    )


def _fingerprint(splits):
    digest = hashlib.sha256()
    for split in SPLITS:
        images = splits[split]
        digest.update(f"{split} {images.shape}".encode())
        digest.update(np.ascontiguousarray(images, dtype="<f4").data)
    return digest.hexdigest()
