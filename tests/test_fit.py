"""`compile` and `fit`: the ELBO is all that they train, and as well as the programs do."""

import child_runs
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_run

from vampzoo import callbacks, config, models, optimizers, priors, random, training, zoo
from vampzoo.errors import InvalidValue

DATA = tiny_run.dataset()


def create(seed=0, **changes):
    return models.create(tiny_run.model_config(**changes), seed)


def fit(model, epochs=1, data=DATA.train, compiled=None, **how):
    if compiled is not None or not model.compiled:
        model.compile(keras.optimizers.Adam(1e-2), jit_compile=False, **(compiled or {}))
    how = {"batch_size": 8, "verbose": 0, **how}
    return model.fit(data, epochs=epochs, **how).history


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ({"loss": "mse"}, "loss='mse'"),
        ({"metrics": ["mae"]}, "metrics="),
        ({"loss_weights": [1.0]}, "loss_weights="),
        ({"weighted_metrics": ["mae"]}, "weighted_metrics="),
    ],
)
def test_a_loss_is_refused(how, name):
    model = create()
    with pytest.raises(InvalidValue, match=rf"{name}.* cannot be given: .*model.compile\(optimizer\)"):
        model.compile("adam", **how)
    with pytest.raises(InvalidValue, match="cannot be given"):
        model.compile("adam", "mse")
    with pytest.raises(InvalidValue, match=r"call model.compile\(optimizer\) first"):
        model.fit(DATA.train)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"objective": "vae"}, "the valid values are: elbo, iwae"),
        ({"num_samples": 0}, "num_samples must be an integer of at least 1"),
        ({"num_samples": 2.5}, "num_samples must be an integer of at least 1"),
        ({"seed": None}, "seed must be an integer"),
    ],
)
def test_arguments_of_compile(how, message):
    with pytest.raises(InvalidValue, match=message):
        create().compile("adam", **how)
    with pytest.raises(InvalidValue, match="dynamic=True is for the likelihood bernoulli"):
        create(likelihood="discretized_logistic").compile("adam", dynamic=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((DATA.train, DATA.train), "fit.x., without targets"),
        ((tf.data.Dataset.from_tensors({"image": DATA.train}),), r'example\["image"\]'),
        ((DATA.train * 255,), r"divide those from 0 to 255 by 255"),
        ((np.full_like(DATA.train, np.nan),), r"hold no NaN"),
        ((DATA.train * 0.5,), r"dynamic=True.* the likelihood discretized_logistic models greys$"),
        ((DATA.train[:, :3],), r"images must have shape \[B, 5, 4, 1\], got"),
    ],
    ids=("targets", "dictionary", "255", "nan", "grey", "shape"),
)
def test_data_that_are_not_its_images_are_refused(arguments, message):
    model = create()
    model.compile("adam", jit_compile=False)
    before = tiny_run.weights(model)
    with pytest.raises(InvalidValue, match=message):
        model.fit(*arguments, verbose=0)
    for a, b in zip(before, tiny_run.weights(model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_shape_is_refused_after_a_good_fit_too():
    model = create()
    model.compile("adam", jit_compile=False)
    model.fit(DATA.train, verbose=0)
    with pytest.raises(InvalidValue, match=r"images must have shape \[B, 5, 4, 1\], and these have another"):
        model.fit(DATA.train[:, :3], verbose=0)


@pytest.mark.parametrize(("model", "how"), [("vae", {}), ("hvae", {"objective": "dreg", "num_samples": 3})])
def test_what_is_reported(model, how):
    model = create(model=model)
    history = fit(model, 2, compiled=how, validation_data=DATA.validation)
    names = {"loss", "elbo", "distortion", "rate"} | ({"importance_bound"} if how else set())
    names |= {f"rate_{name}" for name in model.latent_sizes} if len(model.latent_sizes) > 1 else set()
    assert set(history) == names | {f"val_{name}" for name in names}
    np.testing.assert_allclose(history["elbo"], -np.add(history["distortion"], history["rate"]), rtol=1e-5)
    bound = "val_importance_bound" if how else "val_elbo"
    np.testing.assert_allclose(history["val_loss"], np.negative(history[bound]), rtol=1e-5)
    assert model.beta.numpy() == 1


def test_a_partial_last_batch_has_samples_of_every_layer():
    model = create(model="topdown_hvae")
    model.compile(keras.optimizers.SGD(0.0), objective="iwae", num_samples=3, seed=3, jit_compile=False)
    images = DATA.train[:7]
    model.fit(images, batch_size=3, epochs=1, verbose=0)


def test_the_reported_elbo_is_the_models():
    model = create(model="hvae")
    model.compile(keras.optimizers.SGD(0.0), seed=3, jit_compile=False)
    reported = model.evaluate(DATA.validation, verbose=0, return_dict=True)
    assert reported == model.evaluate(DATA.validation, verbose=0, return_dict=True)
    elbos = [model.elbo(DATA.validation, seed).mean() for seed in range(30)]
    assert abs(reported["elbo"] - np.mean(elbos)) < 4 * np.std(elbos)


def test_the_seed_decides_the_draws():
    def trained(seed, **how):
        model = create()
        fit(model, 2, compiled={"seed": seed, **how}, shuffle=False)
        return np.concatenate([w.ravel() for w in tiny_run.weights(model)])

    first = trained(1)
    np.testing.assert_array_equal(first, trained(1))
    np.testing.assert_allclose(first, trained(1, steps_per_execution=3), atol=1e-5)
    assert np.abs(first - trained(2)).max() > 1e-4


def test_a_step_on_two_devices_is_the_mean_of_both_halves():
    weights, expected = child_runs.call(child_runs.fit_on_two_replicas)
    for actual, desired in zip(weights, expected, strict=True):
        np.testing.assert_allclose(actual, desired, rtol=1e-4, atol=1e-5)


def test_batch_normalisation_on_two_devices_is_refused():
    message = child_runs.call(child_runs.fit_of_batch_normalisation_on_two_replicas)
    assert message and "vampzoo.training.Trainer" in message


def test_with_xla():
    losses = []
    for jit_compile in (True, False):
        model = create()
        model.compile("normalized_adam", jit_compile=jit_compile)
        history = model.fit(
            DATA.train[:32], batch_size=16, epochs=2, shuffle=False, verbose=0, validation_data=DATA.validation
        )
        losses.append(history.history["loss"] + history.history["val_loss"])
    assert isinstance(model.optimizer, optimizers.NormalizedAdam)
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_it_reaches_what_the_program_reaches(tmp_path):
    config = tiny_run.training_config(epochs=60, warmup_epochs=5, optimizer="adam", patience=60)
    trainer = tiny_run.trainer(tmp_path, config=config)
    trainer.fit()
    programs = [float(row["validation_elbo"]) for row in trainer.folder.read_history()]
    model = create()
    history = fit(model, 60, validation_data=DATA.validation, callbacks=[callbacks.WarmUp(5)])
    ours = history["val_elbo"]
    # One sample of each latent an image: a single epoch's value varies by some 0.3 nats.
    assert np.mean(programs[:3]) < np.mean(programs[-20:]) - 2
    assert abs(np.mean(programs[-20:]) - np.mean(ours[-20:])) < 0.5


def test_dynamic_images_are_drawn_anew():
    grey = np.full((16, *tiny_run.IMAGE_SHAPE), 0.5, np.float32)
    seen = []

    class Recording(models.VAE):
        def elbo_terms(self, x, *args, **kwargs):
            tf.py_function(lambda x: seen.append(x.numpy()), [x], [])
            return super().elbo_terms(x, *args, **kwargs)

    base = create()
    model = Recording(q_z=base.q_z_network, p_x=base.p_x_network, prior=base.prior_layer, likelihood="bernoulli")
    fit(model, 2, grey, {"dynamic": True}, batch_size=16, validation_data=grey)
    train_1, validation_1, train_2, validation_2 = seen
    assert all(set(np.unique(x)) == {0.0, 1.0} for x in seen)
    assert (train_1 != train_2).any() and (train_1 != validation_1).any()
    np.testing.assert_array_equal(validation_1, validation_2)


def test_warm_up():
    model, betas = create(), []
    recorder = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: betas.append(float(model.beta)))
    history = fit(model, 5, callbacks=[callbacks.WarmUp(4), recorder], validation_data=DATA.validation)
    np.testing.assert_allclose(betas, [0.25, 0.5, 0.75, 1, 1])
    expected = np.add(history["distortion"], np.multiply(betas, history["rate"]))
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-4)
    np.testing.assert_allclose(history["val_loss"], np.negative(history["val_elbo"]), rtol=1e-5)
    assert float(model.beta) == 1
    with pytest.raises(InvalidValue, match="at least 0"):
        callbacks.WarmUp(-1)
    other = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    other.compile("sgd", "mse")
    with pytest.raises(InvalidValue, match="a variable `beta`"):
        other.fit(np.ones((2, 1)), np.ones((2, 1)), verbose=0, callbacks=[callbacks.WarmUp(2)])


def test_an_interrupted_warm_up_leaves_beta_as_it_was():
    def stop(epoch, logs):
        raise KeyboardInterrupt

    model = create()
    with pytest.raises(KeyboardInterrupt):
        fit(model, 5, callbacks=[callbacks.WarmUp(4), keras.callbacks.LambdaCallback(on_epoch_end=stop)])
    assert float(model.beta) == 1


def test_keras_callbacks(tmp_path):
    model = create()
    keep = keras.callbacks.ModelCheckpoint(
        str(tmp_path / "best.weights.h5"),
        monitor="val_elbo",
        mode="max",
        save_best_only=True,
        save_weights_only=True,
    )
    stop = keras.callbacks.EarlyStopping("val_elbo", mode="max", patience=2, restore_best_weights=True)
    board = keras.callbacks.TensorBoard(str(tmp_path / "tensorboard"))
    history = fit(model, 40, validation_data=DATA.validation, callbacks=[keep, stop, board])
    assert 2 < len(history["val_elbo"]) <= 40
    assert list((tmp_path / "tensorboard").glob("*/*"))
    other = create(seed=1)
    other.load_weights(tmp_path / "best.weights.h5")  # of a model that was never compiled
    if len(history["val_elbo"]) < 40:  # it stopped, and restored what the other kept
        np.testing.assert_array_equal(
            model.elbo(DATA.validation, random.key(1)), other.elbo(DATA.validation, random.key(1))
        )


def test_fine_tuning_a_loaded_model_and_using_it_afterwards():
    model = zoo.load("hvae_vampprior_glyphs")
    x = (model.sample(8, seed=1) > 0.5).astype("float32")
    model.compile(keras.optimizers.Adam(1e-4), jit_compile=False)
    history = model.fit(tf.data.Dataset.from_tensor_slices(x).batch(4), epochs=1, verbose=0).history
    assert np.isfinite(history["elbo"]).all()
    assert model.predict(x, verbose=0).shape == x.shape


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        *((name, {}) for name in config.MODELS if name not in ("vae", "hvae")),  # which others fit
        ("topdown_hvae", {"decoder": "conv"}),
        ("topdown_hvae", {"decoder": "pixel"}),
        ("topdown_hvae", {"decoder": "block"}),
    ],
)
def test_every_model_fits_and_evaluates(name, fields):
    prior = "mog" if name == "deep_vae" else "vampprior"
    with tiny_run.shallow_convolutions():
        model = models.create(tiny_run.model_config(model=name, prior=prior, image_shape=(4, 4, 1), **fields), 0)
    model.compile("adam", jit_compile=False)
    x = tiny_run.dataset(image_shape=(4, 4, 1)).train[:8]
    assert np.isfinite(model.fit(x, batch_size=4, verbose=0).history["elbo"]).all()
    assert np.isfinite(model.evaluate(x, batch_size=4, verbose=0, return_dict=True)["elbo"])


# === Networks of one's own ===


def own(encoder_layers=(), regularizer=None):
    """A VAE whose encoder has these layers before its heads, with the same initial weights each time."""
    keras.utils.set_random_seed(1)
    x, z = keras.Input(tiny_run.IMAGE_SHAPE), keras.Input((2,))
    h = keras.layers.Dense(6, activation="relu", kernel_regularizer=regularizer)(keras.layers.Flatten()(x))
    for layer in encoder_layers:
        h = layer(h)
    encoder = keras.Model(x, [keras.layers.Dense(2)(h), keras.layers.Dense(2)(h)])
    decoder = keras.Model(z, keras.layers.Reshape(tiny_run.IMAGE_SHAPE)(keras.layers.Dense(20)(z)))
    prior = priors.VampPrior(3, tiny_run.IMAGE_SHAPE)
    return models.VAE(q_z=encoder, p_x=decoder, prior=prior, likelihood="bernoulli")


def test_weight_regularisers_are_in_the_loss(tmp_path):
    model = own(regularizer=keras.regularizers.L2(0.5))
    (weight,) = (v for v in model.trainable_variables if v.regularizer)
    model.compile("adam", jit_compile=False)
    result = model.evaluate(DATA.test, verbose=0, return_dict=True)
    penalty = 0.5 * np.sum(np.square(weight))
    assert result["loss"] == pytest.approx(penalty - result["elbo"], rel=1e-5) and penalty > 0.1
    before = np.sum(np.square(weight))
    fit(model, 20)
    after_fit = np.sum(np.square(weight))
    config = tiny_run.training_config()
    folder = training.RunFolder(tmp_path, training.run_config(model, config, {"fingerprint": "0"}))
    try:
        training.Trainer(model, config, DATA, folder, image_epochs=0, jit_compile=False).fit()
    finally:
        folder.close()
    assert np.sum(np.square(weight)) < 0.7 * after_fit < 0.5 * before


def test_layers_of_an_encoder_know_that_they_train():
    x, noise = tf.constant(DATA.train[:8]), {"z": tf.zeros([8, 2])}
    model = own([keras.layers.Dropout(0.9, seed=1)])
    usual, training, again = (model.elbo_terms(x, noise, training=t).rates["z"] for t in (False, True, False))
    np.testing.assert_array_equal(usual, again)
    assert not np.allclose(usual, training)
    model = own([norm := keras.layers.BatchNormalization(momentum=0.5)])
    fit(model)
    assert np.abs(norm.moving_mean).max() > 1e-3
    moving = np.array(norm.moving_mean)
    model.elbo(DATA.train[:8])
    np.testing.assert_array_equal(norm.moving_mean, moving)


@pytest.mark.parametrize("how", [{"sample_weight": np.ones(37)}, {"class_weight": {0: 1.0}}])
def test_weights_of_images_are_refused(how):
    model = create()
    model.compile("adam")
    with pytest.raises(InvalidValue, match=f"{next(iter(how))} cannot be given"):
        model.fit(DATA.train, **how)
    if "sample_weight" in how:
        with pytest.raises(InvalidValue, match="sample_weight cannot be given"):
            model.evaluate(DATA.train, None, 8, "auto", how["sample_weight"])


def test_the_channel_axis_may_come_and_go():
    model = create()
    model.compile("adam", jit_compile=False)
    values = [model.evaluate(x, verbose=0) for x in (DATA.test, DATA.test[..., 0], DATA.test)]
    np.testing.assert_allclose(values[1:], values[:2], rtol=1e-5)
    for wrong in (DATA.test[:, :3], DATA.test[..., 0, 0]):
        with pytest.raises(InvalidValue, match=r"images must have shape \[B, 5, 4, 1\]"):
            model.evaluate(wrong, verbose=0)
    np.testing.assert_allclose(model.evaluate(DATA.test, verbose=0), values[0], rtol=1e-5)
