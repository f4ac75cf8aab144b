"""Writing the files of a preset, and the rules for its name."""

import json
import pathlib
import re

from vampzoo import config as configuration
from vampzoo import datasets
from vampzoo.files import CONFIG
from vampzoo.zoo import card, preset_folder
from vampzoo.zoo.errors import ZooError

NUM_SAMPLES = 100  # on the picture
SAMPLES_SEED = 0


def check_characters(name):
    """Raises ZooError if the name of a preset is empty or has other characters than a-z, 0-9 and _."""
    if not re.fullmatch("[a-z0-9][a-z0-9_]*", name):
        raise ZooError(f"the name {name!r} may consist of lower-case letters, digits and _ alone")


def check_name(name, model_config, dataset):
    """Refuses a name that says something else than what the preset is.

    The form is MODEL_PRIOR_DATASET and perhaps more; any other name is fine, as long as no part of it is the name of
    another model, prior or dataset.

    Args:
        name: of the preset.
        model_config: its `ModelConfig`.
        dataset: what it was trained on. Of "npz", a file of one's own, nothing is known.

    Raises:
        ZooError: if it has other characters than a-z, 0-9 and _, or contradicts the model.
    """
    check_characters(name)
    words = name.split("_")

    def named(values):  # the longest of them that the name has as words: conv_hvae before hvae
        found = (v for v in values if f"_{v}_" in f"_{name}_")
        return max(found, key=len, default=None)

    for what, said, is_ in (
        ("model", named(configuration.MODELS), model_config.model),
        ("prior", named(configuration.PRIORS), model_config.prior),
    ):
        if said not in (None, is_):
            raise ZooError(f"the name {name!r} says {said}, and the {what} is {is_}")
    if "weighted" in words and not model_config.weighted:
        raise ZooError(f"the name {name!r} says weighted, and the components of the prior have equal weights")
    # A dataset is named by a word of its own: "caltech101" for caltech101_silhouettes, "mnist" for its two binarisations.
    of_dataset = set(re.split("[_:]", dataset))
    aliases = {word for known in datasets.DATASETS for word in known.split("_")} - {"faces", "silhouettes"}
    aliases -= {*configuration.MODELS, *configuration.PRIORS}
    if dataset != "npz" and (others := [w for w in words if w in aliases - of_dataset]):
        raise ZooError(f"the name {name!r} says {others[0]}, and the data is {dataset}")


def write(folder, model, name, config, metrics, version=1, note="", unlisted=()):
    """Writes a preset of a model into a folder that exists, and reads it back.

    Args:
        folder: the preset's; SavedModels of earlier versions may lie in it.
        model: a `vampzoo.models.LatentVariableModel`.
        name: of the preset.
        config: contents of config.json.
        metrics: contents of metrics.json.
        version: number of the SavedModel.
        note: for the card.
        unlisted: files in it, relative, that are not the preset's and so have no checksum.

    Raises:
        ZooError: if what was written does not load with the very weights of the model.
    """
    from vampzoo import figures  # TensorFlow
    from vampzoo.zoo import serving

    folder = pathlib.Path(folder)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    (folder / "README.md").write_text(card.render(metrics, config, note))
    figures.save_grid(folder / "samples.png", model.sample(NUM_SAMPLES, seed=SAMPLES_SEED))
    serving.export(model, folder / str(version), name)
    preset_folder.write_checksums(folder, unlisted)
    if differing := differing_weights(preset_folder.load(folder), model):
        raise ZooError(f"{', '.join(differing)} came back from {folder} with other values: nothing was exported")


def differing_weights(model, other):
    """Paths of the weights that are not the same in two models, bit for bit.

    Args:
        model, other: of the same configuration.
    """
    pairs = zip(model.weights, other.weights, strict=True)
    return [weight.path for weight, w in pairs if weight.numpy().tobytes() != w.numpy().tobytes()]
