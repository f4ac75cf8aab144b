"""The paper's networks as functional Keras models: tensors in, tensors out (distributions are made by the models).

Dimensions: B batch, D = H W C pixels, U hidden units, M1 and M2 latents. An encoder returns (mean, log-variance), a
decoder the parameters of the image likelihood. Each function takes a seed that decides the initial weights.
"""

import itertools

import keras
from keras import ops

from vampzoo.distributions import LOG_VAR_RANGE
from vampzoo.layers import GatedDense, affine


def _seeds(seed):
    """An endless supply of different layer seeds; each layer uses its seed and the next integer."""
    return itertools.count(1000 * seed, 2)


def gaussian_head(h, size, seeds):
    """Affine heads for mean and log-variance, the latter clipped hard to [-6, 2]."""
    fan_in = h.shape[-1]
    mean = affine(size, next(seeds), fan_in, name="mean")(h)  # [B, M]
    log_var = affine(size, next(seeds), fan_in, name="log_var")(h)  # [B, M]
    return [mean, ops.clip(log_var, *LOG_VAR_RANGE)]


def image_head(h, image_shape, likelihood, seeds):
    """Affine output for an image: logits, or the pair (mean before its sigmoid, log-scale) of a logistic."""
    size = image_shape[0] * image_shape[1] * image_shape[2]
    names = ("logits",) if likelihood == "bernoulli" else ("mean", "log_scale")
    outputs = [
        keras.layers.Reshape(image_shape)(affine(size, next(seeds), h.shape[-1], name=name)(h)) for name in names
    ]  # [B, H, W, C] each
    return outputs[0] if likelihood == "bernoulli" else outputs


# === Multilayer perceptrons: VAE and HVAE ===


def mlp_image_encoder(image_shape, units, size, seed, name):
    """x [B, H, W, C] -> q(z|x): gated D -> U, gated U -> U, heads."""
    seeds = _seeds(seed)
    x = keras.Input(image_shape, name="x")
    h = keras.layers.Flatten()(x)  # [B, D]
    h = GatedDense(units, seed=next(seeds))(h)
    h = GatedDense(units, seed=next(seeds))(h)
    return keras.Model(x, gaussian_head(h, size, seeds), name=name)


def mlp_image_features(image_shape, units, seed, name="q_z1_features"):
    """x [B, H, W, C] -> what q(z1|x, z2) takes of x, [B, U]: gated D -> U."""
    x = keras.Input(image_shape, name="x")
    h = GatedDense(units, seed=next(_seeds(seed)))(keras.layers.Flatten()(x))
    return keras.Model(x, h, name=name)


def joint_encoder(feature_size, z2_size, z2_units, units, size, seed, name="q_z1"):
    """(features of x [B, F], z2 [B, M2]) -> q(z1|x, z2): gated M2 -> z2_units, then both -> gated U, heads."""
    seeds = _seeds(seed)
    features = keras.Input((feature_size,), name="features")
    z2 = keras.Input((z2_size,), name="z2")
    h = GatedDense(z2_units, seed=next(seeds))(z2)
    h = GatedDense(units, seed=next(seeds))([features, h])  # [B, U]
    return keras.Model([features, z2], gaussian_head(h, size, seeds), name=name)


def latent_encoder(input_size, units, size, seed, name="p_z1"):
    """One latent layer to another, z2 [B, M2] -> p(z1|z2): gated M2 -> U, gated U -> U, heads."""
    seeds = _seeds(seed)
    z = keras.Input((input_size,), name="z")
    h = GatedDense(units, seed=next(seeds))(z)
    h = GatedDense(units, seed=next(seeds))(h)
    return keras.Model(z, gaussian_head(h, size, seeds), name=name)


def mlp_decoder(latent_size, image_shape, likelihood, units, seed, name="p_x"):
    """z [B, M] -> p(x|z): gated M -> U, gated U -> U, out U -> D."""
    seeds = _seeds(seed)
    z = keras.Input((latent_size,), name="z")
    h = GatedDense(units, seed=next(seeds))(z)
    h = GatedDense(units, seed=next(seeds))(h)
    return keras.Model(z, image_head(h, image_shape, likelihood, seeds), name=name)


def mlp_joint_decoder(z1_size, z2_size, image_shape, likelihood, units, seed, name="p_x"):
    """(z1 [B, M1], z2 [B, M2]) -> p(x|z1, z2): gated on each, both -> gated U, out U -> D."""
    seeds = _seeds(seed)
    z1, z2 = keras.Input((z1_size,), name="z1"), keras.Input((z2_size,), name="z2")
    h1 = GatedDense(units, seed=next(seeds))(z1)
    h2 = GatedDense(units, seed=next(seeds))(z2)
    h = GatedDense(units, seed=next(seeds))([h1, h2])  # [B, U]
    return keras.Model([z1, z2], image_head(h, image_shape, likelihood, seeds), name=name)
