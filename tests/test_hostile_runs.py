"""Hostile situations around run folders: nothing of anybody's is deleted, and what goes wrong is said in a line."""

import json
import os
import pathlib

import pytest
import tiny_run

from vampzoo import files, training
from vampzoo.config import ModelConfig, TrainingConfig
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
