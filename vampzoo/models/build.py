"""From a `ModelConfig` to a model with the paper's networks."""

import itertools

from vampzoo import memory, networks, priors
from vampzoo.config import AUTOREGRESSIVE_DECODERS
from vampzoo.models.deep_vae import DeepVAE
from vampzoo.models.hvae import HVAE
from vampzoo.models.pixel_hvae import PixelHVAE
from vampzoo.models.pixel_topdown_hvae import PixelTopDownHVAE
from vampzoo.models.topdown_hvae import TopDownHVAE
from vampzoo.models.vae import VAE


def create(config, seed=0):
    """Builds the model that `config` describes; its initial weights depend on `seed` alone.

    Args:
        config: a `vampzoo.config.ModelConfig`.
        seed: integer.

    Returns:
        A `vampzoo.models.LatentVariableModel`.

    Raises:
        TooLarge: if its weights do not fit into the memory.
        InvalidValue: for images of a height or width that the model's strides or blocks do not divide (conv_hvae, pixel_hvae
            and the decoders "conv", "block" and "pixel": by 4).
    """
    of_latents = ("z1_size", "z2_size")
    if config.model == "topdown_hvae":
        of_latents = ("layers", "latent_size", "state_size", "layer_units")
        of_latents += config.of_decoder()
    fields = ("num_components", "hidden_units", *of_latents, "image_shape")
    sizes = ", ".join(f"{field}={getattr(config, field)}" for field in fields)
    memory.check(4 * config.least_weights(), f"the weights of a model with {sizes}")
    # Each network gets a seed of its own, so that changing one leaves the others' initial weights as they are.
    seeds = itertools.count(10 * seed)
    prior = create_prior(config, next(seeds))
    model = _BUILDERS[config.model](config, prior, seeds)
    model.model_config = config
    return model


def create_prior(config, seed):
    """The prior over the top layer that `config` describes."""
    common = {"num_components": config.num_components, "weighted": config.weighted, "seed": seed, "name": "prior"}
    if config.prior == "standard":
        return priors.StandardNormal(config.top_size, name="prior")
    if config.prior == "mog":
        return priors.MixtureOfGaussians(latent_size=config.top_size, **common)
    of_pseudo_inputs = {"vampprior": priors.VampPrior, "vampprior_data": priors.VampPriorData}
    return of_pseudo_inputs[config.prior](
        input_shape=config.image_shape, mean=config.pseudo_inputs_mean, stddev=config.pseudo_inputs_stddev, **common
    )


def _vae(config, prior, seeds):
    shape, units, size = config.image_shape, config.hidden_units, config.z2_size
    return VAE(
        q_z=networks.mlp_image_encoder(shape, units, size, next(seeds), name="q_z"),
        p_x=networks.mlp_decoder(size, shape, config.likelihood, units, next(seeds)),
        prior=prior,
        likelihood=config.likelihood,
    )


def _hvae(config, prior, seeds):
    shape, units, z1_size, z2_size = config.image_shape, config.hidden_units, config.z1_size, config.z2_size
    return HVAE(
        q_z2=networks.mlp_image_encoder(shape, units, z2_size, next(seeds), name="q_z2"),
        q_z1_features=networks.mlp_image_features(shape, units, next(seeds)),
        q_z1=networks.joint_encoder(units, z2_size, units, units, z1_size, next(seeds)),
        p_z1=networks.latent_encoder(z2_size, units, z1_size, next(seeds)),
        p_x=networks.mlp_joint_decoder(z1_size, z2_size, shape, config.likelihood, units, next(seeds)),
        prior=prior,
        likelihood=config.likelihood,
    )


def _conv_hvae(config, prior, seeds):
    shape, units, z1_size, z2_size = config.image_shape, config.hidden_units, config.z1_size, config.z2_size
    model = HVAE(
        **_conv_encoders(config, seeds),
        p_x=networks.conv_joint_decoder(z1_size, z2_size, shape, config.likelihood, units, next(seeds)),
        prior=prior,
        likelihood=config.likelihood,
        name="conv_hvae",
    )
    model.importance_chunk = _conv_importance_chunk(shape)
    return model


def _pixel_hvae(config, prior, seeds):
    shape = config.image_shape
    model = PixelHVAE(
        **_conv_encoders(config, seeds),
        p_x_features=networks.pixel_features(config.z1_size, config.z2_size, shape, next(seeds)),
        p_x=networks.pixel_cnn_decoder(shape, config.likelihood, next(seeds)),
        prior=prior,
        likelihood=config.likelihood,
    )
    model.importance_chunk = _conv_importance_chunk(shape)
    return model


def _conv_importance_chunk(image_shape):
    """Samples evaluated at once by decoders with many units for each pixel: 250 of 28x28 pixels."""
    return max(1, 250 * 28 * 28 // (image_shape[0] * image_shape[1]))


def _conv_encoders(config, seeds):
    """What ConvHVAE and PixelHVAE share: the convolutional q(z2|x) and q(z1|x, z2), and p(z1|z2)."""
    shape, units, z1_size, z2_size = config.image_shape, config.hidden_units, config.z1_size, config.z2_size
    q_z2 = networks.conv_image_encoder(shape, z2_size, next(seeds))
    q_z1_features = networks.conv_image_features(shape, next(seeds))
    width = q_z1_features.output.shape[-1]  # h
    return {
        "q_z2": q_z2,
        "q_z1_features": q_z1_features,
        "q_z1": networks.joint_encoder(width, z2_size, width, units, z1_size, next(seeds)),
        "p_z1": networks.latent_encoder(z2_size, units, z1_size, next(seeds)),
    }


def _deep_vae(config, prior, seeds):
    shape, units, z1_size, z2_size = config.image_shape, config.hidden_units, config.z1_size, config.z2_size
    return DeepVAE(
        q_z1=networks.mlp_image_encoder(shape, units, z1_size, next(seeds), name="q_z1"),
        q_z2=networks.latent_encoder(z1_size, units, z2_size, next(seeds), name="q_z2"),
        p_z1=networks.latent_encoder(z2_size, units, z1_size, next(seeds)),
        p_x=networks.mlp_decoder(z1_size, shape, config.likelihood, units, next(seeds)),
        prior=prior,
        likelihood=config.likelihood,
    )


def _topdown_hvae(config, prior, seeds):
    shape, units, size, state_size = config.image_shape, config.hidden_units, config.latent_size, config.state_size
    below = config.layers - 1
    # Of shared layers there is one network, which is listed once for each. The top's share of the state is not theirs.
    num = min(1, below) if config.shared_layers else below
    times = below // num if num else 1
    layer_units, scale, gated = config.layer_units, config.layer_head_scale, config.state_maps == "gated"
    q_layers = networks.topdown_encoders(num, units, state_size, layer_units, size, next(seeds), scale)
    p_layers = networks.topdown_priors(num, state_size, layer_units, size, next(seeds), scale)
    state_maps = networks.state_maps(1 + num, config.layers * size, size, state_size, next(seeds), gated)
    autoregressive = config.decoder in AUTOREGRESSIVE_DECODERS
    model = PixelTopDownHVAE if autoregressive else TopDownHVAE
    model = model(
        q_top=networks.mlp_image_encoder(shape, units, size, next(seeds), name="q_top"),
        q_features=networks.mlp_image_features(shape, units, next(seeds), name="q_features") if below else None,
        q_layers=q_layers * times,
        p_layers=p_layers * times,
        state_maps=state_maps[:1] + state_maps[1:] * times,
        **_state_decoder(config, next(seeds)),
        prior=prior,
        likelihood=config.likelihood,
    )
    if autoregressive:
        model.importance_chunk = _conv_importance_chunk(shape)
    return model


def _state_decoder(config, seed):
    """p(x|s_0) of the top-down model, as arguments of its class."""
    shape, units, state_size = config.image_shape, config.hidden_units, config.state_size
    if config.decoder in AUTOREGRESSIVE_DECODERS:
        pixel_units = config.pixel_units
        if config.decoder == "pixel":
            window = networks.PIXEL_WINDOW
            features = networks.window_features(state_size, shape, config.likelihood, units, pixel_units, seed)
        else:
            window = (config.block_window, config.block_window)
            features = networks.block_features(
                state_size, shape, config.likelihood, config.conv_maps, pixel_units, seed
            )
        return {
            "p_x_features": features,
            "p_x": networks.block_decoder(features, shape, pixel_units, config.pixel_layers, seed, window),
        }
    if config.decoder == "conv":
        return {"p_x": networks.conv_state_decoder(state_size, shape, config.likelihood, config.conv_maps, seed)}
    gated_layers = {"linear": 0, "gated": 1, "deep": 2}[config.decoder]
    return {"p_x": networks.state_decoder(state_size, shape, config.likelihood, [units] * gated_layers, seed)}


_BUILDERS = {
    "vae": _vae,
    "hvae": _hvae,
    "deep_vae": _deep_vae,
    "conv_hvae": _conv_hvae,
    "pixel_hvae": _pixel_hvae,
    "topdown_hvae": _topdown_hvae,
}
