"""Pictures: grids of images and the paper's histograms."""

import math
import pathlib
import textwrap

import numpy as np


def tile(images, columns=None, border=1):
    """One picture of many: [N, H, W, C] -> [rows (H + border) + border, columns (W + border) + border, C].

    Borders and missing cells are 1, which is white for images in [0, 1].
    """
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


MIN_TITLE_WIDTH = 240  # pixels: a smaller grid gets a white margin on its right, so that its title can be read


def grid(images, columns=None, scale=3, title=None):
    """A grid of images as a picture, a title above it.

    Args:
        images: [N, H, W, C] in [0, 1].
        columns: how many stand side by side; None: as many as rows.
        scale: pixels of the picture for one of an image, each way.
        title: a text, broken into lines where it is wider than the grid; None: none.

    Returns:
        uint8 [height, width, 3].
    """
    canvas = np.clip(tile(images, columns), 0.0, 1.0)
    if canvas.shape[-1] != 3:  # one is grey, and of those that are no colours the mean is shown
        canvas = canvas.mean(axis=-1, keepdims=True)
    canvas = np.round(canvas * 255).astype(np.uint8)  # before it grows
    canvas = np.repeat(np.repeat(canvas, scale, axis=0), scale, axis=1)
    canvas = canvas if canvas.shape[-1] == 3 else np.repeat(canvas, 3, axis=-1)
    if not title:
        return canvas
    margin = max(0, MIN_TITLE_WIDTH - canvas.shape[1])
    canvas = np.pad(canvas, ((0, 0), (0, margin), (0, 0)), constant_values=255)
    return np.concatenate([_text(title, canvas.shape[1]), canvas])


def _text(text, width):
    """Black letters on white: uint8 [height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = textwrap.wrap(text, max(1, int(width / 7)))  # letters of 12 pixels are some 7 wide
    height = 16 * len(lines) + 8
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    text = "\n".join(lines)
    figure.text(4 / width, 0.5, text, fontsize=12 * 72 / 100, va="center", linespacing=1.3, parse_math=False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:height, :width, :3]


def save_grid(path, images, columns=None, scale=3, title=None):
    """Writes a grid of images as a picture file, as `grid` makes it.

    Args:
        path: of the file, whose ending says which kind; or a file that is open for writing, for a PNG.
        images, columns, scale, title: as for `grid`.
    """
    picture = grid(images, columns, scale, title)
    is_open = hasattr(path, "write")
    if (is_open or pathlib.Path(path).suffix == ".png") and (picture == picture[..., :1]).all():
        import tensorflow as tf

        png = tf.io.encode_png(picture[..., :1]).numpy()  # one channel, where matplotlib writes four: half the bytes
        path.write(png) if is_open else pathlib.Path(path).write_bytes(png)
        return
    from matplotlib import image as mpl_image  # matplotlib takes a second to import

    mpl_image.imsave(path, picture)


def save_histogram(path, log_likelihoods, title):
    """Histogram of per-image log-likelihoods [N] (the paper's Figure 7)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    log_likelihoods = np.asarray(log_likelihoods, np.float64)  # in float32 equal ones of -2e5 have no room for bins
    axes.hist(log_likelihoods, bins=100, color="#4878a8")
    axes.axvline(np.mean(log_likelihoods), color="black", linewidth=1, label=f"mean {np.mean(log_likelihoods):.2f}")
    axes.set_title(title, parse_math=False)  # a file's name may hold dollars
    axes.set(xlabel="log-likelihood (nats)", ylabel="images")
    axes.legend()
    figure.savefig(path, dpi=120)


def save_training(path, history, title, best_epoch=None):
    """The curve of a training: ELBO of training and validation images, and distortion and rates, against epochs.

    Args:
        path: the picture to write; its ending says which kind.
        history: a row an epoch, as history.csv has it: dictionaries of numbers or of their text.
        title: above the curves.
        best_epoch: the epoch whose weights are kept, marked by a line; None or 0: no line.
    """
    from matplotlib.figure import Figure

    columns = {name: np.array([_number(row.get(name)) for row in history]) for name in history[0]}
    epochs = columns["epoch"]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    elbo, terms = figure.subplots(1, 2)
    for name, label in (("elbo", "training"), ("validation_elbo", "validation")):
        if name in columns:
            elbo.plot(epochs, columns[name], label=label, linewidth=1.2)
    settled = [columns[name][len(epochs) // 20 :] for name in ("elbo", "validation_elbo") if name in columns]
    values = np.concatenate(settled)
    values = values[np.isfinite(values)]
    if len(values) > 1 and values.max() > values.min():  # the first epochs would press the rest flat
        elbo.set_ylim(np.quantile(values, 0.01) - 0.05 * np.ptp(values), values.max() + 0.05 * np.ptp(values))
    if best_epoch:
        elbo.axvline(best_epoch, color="black", linewidth=0.8, linestyle="--", label=f"best: epoch {best_epoch}")
    elbo.set(xlabel="epoch", ylabel="ELBO (nats)")
    elbo.legend(fontsize=8)
    for name, values in columns.items():
        if name == "distortion" or name.startswith("rate_"):
            terms.plot(epochs, values, label=name.replace("_", " "), linewidth=1.2)
    terms.set(xlabel="epoch", ylabel="training images (nats)", yscale="log")
    terms.legend(fontsize=8)
    figure.suptitle(title, fontsize=10, parse_math=False)
    figure.savefig(path, dpi=120)


def _number(text):
    """A number of history.csv; NaN where a row of an older version has none."""
    return float(text) if text not in (None, "") else math.nan
