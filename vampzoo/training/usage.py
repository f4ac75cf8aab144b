"""What a training says of the prior's components: which are in use, and once what to do if most are not.

Dimensions: N images, K components.
"""

from vampzoo import evaluation, random
from vampzoo.evaluation import components

NUM_IMAGES = 1000  # validation images that it is measured on, at most


class ComponentUsage:
    """Measures a model's components and the parts of its ELBO now and then.

    Args:
        model: a `vampzoo.models.LatentVariableModel`.
        images: [N, H, W, C]; the first `NUM_IMAGES` are taken.
        seed: integer; every measurement uses the same draws, so that they can be compared.
    """

    def __init__(self, model, images, seed):
        self._model = model
        self._images = images[:NUM_IMAGES]
        self._seed = seed
        # In this process alone: where several train, one measures.
        self._elbo = evaluation.DatasetElbo(model, self._images, jit_compile=False)
        self._advised = False
        self.shares = (
            None  # [K], the mean responsibilities of the latest measurement; None for a prior without components
        )

    def measure(self):
        """Measures the weights that the model has now.

        Returns:
            {name: number}: `usage_of` and the estimates of `decomposition` (`vampzoo.evaluation.components`).
        """
        terms = self._elbo(random.key(self._seed))
        parts = components.decomposition(self._model, self._images, terms, self._seed)
        measures = {name: parts[name] for name in components.PARTS if name in parts}
        if self._model.prior_layer.has_components:
            responsibilities = self._model.responsibilities(self._images, seed=self._seed)  # [N, K]
            self.shares = responsibilities.mean(axis=0)
            measures |= components.usage_of(responsibilities)
        return measures

    def advice(self, measures):
        """What to do about dead components, said once: a text, or None."""
        if self.shares is None or self._advised:
            return None
        text = components.advice(measures, self._model.prior_layer, len(self._images))
        self._advised = text is not None
        return text
