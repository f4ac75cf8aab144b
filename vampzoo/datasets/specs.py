"""What each dataset of the paper is, before anything of it is loaded."""

import dataclasses

from vampzoo.config import NUM_COMPONENTS
from vampzoo.datasets.errors import DataError

BINARIZATIONS = ("none", "dynamic", "static", "threshold")


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """What a model and a training need to know of a dataset.

    Attributes:
      name: key of `DATASETS`, "npz", or "tfds:NAME".
      image_shape: (H, W, C).
      likelihood: one of `LIKELIHOODS`: p(x|z) of the paper's experiments, or the one asked for.
      dynamic: the training images are intensities, each a Bernoulli mean from which pixels are drawn anew at each use.
      pseudo_inputs_mean, pseudo_inputs_stddev: the normal distribution of the initial pseudo-inputs.
      title: for people.
      source: where the images come from, and what is known of their licence.
      num_components: K, the number of pseudo-inputs.
    """

    name: str
    image_shape: tuple[int, int, int]
    likelihood: str
    dynamic: bool
    pseudo_inputs_mean: float
    pseudo_inputs_stddev: float
    title: str
    source: str
    num_components: int = NUM_COMPONENTS


_SPECS = (
    DatasetSpec(
        name="static_mnist",
        image_shape=(28, 28, 1),
        likelihood="bernoulli",
        dynamic=False,
        pseudo_inputs_mean=0.05,
        pseudo_inputs_stddev=0.01,
        title="MNIST, binarised once",
        source="TFDS binarized_mnist: binarised by Larochelle and Murray (2011). MNIST is under CC BY-SA 3.0.",
    ),
    DatasetSpec(
        name="dynamic_mnist",
        image_shape=(28, 28, 1),
        likelihood="bernoulli",
        dynamic=True,
        pseudo_inputs_mean=0.05,
        pseudo_inputs_stddev=0.01,
        title="MNIST, binarised anew at each use",
        source="TFDS mnist: LeCun, Cortes and Burges. MNIST is under CC BY-SA 3.0.",
    ),
    DatasetSpec(
        name="omniglot",
        image_shape=(28, 28, 1),
        likelihood="bernoulli",
        dynamic=True,
        pseudo_inputs_mean=0.05,
        pseudo_inputs_stddev=0.01,
        num_components=1000,
        title="OMNIGLOT at 28x28",
        source="chardata.mat of Burda et al. (2015), from drawings that Lake et al. (2015) gave under the MIT licence.",
    ),
    DatasetSpec(
        name="caltech101_silhouettes",
        image_shape=(28, 28, 1),
        likelihood="bernoulli",
        dynamic=False,
        pseudo_inputs_mean=0.5,
        pseudo_inputs_stddev=0.02,
        title="Caltech 101 Silhouettes",
        source="Split 1 of Marlin et al. (2010). No licence is stated.",
    ),
    DatasetSpec(
        name="frey_faces",
        image_shape=(28, 20, 1),
        likelihood="discretized_logistic",
        dynamic=False,
        pseudo_inputs_mean=0.5,
        pseudo_inputs_stddev=0.02,
        title="Frey Faces",
        source="Brendan Frey's faces, distributed by Sam Roweis. No licence is stated.",
    ),
    DatasetSpec(
        name="histopathology",
        image_shape=(28, 28, 1),
        likelihood="discretized_logistic",
        dynamic=False,
        pseudo_inputs_mean=0.4,
        pseudo_inputs_stddev=0.05,
        title="Histopathology, grey",
        source="Patches of tissue, prepared by Tomczak and Welling (2016). No licence is stated.",
    ),
    DatasetSpec(
        name="glyphs",
        image_shape=(28, 28, 1),
        likelihood="bernoulli",
        dynamic=False,
        pseudo_inputs_mean=0.5,
        pseudo_inputs_stddev=0.02,
        title="Letters of many scripts",
        source="Rendered from the DejaVu fonts that matplotlib ships (Bitstream Vera licence). Needs no download.",
    ),
)

DATASETS = {dataset.name: dataset for dataset in _SPECS}


def unknown_dataset(name):
    """The error for a name that is no dataset: says which names are."""
    valid = ", ".join([*DATASETS, "npz", "tfds:NAME"])
    return DataError(f"Unknown dataset {name!r}. Valid names: {valid} (NAME is any TFDS dataset of small images).")


def spec(name):
    """The `DatasetSpec` of one of `DATASETS`, without loading anything.

    Raises:
      DataError: the name is not a key of `DATASETS` ("npz" and "tfds:NAME" are known only once they are loaded).
    """
    try:
        return DATASETS[name]
    except KeyError:
        raise unknown_dataset(name) from None
