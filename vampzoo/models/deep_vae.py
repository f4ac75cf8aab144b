"""Two stochastic layers in a chain: the baseline of Burda et al. (2016) in the paper's Figure 3.

    generative part:   p(x|z1) p(z1|z2) p(z2)
    variational part:  q(z2|z1) q(z1|x)

Where the HVAE infers z2 from x itself, here all that z2 hears of x has passed through z1; its units collapse easily.
Gated layers and sizes are the HVAE's. Dimensions: B batch, k samples, M1 and M2 latents.
"""

import keras

from vampzoo.distributions import DiagonalGaussian, image_likelihood, picture
from vampzoo.errors import InvalidValue
from vampzoo.models.base import LatentVariableModel, check_built, check_latents, num_latents, repeat_rows
from vampzoo.objectives import ElboTerms


@keras.saving.register_keras_serializable("vampzoo")
class DeepVAE(LatentVariableModel):
    """The two-level VAE (with the objective "iwae": the two-level IWAE), assembled from Keras networks.

    Args:
        q_z1: x [B, H, W, C] -> [mean, log_var], each [B, M1].
        q_z2: z1 [B, M1] -> [mean, log_var], each [B, M2].
        p_z1: z2 [B, M2] -> [mean, log_var], each [B, M1].
        p_x: z1 [B, M1] -> parameters of the image likelihood.
        prior: a `vampzoo.priors.Prior` over z2 that needs no encoder: there is no q(z2|x) in closed form.
        likelihood: one of `vampzoo.config.LIKELIHOODS`.

    Raises:
        InvalidValue: for a network that is not built or does not fit to the others, a prior that needs an encoder, or an
            unknown likelihood.
    """

    def __init__(self, *, q_z1, q_z2, p_z1, p_x, prior, likelihood, name="deep_vae"):
        check_built(q_z1=q_z1, q_z2=q_z2, p_z1=p_z1, p_x=p_x)
        if prior.has_pseudo_inputs:
            raise InvalidValue(f"a {type(prior).__name__} needs an encoder q(z2|x), and here z2 is inferred from z1")
        super().__init__(
            latent_sizes={"z2": num_latents("q_z2", q_z2), "z1": num_latents("q_z1", q_z1)},
            prior=prior,
            prior_encoder=None,
            likelihood=likelihood,
            image_shape=q_z1.input.shape[1:],
            name=name,
            p_x=p_x if type(self).p_x is DeepVAE.p_x else None,
        )
        check_latents("p_z1", p_z1, self.latent_sizes["z1"])
        self.q_z1_network = q_z1
        self.q_z2_network = q_z2
        self.p_z1_network = p_z1
        self.p_x_network = p_x
        self.built = True  # every network is

    # === Factors ===

    def q_z1(self, x, num_samples=1, training=False):
        """q(z1|x) = N(z1; mu(x), diag(sigma^2(x))); each image's row k times for k samples."""
        return DiagonalGaussian(*(repeat_rows(t, num_samples) for t in self.q_z1_network(x, training=training)))

    def q_z2(self, z1, training=False):
        """q(z2|z1) = N(z2; mu(z1), diag(sigma^2(z1)))."""
        return DiagonalGaussian(*self.q_z2_network(z1, training=training))

    def p_z1(self, z2, training=False):
        """p(z1|z2) = N(z1; mu(z2), diag(sigma^2(z2)))."""
        return DiagonalGaussian(*self.p_z1_network(z2, training=training))

    def p_z2(self, parameters=None):
        """p(z2): the prior."""
        return self.prior(parameters)

    def p_x(self, z1, training=False):
        """p(x|z1) over images."""
        return image_likelihood(self.likelihood, self.p_x_network(z1, training=training))

    # === The model ===

    def networks(self):
        return {
            "q_z1": self.q_z1_network,
            "q_z2": self.q_z2_network,
            "p_z1": self.p_z1_network,
            "p_x": self.p_x_network,
        }

    def generative_networks(self):
        return [self.p_z1_network, self.p_x_network]

    def elbo_terms(self, x, noise, prior_parameters=None, training=False, num_samples=1):
        z1, log_q_z1 = self.q_z1(x, num_samples, training).reparameterize(noise["z1"])  # [B k, M1], [B k]
        z2, log_q_z2 = self.q_z2(z1, training).reparameterize(noise["z2"])  # [B k, M2], [B k]
        return ElboTerms(
            distortion=-self.p_x(z1, training).log_prob(repeat_rows(x, num_samples)),  # [B k]
            rates={
                "z2": log_q_z2 - self.p_z2(prior_parameters).log_prob(z2),  # [B k]
                "z1": log_q_z1 - self.p_z1(z2, training).log_prob(z1),  # [B k]
            },
        )

    def posterior(self, x, noise=None):
        q_z1 = self.q_z1(x)
        z1 = q_z1.mean() if noise is None else q_z1.reparameterize(noise["z1"])[0]  # [B, M1]
        return {"z2": self.q_z2(z1), "z1": q_z1}

    def decode(self, z, noise=None, seed=0):
        p_z1 = self.p_z1(z)
        z1 = p_z1.mean() if noise is None else p_z1.reparameterize(noise["z1"])[0]  # [N, M1]
        return self.decode_posterior({"z2": z, "z1": z1}, seed)

    def decode_posterior(self, latents, seed=0):
        return picture(self.p_x(latents["z1"]))
