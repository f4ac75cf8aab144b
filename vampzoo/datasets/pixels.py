"""From the pixel values of a file to those that a likelihood models.

Splits are a dict from "train", "validation" and "test" to arrays [N, H, W, C], either integers (uint8, 0..255, or 0
and 1 alone) or floats in [0, 1].
"""

import warnings

import numpy as np

from vampzoo.config import LIKELIHOODS
from vampzoo.datasets.errors import DataError
from vampzoo.datasets.specs import BINARIZATIONS
from vampzoo.errors import Hint

SPLITS = ("train", "validation", "test")

# Draws use np.random.RandomState: unlike Generator's, its streams are promised never to change between NumPy versions.
BINARIZATION_SEED = 777


def check_pixels(images, where):
    """Returns images [N, H, W] or [N, H, W, C] as uint8 or float32 [N, H, W, C].

    Args:
      images: bool, integers in 0..255, or floats in [0, 1].
      where: what the error message calls the array, the file's name in it.

    Raises:
      DataError: not images, channels before height and width, empty, NaN or infinite, or out of range.
    """
    if images.dtype.kind not in "buif":
        raise DataError(f"{where} holds {images.dtype}, not numbers.")
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise DataError(
            f"{where} has the shape {list(images.shape)}; it must be [N, H, W] or [N, H, W, C], none of them 0."
        )
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.shape[1] in (1, 3, 4) and images.shape[3] > 4:
        raise DataError(
            f"{where} has the shape {list(images.shape)}, which looks like [N, C, H, W]: channels must come last. Save "
            "np.transpose(images, (0, 2, 3, 1)) instead."
        )
    if images.dtype.kind == "f":
        if not np.isfinite(images).all():
            raise DataError(f"{where} holds NaN or infinite values.")
        if images.min() < 0 or images.max() > 1:
            raise DataError(
                f"{where} holds floats from {images.min():.4g} to {images.max():.4g}; floats must be in [0, 1] "
                "(0..255 goes in as uint8)."
            )
        return images.astype(np.float32)
    if images.min() < 0 or images.max() > 255:
        raise DataError(f"{where} holds integers from {images.min()} to {images.max()}; they must be in 0..255.")
    return images.astype(np.uint8)


def _is_binary(images):
    """Whether all pixels are 0 or 1."""
    return images.max() <= 1 if images.dtype == np.uint8 else ((images == 0) | (images == 1)).all()


def _is_black_and_white(images):
    """Whether all pixels are the bytes 0 or 255, as image files hold black and white, and not all are 0."""
    return images.dtype == np.uint8 and not ((images != 0) & (images != 255)).any() and images.max() == 255


def for_likelihood(splits, where, *, likelihood=None, binarization=None, taken_from=None):
    """The pixels as the likelihood models them.

    Bernoulli: binary images (0 and 1, or the bytes 0 and 255) stay what they are, whatever `binarization` says.
    Intensities (v / 255 for bytes) become binary as `binarization` says: "dynamic" (the default) keeps the training
    images as intensities, to be drawn anew at each use, and draws validation and test once with
    `BINARIZATION_SEED`; "static" draws the training images once, too; "threshold" sets pixels of at least 0.5.

    Discretised logistic: the centres of 256 bins, (v + 0.5) / 256 for bytes; floats are clipped to [1/512, 1 - 1/512].

    Args:
      splits: as the head of this file says.
      where: what the error message calls the images.
      likelihood: one of `LIKELIHOODS`, or None: bernoulli for images of 0 and 1 alone, else discretized_logistic.
      binarization: one of `BINARIZATIONS`, or None: "dynamic" for grey images under a Bernoulli likelihood.
      taken_from: of splits that were taken off another its name, {"test": "train"} say: they are grey if that is, though
        they may by chance hold nothing but 0 and 1.

    Returns:
      (splits of float32 [N, H, W, C] in [0, 1], likelihood, dynamic)

    Raises:
      DataError: the two do not go together, or not with these images.
    """
    black_and_white = {split: _is_black_and_white(images) for split, images in splits.items()}
    if any(black_and_white.values()) and all(black_and_white[s] or _is_binary(splits[s]) for s in splits):
        if likelihood == "bernoulli":
            splits = {s: images // 255 if black_and_white[s] else images for s, images in splits.items()}
        elif likelihood is None:
            warnings.warn(
                f"{where} holds 0 and 255 alone, which is modelled as grey images of 256 levels: for a Bernoulli model of "
                "black and white give likelihood='bernoulli' (--likelihood=bernoulli)",
                Hint,
                stacklevel=2,
            )
    binary = all(_is_binary(images) for images in splits.values())
    grey = _which_are_grey(splits, taken_from or {})
    likelihood = likelihood or ("bernoulli" if binary else "discretized_logistic")
    if likelihood != "bernoulli":
        if binarization not in (None, "none"):
            raise DataError(f"binarization={binarization!r} goes with likelihood='bernoulli', not with {likelihood!r}.")
        return {split: _bin_centres(images, grey[split]) for split, images in splits.items()}, likelihood, False

    intensities = {split: _intensities(images, grey[split]) for split, images in splits.items()}
    if binary:
        return intensities, likelihood, False
    if binarization == "none":
        raise DataError(
            f"{where} holds grey values, which likelihood='bernoulli' cannot model as they are: choose "
            "binarization='dynamic', 'static' or 'threshold', or likelihood='discretized_logistic'."
        )
    if binarization == "threshold":
        return {split: (images >= 0.5).astype(np.float32) for split, images in intensities.items()}, likelihood, False
    dynamic = binarization != "static"
    drawn = {
        split: images if split == "train" and dynamic else draw_bits(images, split)
        for split, images in intensities.items()
    }
    return drawn, likelihood, dynamic


def check_options(likelihood, binarization):
    """Raises DataError, listing the valid values, for a likelihood or binarization that does not exist."""
    if likelihood is not None and likelihood not in LIKELIHOODS:
        raise DataError(f"Unknown likelihood {likelihood!r}. Valid values: {', '.join(LIKELIHOODS)}.")
    if binarization is not None and binarization not in BINARIZATIONS:
        raise DataError(f"Unknown binarization {binarization!r}. Valid values: {', '.join(BINARIZATIONS)}.")


def _which_are_grey(splits, taken_from):
    """{split: whether its images are levels of 0 to 255}, each array by itself: bits may stand beside grey images."""
    origin = {split: taken_from.get(split, split) for split in splits}
    grey_arrays = {origin[split] for split, images in splits.items() if images.dtype == np.uint8 and images.max() > 1}
    return {split: images.dtype == np.uint8 and origin[split] in grey_arrays for split, images in splits.items()}


def _intensities(images, grey):
    scale = 255 if grey else 1
    return images.astype(np.float32) / np.float32(scale)


def _bin_centres(images, grey):
    if grey:
        return (images.astype(np.float32) + np.float32(0.5)) / np.float32(256)
    return np.clip(images.astype(np.float32), np.float32(1 / 512), np.float32(1 - 1 / 512))


def draw_bits(intensities, split):
    """Bits, 1 with the probability that an intensity says: the same at every call for a split.

    Args:
      intensities: [N, H, W, C] in [0, 1].
      split: one of `SPLITS`.

    Returns:
      float32 [N, H, W, C] of 0 and 1.
    """
    random = np.random.RandomState([BINARIZATION_SEED, SPLITS.index(split)])
    return (random.random_sample(intensities.shape) < intensities).astype(np.float32)
