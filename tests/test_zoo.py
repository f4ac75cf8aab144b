"""Finding, verifying and loading presets and run folders."""

import json
import os
import pickle
import shutil
import threading
import time
import warnings

import h5py
import numpy as np
import pytest
import tiny_preset

import vampzoo
from vampzoo import files, models, zoo


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo") / "run"
    return folder, tiny_preset.write_run(folder)


@pytest.fixture
def preset(run, tmp_path):
    """A zoo with the preset "tiny": the files that `load` reads, and their checksums."""
    folder = tmp_path / "zoo" / "tiny"
    shutil.copytree(run[0], folder)
    zoo.write_checksums(folder)
    return folder


def same_weights(a, b):
    return all(np.array_equal(v, w) for v, w in zip(a.get_weights(), b.get_weights(), strict=True))


def test_loads_a_run_folder(run):
    folder, model = run
    loaded = vampzoo.load(folder)
    assert same_weights(loaded, model)
    assert np.array_equal(loaded.sample(3, seed=5), model.sample(3, seed=5))
    assert loaded.trained_on == "glyphs"


def test_loads_a_preset_by_name_and_by_path(run, preset, monkeypatch):
    assert vampzoo.presets(preset.parent) == ["tiny"]
    assert same_weights(vampzoo.load("tiny", zoo_dir=preset.parent), run[1])
    assert zoo.find(preset) == (preset, "tiny")
    monkeypatch.setenv("VAMPZOO_ZOO", str(preset.parent))
    assert vampzoo.presets() == ["tiny"]
    assert zoo.find("tiny") == (preset, "tiny")


def test_an_export_in_progress_is_no_preset(preset):
    shutil.copytree(preset, preset.with_name(".writing.tiny.123"))
    assert vampzoo.presets(preset.parent) == ["tiny"]


def test_unknown_name_lists_the_valid_ones(preset):
    with pytest.raises(zoo.ZooError, match=r"'tinny'.*: tiny"):
        vampzoo.load("tinny", zoo_dir=preset.parent)


def test_missing_folders(tmp_path, monkeypatch):
    with pytest.raises(zoo.ZooError, match="absent"):
        vampzoo.load(tmp_path / "absent")
    with pytest.raises(zoo.ZooError, match="neither a preset folder nor a run folder"):
        vampzoo.load(tmp_path)
    with pytest.raises(zoo.ZooError, match=r"zoo_dir=.*absent"):
        vampzoo.presets(tmp_path / "absent")
    monkeypatch.setenv("VAMPZOO_ZOO", str(tmp_path / "absent"))
    with pytest.raises(zoo.ZooError, match=r"VAMPZOO_ZOO=.*absent"):
        vampzoo.presets()


def test_installed_without_presets_says_where_they_come_from(tmp_path, monkeypatch):
    monkeypatch.delenv("VAMPZOO_ZOO", raising=False)
    monkeypatch.setattr(files, "PACKAGE", tmp_path / "site-packages" / "vampzoo")
    with pytest.raises(zoo.ZooError, match=r"saved_models/.*--zoo_dir.*VAMPZOO_ZOO"):
        vampzoo.load("hvae_vampprior_caltech101")


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "history.csv"])
def test_damaged_file_is_named(preset, name):
    data = bytearray((preset / name).read_bytes())
    data[len(data) // 2] ^= 1
    (preset / name).write_bytes(data)
    with pytest.raises(zoo.ZooError, match=rf"{name} is damaged"):
        vampzoo.load(preset)


def test_missing_and_unlisted_files_are_named(preset):
    sums = preset / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    sums.write_text("".join(line for line in lines if "model.weights.h5" not in line))
    with pytest.raises(zoo.ZooError, match=r"does not list model\.weights\.h5"):
        vampzoo.load(preset)
    sums.write_text("no checksum\n")
    with pytest.raises(zoo.ZooError, match="line 1"):
        vampzoo.load(preset)
    sums.write_text("".join(lines))
    (preset / "train.flags").unlink()
    with pytest.raises(zoo.ZooError, match=r"train\.flags is missing"):
        vampzoo.load(preset)


@pytest.fixture
def copied_run(run, tmp_path):
    return shutil.copytree(run[0], tmp_path / "run")


def test_run_folder_without_or_with_broken_weights(copied_run):
    weights = copied_run / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(zoo.ZooError, match=r"model\.weights\.h5 cannot be read"):
        vampzoo.load(copied_run)
    weights.unlink()
    with pytest.raises(zoo.ZooError, match=r"model\.weights\.h5 is missing"):
        vampzoo.load(copied_run)


def test_weights_that_lack_what_the_model_has_are_refused(copied_run, monkeypatch):
    """Keras only warns of a container that the file lacks, and leaves its layers as they were initialised."""
    container = property(lambda model: [model.p_x_network])
    monkeypatch.setattr(models.LatentVariableModel, "a_container", container, raising=False)
    with pytest.raises(zoo.ZooError, match=r"model\.weights\.h5 cannot be read .*a_container"):
        vampzoo.load(copied_run)


def test_loading_in_threads_leaves_the_filters_of_warnings(copied_run):
    def load():
        for _ in range(3):
            vampzoo.load(copied_run)

    before = list(warnings.filters)
    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert ("error", None, UserWarning, None, 0) not in warnings.filters
        time.sleep(0.001)
    assert warnings.filters == before


def test_nan_weights_are_refused(copied_run):
    def poison(name, item):
        if isinstance(item, h5py.Dataset) and item.shape == (5, 8, 8, 1):
            item[0] = np.nan

    with h5py.File(copied_run / "model.weights.h5", "r+") as file:
        file.visititems(poison)
    with pytest.raises(zoo.ZooError, match=r"NaN or infinite values in .*pseudo_inputs"):
        vampzoo.load(copied_run)


@pytest.mark.filterwarnings("error::UserWarning")
def test_weights_of_another_model_are_refused(copied_run):
    config = json.loads((copied_run / "config.json").read_text())
    config["model"]["hidden_units"] = 9
    (copied_run / "config.json").write_text(json.dumps(config))
    with pytest.raises(zoo.ZooError, match=r"model\.weights\.h5 cannot be read as the weights of the model"):
        vampzoo.load(copied_run)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        "[]",
        '{"model": {"depth": 3}}',
        '{"model": {"prior": "flat"}}',
        '{"model": {}, "data": null}',
        '{"model": {}, "training": 3}',
    ],
)
def test_bad_config_is_named(copied_run, text):
    (copied_run / "config.json").write_text(text)
    with pytest.raises(zoo.ZooError, match=r"config\.json is no valid configuration"):
        vampzoo.load(copied_run)


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_in_place_of_the_weights_does_not_run(copied_run, tmp_path):
    (copied_run / "model.weights.h5").write_bytes(pickle.dumps(_Bomb(str(tmp_path / "exploded"))))
    with pytest.raises(zoo.ZooError, match=r"model\.weights\.h5 cannot be read"):
        vampzoo.load(copied_run)
    assert not (tmp_path / "exploded").exists()


def test_models_show_themselves_in_a_notebook(run):
    model = vampzoo.load(run[0])
    model.trained_on = "<glyphs>"
    text = model._repr_html_()
    assert "<b>run</b>, trained on &lt;glyphs&gt;" in text
    assert "bernoulli" in text and "VampPrior" in text
    assert "data:image/png;base64,iVBOR" in text  # base64 of the PNG signature
