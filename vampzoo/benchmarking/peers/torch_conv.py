"""ConvHVAE and PixelHVAE in plain PyTorch, written to be fast: one convolution for both halves of a gate, a causal one
of six taps in place of a masked 3x3 one, channels last in memory.

Dimensions: B batch, D pixels, (H, W, C) image, h features of an encoder.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from vampzoo.benchmarking.peers import torch_mlp
from vampzoo.benchmarking.peers.torch_mlp import Gate, Gaussian, mlp


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


class CausalConv(nn.Module):
    """A masked 3x3 convolution without bias that consists of the taps the mask keeps: vampzoo's `CausalConv2D`."""

    def __init__(self, in_channels, filters, centre):
        super().__init__()
        self.taps = nn.Parameter(torch.empty(filters, in_channels, 5 if centre else 4))  # [O, I, T]
        nn.init.kaiming_uniform_(self.taps, a=math.sqrt(5))

    def forward(self, x):
        kernel = F.pad(self.taps, (0, 6 - self.taps.shape[2])).unflatten(2, (2, 3))  # [O, I, 2, 3]
        return F.conv2d(F.pad(x, (1, 1, 1, 0)), kernel)


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
        self.create_decoder(config)
        self.latent_sizes = (m2, m1)
        self.to(memory_format=torch.channels_last)

    def create_decoder(self, config):
        """Makes the modules of p(x|z1, z2)."""
        shape, units = config.image_shape, config.hidden_units
        self.p_x_z1, self.p_x_z2 = Gate(config.z1_size, units), Gate(config.z2_size, units)
        self.p_x = nn.Sequential(
            Gate(2 * units, math.prod(shape)),
            Images(shape),
            *convolutions(shape[-1], *[(64, 3, 1)] * 4),
            nn.Conv2d(64, shape[-1], 1),
            Flat(),
        )


class PixelHVAE(ConvHVAE):
    """The twin of vampzoo's PixelHVAE."""

    def create_decoder(self, config):
        """Makes the modules of p(x|z1, z2)."""
        shape, filters, depth = config.image_shape, 64, 8
        self.images = Images(shape)
        self.map_z1, self.map_z2 = Gate(config.z1_size, math.prod(shape)), Gate(config.z2_size, math.prod(shape))
        self.features = nn.Conv2d(2 * shape[-1], filters, 3, padding=1, bias=False)
        self.causal = nn.ModuleList(CausalConv(filters if i else shape[-1], filters, i > 0) for i in range(depth))
        self.norms = nn.ModuleList(nn.BatchNorm2d(filters) for _ in range(depth))
        self.head = nn.Sequential(nn.Conv2d(filters, shape[-1], 1), Flat())

    def decoder_networks(self):
        return {
            "p_x_features": nn.ModuleList([self.map_z1, self.map_z2, self.features]),
            "p_x_network": nn.ModuleList([self.causal, self.norms, self.head]),
        }

    def logits(self, z1, z2, x):
        maps = torch.cat([self.images(self.map_z1(z1)), self.images(self.map_z2(z2))], 1)  # [B, 2C, H, W]
        h = self.features(maps) + self.causal[0](self.images(x))  # [B, F, H, W]
        h = F.relu(self.norms[0](h))
        for convolution, norm in zip(self.causal[1:], self.norms[1:], strict=True):
            h = F.relu(norm(convolution(h)))
        return self.head(h)
