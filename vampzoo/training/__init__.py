"""Training: the loop, its steps, the run folder, checkpoints, early stopping and what is shown meanwhile."""

from vampzoo.config import TrainingConfig
from vampzoo.training.early_stopping import EarlyStopping
from vampzoo.training.errors import Interrupted, NotFinite, OutOfMemory, WorkerLost
from vampzoo.training.reporting import write_test_result
from vampzoo.training.run_folder import RunFolder, RunFolderError, places_of_data, run_config
from vampzoo.training.steps import TrainingSteps
from vampzoo.training.strategy import Workers, create_strategy, describe, map_rows_over_replicas, unused_gpu
from vampzoo.training.trainer import Trainer
from vampzoo.training.versions import library_versions

__all__ = [
    "EarlyStopping",
    "Interrupted",
    "NotFinite",
    "OutOfMemory",
    "RunFolder",
    "RunFolderError",
    "Trainer",
    "TrainingConfig",
    "TrainingSteps",
    "WorkerLost",
    "Workers",
    "create_strategy",
    "describe",
    "library_versions",
    "map_rows_over_replicas",
    "places_of_data",
    "run_config",
    "unused_gpu",
    "write_test_result",
]
