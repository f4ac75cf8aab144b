"""Publishing a preset, or a model as one, on Hugging Face's hub."""

import dataclasses
import os
import pathlib
import shlex
import tempfile

from vampzoo import __version__
from vampzoo.files import CHECKSUMS
from vampzoo.zoo import card, hub, preset_folder, writing
from vampzoo.zoo.errors import ZooError


def push(model_or_folder, address, *, license=None, message=None, private=None, allow_training_images=False):
    """Uploads a preset to Hugging Face's hub, from where `vampzoo.load(address)` gets it.

        vampzoo.push("hvae_vampprior_mydata", "hf://me/hvae_vampprior_mydata")

    Needs the extra `hub` and who you are: `hf auth login` or HF_TOKEN.

    Args:
        model_or_folder: a preset's name, or the path of a preset folder: it is verified, and what its SHA256SUMS lists is
            uploaded. Or a model: one that was loaded from a preset and is unchanged is uploaded as that preset; of any
            other a preset is made whose card says that it was not measured. `vampzoo.export` makes one of a run, with its
            measurements.
        address: "hf://OWNER/NAME"; the repository is created if there is none, else gets a further commit.
        license: of the weights of a model, by its short name (a preset folder has its own); None: unknown.
        message: of the commit.
        private: whether a repository that is created is private; None: as the owner has set it.
        allow_training_images: whether a model is uploaded whose pseudo-inputs are training images, or began as such.

    Returns:
        The address of the commit, "hf://OWNER/NAME@HASH", under which exactly these weights can be loaded for ever.

    Raises:
        ZooError: if the folder is no preset or damaged, the model's pseudo-inputs are training images, or the hub refuses.
        ValueError: if the licence is no short name.
        TypeError: if it is neither a model nor a name or path.
    """
    where = hub.parse(address)
    if where.name is None or where.revision is not None:
        raise ZooError(f"a preset is pushed to hf://OWNER/NAME, not to {address!r}")
    if isinstance(model_or_folder, str | os.PathLike):
        return _push_folder(preset_folder.find(model_or_folder)[0], where, license, message, private)

    from vampzoo import models  # TensorFlow

    model = model_or_folder
    if not isinstance(model, models.LatentVariableModel):
        raise TypeError(
            f"push takes a model, a preset's name or the path of a preset folder, not a {type(model).__name__}"
        )
    source = model.loaded_from
    if source is not None and (source / CHECKSUMS).is_file() and license is None:
        preset_folder.verify(source)
        if not writing.differing_weights(preset_folder.load(source), model):
            return _push_folder(source, where, license, message, private)
    config, model_config = _configuration(model)
    if getattr(model.prior_layer, "began_as_data", False):  # which only the model itself knows
        config = {**config, "training": {**config.get("training", {}), "pseudo_inputs_from_data": True}}
    if preset_folder.shows_training_images(config) and not allow_training_images:
        raise ZooError(
            "the pseudo-inputs of this model are training images or began as such, and a preset would hold them. If you may "
            "publish those, give allow_training_images=True"
        )
    license = license or card.UNKNOWN_LICENSE
    card.check_license(license)
    writing.check_name(where.name, model_config, config["data"]["dataset"])
    with tempfile.TemporaryDirectory() as folder:
        writing.write(folder, model, where.name, config, card.metrics_of_unmeasured(where.name, config, license))
        return _upload(folder, where, message, private)


def _push_folder(folder, where, license, message, private):
    if not (folder / CHECKSUMS).is_file():
        raise ZooError(
            f"{folder} is no preset: `python -m vampzoo.export --run_dir={shlex.quote(str(folder))} --name=...` "
            "makes one of a run"
        )
    if license is not None:
        raise ZooError(f"the licence of {folder} is in its card, and is said when it is exported")
    config, model_config = preset_folder.read_config(folder)
    writing.check_name(where.name, model_config, str(config.get("data", {}).get("dataset")))
    return _upload(folder, where, message, private)


def _upload(folder, where, message, private):
    message = message or f"{where.name}, vampzoo {__version__}"
    names = [CHECKSUMS, *preset_folder.verify(folder)]
    return str(hub.upload(pathlib.Path(folder), names, where, message, private))


def _configuration(model):
    """(config.json, `ModelConfig`) of a model: of the folder that it came from, or as little as is known."""
    if model.loaded_from is not None:
        return preset_folder.read_config(model.loaded_from)
    if model.model_config is None:
        raise ZooError(
            "only what vampzoo.models.create made can be pushed: a model with networks of one's own would not load again"
        )
    data = {"dataset": model.trained_on or "data that is not recorded"}
    config = {
        "vampzoo_version": __version__,
        "model": dataclasses.asdict(model.model_config),
        "data": data,
        "training": {},
    }
    return config, model.model_config
