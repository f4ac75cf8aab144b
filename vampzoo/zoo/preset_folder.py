"""Trained models by name: which presets there are, their checksums, and the way back from a folder to a model.

A preset is a folder saved_models/<model>_<prior>_<dataset>/ with `config.json`, a card `README.md`, `metrics.json`,
`train.flags`, `samples.png`, the SavedModel in `1/` and `SHA256SUMS` over all of these. It holds the weights once: `load`
reads those of the SavedModel (`vampzoo.zoo.weights`). A run folder, and a preset that an older version exported, has them
in `model.weights.h5`.
"""

import hashlib
import json
import os
import pathlib

from vampzoo import files
from vampzoo.config import ModelConfig
from vampzoo.files import CHECKSUMS, CONFIG, PSEUDO_INPUTS_BEGAN_AS_DATA, VARIABLES, WEIGHTS, WEIGHTS_MAP
from vampzoo.zoo import hub
from vampzoo.zoo.errors import ZooError

# === Where presets are ===


def zoo_owner(zoo_dir=None):
    """The owner on the hub whose presets `zoo_dir`, or else the environment's VAMPZOO_ZOO, means; None if it is a folder.

    Raises:
        ZooError: if it is an address on the hub, but not that of an owner.
    """
    place = zoo_dir or os.environ.get("VAMPZOO_ZOO")
    if not hub.is_address(place):
        return None
    address = hub.parse(place)
    if address.name is not None:
        raise ZooError(f"{place} is one preset; a zoo is a folder or the owner of many, {hub.SCHEME}{address.owner}")
    return address.owner


def zoo_folder(zoo_dir=None):
    """The folder with the presets: `zoo_dir`, else the environment's VAMPZOO_ZOO, else saved_models/ of the checkout or,
    in a wheel, the part of it that is shipped.

    Raises:
        ZooError: if it does not exist, or is on the hub.
    """
    for origin, value in (("zoo_dir", zoo_dir), ("VAMPZOO_ZOO", os.environ.get("VAMPZOO_ZOO"))):
        if value:
            if hub.is_address(value):
                raise ZooError(f"{origin}={value} is on the hub; here a folder is needed, given with zoo_dir")
            if not os.path.isdir(value):
                raise ZooError(f"{origin}={str(value)!r} is not a folder")
            return pathlib.Path(value)
    folder = files.shipped(files.SAVED_MODELS)
    if folder is None:
        raise ZooError(
            "no presets came with this installation: they are the folder saved_models/ of vampzoo's repository. Name it "
            "with zoo_dir= (in programs --zoo_dir) or in the environment variable VAMPZOO_ZOO, or give load() a path"
        )
    return folder


def names(folder):
    """The names of the presets in a folder, sorted."""
    found = (path.parent.name for path in pathlib.Path(folder).glob(f"*/{CHECKSUMS}"))
    return sorted(name for name in found if not name.startswith("."))  # an export in progress has a hidden folder


def find(name_or_path, zoo_dir=None):
    """The folder that `load` would read, and the name of what is in it.

    Args:
        name_or_path: a preset's name, or the path of a preset folder or run folder. A name that is both is refused. Or an
            address on the hub, hf://OWNER/NAME or hf://OWNER/NAME@REVISION, which is fetched into the hub's cache.
        zoo_dir: as for `zoo_folder`; or hf://OWNER, where names are then looked for, unless there is a run folder here.

    Returns:
        (`pathlib.Path`, name).

    Raises:
        ZooError: if there is no such preset and no such folder; the message lists the presets.
    """
    if hub.is_address(name_or_path):
        address = hub.parse(name_or_path)
        return hub.fetch(address), address.name
    path = pathlib.Path(name_or_path)
    is_name = os.sep not in str(name_or_path) and str(name_or_path) not in ("", ".", "..")
    problem = ambiguous = None
    if is_name and (owner := zoo_owner(zoo_dir)):
        if not (path / CONFIG).is_file():
            return find(f"{hub.SCHEME}{owner}/{name_or_path}")
    elif is_name:
        try:
            folder = zoo_folder(zoo_dir)
            if (folder / path / CHECKSUMS).is_file():
                if not (path / CONFIG).is_file() or path.samefile(folder / path):
                    return folder / path, path.name
                ambiguous = folder / path
            problem = (
                f"the presets in {folder} are: {', '.join(names(folder)) or '(none)'}. Those on a hub have addresses, "
                "hf://OWNER/NAME"
            )
        except ZooError as error:
            problem = str(error)
    if ambiguous:
        raise ZooError(
            f"{name_or_path} is the preset {ambiguous} and a folder here, too: say ./{name_or_path} for the folder, or the "
            "preset's path"
        )
    if (path / CONFIG).is_file():
        return path, path.resolve().name
    if path.is_dir():
        raise ZooError(f"{path} has no {CONFIG}: neither a preset folder nor a run folder")
    if is_name:
        raise ZooError(f"no preset is called {str(name_or_path)!r}; {problem}")
    raise ZooError(f"the folder {path} does not exist")


# === Checksums ===


def write_checksums(folder, unlisted=()):
    """Writes SHA256SUMS over all files of a folder but `unlisted`, in the form that `sha256sum --check` reads."""
    folder = pathlib.Path(folder)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != CHECKSUMS)
    names = [name for name in names if name not in unlisted]
    (folder / CHECKSUMS).write_text("".join(f"{files.sha256(folder / name)}  {name}\n" for name in names))


def verify(folder):
    """Compares the files of a preset with its SHA256SUMS.

    Returns:
        {file, relative to the folder: its SHA-256}.

    Raises:
        ZooError: naming the first file that is missing, changed or not listed though `load` reads it.
    """
    folder = pathlib.Path(folder)
    listed = {}
    try:
        lines = (folder / CHECKSUMS).read_text().splitlines()
    except ValueError as error:
        raise ZooError(f"{folder / CHECKSUMS} is damaged: {error}") from error
    for number, line in enumerate(lines, start=1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise ZooError(f"{folder / CHECKSUMS}, line {number} is not 'SHA256  FILE': {line!r}")
        path = folder / name
        if not path.is_file():
            raise ZooError(f"{path} is missing, though {CHECKSUMS} lists it")
        if files.sha256(path) != digest:
            raise ZooError(f"{path} is damaged: its SHA-256 is not the one in {CHECKSUMS}. Fetch it again")
        listed[name] = digest
    for name in (CONFIG, *_weight_files(folder)):
        if name not in listed:
            raise ZooError(f"{folder / CHECKSUMS} does not list {name}")
    return listed


# === Loading ===

MAX_REPLACEMENTS = 10  # of a preset by exports while it is loaded


def latest_version(preset):
    """The highest version number of a SavedModel in a preset folder; 0 if there is none."""
    names = (path.parent.name for path in pathlib.Path(preset).glob(f"*/{files.SAVED_MODEL}"))
    # "01" is no version's name, and its number would name another folder.
    return max((int(name) for name in names if name.isascii() and name.isdigit() and str(int(name)) == name), default=0)


def _weight_files(folder):
    """The files, relative to a preset folder, that `load` reads the weights from."""
    saved_model = folder / str(latest_version(folder))
    if not (saved_model / WEIGHTS_MAP).is_file():
        return [WEIGHTS]
    data = sorted(saved_model.glob(f"{VARIABLES}.data-*"))
    paths = [saved_model / WEIGHTS_MAP, saved_model / f"{VARIABLES}.index", *data]
    return [path.relative_to(folder).as_posix() for path in paths]


def read_config(folder):
    """The contents of config.json and the `ModelConfig` in it.

    Raises:
        ZooError: if the file is missing or no valid configuration.
    """
    path = pathlib.Path(folder) / CONFIG
    try:
        config = json.loads(path.read_text())
        if own := config["model"].get(files.OWN_MODEL):
            raise ZooError(
                f"{folder} is the run of a model of somebody's own ({own}), which {path.name} does not say how to build: "
                f"build it by the code that did, and call model.load_weights({str(path.with_name(WEIGHTS))!r})"
            )
        for section in ("data", "training"):
            if not isinstance(config.get(section, {}), dict):
                raise ValueError(f"{section} is {config[section]!r}, not an object")
        return config, ModelConfig.from_dict(config["model"])
    except ZooError:
        raise
    except FileNotFoundError:
        raise ZooError(f"{path} is missing") from None
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise ZooError(f"{path} is no valid configuration: {error!r}") from error


def shows_training_images(config):
    """Whether the pseudo-inputs of a model are training images, or began as such and so may show them still.

    Args:
        config: contents of config.json.
    """
    prior = config["model"]["prior"]
    from_data = config.get("training", {}).get("pseudo_inputs_from_data", False)
    from_data = from_data or config.get("data", {}).get(PSEUDO_INPUTS_BEGAN_AS_DATA, False)
    return prior == "vampprior_data" or (prior == "vampprior" and from_data)


def passed_on_by(start_from):
    """What config.json's data has to say because of the preset or run that a training starts from.

    Args:
        start_from: as `load` takes it, or "" for none.
    """
    if start_from and shows_training_images(read_config(find(start_from)[0])[0]):
        return {PSEUDO_INPUTS_BEGAN_AS_DATA: True}  # and may show them still
    return {}


def read_data(folder):
    """What config.json says about the data: {"dataset": ..., "fingerprint": ..., "binarization": ...}.

    Raises:
        ZooError: if it says nothing that identifies them.
    """
    data = read_config(folder)[0].get("data")
    if not isinstance(data, dict) or not all(isinstance(data.get(key), str) for key in ("dataset", "fingerprint")):
        raise ZooError(
            f"{pathlib.Path(folder) / CONFIG} does not say which data the model was trained on (data.dataset, "
            "data.fingerprint): it cannot be evaluated"
        )
    return {"binarization": None, **data}


def load(name_or_path, zoo_dir=None):
    """Builds a model and gives it its trained weights.

    The weights are read as arrays, from the checkpoint of a preset's SavedModel or from a run's file of weights: nothing is
    unpickled, and no code from the folder runs.

    Args:
        name_or_path: a preset's name; the path of a preset folder or run folder; or an address on Hugging Face's hub,
            "hf://OWNER/NAME" or, for ever the same weights, "hf://OWNER/NAME@COMMIT" (needs the extra `hub`).
        zoo_dir: the folder with the presets, or "hf://OWNER"; None: the environment's VAMPZOO_ZOO, or what came with this
            installation.

    Returns:
        A `vampzoo.models.LatentVariableModel`.

    Raises:
        ZooError: for an unknown name (lists the valid ones), a missing file, or a damaged one (names it); for a preset on
            the hub that is not in the cache if the hub cannot be reached.
    """
    folder, name = find(name_or_path, zoo_dir)
    for _ in range(MAX_REPLACEMENTS):
        before = _checksums(folder)
        try:
            model = _load(folder, name)
        except ZooError:
            if _checksums(folder) == before:
                raise
        else:
            if _checksums(folder) == before:
                return model
    raise ZooError(f"{folder} was replaced by an export again and again while it was loaded")


def _checksums(folder):
    """The text of a preset's SHA256SUMS; None if there is none, or an export is just putting another in its place."""
    try:
        return (folder / CHECKSUMS).read_bytes()
    except OSError:
        return None


def _load(folder, name):
    """`load` of a folder, from whatever is in it now: if an export replaces it meanwhile, parts may be of either."""
    listed = verify(folder) if (folder / CHECKSUMS).is_file() else {}
    config, model_config = read_config(folder)
    path = folder / _weight_files(folder)[0]
    if not path.is_file():
        raise ZooError(f"{path} is missing (a run writes it after its first epoch)")

    import numpy as np

    from vampzoo import models  # imports TensorFlow, which takes seconds: whatever can fail without it has passed
    from vampzoo.models import weights as model_weights
    from vampzoo.zoo import weights

    model = models.create(model_config)
    try:
        if path.name == WEIGHTS:
            data = path.read_bytes()  # once: what is loaded is what was hashed, though a training may replace the file
            model.weights_sha256 = hashlib.sha256(data).hexdigest()
            if listed.get(WEIGHTS, model.weights_sha256) != model.weights_sha256:
                raise ValueError("it was changed while it was read")
            model_weights.from_bytes(model, data)
        else:
            weights.read(model, folder / str(latest_version(folder)))
    except (OSError, ValueError, KeyError) as error:
        raise ZooError(f"{path} cannot be read as the weights of the model in {CONFIG}: {error}") from error
    if bad := [weight.path for weight in model.weights if not np.all(np.isfinite(weight.numpy()))]:
        raise ZooError(f"{path} holds NaN or infinite values in {', '.join(bad)}")
    if shows_training_images(config) and model.prior_layer.has_pseudo_inputs:
        model.prior_layer.began_as_data = True
    model.title = name
    model.loaded_from = folder
    model.trained_on = str(config.get("data", {}).get("dataset", "unknown data"))
    return model
