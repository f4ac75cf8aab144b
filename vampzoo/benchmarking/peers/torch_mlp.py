"""VAE and HVAE with a standard prior or a VampPrior in plain PyTorch: the same sizes, objective and optimiser.

Written to be fast: both halves of a gate share one product, the mixture's exponents are one product (in float64, as in
vampzoo, for the same number), the gradients are normalised by fused operations and Adam is the fused one.

Dimensions: B batch, D pixels, U hidden units, M latents, K components.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vampzoo.distributions import LOG_VAR_RANGE, LOGIT_LIMIT


class Gate(nn.Linear):
    """(xA + a) * sigmoid(xB + b)."""

    num_halves = 2  # of each parameter, which the optimiser normalises by themselves

    def __init__(self, in_features, units):
        super().__init__(in_features, 2 * units)

    def forward(self, x):
        return F.glu(super().forward(x))


class Gaussian(nn.Module):
    """Mean and clipped log-variance, [B, M] each, of what `body` makes of its input."""

    def __init__(self, body, units, size):
        super().__init__()
        # The heads in the order in which Keras lists them, which `copy_weights` goes by.
        self.body, self.log_var, self.mean = body, nn.Linear(units, size), nn.Linear(units, size)

    def forward(self, x):
        h = self.body(x)
        return self.mean(h), self.log_var(h).clamp(*LOG_VAR_RANGE)


def mlp(in_features, units):
    """Two gated dense layers."""
    return nn.Sequential(Gate(in_features, units), Gate(units, units))


class Twin(nn.Module):
    """What both models share: the prior over the top layer, and the likelihood."""

    def __init__(self, config):
        super().__init__()
        if config.prior == "vampprior":
            shape = (config.num_components, math.prod(config.image_shape))
            mean, stddev = config.pseudo_inputs_mean, config.pseudo_inputs_stddev
            self.pseudo_inputs = nn.Parameter(mean + stddev * torch.randn(shape))
        else:
            self.pseudo_inputs = None

    def log_prior(self, z, encoder):
        """log p(z), [B], of z [B, M]."""
        if self.pseudo_inputs is None:
            return log_normal(z, torch.zeros_like(z), torch.zeros_like(z))
        means, log_vars = (t.double() for t in encoder(self.pseudo_inputs.clamp(0.0, 1.0)))  # [K, M]
        z, precisions = z.double(), (-log_vars).exp()
        features = torch.cat([z.square(), z], 1)  # [B, 2M]
        coefficients = torch.cat([-0.5 * precisions, means * precisions], 1)  # [K, 2M]
        constants = -0.5 * (math.log(2 * math.pi) + log_vars + means.square() * precisions).sum(1)  # [K]
        exponents = torch.addmm(constants, features, coefficients.T)  # [B, K]
        return torch.logsumexp(exponents, 1).float() - math.log(len(means))


class VAE(Twin):
    """The twin of `vampzoo.models.VAE`."""

    def __init__(self, config):
        super().__init__(config)
        size, units = math.prod(config.image_shape), config.hidden_units
        self.q_z = Gaussian(mlp(size, units), units, config.z2_size)
        self.p_x = nn.Sequential(mlp(config.z2_size, units), nn.Linear(units, size))
        self.latent_sizes = (config.z2_size,)

    def networks(self):
        """What corresponds to each network of the vampzoo model, by its attribute."""
        return {"q_z_network": self.q_z, "p_x_network": self.p_x}

    def loss(self, x, noise, beta):
        """The mean of distortion + beta * rate over x [B, D], nats."""
        z, log_q = draw(*self.q_z(x), noise[0])
        rate = log_q - self.log_prior(z, self.q_z)
        return (distortion(self.p_x(z), x) + beta * rate).mean()


class HVAE(Twin):
    """The twin of `vampzoo.models.HVAE`."""

    def __init__(self, config):
        super().__init__(config)
        size, units = math.prod(config.image_shape), config.hidden_units
        m1, m2 = config.z1_size, config.z2_size
        self.q_z2 = Gaussian(mlp(size, units), units, m2)
        self.q_z1_features = Gate(size, units)
        self.q_z1_latent = Gate(m2, units)
        self.q_z1 = Gaussian(Gate(2 * units, units), units, m1)
        self.p_z1 = Gaussian(mlp(m2, units), units, m1)
        self.p_x_z1, self.p_x_z2 = Gate(m1, units), Gate(m2, units)
        self.p_x = nn.Sequential(Gate(2 * units, units), nn.Linear(units, size))
        self.latent_sizes = (m2, m1)

    def networks(self):
        """{name of the model's network: its twin}, in the order of its weights."""
        return {
            "q_z2_network": self.q_z2,
            "q_z1_features": self.q_z1_features,
            "q_z1_network": nn.ModuleList([self.q_z1_latent, self.q_z1]),
            "p_z1_network": self.p_z1,
            **self.decoder_networks(),
        }

    def decoder_networks(self):
        """The part of `networks` that is p(x|z1, z2)."""
        return {"p_x_network": nn.ModuleList([self.p_x_z1, self.p_x_z2, self.p_x])}

    def loss(self, x, noise, beta):
        """The mean of distortion + beta * rate over x [B, D], nats."""
        z2, log_q_z2 = draw(*self.q_z2(x), noise[0])
        z1, log_q_z1 = draw(*self.q_z1(torch.cat([self.q_z1_features(x), self.q_z1_latent(z2)], 1)), noise[1])
        rate = log_q_z2 - self.log_prior(z2, self.q_z2) + log_q_z1 - log_normal(z1, *self.p_z1(z2))
        return (distortion(self.logits(z1, z2, x), x) + beta * rate).mean()

    def logits(self, z1, z2, x):
        """Of p(x|z1, z2), [B, D]; x is for decoders in which a pixel depends on those before it."""
        return self.p_x(torch.cat([self.p_x_z1(z1), self.p_x_z2(z2)], 1))


def draw(mean, log_var, noise):
    """z [B, M] and log q(z) [B]."""
    log_q = -0.5 * (math.log(2 * math.pi) + log_var + noise.square()).sum(1)
    return torch.addcmul(mean, (0.5 * log_var).exp(), noise), log_q


def log_normal(z, mean, log_var):
    """log N(z; mean, exp(log_var)) over the last axis, [B]."""
    return -0.5 * (math.log(2 * math.pi) + log_var + (z - mean).square() * (-log_var).exp()).sum(1)  # [B]


def distortion(logits, x):
    """-log p(x|z) for clipped Bernoulli logits, [B]."""
    logits = logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)  # [B]


class NormalizedAdam(torch.optim.Adam):
    """PyTorch's fused Adam after dividing each tensor's gradient by its norm, the halves of a gate by themselves."""

    def __init__(self, module, learning_rate=5e-4):
        parameters = list(module.parameters())
        super().__init__(parameters, learning_rate, eps=1e-8, fused=True)
        gates = {id(p) for m in module.modules() if hasattr(m, "num_halves") for p in m.parameters()}
        self.halves = [2 if id(p) in gates else 1 for p in parameters]
        self.all = parameters

    @torch.no_grad()
    def step(self):
        tensors = [half for p, n in zip(self.all, self.halves, strict=True) for half in p.grad.chunk(n)]
        norms = torch._foreach_norm(tensors)
        torch._foreach_add_(norms, 1e-7)
        torch._foreach_div_(tensors, norms)
        super().step()


@torch.no_grad()
def copy_weights(twin, model):
    """Gives the twin the weights of a vampzoo model of the same config."""
    for name, module in twin.networks().items():
        for parameter, weight in zip(module.parameters(), getattr(model, name).trainable_weights, strict=True):
            weight = weight.numpy()
            weight = weight.transpose(3, 2, 0, 1) if weight.ndim == 4 else weight.T  # [k, k, I, O] -> [O, I, k, k]
            parameter.copy_(torch.from_numpy(np.array(weight)))
    if twin.pseudo_inputs is not None:
        twin.pseudo_inputs.copy_(torch.from_numpy(model.prior_layer.raw_pseudo_inputs.numpy()).flatten(1))
