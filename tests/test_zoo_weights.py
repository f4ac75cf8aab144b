"""A preset's weights, which are read from its SavedModel: every bit of them, and nothing but arrays."""

import json
import shutil

import numpy as np
import pytest
import tiny_preset

import vampzoo
from vampzoo import models, zoo
from vampzoo.config import MODELS
from vampzoo.zoo import serving, weights


@pytest.mark.parametrize("model", MODELS)
def test_names_depend_on_the_model_alone(model):
    config = tiny_preset.config(model=model, prior="mog", weighted=True)
    first, second = (models.create(config, seed) for seed in (0, 1))
    names = weights.names(first)
    assert names == weights.names(second)
    assert len(set(names)) == len(names) == len(first.weights)
    assert {"prior_layer/0/logits", "prior_layer/1/means", "prior_layer/2/log_vars"} <= set(names)
    shapes = {name: weight.shape for name, weight in zip(names, first.weights, strict=True)}
    assert shapes == dict(zip(weights.names(second), [w.shape for w in second.weights], strict=True))


@pytest.mark.parametrize(
    "fields", [{"prior": "vampprior", "weighted": True}, {"model": "vae", "prior": "mog", "weighted": True}]
)
def test_saved_model_holds_every_bit(fields, tmp_path):
    """Also what its endpoints use in another form alone: clipped, or after a softmax."""
    model = models.create(tiny_preset.config(**fields), seed=1)
    generator = np.random.default_rng(0)
    for weight in model.weights:  # far out of every range
        weight.assign(generator.normal(size=weight.shape, scale=20.0).astype(np.float32))
    serving.export(model, tmp_path / "1", "tiny")
    other = models.create(tiny_preset.config(**fields), seed=2)
    weights.read(other, tmp_path / "1")
    for a, b in zip(model.weights, other.weights, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes(), a.path
    model.weights[-1].assign(model.weights[-1] + 1)
    with pytest.raises(ValueError, match="does not hold the weight"):
        weights.write_map(model, tmp_path / "1")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return tiny_preset.write_zoo(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def preset(exported, tmp_path):
    return shutil.copytree(exported[1] / tiny_preset.NAME, tmp_path / tiny_preset.NAME)


def test_loads_without_the_graph(exported, preset):
    (preset / "1" / "saved_model.pb").write_bytes(b"no graph")
    zoo.write_checksums(preset)
    loaded = vampzoo.load(preset)
    for a, b in zip(exported[2].weights, loaded.weights, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


def test_the_latest_version_counts(exported, preset):
    other = models.create(tiny_preset.config(), seed=7)
    serving.export(other, preset / "10", tiny_preset.NAME)
    shutil.copytree(preset / "1", preset / "9")
    zoo.write_checksums(preset)
    loaded = vampzoo.load(preset)
    np.testing.assert_array_equal(loaded.pseudo_inputs, other.pseudo_inputs)


def damage_checkpoint(folder):
    path = folder / "variables" / "variables.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:1000])


def damage_index(folder):
    (folder / "variables" / "variables.index").write_bytes(b"no index")


def rename_weight(folder):
    path = folder / "assets.extra" / "weights.json"
    path.write_text(path.read_text().replace("/pseudo_inputs", "/inputs"))


def swap_weights(folder):
    path = folder / "assets.extra" / "weights.json"
    keys = json.loads(path.read_text())
    first, second = "prior_layer/0/pseudo_inputs", "q_z2_network/0/kernel"
    path.write_text(json.dumps({**keys, first: keys[second], second: keys[first]}))


def no_map(folder):
    (folder / "assets.extra" / "weights.json").write_text("[]")


def no_strings(folder):
    path = folder / "assets.extra" / "weights.json"
    path.write_text(json.dumps({name: [] for name in json.loads(path.read_text())}))


@pytest.mark.parametrize("damage", [damage_checkpoint, damage_index, rename_weight, swap_weights, no_map, no_strings])
def test_damaged_weights_are_an_error(preset, damage):
    damage(preset / "1")
    with pytest.raises(zoo.ZooError, match="is damaged"):
        vampzoo.load(preset)
    zoo.write_checksums(preset)
    with pytest.raises(zoo.ZooError, match=r"weights\.json cannot be read as the weights of the model"):
        vampzoo.load(preset)


def test_files_of_the_weights_must_have_checksums(preset):
    sums = preset / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    for file in (
        "1/variables/variables.index",
        "1/variables/variables.data-00000-of-00001",
        "1/assets.extra/weights.json",
    ):
        sums.write_text("".join(line for line in lines if not line.endswith(f"  {file}\n")))
        with pytest.raises(zoo.ZooError, match=rf"does not list {file}"):
            vampzoo.load(preset)


def test_a_preset_without_weights_says_so(preset):
    (preset / "1" / "assets.extra" / "weights.json").unlink()
    zoo.write_checksums(preset)
    with pytest.raises(zoo.ZooError, match=r"model\.weights\.h5"):
        vampzoo.load(preset)
