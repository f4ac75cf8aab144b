"""The PyTorch twin of each model, and its training steps."""

import torch

from vampzoo.benchmarking.peers import Unsupported
from vampzoo.benchmarking.peers.torch_conv import ConvHVAE, PixelHVAE
from vampzoo.benchmarking.peers.torch_mlp import HVAE, VAE, NormalizedAdam

MODELS = {"vae": VAE, "hvae": HVAE, "conv_hvae": ConvHVAE, "pixel_hvae": PixelHVAE}


def create(config):
    """The twin of `vampzoo.models.create(config)`, with PyTorch's default weights."""
    if config.model not in MODELS or config.prior not in ("standard", "vampprior"):
        raise Unsupported(f"torch: the twins are {', '.join(MODELS)} with standard or vampprior")
    return MODELS[config.model](config)


def training_steps(config, images, batch_size, compiled=False):
    """See `vampzoo.benchmarking.peers.create`."""
    twin = create(config)
    optimizer = NormalizedAdam(twin)
    loss = torch.compile(twin.loss) if compiled else twin.loss
    data = torch.from_numpy(images).flatten(1)  # [N, D]

    def run(num_steps):
        order = torch.randperm(len(data))
        for i in range(num_steps):
            x = data[order[torch.arange(i * batch_size, (i + 1) * batch_size) % len(data)]]
            noise = [torch.randn(batch_size, size) for size in twin.latent_sizes]
            optimizer.zero_grad()
            loss(x, noise, 1.0).backward()
            optimizer.step()

    return run
