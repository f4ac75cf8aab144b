"""The ConvHVAE in plain PyTorch, written to be fast: one convolution for both halves of a gate, channels last in memory.

Dimensions: B batch, D pixels, (H, W, C) image, h features of an encoder.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from vampzoo.peers import torch_mlp
from vampzoo.peers.torch_mlp import Gate, Gaussian, mlp


class ConvGate(nn.Conv2d):
    """(x * A + a) * sigmoid(x * B + b) with convolutions."""

    num_halves = 2

    def __init__(self, in_channels, filters, kernel_size, stride):
        super().__init__(in_channels, 2 * filters, kernel_size, stride, padding=kernel_size // 2)

    def forward(self, x):
        return F.glu(super().forward(x), dim=1)


class Images(nn.Module):
    """[B, D] -> [B, C, H, W], with channels last in memory."""

    def __init__(self, image_shape):
        super().__init__()
        self.image_shape = image_shape

    def forward(self, x):
        return x.unflatten(1, self.image_shape).permute(0, 3, 1, 2)


class Flat(nn.Module):
    """[B, C, H, W] -> [B, H W C]: vampzoo's order of features."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


def convolutions(channels, *layers):
    """Gated convolutions (filters, kernel size, stride)."""
    sizes = [channels, *(filters for filters, _, _ in layers)]
    return [ConvGate(i, *layer) for i, layer in zip(sizes, layers, strict=False)]


def encoder(image_shape, first, third):
    """x [B, D] -> features [B, h]; the two encoders differ in the sizes of two kernels."""
    layers = (32, first, 1), (32, 3, 2), (64, third, 1), (64, 3, 2), (6, 3, 1)
    return nn.Sequential(Images(image_shape), *convolutions(image_shape[-1], *layers), Flat())


class ConvHVAE(torch_mlp.HVAE):
    """The twin of vampzoo's ConvHVAE."""

    def __init__(self, config):
        torch_mlp.Twin.__init__(self, config)
        shape, units, m1, m2 = config.image_shape, config.hidden_units, config.z1_size, config.z2_size
        h = 6 * (shape[0] // 4) * (shape[1] // 4)
        self.q_z2 = Gaussian(encoder(shape, 7, 5), h, m2)
        self.q_z1_features = encoder(shape, 3, 3)
        self.q_z1_latent = Gate(m2, h)
        self.q_z1 = Gaussian(Gate(2 * h, units), units, m1)
        self.p_z1 = Gaussian(mlp(m2, units), units, m1)
        self.p_x_z1, self.p_x_z2 = Gate(m1, units), Gate(m2, units)
        self.p_x = nn.Sequential(
            Gate(2 * units, math.prod(shape)),
            Images(shape),
            *convolutions(shape[-1], *[(64, 3, 1)] * 4),
            nn.Conv2d(64, shape[-1], 1),
            Flat(),
        )
        self.latent_sizes = (m2, m1)
        self.to(memory_format=torch.channels_last)
