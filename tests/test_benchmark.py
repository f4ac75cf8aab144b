"""The benchmark's counts against closed forms, its structure at tiny sizes, and the peers' loss against ours. No times."""

import json

import child_runs
import numpy as np
import pytest
import tensorflow as tf

from vampzoo import models
from vampzoo.benchmarking import peers, speed, timing
from vampzoo.config import ModelConfig
from vampzoo.models import flops


@pytest.mark.parametrize(
    ("fields", "gflop"),
    [
        ({"model": "vae", "prior": "standard"}, 0.574),
        ({"model": "vae"}, 2.62),
        ({"model": "hvae", "prior": "standard"}, 1.27),
        ({"model": "hvae"}, 3.31),
        ({"model": "conv_hvae", "prior": "standard"}, 132.22),
        ({"model": "conv_hvae"}, 222.59),
        ({"model": "pixel_hvae"}, 185.55),  # 240 if each masked convolution computed its nine taps
    ],
)
def test_operations_of_the_papers_models(fields, gflop):
    assert flops.training_step(models.create(ModelConfig(**fields)), 100) / 1e9 == pytest.approx(gflop, abs=0.01)


def test_operations_of_a_pixel_decoder_by_hand(tiny_model):
    fields = {
        "model": "topdown_hvae",
        "prior": "standard",
        "image_shape": (8, 4, 2),
        "hidden_units": 6,
        "state_size": 5,
    }
    plain, pixel = (
        tiny_model(**fields, decoder=decoder, pixel_units=3, pixel_layers=2) for decoder in ("gated", "pixel")
    )
    blocks, window, of_block, b = 2, 7 * 12 * 2, 16 * 3, 7
    first = 2 * blocks * window * of_block
    others = 2 * blocks * of_block * (of_block + 16 * 2)
    context = 2 * 6 * blocks * 3
    assert flops.training_step(pixel, b) == flops.training_step(plain, b) + b * (3 * (others + context) + 2 * first)
    assert flops.importance_sample(pixel) == flops.importance_sample(plain) + others + context


def test_operations_of_a_block_decoder_by_hand(tiny_model):
    fields = {"model": "topdown_hvae", "prior": "standard", "image_shape": (8, 4, 2), "conv_maps": 6}
    conv, block = (
        tiny_model(**fields, decoder=decoder, pixel_units=3, pixel_layers=2) for decoder in ("conv", "block")
    )
    blocks, pixels, of_block, b = 2, 16 * 2, 16 * 3, 7
    first = 2 * blocks * pixels * of_block
    others = 2 * blocks * of_block * (of_block + pixels)
    context = 2 * blocks * 6 * of_block
    assert flops.training_step(block, b) == flops.training_step(conv, b) + b * (3 * (others + context) + 2 * first)
    assert flops.importance_sample(block) == flops.importance_sample(conv) + others + context


def test_operations_of_a_vae_by_hand(tiny_model, tiny_config):
    c = tiny_config()
    d, u, m, k, b = 20, c.hidden_units, c.z2_size, c.num_components, 7
    encoder = 2 * (d * 2 * u + u * 2 * u + 2 * u * m)
    decoder = 2 * (m * 2 * u + u * 2 * u + u * d)
    data_gradient = 2 * d * 2 * u
    standard = b * (3 * (encoder + decoder) - data_gradient)
    mixture = 3 * b * 2 * k * 2 * m
    assert flops.training_step(tiny_model(model="vae", prior="standard"), b) == standard
    assert flops.training_step(tiny_model(model="vae", prior="mog"), b) == standard + mixture
    assert flops.training_step(tiny_model(model="vae"), b) == standard + mixture + 3 * k * encoder
    fixed = 3 * k * encoder - k * data_gradient  # pseudo-inputs that are data get no gradient
    assert flops.training_step(tiny_model(model="vae", prior="vampprior_data"), b) == standard + mixture + fixed


def test_an_importance_sample_costs_what_depends_on_z():
    assert flops.importance_sample(models.create(ModelConfig(model="hvae"))) / 1e6 == pytest.approx(2.28, abs=0.01)


def test_line_recovers_a_straight_line():
    fit = timing.line([1, 2, 5], [5.0, 7.0, 13.0])
    assert fit == pytest.approx({"intercept": 3.0, "slope": 2.0, "r_squared": 1.0})


def test_interleave_calls_in_turn():
    calls = []
    seconds = timing.interleave({n: (lambda n=n: calls.append(n), 2) for n in "ab"}, rounds=3)
    assert calls == list("ab" * 4)  # one call each before the clock starts
    assert {name: values.shape for name, values in seconds.items()} == {"a": (3,), "b": (3,)}


def test_training_section(tiny_config):
    configs = [tiny_config(model="vae", prior=prior) for prior in ("standard", "vampprior")]
    result = speed.training(configs, [], batch_size=3, rounds=2, num_steps=2)
    assert set(result["models"]) == {"vae_standard", "vae_vampprior"}
    for entry in result["models"].values():
        assert entry["share_of_limit"] == pytest.approx(entry["limit_ms"] / entry["step_ms"]["median"])
        assert entry["images_per_second"] == pytest.approx(3e3 / entry["step_ms"]["median"])
        assert entry["step_ms"]["q1"] <= entry["step_ms"]["median"] <= entry["step_ms"]["q3"]
    assert set(result["vampprior_over_standard"]) == {"vae"}
    json.dumps(result)


def test_epoch_section(tiny_config):
    entry = speed.epoch([tiny_config(model="vae", num_components=3)], batch_size=500, num_epochs=3)["vae_vampprior"]
    parts = ("validation", "images", "rest")
    assert set(entry) == {f"{name}_ms" for name in ("steps", *parts)} | {f"{name}_share" for name in parts}
    assert all(value > 0 for value in entry.values())  # every lap that is counted had all of its parts
    assert entry["validation_share"] == pytest.approx(entry["validation_ms"] / entry["steps_ms"])


def test_importance_and_sampling_sections(tiny_config):
    configs = [tiny_config(model="hvae")]
    entry = speed.importance(configs, num_samples=5, rounds=1, num_images=2)["hvae_vampprior"]
    assert entry["samples_per_second"] == pytest.approx(5e3 / entry["image_ms"]["median"])
    assert entry["share_of_floor"] == pytest.approx(entry["floor_ms"] / entry["image_ms"]["median"])
    assert speed.sampling(configs, rounds=1, num_images=4)["hvae_vampprior"]["num_images"] == 4


def test_startup_in_a_child(tiny_config):
    result = speed.in_child("train", tiny_config(model="vae"), batch_size=2, num_samples=2)
    assert set(result) == {"process_s", "import_s", "build_s", "first_step_s", "peak_gib"}
    assert result["import_s"] + result["build_s"] + result["first_step_s"] <= result["process_s"]
    assert result["peak_gib"] > 0.05


# === Peers ===


@pytest.mark.parametrize("prior", ["standard", "vampprior"])
@pytest.mark.parametrize("model", ["vae", "hvae"])
def test_the_torch_twin_computes_our_loss_and_gradients(tiny_model, tiny_config, binary_images, model, prior):
    torch = pytest.importorskip("torch")
    from vampzoo.benchmarking.peers import torch_mlp, torch_twins

    ours = tiny_model(model=model, prior=prior)
    twin = torch_twins.create(tiny_config(model=model, prior=prior))
    torch_mlp.copy_weights(twin, ours)
    rng = np.random.default_rng(1)
    noise = {name: rng.normal(size=(7, size)).astype(np.float32) for name, size in ours.latent_sizes.items()}
    variables = [v.value for v in ours.trainable_variables]
    with tf.GradientTape() as tape:
        terms = ours.elbo_terms(tf.constant(binary_images), noise, training=True)
        loss = tf.reduce_mean(terms.distortion + 0.3 * terms.rate)
    gradients = tape.gradient(loss, variables)
    x = torch.from_numpy(binary_images).flatten(1)
    twin_loss = twin.loss(x, [torch.from_numpy(n) for n in noise.values()], 0.3)
    twin_loss.backward()
    assert twin_loss.item() == pytest.approx(float(loss), rel=1e-5)
    squares = sum(float(p.grad.double().square().sum()) for p in twin.parameters())
    assert squares == pytest.approx(sum(float(tf.reduce_sum(tf.square(g))) for g in gradients), rel=1e-4)


@pytest.mark.parametrize("peer", ["torch", "pythae"])
def test_a_peer_makes_the_steps_that_are_timed(tiny_config, binary_images, peer, monkeypatch):
    pytest.importorskip(peer)
    torch = pytest.importorskip("torch")
    steps = []  # of the optimiser: the norm of all weights after each
    plain = torch.optim.Adam.step

    def step(self, *args, **how):
        result = plain(self, *args, **how)
        steps.append(sum(float(p.detach().square().sum()) for g in self.param_groups for p in g["params"]))
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    run = peers.create(peer, tiny_config(model="vae"), binary_images, batch_size=3)
    run(3)
    assert len(steps) == 3 and len(set(steps)) == 3 and np.isfinite(steps).all()


def test_the_torch_twins_step_is_ours(tiny_model, tiny_config):
    """One step of the twin's optimiser moves every weight as NormalizedAdam moves ours."""
    torch = pytest.importorskip("torch")
    from vampzoo.benchmarking.peers import torch_mlp, torch_twins
    from vampzoo.optimizers import NormalizedAdam

    ours, twin = tiny_model(model="vae"), torch_twins.create(tiny_config(model="vae"))
    torch_mlp.copy_weights(twin, ours)
    # Away from zero, where the libraries differ: PyTorch adds epsilon to the bias-corrected moment, Keras to the raw one.
    rng = np.random.default_rng(0)
    gradients = [rng.choice([-1, 1], v.shape) * rng.uniform(0.5, 1.5, v.shape) for v in ours.trainable_variables]
    optimizer = NormalizedAdam(0.01)
    optimizer.build(ours.trainable_variables)
    optimizer.apply([tf.constant(g, tf.float32) for g in gradients], ours.trainable_variables)
    theirs = {id(v): g for v, g in zip(ours.trainable_variables, gradients, strict=True)}
    pairs = [(twin.pseudo_inputs, ours.prior_layer.raw_pseudo_inputs)]
    for name, module in twin.networks().items():
        pairs += zip(module.parameters(), getattr(ours, name).weights, strict=True)
    for parameter, variable in pairs:
        g = theirs[id(variable)]
        g = g.reshape(parameter.shape) if parameter is twin.pseudo_inputs else g.T
        parameter.grad = torch.from_numpy(np.ascontiguousarray(g, np.float32))
    torch_mlp.NormalizedAdam(twin, 0.01).step()
    for parameter, variable in pairs:
        value = variable.numpy()
        value = value.reshape(parameter.shape) if parameter is twin.pseudo_inputs else value.T
        np.testing.assert_allclose(parameter.detach().numpy(), value, atol=1e-6)


def test_peers_say_what_they_lack(tiny_config, binary_images):
    pytest.importorskip("torch")
    with pytest.raises(peers.Unsupported, match="twins are vae, hvae"):
        peers.create("torch", tiny_config(prior="mog"), binary_images, 2)
    pytest.importorskip("pythae")
    with pytest.raises(peers.Unsupported, match="vae with vampprior"):
        peers.create("pythae", tiny_config(), binary_images, 2)


@pytest.mark.parametrize(
    ("flag", "message"), [("--out=.", "--out . is a folder"), ("--num_samples=3000000000", "at most")]
)
def test_bad_flags_are_named_before_anything_is_measured(flag, message):
    code, out, error = child_runs.call(child_runs.run_program, "benchmark", flag, "--sections=sampling", "--models=vae")
    assert code == 1 and message in error and "==" not in out
