"""One HTML page that shows a model: recipe, curves, numbers, pictures. It needs no server and no network.

All pictures are in the page itself. A page with `images` shows images of the dataset: mind its licence before you pass
it on.
"""

import base64
import html
import io
import json

import numpy as np

from vampzoo import config as configuration
from vampzoo import datasets, figures, files
from vampzoo.evaluation import components

NAME = "report.html"  # in a run folder
NUM_SAMPLES = 64
NUM_PAIRS = 24
COLUMNS = 8  # of a grid: images are large enough on a telephone
NUM_COMPONENTS = 10  # whose samples are in the page
SAMPLES_OF_A_COMPONENT = 32
USAGE_IMAGES = 1000  # that the components' usage is measured on

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff;
  max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
img { max-width: 100%; height: auto; display: block; } img.pixels { image-rendering: pixelated; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .2rem 1.2rem .2rem 0; vertical-align: top; }
th { font-weight: 600; } td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.note { color: #57606a; font-size: .9rem; } .wide { overflow-x: auto; } pre { font-size: .8rem; overflow-x: auto; }
.components { display: flex; flex-wrap: wrap; gap: .5rem; }
.components button { border: 2px solid #d0d7de; border-radius: 4px; background: #fff; padding: .25rem; cursor: pointer;
  font: .8rem system-ui, sans-serif; }
.components button[aria-pressed=true] { border-color: #0969da; } .components img { width: 64px; margin: 0 auto; }
.around { margin-top: .8rem; }
"""

_SCRIPT = """
const buttons = [...document.querySelectorAll(".components button")];
function show(chosen) {
  for (const button of buttons) {
    button.setAttribute("aria-pressed", button === chosen);
    document.getElementById(button.dataset.shows).hidden = button !== chosen;
  }
}
for (const button of buttons) button.addEventListener("click", () => show(button));
if (buttons.length) show(buttons[0]);
"""


def render(
    model,
    config,
    evaluation=None,
    history=(),
    images=None,
    log_likelihoods=None,
    title=None,
    seed=0,
    show_pseudo_inputs=True,
):
    """The page, as text.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        config: contents of config.json.
        evaluation: contents of evaluation.json; None: none.
        history: rows of history.csv, as `vampzoo.figures.save_training` takes them.
        images: [N, H, W, C] of the dataset, shown beside reconstructions and used to say which components explain what;
            None: neither is shown.
        log_likelihoods: [N], for the histogram; None: none.
        title: the page's; None: the model and the data.
        seed: integer; decides the draws.
        show_pseudo_inputs: whether the pictures of components may be pseudo-inputs, which can be images of the dataset;
            if not, they are samples.
    """
    data = str(config.get("data", {}).get("dataset", "unknown data"))
    spec = datasets.DATASETS.get(data)
    settings = config["model"]
    what = f"{configuration.MODEL_TITLES[settings['model']]}, {configuration.PRIOR_TITLES[settings['prior']]}"
    name = title or f"{what} on {spec.title if spec else data}"
    sections = [
        f"<h1>{html.escape(name)}</h1>",
        f"<p>{html.escape(what)}, trained on {html.escape(spec.title if spec else data)}.<br>"
        f'<span class="note">{html.escape(model.describe())}</span></p>',
        _numbers(evaluation),
        _section("Samples", _pixels(model.sample(NUM_SAMPLES, seed=seed), COLUMNS, "images drawn from the model")),
        _reconstructions(model, images, seed),
        _components(model, images, seed, show_pseudo_inputs),
        _training(history),
        _histogram(log_likelihoods, evaluation),
        _recipe(config),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(name)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + f"\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def write(path, model, config, **what):
    """Writes the page, as `render` makes it of the same arguments.

    Args:
        path: pathlib.Path of the file.
        model, config, what: as for `render`.

    Raises:
        OSError: if it cannot be written.
    """
    files.write_text(path, render(model, config, **what))


def _section(title, *parts):
    return f"<h2>{html.escape(title)}</h2>\n" + "\n".join(parts)


def _uri(write_to):
    """A data URI of the PNG that `write_to(file)` writes."""
    picture = io.BytesIO()
    write_to(picture)
    return f"data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}"


def _image(uri, text, kind=""):
    return f'<img{kind} alt="{html.escape(text)}" src="{uri}">'


def _pixels(images, columns, text):
    uri = _uri(lambda file: figures.save_grid(file, images, columns, scale=2))
    return _image(uri, text, ' class="pixels"')


def _note(text):
    return f'<p class="note">{html.escape(text)}</p>'


# === Sections ===

_MEASURES = (  # (label, key of evaluation.json, digits)
    ("log-likelihood, nats", "log_likelihood", 2),
    ("bits per dimension", "bits_per_dimension", 3),
    ("ELBO, nats", "elbo", 2),
    ("distortion, nats", "distortion", 2),
    ("rate, nats", "rate", 2),
    ("effective components", "effective_components", 1),
    ("components that explain no image", "dead_components", 0),
)


def _numbers(evaluation):
    if not evaluation:
        return _section("Numbers", _note("Not evaluated."))
    rows = []
    for label, key, digits in _MEASURES:
        if evaluation.get(key) is not None:
            error = evaluation.get(f"{key}_stderr")
            text = f"{evaluation[key]:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")
            rows.append((label, text))
    latents = evaluation.get("latents", {})
    for layer, count in evaluation.get("active_units", {}).items():
        of = f" of {latents[layer]}" if layer in latents else ""
        rows.append((f"active units of {layer}", f"{count}{of}"))
    said = (
        f"Of {evaluation['num_images']:,} {evaluation['split']} images, the log-likelihood with "
        f"S = {evaluation['num_samples']:,} importance samples each. ± is the standard error over images."
    )
    everything = (
        f"<details><summary>All numbers</summary><pre>{html.escape(json.dumps(evaluation, indent=2))}</pre></details>"
    )
    return _section("Numbers", _table(rows), _note(said), everything)


def _table(rows):
    lines = (f'<tr><th>{html.escape(a)}</th><td class="number">{html.escape(b)}</td></tr>' for a, b in rows)
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _reconstructions(model, images, seed):
    if images is None:
        return ""
    originals = np.asarray(images[:NUM_PAIRS])
    pairs = figures.side_by_side(originals, model.reconstruct(originals, seed=seed))
    return _section(
        "Reconstructions",
        _note("Each image of the dataset has its reconstruction on its right."),
        _pixels(pairs, COLUMNS, "images of the dataset, each with its reconstruction on its right"),
    )


def _components(model, images, seed, show_pseudo_inputs):
    prior = model.prior_layer
    if not prior.has_components or getattr(model, "covariates", None):
        return ""
    if images is None:
        num = len(model.prior_parameters()[0])
        order, usage = np.arange(min(NUM_COMPONENTS, num)), None
        said = f"{len(order)} of {num} components, not sorted: how much each explains, only images of the dataset tell."
    else:
        usage = model.component_usage(np.asarray(images[:USAGE_IMAGES]), seed=seed)  # [K]
        order = components.most_used(usage, NUM_COMPONENTS)
        said = (
            f"The {len(order)} most used of {len(usage)} components, with the share of "
            f"{min(len(images), USAGE_IMAGES)} images that each explains."
        )
    shown = model.pseudo_inputs.numpy() if prior.has_pseudo_inputs and show_pseudo_inputs else None
    buttons, grids = [], []
    for k in map(int, order):
        around = model.sample(SAMPLES_OF_A_COMPONENT, seed=seed, component=k)
        thumbnail = around[:1] if shown is None else shown[k : k + 1]
        share = "" if usage is None else f" {100 * usage[k]:.1f} %"
        buttons.append(
            f'<button type="button" data-shows="component{k}" aria-pressed="false">'
            f"{_pixels(thumbnail, 1, f'component {k}')}{k}{share}</button>"
        )
        text = f"samples of component {k}"
        grids.append(
            f'<div class="around" id="component{k}" hidden>{_note(text)}{_pixels(around, COLUMNS, text)}</div>'
        )
    title = "Pseudo-inputs" if shown is not None else "Components of the prior"
    hint = f"{said} A click shows what the model draws from one."
    return _section(title, _note(hint), f'<div class="components">{"".join(buttons)}</div>', *grids)


def _training(history):
    if not history:
        return ""
    uri = _uri(lambda file: figures.save_training(file, history, ""))
    return _section("Training", _image(uri, "ELBO of training and validation images against epochs"))


def _histogram(log_likelihoods, evaluation):
    if log_likelihoods is None:
        return ""
    split = evaluation["split"] if evaluation else "test"
    uri = _uri(lambda file: figures.save_histogram(file, log_likelihoods, f"{split} images"))
    return _section("Log-likelihood of each image", _image(uri, "histogram of log-likelihoods"))


def _recipe(config):
    rows = [
        (name, "" if value is None else str(value))
        for section in ("model", "training", "data", "versions")
        for name, value in config.get(section, {}).items()
    ]
    rows.append(("vampzoo", str(config.get("vampzoo_version", "unknown"))))
    return _section("Recipe", _table(rows))
