"""Two stochastic layers (section 4, Eq. 10-15).

    generative part:   p(x|z1, z2) p(z1|z2) p(z2)      (Eq. 11)
    variational part:  q(z1|x, z2) q(z2|x)             (Eq. 10)

ConvHVAE and PixelHVAE are the same model with other networks. Dimensions: B batch, k samples, M1 and M2 latents.
"""

import keras
import tensorflow as tf

from vampzoo.distributions import DiagonalGaussian, image_likelihood, log_prob_of_draws, picture
from vampzoo.models.base import (
    LatentVariableModel,
    check_built,
    check_latents,
    joined_by_gates,
    num_latents,
    repeat_rows,
    repeat_to,
)
from vampzoo.objectives import ElboTerms


@keras.saving.register_keras_serializable("vampzoo")
class HVAE(LatentVariableModel):
    """The hierarchical VAE, assembled from Keras networks (those of `vampzoo.networks`, or one's own).

    Args:
        q_z2: x [B, H, W, C] -> [mean, log_var], each [B, M2].
        q_z1_features: x [B, H, W, C] -> features [B, F].
        q_z1: (features [B, F], z2 [B, M2]) -> [mean, log_var], each [B, M1].
        p_z1: z2 [B, M2] -> [mean, log_var], each [B, M1].
        p_x: (z1 [B, M1], z2 [B, M2]) -> parameters of the image likelihood.
        prior: a `vampzoo.priors.Prior` over z2.
        likelihood: one of `vampzoo.config.LIKELIHOODS`.

    Raises:
        InvalidValue: for a network that is not built or does not fit to the others, or an unknown likelihood.
    """

    def __init__(self, *, q_z2, q_z1_features, q_z1, p_z1, p_x, prior, likelihood, name="hvae"):
        check_built(q_z2=q_z2, q_z1_features=q_z1_features, q_z1=q_z1, p_z1=p_z1, p_x=p_x)
        super().__init__(
            latent_sizes={"z2": num_latents("q_z2", q_z2), "z1": num_latents("q_z1", q_z1)},
            prior=prior,
            prior_encoder=q_z2,
            likelihood=likelihood,
            image_shape=q_z2.input.shape[1:],
            name=name,
            p_x=p_x if type(self).p_x is HVAE.p_x else None,
        )
        check_latents("p_z1", p_z1, self.latent_sizes["z1"])
        self.q_z2_network = q_z2
        self.q_z1_features = q_z1_features
        self.q_z1_network = q_z1
        self.p_z1_network = p_z1
        self.p_x_network = p_x
        self._features_may_be_fewer = joined_by_gates(q_z1)
        self.built = True  # every network is

    # === Factors ===

    def q_z2(self, x, num_samples=1, training=False):
        """q(z2|x) = N(z2; mu(x), diag(sigma^2(x))) (Eq. 15); each image's row k times for k samples."""
        return DiagonalGaussian(*(repeat_rows(t, num_samples) for t in self.q_z2_network(x, training=training)))

    def q_z1(self, x, z2, num_samples=1, training=False):
        """q(z1|x, z2) = N(z1; mu(x, z2), diag(sigma^2(x, z2))) (Eq. 14), for k rows of z2 an image."""
        features = self.q_z1_features(x, training=training)  # [B, F]
        # Of one image the zoo's networks compute what depends on x alone once for all samples.
        of_rows = repeat_rows(features, num_samples) if self._features_may_be_fewer else repeat_to(features, z2)
        return DiagonalGaussian(*self.q_z1_network([of_rows, z2], training=training))

    def p_z1(self, z2, training=False):
        """p(z1|z2) = N(z1; mu(z2), diag(sigma^2(z2))) (Eq. 13)."""
        return DiagonalGaussian(*self.p_z1_network(z2, training=training))

    def p_z2(self, parameters=None):
        """p(z2): the prior (Eq. 12 if it is a VampPrior)."""
        return self.prior(parameters)

    def p_x(self, z1, z2, x=None, training=False):
        """p(x|z1, z2) over images; `x` is for decoders in which a pixel depends on those before it."""
        return image_likelihood(self.likelihood, self.p_x_network([z1, z2], training=training))

    # === The model ===

    def networks(self):
        return {
            "q_z2": self.q_z2_network,
            "q_z1_features": self.q_z1_features,
            "q_z1": self.q_z1_network,
            "p_z1": self.p_z1_network,
            "p_x": self.p_x_network,
        }

    def generative_networks(self):
        return [self.p_z1_network, self.p_x_network]

    def elbo_terms(self, x, noise, prior_parameters=None, training=False, num_samples=1):
        q_z2 = self.q_z2(x, num_samples, training)
        z2, log_q_z2 = q_z2.reparameterize(noise["z2"])  # [B k, M2], [B k]
        z1, log_q_z1 = self.q_z1(x, z2, num_samples, training).reparameterize(noise["z1"])  # [B k, M1], [B k]
        x = repeat_rows(x, num_samples)  # [B k, H, W, C]
        return ElboTerms(
            distortion=-self.p_x(z1, z2, x, training).log_prob(x),  # [B k]
            rates={
                "z2": log_q_z2 - log_prob_of_draws(self.p_z2(prior_parameters), q_z2, z2),  # [B k]
                "z1": log_q_z1 - self.p_z1(z2, training).log_prob(z1),  # [B k]
            },
        )

    def posterior(self, x, noise=None):
        q_z2 = self.q_z2(x)
        z2 = q_z2.mean() if noise is None else q_z2.reparameterize(noise["z2"])[0]  # [B, M2]
        return {"z2": q_z2, "z1": self.q_z1(x, z2)}

    def decode(self, z, noise=None, seed=0):
        z = tf.convert_to_tensor(z)  # Keras takes no mixture of arrays and tensors
        p_z1 = self.p_z1(z)
        z1 = p_z1.mean() if noise is None else p_z1.reparameterize(noise["z1"])[0]  # [N, M1]
        return self.decode_posterior({"z2": z, "z1": z1}, seed)

    def decode_posterior(self, latents, seed=0):
        return picture(self.p_x(latents["z1"], latents["z2"]))
