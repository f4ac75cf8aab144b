"""What is published: presets that load in one line, their cards, and the SavedModels that TensorFlow Serving runs."""

from vampzoo.zoo.errors import ZooError
from vampzoo.zoo.listing import INDEX, Preset, Presets, check_index, presets, write_index
from vampzoo.zoo.preset_folder import (
    CHECKSUMS,
    CONFIG,
    WEIGHTS,
    find,
    latest_version,
    load,
    passed_on_by,
    read_config,
    read_data,
    shows_training_images,
    verify,
    write_checksums,
    zoo_folder,
    zoo_owner,
)
from vampzoo.zoo.pushing import push

__all__ = [
    "CHECKSUMS",
    "CONFIG",
    "INDEX",
    "WEIGHTS",
    "Preset",
    "Presets",
    "ZooError",
    "check_index",
    "find",
    "latest_version",
    "load",
    "passed_on_by",
    "presets",
    "push",
    "read_config",
    "read_data",
    "shows_training_images",
    "verify",
    "write_checksums",
    "write_index",
    "zoo_folder",
    "zoo_owner",
]
