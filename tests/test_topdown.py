"""The top-down hierarchy: its factors, any number of layers, shared weights, and what the programs do with it."""

import dataclasses
import json

import cpp_loader
import numpy as np
import pytest
import tensorflow as tf
import tiny_preset
import tiny_run

import vampzoo
from vampzoo import evaluation, export, models, networks, priors, random
from vampzoo.config import ModelConfig
from vampzoo.models import flops
from vampzoo.training.dropout import UnitDropout

SIZES = {"model": "topdown_hvae", "layers": 3, "latent_size": 2, "state_size": 5, "layer_units": 4}


@pytest.fixture
def topdown(tiny_model):
    """A function: fields of a ModelConfig, seed -> the tiny model, of three layers unless the fields say otherwise."""
    return lambda seed=0, **fields: tiny_model(seed, **{**SIZES, **fields})


def draw(q, noise):
    """z, and log q(z) from its definition."""
    mean, log_var = q.loc.numpy().astype(np.float64), q.log_var.numpy().astype(np.float64)
    z = mean + np.exp(0.5 * log_var) * np.asarray(noise)
    return np.float32(z), log_normal(z, mean, log_var)


def log_normal(z, mean, log_var):
    return -0.5 * np.sum(np.log(2 * np.pi) + log_var + (z - mean) ** 2 / np.exp(log_var), axis=-1)


def share_of(z, weights):
    """What a layer adds to the state: affine, or where the map has twice its units one gated layer."""
    a, b = weights
    affine = z @ a + b
    return affine if affine.shape[1] == SIZES["state_size"] else affine[:, :5] / (1 + np.exp(-affine[:, 5:]))


@pytest.mark.parametrize("decoder", ["linear", "gated", "deep"])
@pytest.mark.parametrize("maps", ["linear", "gated"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_log_weight_is_the_sum_of_the_factors(topdown, binary_images, layers, shared, maps, decoder):
    model = topdown(layers=layers, shared_layers=shared, state_maps=maps, decoder=decoder)
    assert list(model.latent_sizes.items()) == [(f"z{i}", 2) for i in range(layers, 0, -1)]
    noise = model.draw_noise(7, random.key(1))
    terms = model.elbo_terms(binary_images, noise)
    z, log_q = draw(model.q_top(binary_images), noise[f"z{layers}"])
    rates = {f"z{layers}": log_q - model.prior().log_prob(z).numpy()}
    latents = [z]
    weights = [[w.numpy() for w in network.weights] for network in model.state_maps]  # A_l and a_l
    assert all(a.shape[1] == (10 if maps == "gated" else 5) for a, _ in weights)
    for layer in range(layers - 1, 0, -1):
        state = tf.constant(sum(map(share_of, latents, weights[: len(latents)])))
        z, log_q = draw(model.q_z(layer, model.q_features(binary_images), state), noise[f"z{layer}"])
        p = model.p_z(layer, state)
        rates[f"z{layer}"] = log_q - log_normal(z, p.loc.numpy(), p.log_var.numpy())
        latents.append(z)
    state = tf.constant(sum(map(share_of, latents, weights)))
    logits = np.clip(model.p_x_network(state).numpy(), -11.5129, 11.5129)
    log_p_x = np.sum(binary_images * logits - np.logaddexp(0, logits), axis=(1, 2, 3))
    assert list(terms.rates) == list(model.latent_sizes)
    for name, rate in rates.items():
        np.testing.assert_allclose(terms.rates[name], rate, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(terms.log_weight, log_p_x - sum(rates.values()), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("decoder, gated_layers", [("linear", 0), ("gated", 1), ("deep", 2)])
def test_the_decoder_has_as_many_gated_layers_as_its_name_says(topdown, decoder, gated_layers):
    layers = topdown(layers=2, decoder=decoder).p_x_network.layers
    assert sum(isinstance(layer, vampzoo.networks.GatedDense) for layer in layers) == gated_layers


def test_each_layer_hears_of_all_above_it(topdown, binary_images):
    model = topdown(layers=4)
    noise = {name: tf.Variable(t) for name, t in model.draw_noise(7, random.key(1)).items()}
    with tf.GradientTape(persistent=True) as tape:
        terms = model.elbo_terms(binary_images, noise)
    for heard in (3, 2, 1, "x"):
        target = terms.distortion if heard == "x" else terms.rates[f"z{heard}"]
        for layer in range(4, 0, -1):
            gradient = tape.gradient(target, noise[f"z{layer}"])
            above = heard == "x" or layer >= heard
            assert (gradient is not None and np.abs(gradient).max() > 0) == above


def test_rates_start_small_however_deep(topdown, binary_images):
    """At the usual weights of the heads the lowest of 18 layers starts at 1e10 nats, and training dies or takes long."""
    model = topdown(layers=18, latent_size=40, state_size=150, layer_units=150, hidden_units=300)
    terms = model.elbo_terms(binary_images, model.draw_noise(7, random.key(1)))
    assert max(np.mean(rate) for rate in terms.rates.values()) < 100


def test_heads_below_the_top_start_at_the_scale_asked_for(topdown):
    usual, small = (topdown(layer_head_scale=scale) for scale in (1.0, 0.25))
    for networks_of in (lambda m: m.q_networks, lambda m: m.p_networks):
        for network, other in zip(networks_of(usual), networks_of(small), strict=True):
            for head in ("mean", "log_var"):
                for a, b in zip(network.get_layer(head).weights, other.get_layer(head).weights, strict=True):
                    np.testing.assert_allclose(0.25 * a.numpy(), b.numpy(), rtol=1e-5)
    top = [model.q_top_network.get_layer("mean").kernel.numpy() for model in (usual, small)]
    np.testing.assert_array_equal(*top)


def test_one_layer_is_a_vae(topdown, binary_images):
    model = topdown(layers=1, prior="standard")
    vae = models.VAE(
        q_z=model.q_top_network,
        p_x=_chain(model.state_maps[0], model.p_x_network),
        prior=priors.StandardNormal(2),
        likelihood="bernoulli",
    )
    noise = model.draw_noise(7, random.key(3))
    expected = vae.elbo_terms(binary_images, {"z": noise["z1"]}).log_weight
    np.testing.assert_allclose(model.elbo_terms(binary_images, noise).log_weight, expected, rtol=1e-5)


def _chain(first, second):
    import keras

    z = keras.Input(first.input.shape[1:])
    return keras.Model(z, second(first(z)))


# === Shared weights ===


def test_shared_layers_have_the_same_variables(topdown):
    apart, shared = topdown(layers=4), topdown(layers=4, shared_layers=True)
    for name in ("q_networks", "p_networks"):
        assert len({id(network) for network in getattr(apart, name)}) == 3
        assert len(getattr(shared, name)) == 3 and len({id(network) for network in getattr(shared, name)}) == 1
    assert len({id(network) for network in shared.state_maps}) == 2  # the top's and that of the others
    u, m, s, f = 4, 2, 5, 8  # layer_units, latent_size, state_size, hidden_units
    layer = 2 * u * (f + s + 1) + 2 * m * (u + 1) + 2 * u * (s + 1) + 2 * m * (u + 1) + s * (m + 1)
    assert apart.count_params() - shared.count_params() == 2 * layer
    assert len(shared.trainable_variables) == len({id(v) for v in shared.trainable_variables})
    assert shared.count_params() == topdown(layers=9, shared_layers=True).count_params()
    assert len(UnitDropout(shared, 0.5, 0.5).layers) == len(UnitDropout(apart, 0.5, 0.5).layers) - 4


def test_operations_count_a_shared_layer_as_often_as_it_is_applied(topdown):
    for count in (lambda model: flops.training_step(model, 7), flops.importance_sample):
        assert count(topdown(layers=4)) == count(topdown(layers=4, shared_layers=True))
    u, m, s, k, d = 4, 2, 5, 6, 20
    below = s * 2 * u + 2 * u * m + s * 2 * u + 2 * u * m + m * s  # without the features' rows of q
    expected = 2 * (m * s + 3 * below + s * d) + 2 * k * 2 * m
    assert flops.importance_sample(topdown(layers=4)) == expected
    assert flops.importance_sample(topdown(layers=4, state_maps="gated")) == expected + 4 * 2 * m * s


@pytest.mark.parametrize("shared", [False, True])
def test_weights_survive_a_file(topdown, binary_images, tmp_path, shared):
    model, other = (topdown(seed, shared_layers=shared) for seed in (1, 2))
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(model.elbo(binary_images), other.elbo(binary_images))
    np.testing.assert_array_equal(model.sample(3), other.sample(3))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("decoder", ["linear", "gated", "deep"])
def test_every_weight_gets_a_gradient(topdown, binary_images, shared, decoder):
    model = topdown(shared_layers=shared, state_maps="gated" if shared else "linear", decoder=decoder, weighted=True)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(model.elbo_terms(binary_images, model.draw_noise(7, random.key(1))).log_weight)
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        assert gradient is not None and np.abs(gradient).max() > 0, variable.path


# === Drawing, encoding, decoding ===


def test_lower_layers_are_drawn_from_their_conditionals(topdown):
    model = topdown()
    z3 = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    noise = model.draw_noise(4, random.key(2))
    state = model.add_to_state(None, 3, z3)
    for layer in (2, 1):
        p = model.p_z(layer, state)
        state = model.add_to_state(state, layer, p.mean() + p.stddev() * noise[f"z{layer}"])
    np.testing.assert_allclose(model.decode(z3, noise), model.p_x(state).mean(), atol=1e-5)
    assert np.abs(model.decode(z3) - model.decode(z3, noise)).max() > 1e-3


def test_posterior_takes_means_or_draws_of_the_layers_above(topdown, binary_images):
    model = topdown()
    noise = model.draw_noise(7, random.key(2))
    features = model.q_features(binary_images)
    for given in (None, noise):
        posterior = model.posterior(binary_images, given)
        state = None
        for layer in (3, 2, 1):
            q = posterior[f"z{layer}"]
            if state is not None:
                np.testing.assert_allclose(q.loc, model.q_z(layer, features, state).loc, atol=1e-5)
            z = q.mean() if given is None else q.mean() + q.stddev() * given[f"z{layer}"]
            state = model.add_to_state(state, layer, z)
    latents = {name: q.mean() for name, q in model.posterior(binary_images).items()}
    np.testing.assert_allclose(model.reconstruct(binary_images), model.decode_posterior(latents), atol=1e-6)


def test_active_units_of_each_layer(topdown, binary_images):
    model = topdown()
    units = evaluation.active_units(model, binary_images)
    assert {name: active.shape for name, active in units.items()} == {"z3": (2,), "z2": (2,), "z1": (2,)}
    model.q_networks[1].get_layer("mean").kernel.assign(tf.zeros([4, 2]))  # of z1, whose mean is then the same for all
    assert not evaluation.active_units(model, binary_images)["z1"].any()


# === Configuration ===


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": 0}, "layers must be a positive integer, got 0"),
        ({"layers": 101}, "layers must be at most 100, got 101"),
        ({"latent_size": -1}, "latent_size must be a positive integer, got -1"),
        ({"state_size": 2.0}, "state_size must be a positive integer, got 2.0"),
        ({"layer_units": 0}, "layer_units must be a positive integer"),
        ({"layer_head_scale": 0.0}, "layer_head_scale must be positive and finite, got 0.0"),
        ({"state_maps": "deep"}, "state_maps='deep' is unknown; the valid values are: linear, gated"),
        (
            {"decoder": "dense"},
            "decoder='dense' is unknown; the valid values are: linear, gated, deep, conv, block, pixel",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bad_configuration_names_the_field(fields, message):
    with pytest.raises(ValueError) as error:
        ModelConfig(model="topdown_hvae", **fields)
    assert message in str(error.value)


def test_a_configuration_from_before_loads(tiny_config, tiny_model, binary_images):
    values = dataclasses.asdict(tiny_config(model="hvae"))
    fields = ("layers", "latent_size", "state_size", "layer_units", "layer_head_scale", "state_maps")
    fields += ("shared_layers", "decoder")
    for field in fields:
        del values[field]
    config = ModelConfig.from_dict(json.loads(json.dumps(values)))
    assert config == tiny_config(model="hvae", **{field: getattr(ModelConfig(), field) for field in fields})
    other = tiny_model(model="hvae", layers=9, latent_size=7, decoder="gated")  # of which an HVAE takes no notice
    np.testing.assert_array_equal(models.create(config).elbo(binary_images), other.elbo(binary_images))


def test_lists_that_do_not_fit(topdown):
    with pytest.raises(ValueError, match="got 3, 1, 2"):
        models.TopDownHVAE(
            q_top=networks.mlp_image_encoder((4, 5, 1), 8, 2, 0, "q_top"),
            q_features=networks.mlp_image_features((4, 5, 1), 8, 1),
            q_layers=networks.topdown_encoders(1, 8, 5, 4, 2, 2, 1.0),
            p_layers=networks.topdown_priors(2, 5, 4, 2, 3, 1.0),
            state_maps=networks.state_maps(3, 6, 2, 5, 4),
            p_x=networks.state_decoder(5, (4, 5, 1), "bernoulli", [], 5),
            prior=priors.StandardNormal(2),
            likelihood="bernoulli",
        )


@pytest.mark.parametrize("layers", [1, 2])
def test_features_are_for_the_layers_below_the_top(topdown, layers):
    networks = topdown(layers=layers).networks()
    networks["q_features"] = None if layers == 2 else networks["q_top"]
    with pytest.raises(ValueError, match="give it if there are any, and only then"):
        models.TopDownHVAE(**networks, prior=priors.StandardNormal(2), likelihood="bernoulli")


@pytest.mark.parametrize("layers", [6, 100])
def test_no_two_layers_start_alike(layers):
    model = models.create(ModelConfig(**{**SIZES, "layers": layers, "image_shape": (4, 5, 1), "hidden_units": 8}))
    kernels = [v.numpy().ravel()[:8] for v in model.trainable_variables if "kernel" in v.path and v.shape[-1] > 2]
    assert len(np.unique(np.round(kernels, 6), axis=0)) == len(kernels) >= 3 * layers - 2


# === Training and serving ===


@pytest.mark.parametrize(
    "changes",
    [{"objective": "iwae", "objective_samples": 3, "selection": "importance_bound", "selection_samples": 4}, {}],
)
def test_trains_resumes_and_loads(tmp_path, changes):
    model = tiny_run.model_config(model="topdown_hvae", shared_layers=not changes, state_maps="gated", decoder="gated")
    changes = {"ema_momentum": 0.5, "q_dropout": 0.2, "p_dropout": 0.1, **changes}
    config = tiny_run.training_config(epochs=4, **changes)
    whole = tiny_run.trainer(tmp_path / "whole", model=model, config=config)
    tiny_run.copy_when_done(whole, 2, tmp_path / "resumed")
    whole.fit()
    resumed = tiny_run.trainer(tmp_path / "resumed", model=model, config=config)
    assert len(resumed.folder.read_history()) == 2
    resumed.fit()
    for a, b in zip(tiny_run.weights(whole.model), tiny_run.weights(resumed.model), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (
        (tmp_path / "whole" / "history.csv")
        .read_text()
        .startswith("epoch,beta,elbo,distortion,rate_z3,rate_z2,rate_z1")
    )
    images = tiny_run.dataset().test
    np.testing.assert_allclose(vampzoo.load(tmp_path / "whole").elbo(images), whole.model.elbo(images), rtol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_cpp_loader_gives_the_numbers_of_python(tmp_path, shared):
    maps = "gated" if shared else "linear"
    name = "topdown_hvae_vampprior_tiny"
    model = tiny_preset.write_run(tmp_path / "run", **{**SIZES, "shared_layers": shared, "state_maps": maps})
    (tmp_path / "zoo").mkdir()
    export.export_preset(tmp_path / "run", name, tmp_path / "zoo")
    images = np.random.default_rng(0).integers(0, 2, (3, 8, 8, 1)).astype(np.float32)
    z3 = np.random.default_rng(1).normal(size=(2, 2)).astype(np.float32)
    seed = [7, 0]
    requests = [
        ("encode", {"images": images}),
        ("reconstruct", {"images": images}),
        ("decode", {"z3": z3}),
        ("sample", {"n": 4, "seed": seed}),
        ("sample_component", {"component": 2, "n": 4, "seed": seed}),
        ("elbo", {"images": images, "seed": seed}),
        ("log_likelihood", {"images": images, "num_samples": 20, "seed": seed}),
    ]
    answers = cpp_loader.run(tmp_path / "zoo" / name / "1", requests)
    np.testing.assert_array_equal(vampzoo.load(tmp_path / "zoo" / name).elbo(images), model.elbo(images))
    encoded, *others = answers
    assert set(encoded) == {f"z{i}_{what}" for i in (1, 2, 3) for what in ("mean", "scale")}
    for name, (mean, scale) in model.encode(images).items():
        np.testing.assert_allclose(encoded[f"{name}_mean"], mean, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(encoded[f"{name}_scale"], scale, rtol=1e-5, atol=1e-5)
    expected = [
        ("images", model.reconstruct(images)),
        ("images", model.decode(z3).numpy()),
        ("images", model.sample(4, seed=7)),
        ("images", model.sample(4, seed=7, component=2)),
        ("elbo", model.elbo(images, seed=7)),
        ("log_likelihood", model.log_likelihood(images, 20, seed=7, jit_compile=False)),
    ]
    for answer, (key, value) in zip(others, expected, strict=True):
        np.testing.assert_allclose(answer[key], value, rtol=1e-4, atol=1e-4, err_msg=key)
