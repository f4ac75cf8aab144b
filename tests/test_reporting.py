"""What a training says: the bar on a terminal of 80 columns, and TensorBoard's files."""

import io
import re
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
import tiny_run

from vampzoo.config import SELECTIONS
from vampzoo.training import reporting, write_test_result

ROW = {
    "epoch": 1401,
    "beta": 1.0,
    "elbo": -1786.28,
    "distortion": 1700.0,
    "rate_z2": 40.0,
    "rate_z1": 46.28,
    "validation_elbo": -1790.5,
    "validation_importance_bound": -1780.25,
    "best_validation_elbo": -1788.125,
    "images_per_second": 12000.0,
}


class Terminal(io.StringIO):
    """A standard error that says that it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """What is drawn on a terminal of 80 columns."""
    screen = Terminal()
    monkeypatch.setattr(reporting, "sys", types.SimpleNamespace(stderr=screen))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda fp: (80, 24))
    return screen


def drawn(screen):
    return [line for line in re.split(r"[\r\n]", screen.getvalue()) if line.strip()]


def test_the_bar_says_compiling_until_the_first_step_and_fits_80_columns(terminal):
    progress = reporting.Progress(2000, initial=1400)
    assert "1400.0/2000" in drawn(terminal)[-1] and "compiling" in drawn(terminal)[-1]
    progress.part(1.0)
    progress.epoch(ROW)
    last = drawn(terminal)[-1]
    assert "compiling" not in last
    assert last.rstrip().endswith("elbo -1786.3 val -1790.5 best -1788.1]")
    assert "1401.0/2000" in last
    assert max(map(len, drawn(terminal))) <= 80
    progress.close()


def test_what_selects_is_what_is_shown(terminal, monkeypatch, capsys):
    best = {"best_validation_importance_bound": -1779.5}
    row = {name: value for name, value in ROW.items() if not name.startswith("best_")} | best
    progress = reporting.Progress(2000, initial=1400)
    progress.part(1.0)
    progress.epoch(row)
    assert drawn(terminal)[-1].rstrip().endswith("elbo -1786.3 val -1780.2 best -1779.5]")
    progress.close()
    monkeypatch.setattr(reporting, "sys", types.SimpleNamespace(stderr=sys.stderr))  # no terminal: whole lines
    reporting.Progress(2000, initial=1400).epoch(row)
    assert " val elbo -1790.50 bound -1780.25 best -1779.50 | " in capsys.readouterr().err


@pytest.mark.parametrize("selection", SELECTIONS)
def test_the_table_of_runs_has_what_training_writes(tmp_path, monkeypatch, selection):
    pytest.importorskip("tensorboard")
    tables = []
    monkeypatch.setattr(
        "tensorboard.plugins.hparams.api.hparams_config", lambda hparams, metrics: tables.append(metrics)
    )
    config = tiny_run.training_config(epochs=1, selection=selection, selection_samples=2)
    tiny_run.trainer(tmp_path, config=config, image_epochs=0).fit()
    tiny_run.close(tmp_path)
    validation, _ = read_events(tmp_path / "tensorboard" / "validation")
    names = [metric.as_proto().name for metric in tables[0]]
    (tag,) = [name.tag for name in names if name.group == "validation"]
    assert tag in validation and tag == f"best_{selection}"


def test_a_resume_with_fewer_epochs_shows_those_that_are_done(terminal):
    progress = reporting.Progress(3, initial=249)
    assert "249.0/249" in drawn(terminal)[-1] and "compiling" not in drawn(terminal)[-1]
    progress.close()


def read_events(folder):
    """{tag: [(step, value)]} of all scalars in a folder of event files, and the tags of everything else."""
    scalars, others = {}, set()
    for path in sorted(folder.glob("events.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    scalars.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
                else:
                    others.add(value.tag)
    return scalars, others


def test_training_and_validation_have_one_tag_in_two_folders_and_the_test_result_a_third(tmp_path):
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    trainer = tiny_run.trainer(run, config=tiny_run.training_config(epochs=2), image_epochs=5)
    trainer.fit()
    write_test_result(run / "tensorboard", 2, {"elbo": -9.5, "elbo_stderr": 1.0, "num_images": 12, "rates": {"z": 3.0}})
    tiny_run.close(run)
    (train, _), (validation, _), (test, _) = (
        read_events(run / "tensorboard" / name) for name in ("train", "validation", "test")
    )
    assert [step for step, _ in train["elbo"]] == [step for step, _ in validation["elbo"]] == [1, 2]
    assert {"distortion", "rate_z", "beta"} <= set(train) and {
        "elbo",
        "best_elbo",
        "components/effective_components",
    } <= set(validation)
    assert test == {"elbo": [(2, -9.5)], "rate_z": [(2, 3.0)]}
    scalars, others = read_events(run / "tensorboard")
    assert not scalars
    assert {"samples", "reconstructions", "pseudo_inputs"} <= others  # already in epoch 1
    assert {"_hparams_/session_start_info", "_hparams_/experiment"} <= others


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    board = reporting.TensorBoard(None, None, np.zeros((1, 2, 2, 1)), 0, {"seed": 0, "selection": "elbo"})
    board.scalars(ROW)
    board.close()
    assert not list(tmp_path.iterdir())
