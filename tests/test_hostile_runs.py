"""Hostile situations around run folders: nothing of anybody's is deleted, and what goes wrong is said in a line."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
import tiny_run
from tqdm import tqdm

from vampzoo import config, files, models, program, training
from vampzoo.config import ModelConfig, TrainingConfig
from vampzoo.evaluation import measures, partial, report
from vampzoo.training import RunFolder, RunFolderError

CONFIG = tiny_run.run_config(ModelConfig(), TrainingConfig())
ROW = {"epoch": 1, "elbo": -1.0, "validation_elbo": -1.0}


def open_folder(path, overwrite=False, **training_settings):
    config = {**CONFIG, "training": {**CONFIG["training"], **training_settings}}
    return RunFolder(path, config, "--seed=0\n", overwrite)


def contents(folder):
    """{path: bytes} of everything below a folder, and None for folders and links."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in pathlib.Path(folder).rglob("*")
    }


def refused(path, message, ends, root=None, **options):
    """Opening is refused with a message that matches, and all below `root` stays as it was, to the byte."""
    root = root or pathlib.Path(path).parent
    before = contents(root)
    with pytest.raises(RunFolderError, match=message) as caught:
        open_folder(path, **options)
    assert contents(root) == before
    assert "\n" not in str(caught.value)
    ends(caught.value)


def old_run(path, checkpoints=True, weights=True):
    """A run folder as a training of two epochs leaves it."""
    folder = open_folder(path)
    folder.append_history(ROW)
    folder.append_history({**ROW, "epoch": 2})
    if checkpoints:
        (path / "checkpoints" / "ckpt-1.index").write_text("index")
        (path / "checkpoints" / "ckpt-1.data-00000-of-00001").write_text("data")
        (path / "checkpoints" / "checkpoint").write_text('all_model_checkpoint_paths: "ckpt-1"\n')
    if weights:
        (path / "model.weights.h5").write_text("weights")
    (path / "tensorboard" / "events.out.tfevents.1.host").write_text("events")
    (path / "figures" / "samples.png").write_text("picture")
    (path / "figures" / "validation").mkdir()
    (path / "figures" / "validation" / "samples.png").write_text("picture")
    (path / "evaluation.json").write_text("{}")
    (path / "evaluation_validation.json").write_text("{}")
    folder.close()
    return path


# === Folders that are not ours ===

FOREIGN_CONFIGS = {
    "a number": '{"a": 1}',
    "empty object": "{}",
    "empty file": "",
    "half a file": json.dumps(CONFIG)[:50],
    "a list": "[]",
    "null": "null",
    "text": "dear diary",
    "bytes": b"\xff\xfe\x00\x01",
    "no version": json.dumps({k: v for k, v in CONFIG.items() if k != "vampzoo_version"}),
    "no training": json.dumps({k: v for k, v in CONFIG.items() if k != "training"}),
    "no data": json.dumps({k: v for k, v in CONFIG.items() if k != "data"}),
    "a model that is a number": json.dumps({**CONFIG, "model": 3}),
    "data that are a list": json.dumps({**CONFIG, "data": [1]}),
    "another major version": json.dumps({**CONFIG, "vampzoo_version": "2.0.0"}),
    "a version that is a number": json.dumps({**CONFIG, "vampzoo_version": 1}),
    "another program's": '{"model_type": "bert", "hidden_size": 768}',
}


@pytest.mark.parametrize("overwrite", [False, True], ids=["resume", "overwrite"])
@pytest.mark.parametrize("text", FOREIGN_CONFIGS.values(), ids=FOREIGN_CONFIGS)
def test_folder_with_a_foreign_config(tmp_path, ends, text, overwrite):
    folder = tmp_path / "folder"
    (folder / "chapters").mkdir(parents=True)
    (folder / "thesis.txt").write_text("dear")
    (folder / "chapters" / "one.txt").write_text("once")
    (folder / "model.weights.h5").write_text("weights of months")
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    message = r"config\.json is (damaged|not the configuration of a run)|holds a run of vampzoo 2\.0\.0"
    refused(folder, message, ends, overwrite=overwrite)


@pytest.mark.parametrize("overwrite", [False, True], ids=["resume", "overwrite"])
@pytest.mark.parametrize("name", ["thesis.tex", "subfolder", ".hidden", ".writing.7.thesis.txt", "model.weights.h5"])
def test_folder_without_config(tmp_path, ends, name, overwrite):
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / name
    path.mkdir() if name == "subfolder" else path.write_text("dear")
    refused(tmp_path / "folder", "not a run folder", ends, overwrite=overwrite)


@pytest.mark.parametrize("overwrite", [False, True], ids=["resume", "overwrite"])
@pytest.mark.parametrize("where", ["preset", "preset/1", "preset/a/b/new"])
def test_training_in_a_preset(tmp_path, ends, where, overwrite):
    old_run(tmp_path / "preset")
    (tmp_path / "preset" / "SHA256SUMS").write_text("sums")
    (tmp_path / "preset" / "1").mkdir()
    refused(tmp_path / where, "nothing is written into a preset", ends, root=tmp_path, overwrite=overwrite)


@pytest.mark.parametrize("name", ["checkpoints", "tensorboard", "figures"])
def test_file_in_the_place_of_a_folder_of_the_run(tmp_path, ends, name):
    run = old_run(tmp_path / "run")
    os.rename(run / name, tmp_path / "aside")
    (run / name).write_text("dear")
    refused(run, rf"{name} is no folder", ends)


# === Overwriting ===


def test_overwrite_removes_what_a_run_wrote_and_keeps_and_names_the_rest(tmp_path, ends, capsys):
    run = old_run(tmp_path / "run")
    theirs = ["thesis.txt", "notes/one.txt", "checkpoints/best.index.backup", "figures/mine.png", "tensorboard/a.txt"]
    theirs += ["checkpoints/ckpt-1.index.bak", ".writing.5.thesis.txt", "config.json.bak"]
    for name in theirs:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("dear")
    folder = open_folder(run, overwrite=True, learning_rate=0.1)
    folder.begin()
    folder.close()
    left = {name for name, data in contents(run).items() if data is not None}
    assert left == {*theirs, "config.json", "train.flags", ".lock"}
    said = capsys.readouterr().err
    assert "kept" in said and "and 3 more, which no run has written" in said
    ends(said)


def test_overwrite_deletes_nothing_before_the_run_begins(tmp_path, ends):
    run = old_run(tmp_path / "run")
    before = contents(run)
    folder = open_folder(run, overwrite=True, learning_rate=0.1)
    assert contents(run) == before
    folder.close()
    assert contents(run) == before
    ends("the old run is whole until the new one has something to keep")


@pytest.mark.parametrize("name", ["checkpoints", "tensorboard", "figures"])
def test_overwrite_with_a_symbolic_link(tmp_path, ends, name):
    run = old_run(tmp_path / "run")
    os.rename(run / name, tmp_path / "big_disk")
    (run / name).symlink_to(tmp_path / "big_disk")
    refused(run, f"{name} is a symbolic link", ends, overwrite=True)
    open_folder(run).close()  # to go on through a link is all right


@pytest.mark.parametrize("kind", ["linked weights", "linked folder of the run"])
def test_overwrite_removes_a_link_and_not_what_it_points_to(tmp_path, ends, kind):
    run = old_run(tmp_path / "run")
    if kind == "linked weights":
        os.rename(run / "model.weights.h5", tmp_path / "dear.h5")
        (run / "model.weights.h5").symlink_to(tmp_path / "dear.h5")
        begun = open_folder(run, overwrite=True)
        begun.begin()
        assert (tmp_path / "dear.h5").read_text() == "weights"
    else:
        (tmp_path / "link").symlink_to(run)
        begun = open_folder(tmp_path / "link", overwrite=True)
        begun.begin()
        assert (tmp_path / "link").is_symlink()
    assert not (run / "model.weights.h5").exists()
    begun.close()
    ends("the link's target stays")


def test_refusal_of_another_training_deletes_nothing(tmp_path, ends):
    first = open_folder(tmp_path / "run")
    first.begin()
    (tmp_path / "run" / ".writing.1.history.csv").write_text("what the other one is writing")
    refused(tmp_path / "run", "another training is using the run folder", ends, overwrite=True)
    first.close()


def test_leftovers_of_a_kill_go_and_those_of_others_stay(tmp_path, ends):
    run = old_run(tmp_path / "run")
    for name in (".writing.1.model.weights.h5", ".writing.2.config.json", ".writing.3.thesis.txt", ".writing.x.y"):
        (run / name).write_text("half")
    folder = open_folder(run)
    folder.begin()
    assert sorted(p.name for p in run.glob(".writing.*")) == [".writing.3.thesis.txt", ".writing.x.y"]
    folder.close()
    ends("only half-written files of the run itself are removed")


@pytest.mark.parametrize("depth", [1, 3])
def test_run_that_never_begins_leaves_no_folder(tmp_path, ends, depth):
    path = tmp_path.joinpath(*"abc"[:depth])
    folder = open_folder(path)
    assert path.is_dir()
    folder.close()
    assert not list(tmp_path.iterdir())
    ends("no folder is left")


def test_empty_folder_of_a_user_stays(tmp_path, ends):
    (tmp_path / "mine").mkdir()
    open_folder(tmp_path / "mine").close()
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"] and not list((tmp_path / "mine").iterdir())
    ends("the folder stays, without a .lock")


@pytest.mark.parametrize("what", ["folder", "its files"])
def test_checkpoints_deleted_to_save_space(tmp_path, ends, what):
    run = old_run(tmp_path / "run")
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    if what == "folder":
        (run / "checkpoints").rmdir()
    refused(run, "weights but no checkpoint.*evaluate.*--overwrite to start anew", ends)
    open_folder(run, overwrite=True).close()


def test_kill_before_the_first_checkpoint_resumes(tmp_path, ends):
    run = old_run(tmp_path / "run", checkpoints=False, weights=False)
    open_folder(run).close()
    ends("resumed: weights are written after the first checkpoint, so their absence says that none was deleted")


# === Characters that TensorFlow takes for patterns ===


@pytest.mark.parametrize(
    "name", ["st*r", "st?r", "st[a]r", "b[1]", "[!x]tar", "st\\ar", "{a,b}", "a b", "st'r", 'st"r']
)
def test_patterns_in_the_name_of_a_run(tmp_path, ends, name):
    import tensorflow as tf

    def checkpoints(folder, value):
        (folder / "checkpoints").mkdir(parents=True)
        variable = tf.Variable(float(value))
        saved = training.checkpoints.Checkpoints(folder / "checkpoints", value=variable)
        return variable, saved

    checkpoints(tmp_path / "star", 1)[1].save()
    checkpoints(tmp_path / "b1", 1)[1].save()
    before = contents(tmp_path)
    variable, saved = checkpoints(tmp_path / name, 2)
    for value in range(5):
        variable.assign(value)
        saved.save()
    assert {k: v for k, v in contents(tmp_path).items() if not k.startswith(name)} == before
    names = sorted(p.name for p in (tmp_path / name / "checkpoints").glob("*.index"))
    assert names == ["ckpt-4.index", "ckpt-5.index"]
    again = tf.Variable(0.0)
    said = []
    assert training.checkpoints.Checkpoints(tmp_path / name / "checkpoints", value=again).restore(said.append)
    assert float(again) == 4.0 and not said
    ends("rotates, resumes, and leaves its neighbours alone")


# === Histories ===

HEALTHY = "epoch,elbo,validation_elbo\r\n1,-3.0,-3.0\r\n2,-2.0,-2.0\r\n"
TAILS = {
    "NULs": b"\0" * 500,
    "a row and NULs": b"3,-1.0,-1.0\r\n" + b"\0" * 500,
    "half a row": b"3,-",
    "half a number": b"3,-1.0,-1",
    "no UTF-8": b"\xff\xfe\xfd",
    "a word": b"three,-1.0,-1.0\r\n",
    "too many fields": b"3,-1.0,-1.0,7\r\n",
    "an open quote": b'3,"-1.0,-1.0\r\n',
}


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
def test_damaged_tail_of_history(tmp_path, ends, tail, capsys):
    run = old_run(tmp_path / "run")
    (run / "history.csv").write_bytes(HEALTHY.encode() + tail)
    folder = open_folder(run)
    folder.begin()
    folder.truncate_history(4)
    folder.append_history({**ROW, "epoch": 5})
    epochs = [row["epoch"] for row in folder.read_history()]
    kept = ["1", "2", "3", "5"] if tail.startswith(b"3,-1.0,-1.0\r\n") else ["1", "2", "5"]
    assert epochs == kept
    said = capsys.readouterr().err
    assert f"the rows of epochs {len(kept)} to 4 are lost" in said
    folder.close()
    ends(said)


@pytest.mark.parametrize("text", ["a,b\r\n1,2\r\n", "dear diary", "epoch,epoch\r\n1,1\r\n", "1,-3.0\r\n", "", "\xff"])
def test_history_with_another_header(tmp_path, ends, text):
    run = old_run(tmp_path / "run")
    (run / "history.csv").write_text(text)
    refused(run, r"history\.csv does not begin with the columns of a history", ends)


def test_history_of_another_version_keeps_every_number_in_its_column(tmp_path, ends):
    run = old_run(tmp_path / "run")
    (run / "history.csv").write_text(HEALTHY)
    folder = open_folder(run)
    folder.truncate_history(2)
    folder.append_history({"epoch": 3, "new": 7.0, "validation_elbo": -1.0})
    folder.append_history({"epoch": 4, "new": 8.0, "validation_elbo": -0.5})
    rows = folder.read_history()
    assert [(row["epoch"], row["elbo"], row["new"]) for row in rows] == [
        ("1", "-3.0", ""),
        ("2", "-2.0", ""),
        ("3", "", "7.0"),
        ("4", "", "8.0"),
    ]
    folder.close()
    ends("all rows get all columns")


# === Output that could not be written ===


@pytest.mark.parametrize("kind", ["folder", "below a file", "in a preset", "in a subfolder of a preset"])
def test_output_is_checked_before_anything_is_computed(tmp_path, ends, kind):
    (tmp_path / "preset").mkdir()
    (tmp_path / "preset" / "SHA256SUMS").write_text("sums")
    (tmp_path / "file").write_text("dear")
    path = {
        "folder": tmp_path,
        "below a file": tmp_path / "file" / "a" / "e.json",
        "in a preset": tmp_path / "preset" / "e.json",
        "in a subfolder of a preset": tmp_path / "preset" / "a" / "e.json",
    }[kind]
    before = contents(tmp_path)
    with pytest.raises(
        ValueError, match=r"--out .* (is a folder|is not a folder|nothing is written into a preset)"
    ) as caught:
        files.check_output(path, "--out")
    assert contents(tmp_path) == before
    ends(caught.value)


# === Trainings that fail before there is anything to keep ===

LATE = {
    "pseudo-inputs from fewer images": {"model": {"num_components": 38, "prior": "vampprior_data"}},
    "images too small for convolutions": {"model": {"model": "conv_hvae", "image_shape": (2, 1, 1)}},
}


@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
@pytest.mark.parametrize("case", LATE.values(), ids=LATE)
def test_late_refusal_leaves_nothing_and_keeps_what_was_there(tmp_path, ends, case, overwrite):
    if overwrite:
        old_run(tmp_path / "run")
    before = contents(tmp_path)
    model = tiny_run.model_config(**case["model"])
    data = tiny_run.dataset(image_shape=model.image_shape) if model.image_shape[0] == 5 else None
    if data is None:
        data = tiny_run.dataset()
        crop = {split: getattr(data, split)[:, :2, :1] for split in ("train", "validation", "test")}
        data = data.__class__(spec=data.spec, fingerprint=data.fingerprint, **crop)
    with pytest.raises(Exception) as caught:
        tiny_run.trainer(tmp_path / "run", model, data=data, overwrite=overwrite)
    tiny_run.close(tmp_path / "run")
    assert contents(tmp_path) == before
    ends(caught.value)


# === Trainings that fail or are disturbed ===


def test_nan_in_the_first_epoch_leaves_no_folder(tmp_path, ends):
    trainer = tiny_run.trainer(
        tmp_path / "run", config=tiny_run.training_config(learning_rate=1e30), checkpoint_seconds=60
    )
    with pytest.raises(training.NotFinite, match="there was nothing to keep yet") as caught:
        trainer.fit()
    tiny_run.close(tmp_path / "run")
    assert not list(tmp_path.iterdir())
    ends(caught.value)


def test_nan_after_a_checkpoint_names_it(tmp_path, ends):
    tiny_run.trainer(tmp_path / "run", config=tiny_run.training_config(epochs=1)).fit()
    trainer = tiny_run.trainer(tmp_path / "run", config=tiny_run.training_config(epochs=3))
    trainer.steps.run = lambda *arguments: tf.constant([np.nan, 0.0])
    with pytest.raises(training.NotFinite, match=r"the last good checkpoint is kept in .*--overwrite") as caught:
        trainer.fit()
    assert list((tmp_path / "run" / "checkpoints").glob("ckpt-*.index"))
    ends(caught.value)


def test_overwriting_run_that_fails_in_its_first_epoch_keeps_the_old_one(tmp_path, ends):
    old_run(tmp_path / "run")
    before = contents(tmp_path)
    trainer = tiny_run.trainer(
        tmp_path / "run", config=tiny_run.training_config(learning_rate=1e30), overwrite=True, checkpoint_seconds=60
    )
    with pytest.raises(training.NotFinite) as caught:
        trainer.fit()
    tiny_run.close(tmp_path / "run")
    assert contents(tmp_path) == before
    ends(caught.value)


def test_overwriting_run_does_not_go_on_from_the_old_one(tmp_path, ends):
    tiny_run.trainer(tmp_path / "run", config=tiny_run.training_config(epochs=2)).fit()
    trainer = tiny_run.trainer(tmp_path / "run", config=tiny_run.training_config(epochs=1, seed=1), overwrite=True)
    trainer.fit()
    assert [row["epoch"] for row in trainer.folder.read_history()] == ["1"]
    assert len(list(trainer.folder.checkpoints.glob("ckpt-*.index"))) == 1
    ends("one epoch, one checkpoint, both of the new run")


@pytest.mark.parametrize("what", ["deleted", "replaced by a file"])
def test_tensorboard_disturbed_while_training(tmp_path, ends, what):
    trainer = tiny_run.trainer(tmp_path / "run", config=tiny_run.training_config(epochs=3))
    append = trainer.folder.append_history

    def disturb(row):
        append(row)
        if row["epoch"] == 2:
            shutil.rmtree(trainer.folder.tensorboard)
            if what != "deleted":
                trainer.folder.tensorboard.write_text("dear")

    trainer.folder.append_history = disturb
    if what == "deleted":
        trainer.fit()
        assert list(trainer.folder.tensorboard.iterdir())
        ends("written anew")
    else:
        with pytest.raises(RunFolderError, match="tensorboard cannot be written") as caught:
            trainer.fit()
        assert trainer.folder.tensorboard.read_text() == "dear"
        ends(caught.value)


SIZES = {
    "importance samples": {"objective": "iwae", "objective_samples": 10**9},
    "validation samples": {"selection": "importance_bound", "selection_samples": 10**12},
}


@pytest.mark.parametrize("settings", SIZES.values(), ids=SIZES)
def test_samples_that_no_memory_can_hold(tmp_path, ends, settings):
    with pytest.raises(ValueError, match=r"_samples=10+ would need at least .* GiB of memory") as caught:
        tiny_run.trainer(tmp_path / "run", config=tiny_run.training_config(**settings))
    tiny_run.close(tmp_path / "run")
    assert not list(tmp_path.iterdir())
    ends(caught.value)


# === Evaluations that are interrupted ===


class Stop(BaseException):
    pass


def evaluate(folder, model, data, stop_after=None, monkeypatch=None, **options):
    """Evaluates into `folder`, and is killed after so many images. Returns the number of images that were computed."""
    computed = 0

    class Bar:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, count):
            nonlocal computed
            computed += count
            if stop_after is not None and computed > stop_after:
                raise Stop

    monkeypatch.setattr(report, "tqdm", lambda **_: Bar())
    monkeypatch.setattr(partial, "SAVE_SECONDS", 0)
    monkeypatch.setattr(measures, "BATCH_SECONDS", float("inf"))  # batches of 1, 2, 4, ... on a slow machine, too
    begun = len(partial_files(folder))
    result = report.write(folder, model, data, "test", 3, 0, jit_compile=False, **options)
    return result, computed, begun


def partial_files(folder):
    return list(folder.glob("evaluation.partial.*.npz"))


@pytest.fixture
def evaluated(tmp_path, without_figures):
    """(run folder, model, dataset)."""
    folder = tmp_path / "run"
    folder.mkdir()
    return folder, models.create(tiny_run.model_config(), seed=1), tiny_run.dataset()


def test_evaluation_goes_on_where_it_was_interrupted(evaluated, ends, monkeypatch, capsys):
    folder, model, data = evaluated
    whole, *_ = evaluate(folder.parent / "other", model, data, monkeypatch=monkeypatch)
    with pytest.raises(Stop):
        evaluate(folder, model, data, stop_after=5, monkeypatch=monkeypatch)
    assert len(partial_files(folder)) == 1 and not (folder / "evaluation.json").exists()
    (path,) = partial_files(folder)
    with np.load(path) as arrays:
        np.savez(path, **{**arrays, "seconds": 1000.0})
    result, *_ = evaluate(folder, model, data, monkeypatch=monkeypatch)
    said = capsys.readouterr().err
    assert "going on after 3 images of an evaluation that was interrupted" in said
    assert result["log_likelihood"] == whole["log_likelihood"]
    assert result["seconds"] > 1000.0 > whole["seconds"]  # of both sessions
    assert not partial_files(folder)
    ends(said)


@pytest.mark.parametrize("change", ["weights", "seed", "split", "samples", "data"])
def test_results_of_another_evaluation_are_not_taken_and_not_lost(evaluated, ends, monkeypatch, capsys, change):
    folder, model, data = evaluated
    with pytest.raises(Stop):
        evaluate(folder, model, data, stop_after=5, monkeypatch=monkeypatch)
    before = contents(folder)
    monkeypatch.setattr(report, "tqdm", tqdm)
    arguments = {"split": "test", "num_samples": 3, "seed": 0}
    if change == "weights":
        model = models.create(tiny_run.model_config(), seed=2)
    elif change == "data":
        data = dataclasses.replace(data, fingerprint="1" * 64)
    else:
        arguments |= {"seed": {"seed": 1}, "split": {"split": "validation"}, "samples": {"num_samples": 4}}[change]
    report.write(folder, model, data, jit_compile=False, **arguments)
    assert "going on" not in capsys.readouterr().err
    assert before.items() <= contents(folder).items()
    ends("computed anew; what was kept of the other one is still there")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"dear diary", "pickle"], ids=str)
def test_damaged_partial_results(evaluated, ends, monkeypatch, data):
    folder, model, dataset = evaluated
    with pytest.raises(Stop):
        evaluate(folder, model, dataset, stop_after=5, monkeypatch=monkeypatch)
    (path,) = partial_files(folder)
    if data == "pickle":
        np.savez(path, key=np.array([None]), values=np.array([None]))
    else:
        path.write_bytes(data)
    _, computed, _ = evaluate(folder, model, dataset, monkeypatch=monkeypatch)
    assert computed == 12 and not partial_files(folder)
    ends("computed anew")


def test_full_disk_while_partial_results_are_kept(evaluated, ends, monkeypatch):
    folder, model, dataset = evaluated

    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(partial.PartialResults, "_write", full)
    result, computed, _ = evaluate(folder, model, dataset, monkeypatch=monkeypatch)
    assert computed == 12 and result["num_images"] == 12
    ends("the evaluation goes on")


def test_full_disk_at_the_end_shows_the_result(evaluated, ends, monkeypatch):
    folder, model, dataset = evaluated

    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_text", full)
    with pytest.raises(
        OSError, match=r"cannot be written \(No space left on device\).*\"log_likelihood\": -"
    ) as caught:
        report.write(folder, model, dataset, "test", 3, jit_compile=False)
    ends(caught.value)


def test_figures_that_cannot_be_written_cost_no_numbers(evaluated, ends):
    folder, model, dataset = evaluated
    (folder / "figures").write_text("dear")
    with pytest.raises(OSError, match=r"is written, but .*figures cannot be") as caught:
        report.write(folder, model, dataset, "test", 3, jit_compile=False)
    assert json.loads((folder / "evaluation.json").read_text())["num_images"] == 12
    ends(caught.value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_in_a_step_that_takes_hours(tmp_path, ends, number):
    """In a forked process: the computation is a sleep that no signal wakes up, as TensorFlow's are."""
    child = os.fork()
    if child == 0:

        def compute():
            threading.Event().wait(60)

        threading.Timer(0.5, os.kill, (os.getpid(), number)).start()
        program.interruptible(compute, "the same command goes on from here")
        os._exit(1)
    begin = time.monotonic()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == (0 if number == signal.SIGTERM else 130)
    assert time.monotonic() - begin < 10
    ends(f"exit code {os.waitstatus_to_exitcode(status)}, at once")


def test_errors_of_an_interruptible_computation_are_raised(tmp_path):
    with pytest.raises(ZeroDivisionError):
        program.interruptible(lambda: 1 / 0, "")
    assert program.interruptible(lambda: 7, "") == 7


# === Flags ===


@pytest.mark.parametrize("text", ["a\nb", "a\n--seed=9", "a\rb", "a\x0bb", "a\u2028b", "\n", "~nobody_of_that_name/x"])
def test_paths_that_are_refused(tmp_path, ends, text):
    with pytest.raises(ValueError, match=r"line breaks|home") as caught:
        program._PathParser().parse(text)
    ends(caught.value)


@pytest.mark.parametrize("text", ["~", "~/x", "~root/x"])
def test_home_folder_in_a_path(tmp_path, ends, text):
    path = program._PathParser().parse(text)
    assert path == os.path.expanduser(text) and "~" not in path
    ends("the home folder")


@pytest.mark.parametrize("num_samples", [0, -1, 2**31, 10**12])
def test_numbers_of_importance_samples(tmp_path, ends, num_samples):
    with pytest.raises(ValueError, match=r"^num_samples (must be at least 1|may be at most 2147483647)") as caught:
        config.check_num_samples(num_samples)
    ends(caught.value)
