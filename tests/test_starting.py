"""Training that starts with the weights of another model: what is taken, what is not, and what a resume does."""

import numpy as np
import pytest
import tiny_run

from vampzoo import models, training
from vampzoo.errors import InvalidValue
from vampzoo.zoo import preset_folder

TOPDOWN = {"model": "topdown_hvae", "image_shape": (4, 4, 1)}


def with_values(model, value):
    for weight in model.weights:
        weight.assign(np.full(weight.shape, value))
    return model


def all_equal(part, value):
    return all(np.all(np.array(weight) == value) for weight in part.weights)


def test_what_both_have_is_taken_and_nothing_else():
    model = models.create(tiny_run.model_config(**TOPDOWN, decoder="block", num_components=5), seed=0)
    other = with_values(models.create(tiny_run.model_config(**TOPDOWN, decoder="linear"), seed=1), 7.0)
    before = [np.array(w) for w in (*model.p_x_network.weights, *model.prior_layer.weights)]
    taken, left = models.start_from(model, other)
    assert set(left) == {"p_x", "p_x_features", "prior"}
    assert taken == [
        *("q_top", "q_features", "q_layers_0", "q_layers_1", "p_layers_0", "p_layers_1"),
        *("state_maps_0", "state_maps_1", "state_maps_2"),
    ]
    parts = [model.q_top_network, model.q_features, *model.q_networks, *model.p_networks, *model.state_maps]
    assert all(all_equal(part, 7.0) for part in parts)
    after = [np.array(w) for w in (*model.p_x_network.weights, *model.prior_layer.weights)]
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))


def test_a_model_of_the_same_kind_is_taken_whole():
    config = tiny_run.model_config(model="hvae", weighted=True)
    model, other = models.create(config, seed=0), models.create(config, seed=1)
    other.prior_layer.set_pseudo_inputs(np.random.default_rng(0).random((3, *tiny_run.IMAGE_SHAPE)))
    assert models.start_from(model, other)[1] == []
    pairs = zip(tiny_run.weights(model), tiny_run.weights(other), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)
    assert model.prior_layer.began_as_data  # as those of the other did


def test_layers_that_share_their_weights_do_so_afterwards():
    config = tiny_run.model_config(**TOPDOWN, shared_layers=True)
    model, other = models.create(config, seed=0), with_values(models.create(config, seed=1), 7.0)
    taken, left = models.start_from(model, other)
    assert left == [] and "q_layers_0" in taken and "q_layers_1" not in taken
    assert len({id(network) for network in model.q_networks}) == 1 and all_equal(model.q_networks[0], 7.0)


@pytest.mark.parametrize("prior", ["standard", "mog"])
def test_priors_of_another_kind_stay(prior):
    model = models.create(tiny_run.model_config(prior=prior), seed=0)
    other = with_values(models.create(tiny_run.model_config(), seed=1), 7.0)
    assert models.start_from(model, other) == (["q_z", "p_x"], [] if prior == "standard" else ["prior"])


def test_nothing_in_common_is_an_error_that_names_both():
    model = models.create(tiny_run.model_config(hidden_units=4, num_components=3), seed=0)
    other = models.create(tiny_run.model_config(hidden_units=5, num_components=4), seed=0)
    with pytest.raises(InvalidValue, match=r"no network of the model is like.*q_z, p_x, prior"):
        models.start_from(model, other)


def test_a_training_starts_there(tmp_path):
    other = models.create(tiny_run.model_config(), seed=9)
    other.prior_layer.set_pseudo_inputs(np.random.default_rng(0).random((3, *tiny_run.IMAGE_SHAPE)))
    trainer = tiny_run.trainer(tmp_path / "run", start=other)
    assert trainer.started == (["q_z", "p_x", "prior"], [])
    pairs = zip(tiny_run.weights(trainer.model), tiny_run.weights(other), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)


def test_what_starts_at_a_run_from_data_is_known_to_show_data(tmp_path):
    model, data = tiny_run.model_config(), {"dataset": "npz", "fingerprint": "0" * 64}
    for name, from_data in (("from data", True), ("from noise", False)):
        config = tiny_run.training_config(pseudo_inputs_from_data=from_data)
        training.RunFolder(tmp_path / name, training.run_config(model, config, data)).begin()
    assert preset_folder.passed_on_by("") == preset_folder.passed_on_by(str(tmp_path / "from noise")) == {}
    said = data | preset_folder.passed_on_by(str(tmp_path / "from data"))
    assert preset_folder.shows_training_images(training.run_config(model, tiny_run.training_config(), said))


def test_pseudo_inputs_from_data_are_not_those_of_the_start(tmp_path):
    other = models.create(tiny_run.model_config(), seed=9)
    other.prior_layer.set_pseudo_inputs(np.full((3, *tiny_run.IMAGE_SHAPE), 0.5))
    config = tiny_run.training_config(pseudo_inputs_from_data=True)
    trainer = tiny_run.trainer(tmp_path / "run", config=config, start=other)
    assert all(np.ptp(np.reshape(trainer.model.pseudo_inputs, (3, -1)), axis=1) > 0.5)  # images, which are not grey


def test_a_resumed_run_does_not_start_again(tmp_path):
    other = models.create(tiny_run.model_config(), seed=9)
    whole = tiny_run.trainer(tmp_path / "whole", start=other)
    tiny_run.copy_when_done(whole, 3, tmp_path / "cut")
    whole.fit()
    resumed = tiny_run.trainer(tmp_path / "cut", start=other)
    resumed.fit()
    pairs = zip(tiny_run.weights(whole.model), tiny_run.weights(resumed.model), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)
