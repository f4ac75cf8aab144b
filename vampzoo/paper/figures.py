"""The paper's Figures 2 to 7, drawn from complete runs."""

import functools

import numpy as np

from vampzoo import datasets, figures, zoo
from vampzoo.config import MODEL_TITLES
from vampzoo.errors import InvalidValue
from vampzoo.paper import records
from vampzoo.paper.tables import PRIOR_TITLES

NUM_IMAGES = 49  # in one panel
PAIR_COLUMNS = 8  # even, so that no image stands at the end of a line and its reconstruction at the start of the next


def draw(number, runs, path, data_dir=None, manual_dir=None):
    """Draws a figure.

    Args:
        number: 2 to 7, as in the paper.
        runs: complete `vampzoo.paper.cells.Run`s.
        path: the picture to write.
        data_dir, manual_dir: as for `vampzoo.datasets.load`, for Figure 6, which shows test images.

    Returns:
        The numbers that the figure shows as plain data, None if it shows images.
    """
    if number == 2:
        return _against_components(path, runs, {"test ELBO (nats)": lambda evaluation: evaluation["elbo"]})
    if number == 3:
        layers = ("z1", "z2")  # the paper's claim is about the upper layer
        panels = {f"active units of {layer}": functools.partial(_active_units, layer) for layer in layers}
        return _against_components(path, runs, panels)
    if number == 7:
        return _histograms(path, runs)
    panels = {4: _pseudo_inputs, 5: _samples, 6: lambda run: _reconstructions(run, data_dir, manual_dir)}[number]
    _image_panels(path, [panel for run in runs for panel in panels(run)])
    return None


def _label(cell):
    text = f"{MODEL_TITLES[cell.model]}, {PRIOR_TITLES[cell.prior]}"
    return text + (f", IWAE k = {cell.objective_samples}" if cell.objective_samples else "")


def _figure(columns, rows, width, height):
    from matplotlib.figure import Figure  # takes a second to import

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


# === Figures 2 and 3: curves over K ===


def _active_units(layer, evaluation):
    return evaluation["active_units"][layer]


def _against_components(path, runs, panels):
    """Mean and standard deviation over seeds against K; a prior without components is a level line.

    Args:
        path: the picture to write.
        runs: complete runs.
        panels: {label of the vertical axis: function of what evaluation.json says}, one beside the other.
    """
    by_curve = {}  # {label: {K or None: [run of each seed]}}
    for run in runs:
        components = run.cell.settings()["model"].get("num_components")
        by_curve.setdefault(_label(run.cell), {}).setdefault(components, []).append(run)
    figure, [row] = _figure(len(panels), 1, 6, 4)
    points = []
    for axes, (ylabel, value) in zip(row, panels.items(), strict=True):
        for i, (label, runs_by_k) in enumerate(by_curve.items()):
            values = {k: [value(run.evaluation()) for run in group] for k, group in runs_by_k.items()}
            points += [{"measure": ylabel, "curve": label, "num_components": k, "values": v} for k, v in values.items()]
            if None in values:
                mean, sd = np.mean(values[None]), _spread(values[None])
                axes.axhline(mean, linestyle="--", color=f"C{i}", label=label)
                axes.axhspan(mean - sd, mean + sd, color=f"C{i}", alpha=0.2, linewidth=0)  # nothing if sd is NaN
                continue
            ks = sorted(values)
            means = [np.mean(values[k]) for k in ks]
            sds = [_spread(values[k]) for k in ks]
            axes.errorbar(ks, means, sds, marker="o", capsize=3, color=f"C{i}", label=label)
        axes.set(xscale="log", xlabel="K", ylabel=ylabel, title=datasets.DATASETS[runs[0].cell.dataset].title)
        shown = sorted({k for runs_by_k in by_curve.values() for k in runs_by_k if k is not None})
        axes.set_xticks(shown, map(str, shown))  # the values that were run, not powers of ten
        axes.minorticks_off()
    row[0].legend(fontsize=8)
    figure.savefig(path, dpi=120)
    return {"points": points}


def _spread(values):
    """The standard deviation between seeds; NaN, which is not drawn, if there is but one."""
    return np.std(values, ddof=1) if len(values) > 1 else np.nan


# === Figures 4 to 6: images ===


def _image_panels(path, panels):
    """One panel of tiled images beside the other.

    Args:
        panels: [(title, images [N, H, W, C]), ...]; a third item is the number of columns, where it matters.
    """
    columns = min(len(panels), 4)
    figure, grid = _figure(columns, -(-len(panels) // columns), 4, 4)
    for axes in grid.flat:
        axes.axis("off")
    for axes, (title, *shown) in zip(grid.flat, panels, strict=False):
        canvas = np.clip(figures.tile(*shown), 0.0, 1.0)
        axes.imshow(canvas[..., 0] if canvas.shape[-1] == 1 else canvas, cmap="gray", vmin=0.0, vmax=1.0)
        axes.set_title(title, fontsize=9)
    figure.savefig(path, dpi=120)


def _title(run):
    return f"{datasets.DATASETS[run.cell.dataset].title}\n{_label(run.cell)}"


def _pseudo_inputs(run):
    """Pseudo-inputs, and one of them, which the run's seed picks, with samples around it."""
    model = zoo.load(run.folder)
    if not model.prior_layer.has_pseudo_inputs:
        raise InvalidValue(f"{run.folder} has no pseudo-inputs: figure 4 needs --priors=vampprior")
    pseudo_inputs = model.pseudo_inputs.numpy()  # [K, H, W, C]
    component = int(np.random.default_rng(run.seed).integers(len(pseudo_inputs)))
    around = model.sample(NUM_IMAGES - 1, seed=run.seed, component=component)
    yield f"{_title(run)}: pseudo-inputs", pseudo_inputs[:NUM_IMAGES]
    yield "one (first) and samples around it", np.concatenate([pseudo_inputs[component][np.newaxis], around])


def _samples(run):
    yield f"{_title(run)}: samples", zoo.load(run.folder).sample(NUM_IMAGES, seed=run.seed)


def _reconstructions(run, data_dir, manual_dir):
    data = run.config()["data"]
    dataset = datasets.load(
        data["dataset"], data_dir=data_dir, manual_dir=manual_dir, binarization=data.get("binarization")
    )
    if dataset.fingerprint != data["fingerprint"]:
        raise InvalidValue(f"{data['dataset']} is not the data that {run.folder} was trained on")
    images = dataset.test[: NUM_IMAGES // 2]
    pairs = figures.side_by_side(images, zoo.load(run.folder).reconstruct(images))
    yield f"{_title(run)}: test images, each with its reconstruction on its right", pairs, PAIR_COLUMNS


# === Figure 7: histograms ===


def _histograms(path, runs):
    columns = min(len(runs), 3)
    figure, grid = _figure(columns, -(-len(runs) // columns), 4.5, 3)
    for axes in grid.flat[len(runs) :]:
        axes.axis("off")
    shown = []
    for axes, run in zip(grid.flat, runs, strict=False):
        values = records.log_likelihoods(run.folder)
        axes.hist(values, bins=100)
        axes.axvline(values.mean(), color="black", linewidth=1)
        axes.set(title=_title(run), xlabel="test log-likelihood (nats)", ylabel="images")
        quartiles = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
        shown.append(
            {"run": run.folder.name, "mean": float(values.mean()), "quartiles": quartiles, "images": len(values)}
        )
    figure.savefig(path, dpi=120)
    return {"measure": "test log-likelihood (nats)", "histograms": shown}
