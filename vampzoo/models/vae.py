"""One stochastic layer: p(x|z) p(z) with q(z|x) (section 2). Dimensions: B batch, k samples, M latents."""

import keras

from vampzoo.distributions import DiagonalGaussian, image_likelihood, log_prob_of_draws, picture
from vampzoo.models.base import LatentVariableModel, check_built, num_latents, repeat_rows
from vampzoo.objectives import ElboTerms


@keras.saving.register_keras_serializable("vampzoo")
class VAE(LatentVariableModel):
    """The VAE, assembled from Keras networks (those of `vampzoo.networks`, or one's own).

    Args:
        q_z: x [B, H, W, C] -> [mean, log_var], each [B, M].
        p_x: z [B, M] -> parameters of the image likelihood.
        prior: a `vampzoo.priors.Prior` over z.
        likelihood: one of `vampzoo.config.LIKELIHOODS`.

    Raises:
        InvalidValue: for a network that is not built or does not fit to the others, or an unknown likelihood.
    """

    def __init__(self, *, q_z, p_x, prior, likelihood, name="vae"):
        check_built(q_z=q_z, p_x=p_x)
        super().__init__(
            latent_sizes={"z": num_latents("q_z", q_z)},
            prior=prior,
            prior_encoder=q_z,
            likelihood=likelihood,
            image_shape=q_z.input.shape[1:],
            name=name,
            p_x=p_x if type(self).p_x is VAE.p_x else None,
        )
        self.q_z_network = q_z
        self.p_x_network = p_x
        self.built = True  # every network is

    # === Factors ===

    def q_z(self, x, num_samples=1, training=False):
        """q(z|x) = N(z; mu(x), diag(sigma^2(x))); each image's row k times for k samples."""
        return DiagonalGaussian(*(repeat_rows(t, num_samples) for t in self.q_z_network(x, training=training)))

    def p_z(self, parameters=None):
        """p(z): the prior (Eq. 9 if it is a VampPrior)."""
        return self.prior(parameters)

    def p_x(self, z, training=False):
        """p(x|z) over images."""
        return image_likelihood(self.likelihood, self.p_x_network(z, training=training))

    # === The model ===

    def networks(self):
        return {"q_z": self.q_z_network, "p_x": self.p_x_network}

    def generative_networks(self):
        return [self.p_x_network]

    def elbo_terms(self, x, noise, prior_parameters=None, training=False, num_samples=1):
        q_z = self.q_z(x, num_samples, training)
        z, log_q_z = q_z.reparameterize(noise["z"])  # [B k, M], [B k]
        return ElboTerms(
            distortion=-self.p_x(z, training).log_prob(repeat_rows(x, num_samples)),  # [B k]
            rates={"z": log_q_z - log_prob_of_draws(self.p_z(prior_parameters), q_z, z)},  # [B k]
        )

    def posterior(self, x, noise=None):
        return {"z": self.q_z(x)}

    def decode(self, z, noise=None, seed=0):
        return self.decode_posterior({"z": z}, seed)

    def decode_posterior(self, latents, seed=0):
        return picture(self.p_x(latents["z"]))
