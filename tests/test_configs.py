"""Every file of configs/ is a command line that the train program takes, and says what it is."""

import json
import pathlib
import subprocess
import sys

import pytest

from vampzoo import datasets
from vampzoo.config import ModelConfig, TrainingConfig

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted(path.name for path in (ROOT / "configs").glob("*.flags"))

# Each in a process of its own, since absl's flags are global, and from the project's folder, as a user would.
PARSE = """
import dataclasses, json, os, sys
from vampzoo import config, datasets, train
for file in sys.argv[1:]:
    if os.fork():
        os.wait()
        continue
    train.FLAGS([sys.argv[0], f"--flagfile=configs/{file}"])
    training = {field.name: train.FLAGS[field.name].value for field in dataclasses.fields(config.TrainingConfig)}
    name = train.FLAGS.dataset
    model = None if name is None else dataclasses.asdict(train.create_model_config(datasets.DATASETS[name]))
    print(json.dumps({"file": file, "dataset": name, "training": training, "model": model}))
    break
"""


@pytest.fixture(scope="module")
def configurations():
    """{file: what its flags say}, of those that parse, and what was said of the others."""
    command = [sys.executable, "-c", PARSE, *FILES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {parsed.pop("file"): parsed for parsed in lines}, done.stderr


@pytest.mark.parametrize("name", FILES)
def test_parses_into_valid_configurations(name, configurations):
    of_file, errors = configurations
    assert name in of_file, errors
    parsed = of_file[name]
    TrainingConfig(**parsed["training"])
    if name == "common.flags":
        assert parsed["dataset"] is None
    else:
        assert parsed["dataset"] in datasets.DATASETS
        num_components = ModelConfig.from_dict(parsed["model"]).num_components
        if "_best" not in name and "_topdown" not in name:  # those are not the paper's
            assert num_components == datasets.DATASETS[parsed["dataset"]].num_components


@pytest.mark.parametrize("name", [name for name in FILES if name != "common.flags"])
def test_starts_with_what_it_is(name):
    assert (ROOT / "configs" / name).read_text().startswith("# ")
