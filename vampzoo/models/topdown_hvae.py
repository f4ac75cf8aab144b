"""Any number of stochastic layers, each conditioned on all above it: a VampPrior on top of a ladder.

With the layers numbered from the image up, and every factor but the last of each line a diagonal Gaussian or p(x|.):

    generative part:   p(x, z) = p(x|z_1, ..., z_L) [prod_{l<L} p(z_l|z_{l+1}, ..., z_L)] p(z_L)
    variational part:  q(z|x)  = [prod_{l<L} q(z_l|x, z_{l+1}, ..., z_L)] q(z_L|x)

For L = 2 these are Eq. 10 and 11 with a p(x|z1, z2) that is the same; p(z_L) is any prior of the zoo, a VampPrior being the
mixture of q(z_L|u_k) (Eq. 9 and 12). The order is top-down in both parts, as in Sonderby et al. (2016) and Rolfe (2017,
section 4), from whom p(x|z) without a hidden layer and layers that share their weights are taken. What a factor hears of
the latents above it is the state, a linear layer of theirs, or a sum of gated ones:

    s_l = sum_{j>l} f_j(z_j),  f_j(z) = z A_j + a_j, or one gated layer [B, S]
    p(z_l|s_l):     one gated layer on s_l, heads
    q(z_l|x, s_l):  one gated layer on features of x and s_l, heads
    p(x|s_0):       affine, or one or two gated layers and then affine; or convolutional, or given the pixels before, too

With L = 2, gated f_j and one gated layer in p(x|s_0) this is close to the HVAE, which differs in that p(x|z1, z2) and
q(z1|x, z2) have gated layers on z2 of their own, and in that what z1 and z2 become are parts of one vector, not added.
With affine f_j and two gated layers in p(x|s_0), p(z1|z2) has one gated layer less, and z1 and z2 meet before the first.

Dimensions: B batch, k samples, L layers, M latents of each, S state.
"""

import keras
import tensorflow as tf

from vampzoo.distributions import DiagonalGaussian, image_likelihood, log_prob_of_draws, picture
from vampzoo.errors import InvalidValue
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
class TopDownHVAE(LatentVariableModel):
    """The top-down hierarchical VAE, assembled from Keras networks.

    Lists go from the top down; layers whose networks are one and the same share their weights. Layer l is called "zl".

    Args:
        q_top: x [B, H, W, C] -> [mean, log_var] of q(z_L|x), each [B, M].
        q_features: x [B, H, W, C] -> features [B, F], for all layers below the top; None if there are none.
        q_layers: L - 1 networks (features [B, F], state [B, S]) -> [mean, log_var] of q(z_l|x, s_l).
        p_layers: L - 1 networks state [B, S] -> [mean, log_var] of p(z_l|s_l).
        state_maps: L networks z_l [B, M] -> its share of the states below it, [B, S].
        p_x: state [B, S] -> parameters of the image likelihood.
        prior: a `vampzoo.priors.Prior` over z_L.
        likelihood: one of `vampzoo.config.LIKELIHOODS`.

    Raises:
        InvalidValue: if the lists or networks do not fit together, for a network that is not built, or an unknown
            likelihood.
    """

    def __init__(
        self, *, q_top, q_layers, p_layers, state_maps, p_x, prior, likelihood, q_features=None, name="topdown_hvae"
    ):
        if not len(q_layers) == len(p_layers) == len(state_maps) - 1:
            raise InvalidValue(
                f"L state maps need L - 1 networks q and p each, got {len(state_maps)}, {len(q_layers)}, {len(p_layers)}"
            )
        top = len(state_maps)
        sizes = [num_latents("q_top", q_top), *(num_latents("q_layers", network) for network in q_layers)]
        if (q_features is None) != (not q_layers):
            raise InvalidValue("q_features is for the layers below the top: give it if there are any, and only then")
        features = [q_features] if q_layers else []
        check_built(
            q_top=q_top, q_features=features, q_layers=q_layers, p_layers=p_layers, state_maps=state_maps, p_x=p_x
        )
        super().__init__(
            latent_sizes={f"z{top - i}": size for i, size in enumerate(sizes)},
            prior=prior,
            prior_encoder=q_top,
            likelihood=likelihood,
            image_shape=q_top.input.shape[1:],
            name=name,
            p_x=p_x if type(self).p_x is TopDownHVAE.p_x else None,
        )
        for (name, size), network in zip(list(self.latent_sizes.items())[1:], p_layers, strict=True):
            check_latents(f"p_{name}", network, size)
        self.q_top_network = q_top
        self.q_features = q_features
        self.q_networks = list(q_layers)
        self.p_networks = list(p_layers)
        self.state_maps = list(state_maps)
        self.p_x_network = p_x
        self.built = True  # every network is

    @property
    def num_layers(self):
        """L."""
        return len(self.state_maps)

    # === Factors: l is the number of the layer in its name ===

    def add_to_state(self, state, layer, z, training=False):
        """s_{l-1} = s_l + f_l(z_l), [B, S], from s_l (None above the top) and z_l [B, M]."""
        share = self.state_maps[self.num_layers - layer](z, training=training)
        return share if state is None else state + share

    def q_top(self, x, num_samples=1, training=False):
        """q(z_L|x); each image's row k times for k samples."""
        return DiagonalGaussian(*(repeat_rows(t, num_samples) for t in self.q_top_network(x, training=training)))

    def _features(self, x, training=False):
        """What the layers below the top hear of x, [B, F]; None if there are none."""
        return self.q_features(x, training=training) if self.q_networks else None

    def q_z(self, layer, features, state, training=False):
        """q(z_l|x, s_l) for l < L, from features [B, F] of x and s_l [B k, S], in which an image has k rows."""
        network = self.q_networks[self.num_layers - 1 - layer]
        if not joined_by_gates(network):
            features = repeat_to(features, state)  # [B k, F]
        return DiagonalGaussian(*network([features, state], training=training))

    def p_z(self, layer, state, training=False):
        """p(z_l|s_l) for l < L, from s_l [B, S]."""
        return DiagonalGaussian(*self.p_networks[self.num_layers - 1 - layer](state, training=training))

    def p_top(self, parameters=None):
        """p(z_L): the prior."""
        return self.prior(parameters)

    def p_x(self, state, training=False):
        """p(x|s_0) over images, from s_0 [B, S]."""
        return image_likelihood(self.likelihood, self.p_x_network(state, training=training))

    def log_p_x(self, x, state, num_samples=1, training=False):
        """ln p(x|s_0), [B k], of x [B, H, W, C] and s_0 [B k, S]."""
        return self.p_x(state, training=training).log_prob(repeat_rows(x, num_samples))

    def draw_x(self, state, seed):
        """What `decode` gives for s_0 [B, S]: the mean image, or one that is drawn where p(x|s_0) has none."""
        return picture(self.p_x(state))

    # === The model ===

    def networks(self):
        return {
            "q_top": self.q_top_network,
            **({"q_features": self.q_features} if self.q_networks else {}),
            "q_layers": list(self.q_networks),
            "p_layers": list(self.p_networks),
            "state_maps": list(self.state_maps),
            "p_x": self.p_x_network,
        }

    def generative_networks(self):
        return [*self.p_networks, *self.state_maps, self.p_x_network]

    def times_applied(self, network):
        return max(1, [*self.q_networks, *self.p_networks, *self.state_maps].count(network))

    def elbo_terms(self, x, noise, prior_parameters=None, training=False, num_samples=1):
        top = f"z{self.num_layers}"
        q = self.q_top(x, num_samples, training)
        z, log_q = q.reparameterize(noise[top])  # [B k, M], [B k]
        rates = {top: log_q - log_prob_of_draws(self.p_top(prior_parameters), q, z)}
        state = self.add_to_state(None, self.num_layers, z, training)  # [B k, S]
        features = self._features(x, training)  # [B, F]: what depends on x alone is not computed for each sample
        if features is not None and features.shape[0] is None:  # layers repeat rows of a number that they know
            features = repeat_rows(features, num_samples)  # [B k, F]
        for layer in range(self.num_layers - 1, 0, -1):
            z, log_q = self.q_z(layer, features, state, training).reparameterize(noise[f"z{layer}"])  # [B k, M], [B k]
            rates[f"z{layer}"] = log_q - self.p_z(layer, state, training).log_prob(z)  # [B k]
            state = self.add_to_state(state, layer, z, training)  # [B k, S]
        return ElboTerms(
            distortion=-self.log_p_x(x, state, num_samples, training),  # [B k]
            rates=rates,
        )

    def posterior(self, x, noise=None):
        features = self._features(x)  # [B, F]
        result, state = {}, None
        for layer in range(self.num_layers, 0, -1):
            name = f"z{layer}"
            result[name] = q = self.q_top(x) if state is None else self.q_z(layer, features, state)
            z = q.mean() if noise is None else q.reparameterize(noise[name])[0]  # [B, M]
            state = self.add_to_state(state, layer, z)  # [B, S]
        return result

    def decode(self, z, noise=None, seed=0):
        state = self.add_to_state(None, self.num_layers, tf.convert_to_tensor(z))  # [N, S]
        for layer in range(self.num_layers - 1, 0, -1):
            p = self.p_z(layer, state)
            z = p.mean() if noise is None else p.reparameterize(noise[f"z{layer}"])[0]  # [N, M]
            state = self.add_to_state(state, layer, z)  # [N, S]
        return self.draw_x(state, seed)

    def decode_posterior(self, latents, seed=0):
        state = None
        for layer in range(self.num_layers, 0, -1):
            state = self.add_to_state(state, layer, latents[f"z{layer}"])  # [B, S]
        return self.draw_x(state, seed)
