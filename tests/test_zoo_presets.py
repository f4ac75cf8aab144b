"""The presets that are shipped in saved_models/: whole, small enough, and worth what their cards say."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf

import vampzoo
from vampzoo import datasets, evaluation, random, zoo
from vampzoo.paper import results
from vampzoo.zoo import card

try:
    PRESETS = vampzoo.presets()
except zoo.ZooError:  # run from an installation without the folder
    PRESETS = []

pytestmark = pytest.mark.skipif(not PRESETS, reason="no presets in saved_models/")


def test_the_folder_stays_under_120_mebibytes():
    files = [path for path in zoo.zoo_folder().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 120 * 2**20


def test_tables_are_in_step_with_the_presets():
    folder = zoo.zoo_folder()
    if not (folder / zoo.INDEX).is_file():
        pytest.skip("only a part of the presets is here")
    assert json.loads((folder / zoo.INDEX).read_text()) == json.loads(json.dumps(vampzoo.presets().rows()))
    assert (folder / "README.md").read_text() == vampzoo.presets().markdown()


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_whole_and_holds_no_training_images(name):
    folder = zoo.zoo_folder() / name
    zoo.verify(folder)
    listed = (folder / "SHA256SUMS").read_text()
    for file in ("README.md", "metrics.json", "train.flags", "samples.png", "1/saved_model.pb"):
        assert f"  {file}\n" in listed
    assert "model.weights.h5" not in listed  # the weights are in the SavedModel, and there alone
    config, model_config = zoo.read_config(folder)
    assert model_config.prior != "vampprior_data" and not config["training"].get("pseudo_inputs_from_data")


@pytest.mark.parametrize("name", PRESETS)
def test_the_card_says_what_the_files_say(name):
    folder = zoo.zoo_folder() / name
    config, model = zoo.read_config(folder)
    text, metrics = (folder / "README.md").read_text(), json.loads((folder / "metrics.json").read_text())
    assert text == card.render(metrics, config)
    theirs = None if model.weighted else results.result(config["data"]["dataset"], model.model, model.prior)
    assert metrics["paper"] == theirs


@pytest.mark.parametrize("name", PRESETS)
def test_the_saved_model_gives_the_numbers_of_the_weights_and_refuses_what_they_refuse(name):
    model, served = vampzoo.load(name), tf.saved_model.load(zoo.zoo_folder() / name / "1")
    elbo, seed = served.signatures["elbo"], tf.constant([3, 0])
    images = np.random.default_rng(0).integers(0, 2, (4, *model.image_shape)).astype(np.float32)
    np.testing.assert_allclose(
        elbo(images=tf.constant(images), seed=seed)["elbo"], model.elbo(images, seed=3), rtol=1e-5
    )
    if model.likelihood == "bernoulli":
        with pytest.raises(tf.errors.InvalidArgumentError, match="images must be 0 or 1"):
            elbo(images=tf.constant(images / 2), seed=seed)
    with pytest.raises(tf.errors.InvalidArgumentError, match="hold no NaN"):
        elbo(images=tf.constant(images * np.nan), seed=seed)
    # Of another shape Python's call is refused before the graph; TensorFlow Serving passes it on.
    assert b"images must have shape" in (zoo.zoo_folder() / name / "1" / "saved_model.pb").read_bytes()


@pytest.mark.parametrize("name", PRESETS)
def test_recorded_elbo_is_what_the_weights_give(name, tmp_path):
    folder = zoo.zoo_folder() / name
    config, model_config = zoo.read_config(folder)
    recorded = json.loads((folder / "metrics.json").read_text())["evaluation"]
    if config["data"]["dataset"] != "glyphs" and "VAMPZOO_MANUAL_DIR" not in os.environ:
        pytest.skip("VAMPZOO_MANUAL_DIR does not say where the data is")
    try:
        dataset = datasets.load(
            config["data"]["dataset"],
            data_dir=os.environ.get("VAMPZOO_DATA_DIR", tmp_path),
            manual_dir=os.environ.get("VAMPZOO_MANUAL_DIR"),
            likelihood=model_config.likelihood,
            binarization=config["data"].get("binarization"),
        )
    except datasets.DataError as error:
        pytest.skip(f"the data is not here: {error}")
    if dataset.fingerprint != config["data"]["fingerprint"]:
        pytest.skip(f"{config['data']['dataset']} is here with other images or splits")
    images = getattr(dataset, recorded["split"])
    model = vampzoo.load(name)
    elbo = evaluation.DatasetElbo(model, images, jit_compile=False)(random.key(recorded["seed"]))["elbo"]
    assert np.mean(elbo, dtype=np.float64) == pytest.approx(recorded["elbo"], abs=1e-2)
