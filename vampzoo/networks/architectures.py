"""The paper's networks as functional Keras models: tensors in, tensors out (distributions are made by the models).

Dimensions: B batch, D = H W C pixels, U hidden units, M1 and M2 latents. An encoder returns (mean, log-variance), a
decoder the parameters of the image likelihood. Each function takes a seed that decides the initial weights.
"""

import itertools
import math

import keras
from keras import ops

from vampzoo.distributions import LOG_VAR_RANGE
from vampzoo.errors import InvalidValue
from vampzoo.networks.block_made import BlockMADE, num_blocks
from vampzoo.networks.layers import GatedConv2D, GatedDense, affine, he_normal, uniform_fan_in
from vampzoo.networks.pixel_cnn import PixelCNN


def _seeds(seed):
    """An endless supply of different layer seeds; each layer uses its seed and the next integer."""
    return itertools.count(1000 * seed, 2)


def gaussian_head(h, size, seeds, scale=1.0):
    """Affine heads for mean and log-variance, the latter clipped hard to [-6, 2]; `scale` is that of the initial weights."""
    fan_in = h.shape[-1]
    mean = affine(size, next(seeds), fan_in, name="mean", scale=scale)(h)  # [B, M]
    log_var = affine(size, next(seeds), fan_in, name="log_var", scale=scale)(h)  # [B, M]
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


# === The top-down hierarchy: any number of layers, which hear of those above them through the state ===

# At the usual weights of the heads below the top (`head_scale` 1) a layer's means are wider than those above it, and what q
# and p differ by grows from layer to layer; at a tenth q(z_l|x, s_l) and p(z_l|s_l) both start near N(0, 1).


def topdown_encoders(num, feature_size, state_size, units, size, seed, head_scale):
    """`num` networks (features of x [B, F], state [B, S]) -> q(z_l|x, s_l): gated F + S -> U, heads."""
    seeds, result = _seeds(seed), []
    for i in range(num):
        features, state = keras.Input((feature_size,), name="features"), keras.Input((state_size,), name="state")
        h = GatedDense(units, seed=next(seeds))([features, state])  # [B, U]
        result.append(keras.Model([features, state], gaussian_head(h, size, seeds, head_scale), name=f"q_{i}"))
    return result


def topdown_priors(num, state_size, units, size, seed, head_scale):
    """`num` networks state [B, S] -> p(z_l|s_l): gated S -> U, heads."""
    seeds, result = _seeds(seed), []
    for i in range(num):
        state = keras.Input((state_size,), name="state")
        h = GatedDense(units, seed=next(seeds))(state)  # [B, U]
        result.append(keras.Model(state, gaussian_head(h, size, seeds, head_scale), name=f"p_{i}"))
    return result


def state_maps(num, fan_in, size, state_size, seed, gated=False):
    """`num` networks z_l [B, M] -> its share of the states below, [B, S]: affine, or one gated layer each.

    The affine ones together are one linear layer on the concatenation of the latents, `fan_in` in all, and initialised so.
    """
    seeds, result = _seeds(seed), []
    for i in range(num):
        z = keras.Input((size,), name="z")
        start = next(seeds)
        layer = GatedDense(state_size, seed=start) if gated else affine(state_size, start, fan_in, name="share")
        result.append(keras.Model(z, layer(z), name=f"state_{i}"))
    return result


def state_decoder(state_size, image_shape, likelihood, units, seed, name="p_x"):
    """state [B, S] -> p(x|s_0): a gated layer for each width U in `units`, none for an affine p(x|s_0), then out U -> D."""
    seeds = _seeds(seed)
    state = keras.Input((state_size,), name="state")
    h = state
    for width in units:
        h = GatedDense(width, seed=next(seeds))(h)  # [B, U]
    return keras.Model(state, image_head(h, image_shape, likelihood, seeds), name=name)


_PATCH = 4  # side of what one place of the maps below becomes


def conv_state_decoder(state_size, image_shape, likelihood, maps, seed, name="p_x"):
    """state [B, S] -> p(x|s_0): gated S -> F maps of H/4 x W/4, two residual 3x3 convolutions, 3x3 out to 4x4 pixels each.

    All convolutions are at a quarter of the image's sides, where a CPU does them as fast as dense layers. ELU, not gates.

    Raises:
        InvalidValue: if 4 does not divide the image's height and width.
    """
    seeds = _seeds(seed)
    state = keras.Input((state_size,), name="state")
    h = _state_to_maps(state, image_shape, maps, seeds)  # [B, H / 4, W / 4, F]
    outputs = _maps_to_image(h, image_shape, likelihood, seeds)
    return keras.Model(state, outputs[0] if len(outputs) == 1 else outputs, name=name)


def _state_to_maps(state, image_shape, maps, seeds):
    """What `conv_state_decoder` makes of the state [B, S] before its output: [B, H / 4, W / 4, F]."""
    height, width, _ = image_shape
    if height % _PATCH or width % _PATCH:
        raise InvalidValue(
            f"the convolutional decoders make patches of {_PATCH}x{_PATCH} pixels: height and width must be divisible by "
            f"{_PATCH}, got {height}x{width}; pad the images, or use another decoder"
        )
    rows, columns = height // _PATCH, width // _PATCH
    h = GatedDense(rows * columns * maps, seed=next(seeds))(state)
    h = keras.layers.Reshape((rows, columns, maps))(h)
    for i in range(2):
        h = h + keras.layers.Activation("elu")(_convolution(maps, maps, next(seeds), name=f"residual_{i}")(h))
    return h


def _maps_to_image(h, image_shape, likelihood, seeds):
    """Maps [B, H / 4, W / 4, F] -> a list of the parameters of the image likelihood, [B, H, W, C] each."""
    rows, columns, maps = h.shape[1:]
    channels, outputs = image_shape[-1], []
    for parameter in ("logits",) if likelihood == "bernoulli" else ("mean", "log_scale"):
        patches = _convolution(_PATCH**2 * channels, maps, next(seeds), name=parameter)(h)  # [B, H / 4, W / 4, 16 C]
        patches = keras.layers.Reshape((rows, columns, _PATCH, _PATCH, channels))(patches)
        pixels = keras.layers.Permute((1, 3, 2, 4, 5))(patches)  # [B, H / 4, 4, W / 4, 4, C]
        outputs.append(keras.layers.Reshape(image_shape)(pixels))
    return outputs


def _convolution(filters, fan_in_maps, seed, name, kernel_size=3):
    """A convolution of the size of its input, initialised as dense layers are."""
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        padding="same",
        kernel_initializer=he_normal(seed),
        bias_initializer=uniform_fan_in(kernel_size**2 * fan_in_maps, seed + 1),
        name=name,
    )


PIXEL_WINDOW = (3, 4)  # rows above a block and columns beside it that the decoder "pixel" sees


def window_features(state_size, image_shape, likelihood, units, pixel_units, seed, name="p_x_features"):
    """state [B, S] -> what a `BlockMADE` with one context for a block takes of the latents: gated S -> U, then out.

    Its outputs are the context of each block [B, N, F] and the parameters that the latents alone give, as of `image_head`.
    """
    blocks = num_blocks(image_shape)
    seeds = _seeds(seed)
    state = keras.Input((state_size,), name="state")
    h = GatedDense(units, seed=next(seeds))(state)  # [B, U]
    parameters = image_head(h, image_shape, likelihood, seeds)
    context = affine(blocks * pixel_units, next(seeds), units, name="context", scale=0.5)(h)
    context = keras.layers.Reshape((blocks, pixel_units))(context)  # [B, N, F]
    return keras.Model(state, [context, *(parameters if isinstance(parameters, list) else [parameters])], name=name)


def block_features(state_size, image_shape, likelihood, maps, pixel_units, seed, name="p_x_features"):
    """state [B, S] -> what a `BlockMADE` with a context for each pixel takes: the maps of `conv_state_decoder`, then out.

    Its outputs are the context of each block [B, N, P F], by a 1x1 convolution of the maps, and what `conv_state_decoder`
    gives.
    """
    seeds = _seeds(seed)
    state = keras.Input((state_size,), name="state")
    h = _state_to_maps(state, image_shape, maps, seeds)  # [B, H / 4, W / 4, maps]
    parameters = _maps_to_image(h, image_shape, likelihood, seeds)
    context = _convolution(_PATCH**2 * pixel_units, maps, next(seeds), name="context", kernel_size=1)(h)
    context = keras.layers.Reshape((num_blocks(image_shape), _PATCH**2 * pixel_units))(context)  # [B, N, P F]
    return keras.Model(state, [context, *parameters], name=name)


def block_decoder(features, image_shape, pixel_units, depth, seed, window, name="p_x"):
    """(x [B, H, W, C], the outputs of the network `features`) -> p(x|s_0): a `BlockMADE`."""
    channels, seeds = image_shape[-1], itertools.count(1000 * seed + 500, 2)
    context_each = features.outputs[0].shape[-1] != pixel_units
    network = BlockMADE(pixel_units, depth, channels, seeds, window, context_each, name=name)
    network.build([(None, *image_shape), *(output.shape for output in features.outputs)])
    return network


# === Convolutions: ConvHVAE and PixelHVAE ===

# (filters, kernel size, stride, padding) of gated convolutions; the last one's 6 maps of H/4 x W/4 are the features.
_Q_Z2_CONVOLUTIONS = ((32, 7, 1, 3), (32, 3, 2, 1), (64, 5, 1, 2), (64, 3, 2, 1), (6, 3, 1, 1))
_Q_Z1_CONVOLUTIONS = ((32, 3, 1, 1), (32, 3, 2, 1), (64, 3, 1, 1), (64, 3, 2, 1), (6, 3, 1, 1))
_P_X_CONVOLUTIONS = ((64, 3, 1, 1),) * 4
_PIXEL_CNN_FILTERS = 64


def _convolve(h, convolutions, seeds):
    for filters, kernel_size, strides, padding in convolutions:
        h = GatedConv2D(filters, kernel_size, strides, padding, seed=next(seeds))(h)
    return h


def _image_input(image_shape):
    """The input of the convolutional encoders.

    Raises:
        InvalidValue: if the two strides of 2 do not divide the image's size.
    """
    height, width, _ = image_shape
    if height % 4 or width % 4:
        raise InvalidValue(
            f"the convolutional encoders halve the image twice: height and width must be divisible by 4, got "
            f"{height}x{width}; pad the images, or use vae or hvae"
        )
    return keras.Input(image_shape, name="x")


def conv_image_encoder(image_shape, size, seed, name="q_z2"):
    """x [B, H, W, C] -> q(z2|x): five gated convolutions, heads on 6 maps of H/4 x W/4.

    With a VampPrior this network also sees the K pseudo-inputs in every training step: most of what the prior costs.
    """
    seeds = _seeds(seed)
    x = _image_input(image_shape)
    h = keras.layers.Flatten()(_convolve(x, _Q_Z2_CONVOLUTIONS, seeds))  # [B, 6 H W / 16]
    return keras.Model(x, gaussian_head(h, size, seeds), name=name)


def conv_image_features(image_shape, seed, name="q_z1_features"):
    """x [B, H, W, C] -> what q(z1|x, z2) takes of x, [B, 6 H W / 16]: five gated convolutions."""
    x = _image_input(image_shape)
    return keras.Model(x, keras.layers.Flatten()(_convolve(x, _Q_Z1_CONVOLUTIONS, _seeds(seed))), name=name)


def conv_joint_decoder(z1_size, z2_size, image_shape, likelihood, units, seed, name="p_x"):
    """(z1 [B, M1], z2 [B, M2]) -> p(x|z1, z2): gated on each, both -> gated D, four gated 3x3 convolutions, 1x1 out."""
    seeds = _seeds(seed)
    z1, z2 = keras.Input((z1_size,), name="z1"), keras.Input((z2_size,), name="z2")
    h1 = GatedDense(units, seed=next(seeds))(z1)
    h2 = GatedDense(units, seed=next(seeds))(z2)
    h = GatedDense(math.prod(image_shape), seed=next(seeds))([h1, h2])  # [B, D]
    h = _convolve(keras.layers.Reshape(image_shape)(h), _P_X_CONVOLUTIONS, seeds)  # [B, H, W, 64]
    outputs = [head(h) for head in pointwise_heads(image_shape[-1], h.shape[-1], likelihood, seeds)]  # [B, H, W, C]
    return keras.Model([z1, z2], outputs[0] if len(outputs) == 1 else outputs, name=name)


def pointwise_heads(channels, fan_in, likelihood, seeds):
    """As `image_head`, 1x1 convolutions [B, H, W, F] -> [B, H, W, C]: a list of layers, one for each parameter."""
    names = ("logits",) if likelihood == "bernoulli" else ("mean", "log_scale")
    return [
        keras.layers.Conv2D(
            channels,
            1,
            kernel_initializer=uniform_fan_in(fan_in, seed),
            bias_initializer=uniform_fan_in(fan_in, seed + 1),
            name=name,
        )
        for name, seed in zip(names, seeds, strict=False)
    ]


def pixel_features(z1_size, z2_size, image_shape, seed, name="p_x_features"):
    """(z1 [B, M1], z2 [B, M2]) -> what a PixelCNN takes of the latents, [B, H, W, 64].

    Gated M -> D for each latent, a C-channel map each, then an unmasked 3x3 convolution. In the paper's code that
    convolution is masked together with the one of x, and the maps are hidden at the current and later pixels.
    """
    seeds = _seeds(seed)
    z1, z2 = keras.Input((z1_size,), name="z1"), keras.Input((z2_size,), name="z2")
    maps = [
        keras.layers.Reshape(image_shape)(GatedDense(math.prod(image_shape), seed=next(seeds))(z)) for z in (z1, z2)
    ]
    convolution = keras.layers.Conv2D(
        _PIXEL_CNN_FILTERS,
        3,
        padding="same",
        use_bias=False,
        kernel_initializer=uniform_fan_in(_pixel_cnn_fan_in(image_shape), next(seeds)),
        name="features",
    )
    return keras.Model([z1, z2], convolution(keras.layers.Concatenate()(maps)), name=name)


def pixel_cnn_decoder(image_shape, likelihood, seed, name="p_x"):
    """(x [B, H, W, C], features [B, H, W, 64]) -> p(x|z1, z2): mask A, 7 times mask B, 1x1 out; a `PixelCNN`."""
    seeds = _seeds(seed)
    heads = pointwise_heads(image_shape[-1], _PIXEL_CNN_FILTERS, likelihood, seeds)
    network = PixelCNN(_PIXEL_CNN_FILTERS, 8, _pixel_cnn_fan_in(image_shape), heads, seeds, name=name)
    network.build([(None, *image_shape), (None, *image_shape[:2], _PIXEL_CNN_FILTERS)])
    return network


def _pixel_cnn_fan_in(image_shape):
    """Of the 3x3 kernel on x and both maps, which is one in the paper's code and two here."""
    return 9 * 3 * image_shape[-1]
