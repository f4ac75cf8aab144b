"""What is published: presets that load in one line, their cards, and the SavedModels that TensorFlow Serving runs."""

from vampzoo.zoo.preset_folder import (
    CHECKSUMS,
    CONFIG,
    WEIGHTS,
    ZooError,
    find,
    latest_version,
    load,
    presets,
    read_config,
    verify,
    write_checksums,
    zoo_folder,
)

__all__ = [
    "CHECKSUMS",
    "CONFIG",
    "WEIGHTS",
    "ZooError",
    "find",
    "latest_version",
    "load",
    "presets",
    "read_config",
    "verify",
    "write_checksums",
    "zoo_folder",
]
