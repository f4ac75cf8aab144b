"""`.keras` files: a model comes back as it was, or nothing is written."""

import keras
import numpy as np
import pytest

from vampzoo import models, networks, priors
from vampzoo.config import ModelConfig
from vampzoo.errors import InvalidValue
from vampzoo.training.precision import compute_dtype

SHAPE = (8, 4, 1)  # that convolutions can halve twice


def same(a, b, x):
    np.testing.assert_array_equal(a.elbo(x, seed=1), b.elbo(x, seed=1))
    np.testing.assert_array_equal(a.sample(2, seed=1), b.sample(2, seed=1))


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "vae", "prior": "standard", "likelihood": "discretized_logistic"},
        {"model": "hvae", "weighted": True},
        {"model": "deep_vae", "prior": "mog"},
        {"model": "conv_hvae", "prior": "vampprior_data"},
        {"model": "pixel_hvae"},
        {"model": "topdown_hvae", "layers": 3},
        {"model": "topdown_hvae", "decoder": "conv", "likelihood": "discretized_logistic"},
        {"model": "topdown_hvae", "decoder": "pixel"},
        {"model": "topdown_hvae", "decoder": "block"},
    ],
    ids=lambda fields: fields["model"],
)
def test_models_of_the_zoo(tiny_model, tmp_path, fields):
    model = tiny_model(image_shape=SHAPE, **fields)
    for weight in model.trainable_weights:  # none at its start, which would be made again from its seed
        weight.assign(weight + 0.01)
    x = np.random.default_rng(0).integers(0, 2, (3, *SHAPE)).astype(np.float32)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    same(model, loaded, x)
    assert type(loaded) is type(model) and loaded.model_config == model.model_config
    assert loaded.importance_chunk == model.importance_chunk
    np.testing.assert_array_equal(*(m.log_likelihood(x, 5, jit_compile=False) for m in (model, loaded)))


@pytest.mark.parametrize(
    "fields",
    [{"model": "pixel_hvae"}, *({"model": "topdown_hvae", "decoder": decoder} for decoder in ("pixel", "block"))],
)
def test_a_pixel_model_of_mixed_precision_is_loaded_under_another_policy(tmp_path, fields):
    with compute_dtype("bfloat16"):
        model = models.create(ModelConfig(**fields, image_shape=SHAPE, num_components=3, hidden_units=4))
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    x = np.random.default_rng(0).integers(0, 2, (3, *SHAPE)).astype(np.float32)
    np.testing.assert_array_equal(model.elbo(x, seed=1), loaded.elbo(x, seed=1))


def test_training_goes_on_where_it_was(tiny_model, tmp_path, binary_images):
    how = {"batch_size": 4, "shuffle": False, "verbose": 0}
    model = tiny_model(model="vae")
    model.compile(objective="iwae", num_samples=2, seed=5, jit_compile=False)
    checkpoint = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
    model.fit(binary_images, epochs=2, callbacks=[checkpoint], **how)
    loaded = keras.saving.load_model(tmp_path / "2.keras")
    for m in (model, loaded):
        m.fit(binary_images, epochs=1, **how)
    same(model, loaded, binary_images)
    assert loaded.get_compile_config()["objective"] == "iwae"


def own_networks():
    x, z = keras.Input(SHAPE), keras.Input((2,))
    h = keras.layers.Dense(8, activation="relu")(keras.layers.Flatten()(x))
    encoder = keras.Model(x, [keras.layers.Dense(2)(h), keras.layers.Dense(2)(h)])
    logits = keras.layers.Reshape(SHAPE)(keras.layers.Dense(32)(z))
    return {"q_z": encoder, "p_x": keras.Model(z, logits)}


def own_model(cls=models.VAE, **changes):
    prior = priors.VampPrior(3, SHAPE, seed=1)
    return cls(**{**own_networks(), "prior": prior, "likelihood": "bernoulli", **changes})


def test_networks_of_ones_own(tmp_path):
    model = own_model()
    model.save(tmp_path / "m.keras")
    same(model, keras.saving.load_model(tmp_path / "m.keras"), np.zeros((2, *SHAPE), np.float32))


@pytest.mark.parametrize("scaled", [True, False])
def test_whether_the_loss_is_scaled_comes_back(tmp_path, scaled):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = own_model()
        model.compile("adam", auto_scale_loss=scaled, jit_compile=False)
        model.save(tmp_path / "m.keras")
        loaded = keras.saving.load_model(tmp_path / "m.keras")
    finally:
        keras.config.set_dtype_policy(policy)
    for m in (model, loaded):
        assert isinstance(m.optimizer, keras.optimizers.LossScaleOptimizer) == scaled


def test_a_network_that_stands_twice_in_a_list_is_still_one(tmp_path):
    sizes = {"layers": 3, "layer_units": 4, "state_size": 4}
    base = models.create(
        ModelConfig(model="topdown_hvae", image_shape=SHAPE, hidden_units=4, num_components=2, **sizes)
    )
    parts = base.networks()
    parts["p_layers"] = [parts["p_layers"][0]] * 2
    model = models.TopDownHVAE(**parts, prior=base.prior_layer, likelihood="bernoulli")
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.networks()["p_layers"][0] is loaded.networks()["p_layers"][1]
    same(model, loaded, np.zeros((2, *SHAPE), np.float32))


class Unregistered(keras.layers.Layer):
    def call(self, x):
        return x


def with_an_unregistered_layer():
    x = keras.Input((2,))
    own = own_networks()["p_x"]
    return own_model(p_x=keras.Model(x, own(Unregistered()(x))))


def with_a_shared_trunk():
    x = keras.Input(SHAPE)
    features = keras.Model(x, keras.layers.Dense(4)(keras.layers.Flatten()(x)))
    q_z2 = keras.Model(x, [keras.layers.Dense(2)(features(x)), keras.layers.Dense(2)(features(x))])
    return models.HVAE(
        q_z2=q_z2,
        q_z1_features=features,
        q_z1=networks.joint_encoder(4, 2, 8, 8, 2, 0),
        p_z1=networks.latent_encoder(2, 8, 2, 0),
        p_x=networks.mlp_joint_decoder(2, 2, SHAPE, "bernoulli", 8, 0),
        prior=priors.StandardNormal(2),
        likelihood="bernoulli",
    )


def with_another_constructor():
    @keras.saving.register_keras_serializable("tests")
    class Wider(models.VAE):
        def __init__(self, width, **kwargs):
            super().__init__(**kwargs)
            self.width = width

    return own_model(lambda **kwargs: Wider(3, **kwargs))


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (with_an_unregistered_layer, "Unregistered"),
        (with_a_shared_trunk, "q_z2 and q_z1_features share the layer"),
        (with_another_constructor, "width"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_could_not_be_loaded_is_refused_before_a_file_is_touched(tmp_path, create, message):
    path = tmp_path / "m.keras"
    path.write_text("of before")
    with pytest.raises(InvalidValue, match=message):
        create().save(path)
    assert path.read_text() == "of before" and list(tmp_path.iterdir()) == [path]


def test_files_that_keras_could_not_load_are_refused(tiny_model, tmp_path):
    with pytest.raises(InvalidValue, match=r"m.h5 must end in .keras"):
        tiny_model().save(tmp_path / "m.h5")
    assert not list(tmp_path.iterdir())
