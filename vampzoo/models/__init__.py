"""The models: VAE (L = 1), HVAE, PixelHVAE and DeepVAE (L = 2), TopDownHVAE (any L); `create` builds them from a
`ModelConfig`."""

from vampzoo.config import ModelConfig
from vampzoo.models.base import LatentVariableModel
from vampzoo.models.build import create
from vampzoo.models.deep_vae import DeepVAE
from vampzoo.models.hvae import HVAE
from vampzoo.models.pixel_hvae import PixelHVAE
from vampzoo.models.pixel_topdown_hvae import PixelTopDownHVAE
from vampzoo.models.starting import start_from
from vampzoo.models.topdown_hvae import TopDownHVAE
from vampzoo.models.vae import VAE

__all__ = [
    "HVAE",
    "VAE",
    "DeepVAE",
    "LatentVariableModel",
    "ModelConfig",
    "PixelHVAE",
    "PixelTopDownHVAE",
    "TopDownHVAE",
    "create",
    "start_from",
]
