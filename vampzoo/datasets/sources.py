"""What the TFDS builders of this package that read one source file have in common."""

import abc
import contextlib
import dataclasses
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from vampzoo.datasets.errors import DataError
from vampzoo.files import sha256


@dataclasses.dataclass(frozen=True)
class Source:
    """A file: where it is to be had, and what it is called."""

    url: str
    filename: str


def float_images(height, width):
    """The TFDS feature of images in [0, 1] that are more than bytes."""
    return tfds.features.Tensor(shape=(height, width, 1), dtype=np.float32, encoding="zlib")


class SourceFileBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS builder whose images all come from one file.

    The file is that of the name `SOURCE.filename` in the manual folder, else a download. It is read and checked as a
    whole before anything is written. Its checksum is kept in the metadata of what is prepared from it, so that a
    changed file is noticed.
    """

    SOURCE: Source
    # TFDS gives the manual folder only to builders that have instructions for it.
    MANUAL_DOWNLOAD_INSTRUCTIONS = "A source file under its original name is used in place of a download."
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Initial release."}

    @property
    @abc.abstractmethod
    def image_feature(self):
        """The TFDS feature of one image."""

    @abc.abstractmethod
    def read(self, path):
        """dict from split to images [N, H, W, 1] of a source file; DataError if it is not what it should be."""

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"image": self.image_feature}),
            supervised_keys=None,
            homepage=self.SOURCE.url,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager):
        path, downloaded = self._source_path(dl_manager)
        try:
            splits = self.read(path)
        except DataError:
            if downloaded:  # A damaged one would be found again by the next attempt.
                path.unlink()
            raise
        self.info.metadata["source_sha256"] = sha256(path)
        return {split: self._generate_examples(images) for split, images in splits.items()}

    def _source_path(self, dl_manager):
        """(path of the file, whether it is a download)."""
        with contextlib.suppress(AssertionError):  # TFDS's way to say that the manual folder is empty, or is not.
            path = pathlib.Path(dl_manager.manual_dir, self.SOURCE.filename)
            if path.exists():
                return path, False
        return pathlib.Path(dl_manager.download(self.SOURCE.url)), True

    def _generate_examples(self, images):
        for index, image in enumerate(images):
            yield index, {"image": image}
