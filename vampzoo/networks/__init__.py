"""Networks: tensors in, tensors out. What their outputs mean is said by the models, as distributions."""

from vampzoo.networks.architectures import (
    PIXEL_WINDOW,
    block_decoder,
    block_features,
    conv_image_encoder,
    conv_image_features,
    conv_joint_decoder,
    conv_state_decoder,
    joint_encoder,
    latent_encoder,
    mlp_decoder,
    mlp_image_encoder,
    mlp_image_features,
    mlp_joint_decoder,
    pixel_cnn_decoder,
    pixel_features,
    state_decoder,
    state_maps,
    topdown_encoders,
    topdown_priors,
    window_features,
)
from vampzoo.networks.block_made import BlockMADE
from vampzoo.networks.layers import GatedConv2D, GatedDense
from vampzoo.networks.pixel_cnn import PixelCNN

__all__ = [
    "PIXEL_WINDOW",
    "BlockMADE",
    "GatedConv2D",
    "GatedDense",
    "PixelCNN",
    "block_decoder",
    "block_features",
    "conv_image_encoder",
    "conv_image_features",
    "conv_joint_decoder",
    "conv_state_decoder",
    "joint_encoder",
    "latent_encoder",
    "mlp_decoder",
    "mlp_image_encoder",
    "mlp_image_features",
    "mlp_joint_decoder",
    "pixel_cnn_decoder",
    "pixel_features",
    "state_decoder",
    "state_maps",
    "topdown_encoders",
    "topdown_priors",
    "window_features",
]
