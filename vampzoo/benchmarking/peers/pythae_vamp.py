"""pythae's VAMP (a VAE with a VampPrior) with the paper's networks put in: its own objective, loop body and Adam."""

import math

import torch
from pythae.models import VAMP, VAMPConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from torch import nn

from vampzoo.benchmarking.peers import Unsupported, torch_mlp


class Encoder(BaseEncoder):
    """q(z|x) of the paper's VAE."""

    def __init__(self, config):
        super().__init__()
        size, units = math.prod(config.image_shape), config.hidden_units
        self.gaussian = torch_mlp.Gaussian(torch_mlp.mlp(size, units), units, config.z2_size)
        self.latent_dim = config.z2_size

    def forward(self, x):
        mean, log_var = self.gaussian(x.flatten(1))
        return ModelOutput(embedding=mean, log_covariance=log_var)


class Decoder(BaseDecoder):
    """p(x|z) of the paper's VAE."""

    def __init__(self, config):
        super().__init__()
        size, units = math.prod(config.image_shape), config.hidden_units
        self.network = nn.Sequential(torch_mlp.mlp(config.z2_size, units), nn.Linear(units, size), nn.Sigmoid())

    def forward(self, z):
        return ModelOutput(reconstruction=self.network(z))


def create(config):
    """A `pythae.models.VAMP` of the sizes that `config` gives."""
    if (config.model, config.prior) != ("vae", "vampprior"):
        raise Unsupported("pythae: the one model is vae with vampprior")
    vamp_config = VAMPConfig(
        input_dim=(math.prod(config.image_shape),),
        latent_dim=config.z2_size,
        reconstruction_loss="bce",
        number_components=config.num_components,
        linear_scheduling_steps=0,
    )
    return VAMP(vamp_config, Encoder(config), Decoder(config))


def training_steps(config, images, batch_size):
    """See `vampzoo.benchmarking.peers.create`."""
    model = create(config)
    optimizer = torch.optim.Adam(model.parameters(), 5e-4)
    data = torch.from_numpy(images).flatten(1)  # [N, D]

    def run(num_steps):
        order = torch.randperm(len(data))
        for i in range(num_steps):
            x = data[order[torch.arange(i * batch_size, (i + 1) * batch_size) % len(data)]]
            optimizer.zero_grad()
            model({"data": x}).loss.backward()
            optimizer.step()

    return run
