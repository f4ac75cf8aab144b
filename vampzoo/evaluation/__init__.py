"""What a model is worth: its ELBO, importance-sampled log-likelihood and active units, and the files that say so."""

from vampzoo.evaluation.averages import mean_and_standard_error
from vampzoo.evaluation.measures import (
    ACTIVE_UNIT_THRESHOLD,
    DatasetElbo,
    active_units,
    evaluate,
    importance_estimates,
    log_likelihood,
    variances_of_means,
)
from vampzoo.evaluation.partial import PartialResults

__all__ = [
    "ACTIVE_UNIT_THRESHOLD",
    "DatasetElbo",
    "PartialResults",
    "active_units",
    "evaluate",
    "importance_estimates",
    "log_likelihood",
    "mean_and_standard_error",
    "variances_of_means",
]
