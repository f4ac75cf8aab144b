"""Pictures: grids of images and the paper's histograms."""

import math

import numpy as np


def tile(images, columns=None, border=1):
    """One picture of many: [N, H, W, C] -> [rows (H + border), columns (W + border), C], missing cells white."""
    images = np.asarray(images)
    n, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = -(-n // columns)
    canvas = np.ones((rows * (height + border) + border, columns * (width + border) + border, channels), images.dtype)
    for i, image in enumerate(images):
        top, left = border + i // columns * (height + border), border + i % columns * (width + border)
        canvas[top : top + height, left : left + width] = image
    return canvas


def side_by_side(originals, reconstructions):
    """Alternates two sets of images: [N, H, W, C] twice -> [2N, H, W, C]."""
    pairs = np.stack([originals, reconstructions], axis=1)
    return pairs.reshape(-1, *pairs.shape[2:])


def save_grid(path, images, columns=None, scale=3):
    """Writes a grid of images [N, H, W, C] in [0, 1] as a picture file; the ending of `path` says which kind."""
    from matplotlib import image as mpl_image  # matplotlib takes a second to import

    canvas = np.clip(tile(images, columns), 0.0, 1.0)
    canvas = np.repeat(np.repeat(canvas, scale, axis=0), scale, axis=1)
    if canvas.shape[-1] == 1:
        canvas = np.repeat(canvas, 3, axis=-1)
    mpl_image.imsave(path, np.round(canvas * 255).astype(np.uint8))


def save_histogram(path, log_likelihoods, title, xlabel="test log-likelihood (nats)"):
    """Histogram of per-image log-likelihoods [N] (the paper's Figure 7)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(log_likelihoods, bins=100, color="#4878a8")
    axes.axvline(np.mean(log_likelihoods), color="black", linewidth=1, label=f"mean {np.mean(log_likelihoods):.2f}")
    axes.set(title=title, xlabel=xlabel, ylabel="images")
    axes.legend()
    figure.savefig(path, dpi=120)
