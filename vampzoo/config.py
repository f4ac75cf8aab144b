"""What describes a model completely: plain data, no TensorFlow, so that programs can check flags before importing it."""

import dataclasses
import math

from vampzoo.errors import InvalidValue

MODELS = ("vae", "hvae", "conv_hvae", "pixel_hvae", "deep_vae", "topdown_hvae")
PRIORS = ("standard", "mog", "vampprior", "vampprior_data")
MODEL_TITLES = {  # how people write them
    "vae": "VAE",
    "hvae": "HVAE",
    "conv_hvae": "ConvHVAE",
    "pixel_hvae": "PixelHVAE",
    "deep_vae": "VAE, two levels",
    "topdown_hvae": "HVAE, top-down",
}
PRIOR_TITLES = {
    "standard": "standard",
    "mog": "MoG",
    "vampprior": "VampPrior",
    "vampprior_data": "VampPrior, data",
}
NUM_COMPONENTS = 500  # K in most of the paper's experiments
DECODERS = ("linear", "gated", "deep", "conv", "block", "pixel")
AUTOREGRESSIVE_DECODERS = ("block", "pixel")
_OF_DECODERS = {  # fields of `ModelConfig` that some decoders have
    "conv_maps": ("conv", "block"),
    "pixel_units": AUTOREGRESSIVE_DECODERS,
    "pixel_layers": AUTOREGRESSIVE_DECODERS,
    "block_window": ("block",),
}
STATE_MAPS = ("linear", "gated")
MAX_LAYERS = 100
MAX_WINDOW = 28
LIKELIHOODS = ("bernoulli", "discretized_logistic", "discretized_logistic_closed")


def _take_numpy_scalars(config):
    """Makes those among the values of a frozen `config` Python's: a sweep over `np.arange` is one of numbers, and JSON
    holds no others."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # told without importing NumPy
            object.__setattr__(config, field.name, value.item())


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A model's architecture; with a seed it determines the initial weights.

    Attributes:
        model: one of `MODELS`.
        prior: one of `PRIORS`; `weighted` gives a mixture trainable weights (Eq. 16).
        num_components: K of a mixture prior.
        likelihood: one of `LIKELIHOODS`.
        image_shape: (H, W, C).
        hidden_units: width of every gated dense layer; of `topdown_hvae`, of those on images and of a gated or deep decoder.
        z1_size, z2_size: latents of the lower and upper layer; `vae` has z2 alone in size, and calls it z.
        layers, latent_size: L stochastic layers of M latents each; this and the following are of `topdown_hvae` alone.
        state_size: S, what a factor hears of all latents above it.
        layer_units: width of the gated dense layers between the latents.
        layer_head_scale: the initial weights of the heads below the top, as a multiple of the usual ones.
        state_maps: one of `STATE_MAPS`: what a layer adds to the state is affine in its latents, or one gated layer of them.
        shared_layers: whether the layers below the top share their weights.
        decoder: one of `DECODERS`: p(x|state) affine, or with one gated layer, or two, or convolutional; "block" for a
            convolutional one, to the output of which is added what the pixels before a pixel in its block of 4x4 say of
            it, and "pixel" for one gated layer and what the pixels before it in and around its block say.
        conv_maps: F maps of a convolutional or block decoder.
        pixel_units, pixel_layers: F units for each pixel in each of the hidden layers of a block or pixel decoder.
        block_window: how many pixels beyond its block, above it and to either side, a pixel of a block decoder depends on
            if they come before; with 0 the blocks are independent given the latents.
        pseudo_inputs_mean, pseudo_inputs_stddev: of the normal that initialises the pseudo-inputs.

    Raises:
        InvalidValue: for a value out of range, naming the field and what is valid.
    """

    model: str = "hvae"
    prior: str = "vampprior"
    weighted: bool = False
    num_components: int = NUM_COMPONENTS
    likelihood: str = "bernoulli"
    image_shape: tuple[int, int, int] = (28, 28, 1)
    hidden_units: int = 300
    z1_size: int = 40
    z2_size: int = 40
    layers: int = 6
    latent_size: int = 40
    state_size: int = 150
    layer_units: int = 150
    layer_head_scale: float = 0.1
    state_maps: str = "linear"
    shared_layers: bool = False
    decoder: str = "linear"
    conv_maps: int = 32
    pixel_units: int = 8
    pixel_layers: int = 2
    block_window: int = 0
    pseudo_inputs_mean: float = 0.5
    pseudo_inputs_stddev: float = 0.02

    def __post_init__(self):
        _take_numpy_scalars(self)
        object.__setattr__(self, "image_shape", tuple(int(s) for s in self.image_shape))
        for field, valid in (
            ("model", MODELS),
            ("prior", PRIORS),
            ("likelihood", LIKELIHOODS),
            ("state_maps", STATE_MAPS),
            ("decoder", DECODERS),
        ):
            value = getattr(self, field)
            if value not in valid:
                raise InvalidValue(f"{field}={value!r} is unknown; the valid values are: {', '.join(valid)}")
        sizes = ("hidden_units", "z1_size", "z2_size", "layers", "latent_size", "state_size", "layer_units")
        sizes += ("conv_maps", "pixel_units", "pixel_layers")
        for field in ("num_components", *sizes):
            if not isinstance(getattr(self, field), int) or getattr(self, field) < 1:
                raise InvalidValue(f"{field} must be a positive integer, got {getattr(self, field)!r}")
        for field in ("layers", "pixel_layers"):
            if getattr(self, field) > MAX_LAYERS:
                raise InvalidValue(f"{field} must be at most {MAX_LAYERS}, got {getattr(self, field)}")
        if not isinstance(self.block_window, int) or not 0 <= self.block_window <= MAX_WINDOW:
            raise InvalidValue(f"block_window must be an integer from 0 to {MAX_WINDOW}, got {self.block_window!r}")
        if not 0 < self.layer_head_scale < math.inf:
            raise InvalidValue(f"layer_head_scale must be positive and finite, got {self.layer_head_scale}")
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise InvalidValue(f"image_shape must be (height, width, channels), got {self.image_shape}")
        if not math.isfinite(self.pseudo_inputs_mean):
            raise InvalidValue(f"pseudo_inputs_mean must be finite, got {self.pseudo_inputs_mean}")
        if not 0 <= self.pseudo_inputs_stddev < math.inf:
            raise InvalidValue(f"pseudo_inputs_stddev must be finite and not negative, got {self.pseudo_inputs_stddev}")
        if self.weighted and self.prior == "standard":
            raise InvalidValue("weighted=True needs a mixture prior: mog, vampprior or vampprior_data")
        if self.model == "deep_vae" and self.prior not in ("standard", "mog"):
            raise InvalidValue(
                f"prior={self.prior!r} needs an encoder q(z2|x), which deep_vae does not have (its z2 is inferred from z1); "
                "the valid values for it are: standard, mog"
            )

    @property
    def top_size(self):
        """Latents of the layer that has the prior."""
        return self.latent_size if self.model == "topdown_hvae" else self.z2_size

    def of_decoder(self):
        """The fields that this decoder of `topdown_hvae` has beside those of all."""
        return tuple(field for field, decoders in _OF_DECODERS.items() if self.decoder in decoders)

    def unused(self):
        """What makes no difference to this model.

        Returns:
            A dictionary from names of fields to what makes them so: "model=vae", "prior=standard".
        """
        model, prior = f"model={self.model}", f"prior={self.prior}"
        below_the_top = ("layer_units", "layer_head_scale", "shared_layers")
        of_others = [field for field in _OF_DECODERS if field not in self.of_decoder()]
        unused = {}
        if self.model == "topdown_hvae":
            unused |= dict.fromkeys(of_others, f"decoder={self.decoder}")
            unused |= dict.fromkeys(("z1_size", "z2_size"), model)
            if self.layers == 1:
                unused |= dict.fromkeys(below_the_top, "layers=1")
        else:
            topdown = (
                "layers",
                "latent_size",
                "state_size",
                "state_maps",
                "decoder",
                *_OF_DECODERS,
                *below_the_top,
            )
            unused |= dict.fromkeys(topdown, model)
            if self.model == "vae":
                unused["z1_size"] = model
        if self.prior != "vampprior":
            unused |= dict.fromkeys(("pseudo_inputs_mean", "pseudo_inputs_stddev"), prior)
        if self.prior == "standard":
            unused["num_components"] = prior
        return unused

    def least_weights(self):
        """A number of weights below that of the model: dense layers and pseudo-inputs alone, some of them."""
        pixels, units, latents = math.prod(self.image_shape), self.hidden_units, self.top_size
        per_component = pixels if self.prior.startswith("vampprior") else {"mog": 2 * latents}.get(self.prior, 0)
        if self.model == "topdown_hvae":
            layer = self.layer_units * (units + 2 * self.state_size + latents)  # of q(z_l|x, s_l) and p(z_l|s_l)
            below = min(self.layers - 1, 1) if self.shared_layers else self.layers - 1
            dense = units * (units + latents + pixels) + below * layer + self.state_size * latents
            of_block = 16 * self.pixel_units
            if self.decoder in ("conv", "block"):
                dense += self.conv_maps * (self.state_size + 18 * self.conv_maps)
            else:
                dense += units * pixels
            if self.decoder == "pixel":
                dense += units * self.pixel_units
            if self.decoder == "block":
                seen = (4 + self.block_window) * (4 + 2 * self.block_window)
                dense += (self.conv_maps + seen * self.image_shape[-1]) * of_block
            if self.decoder in AUTOREGRESSIVE_DECODERS:
                dense += (self.pixel_layers - 1) * of_block**2
        elif self.model == "pixel_hvae":
            dense = units * (latents + self.z1_size)
        else:
            lower = 0 if self.model == "vae" else self.z1_size
            ends = 2 * pixels if self.model in ("vae", "hvae", "deep_vae") else 0  # encoder's and decoder's
            dense = units * (units + latents + lower + ends)
        return self.num_components * per_component + dense

    @classmethod
    def from_dict(cls, values):
        """The inverse of `dataclasses.asdict`.

        Raises:
            InvalidValue: for an unknown or invalid field.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InvalidValue(f"unknown model settings {unknown}; the valid ones are: {', '.join(sorted(known))}")
        return cls(**values)


MAX_IMPORTANCE_SAMPLES = 2**31 - 1  # counted in int32


def check_num_samples(num_samples, name="num_samples"):
    """Raises InvalidValue, which calls it `name`, if that is no number of importance samples."""
    if not float(num_samples).is_integer():
        raise InvalidValue(f"{name} must be an integer, got {num_samples}")
    if num_samples < 1:
        raise InvalidValue(f"{name} must be at least 1, got {num_samples}")
    if num_samples > MAX_IMPORTANCE_SAMPLES:
        raise InvalidValue(f"{name} may be at most {MAX_IMPORTANCE_SAMPLES}, got {num_samples}")


OPTIMIZERS = ("normalized_adam", "adam")
OBJECTIVES = ("elbo", "iwae", "dreg")
SELECTION_TITLES = {"elbo": "ELBO", "importance_bound": "importance-weighted bound"}
SELECTIONS = tuple(SELECTION_TITLES)
MIXED_PRECISIONS = ("none", "bfloat16", "float16")
STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained: everything that decides the result, and nothing else.

    Attributes:
        epochs: the most that are run.
        warmup_epochs: over which beta rises to 1 (0: none).
        patience: epochs without a better value of what `selection` names, after `first_epochs`, until training stops.
        batch_size: examples a step, over all devices together.
        learning_rate: of the optimiser.
        learning_rate_decay_epochs: over which the learning rate falls to 0 along half a cosine; 0: it stays.
        objective: one of `OBJECTIVES`: what is maximised.
        objective_samples: k, how many samples of the latents a step draws for each image.
        one_sample_epochs: epochs at the start in which it draws one, whatever k: cheap steps first (0: none).
        selection: one of `SELECTIONS`: on what of the validation images the best weights are chosen.
        selection_samples: how many samples of the latents validation draws for each image.
        optimizer: one of `OPTIMIZERS`.
        weight_decay: decoupled decay of dense and convolution kernels, as a fraction of the learning rate a step.
        ema_momentum: of an exponential moving average of the weights, which is then what is validated and kept; 0: none.
            The statistics of batch normalisation are then estimated anew for them.
        q_dropout: probability with which a gated dense unit of the variational networks is left out of a step for an
            image; 0: none.
        p_dropout: the same of the generative networks.
        shift_pixels: by how many pixels at most a training image is moved along each side, anew at each use; 0: none is.
        shift_epochs: epochs at the start in which they are moved, before ones on the images as they are (0: all).
        pseudo_inputs_from_data: start the pseudo-inputs at training images with noise.
        start_from: preset, run folder or address of a model ("" for none): the networks that it has in common with this one
            start with its weights, and so does the prior.
        mixed_precision: one of `MIXED_PRECISIONS`: what the networks compute in. Weights, densities and the state of the
            optimiser are float32 all the same.
        seed: decides initial weights, order of the data, binarisation and noise.

    Raises:
        InvalidValue: for a value out of range, naming the field and what is valid.
    """

    epochs: int = 2000
    warmup_epochs: int = 100
    patience: int = 50
    batch_size: int = 100
    learning_rate: float = 5e-4
    learning_rate_decay_epochs: int = 0
    objective: str = "elbo"
    objective_samples: int = 1
    one_sample_epochs: int = 0
    selection: str = "elbo"
    selection_samples: int = 1
    optimizer: str = "normalized_adam"
    weight_decay: float = 0.0
    ema_momentum: float = 0.0
    q_dropout: float = 0.0
    p_dropout: float = 0.0
    shift_pixels: int = 0
    shift_epochs: int = 0
    pseudo_inputs_from_data: bool = False
    start_from: str = ""
    mixed_precision: str = "none"
    seed: int = 0

    def __post_init__(self):
        _take_numpy_scalars(self)
        least_values = {"epochs": 1, "warmup_epochs": 0, "patience": 0, "batch_size": 1, "seed": 0}
        least_values |= {"learning_rate_decay_epochs": 0, "one_sample_epochs": 0, "shift_pixels": 0, "shift_epochs": 0}
        # With one sample both bounds are the ELBO, under another name.
        least_values |= {"objective_samples": 2 if self.objective == "iwae" else 1}
        least_values |= {"selection_samples": 2 if self.selection == "importance_bound" else 1}
        users = {f"{name}_samples": f" for {name}={getattr(self, name)}" for name in ("objective", "selection")}
        for field, least in least_values.items():
            if not isinstance(getattr(self, field), int):
                raise InvalidValue(f"{field} must be an integer, got {getattr(self, field)!r}")
            if getattr(self, field) < least:
                user = users.get(field, "") if least == 2 else ""
                raise InvalidValue(f"{field} must be at least {least}{user}, got {getattr(self, field)}")
        if self.one_sample_epochs and self.objective_samples == 1:
            raise InvalidValue(
                f"one_sample_epochs={self.one_sample_epochs} needs objective_samples of at least 2, for later epochs, got 1"
            )
        if self.shift_epochs and not self.shift_pixels:
            raise InvalidValue(
                f"shift_epochs={self.shift_epochs} needs shift_pixels of at least 1, for those epochs, got 0"
            )
        if not 0 < self.learning_rate < math.inf:
            raise InvalidValue(f"learning_rate must be positive and finite, got {self.learning_rate}")
        for field, valid in (
            ("objective", OBJECTIVES),
            ("selection", SELECTIONS),
            ("optimizer", OPTIMIZERS),
            ("mixed_precision", MIXED_PRECISIONS),
        ):
            if (value := getattr(self, field)) not in valid:
                raise InvalidValue(f"{field}={value!r} is unknown; the valid values are: {', '.join(valid)}")
        if not 0 <= self.weight_decay < math.inf:
            raise InvalidValue(f"weight_decay must be at least 0 and finite, got {self.weight_decay}")
        for field in ("ema_momentum", "q_dropout", "p_dropout"):
            if not 0 <= (value := getattr(self, field)) < 1:
                raise InvalidValue(f"{field} must be in [0, 1), got {value}")

    @property
    def first_epochs(self):
        """Epochs of warm-up and of all stages before the last one, in which patience does not run."""
        return max(self.warmup_epochs, self.one_sample_epochs, self.shift_epochs)
