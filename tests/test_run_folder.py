"""The run folder: what it refuses, what it survives, and what every refusal says."""

import json
import os
import tempfile

import child_runs
import pytest
import tiny_run

from vampzoo.config import ModelConfig, TrainingConfig
from vampzoo.files import atomic_path, write_text
from vampzoo.training import RunFolder, RunFolderError, places_of_data

CONFIG = tiny_run.run_config(ModelConfig(), TrainingConfig())


def open_folder(path, overwrite=False, **training):
    config = {**CONFIG, "training": {**CONFIG["training"], **training}}
    folder = RunFolder(path, config, "--seed=0\n", overwrite)
    folder.begin()
    return folder


def test_new_folder_has_its_files(tmp_path):
    folder = open_folder(tmp_path / "a" / "run")
    assert json.loads(folder.config_path.read_text()) == json.loads(json.dumps(CONFIG))
    assert (folder.path / "train.flags").read_text() == "--seed=0\n"
    assert folder.checkpoints.is_dir()


def test_same_settings_open_again_and_others_are_refused_by_flag(tmp_path):
    open_folder(tmp_path).close()
    open_folder(tmp_path).close()
    with pytest.raises(RunFolderError, match=r"--learning_rate \(training.learning_rate was 0.0005, is now 0.1\)"):
        open_folder(tmp_path, learning_rate=0.1)
    open_folder(tmp_path, learning_rate=0.1, overwrite=True).close()
    with pytest.raises(RunFolderError, match="--learning_rate"):
        open_folder(tmp_path)


def test_changed_data_are_refused(tmp_path):
    open_folder(tmp_path).close()
    other = {**CONFIG, "data": {**CONFIG["data"], "fingerprint": "1" * 64}}
    with pytest.raises(RunFolderError, match="the data changed"):
        RunFolder(tmp_path, other)


@pytest.mark.parametrize("change", [{"epochs": 7}, {"patience": 7}])
def test_what_extends_a_run_is_taken(tmp_path, change):
    open_folder(tmp_path).close()
    folder = open_folder(tmp_path, **change)
    assert json.loads(folder.config_path.read_text())["training"].items() >= change.items()


def test_a_resume_that_only_shortens_the_run_does_not_rewrite_what_it_was(tmp_path):
    folder = open_folder(tmp_path)
    for epoch in (1, 2, 3):
        folder.append_history({"epoch": epoch, "elbo": -1.0})
    folder.close()
    before = folder.config_path.read_text()
    open_folder(tmp_path, epochs=3).close()  # nothing is left to do: 2000 epochs were asked for, and 3 are done
    assert folder.config_path.read_text() == before
    open_folder(tmp_path, epochs=4).close()  # a fourth comes to it, and no fifth will
    assert json.loads(folder.config_path.read_text())["training"]["epochs"] == 4


def test_places_of_data_are_those_of_the_run(tmp_path):
    open_folder(tmp_path).close()
    assert places_of_data(tmp_path) == {}
    lines = ["--dataset=npz", f"--manual_dir={tmp_path}", f"--data_dir={tmp_path / 'gone'}", "--data_file=a=b.npz"]
    (tmp_path / "train.flags").write_text("\n".join(lines) + "\n")
    assert places_of_data(tmp_path) == {"manual_dir": str(tmp_path), "data_file": "a=b.npz"}


def test_settings_that_the_old_version_did_not_have(tmp_path):
    open_folder(tmp_path).close()
    config = json.loads((tmp_path / "config.json").read_text())
    del config["training"]["mixed_precision"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunFolderError, match="--mixed_precision"):
        open_folder(tmp_path, mixed_precision="bfloat16")
    open_folder(tmp_path)


def test_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(RunFolderError, match=r"thesis\.tex.*not a run folder"):
            open_folder(tmp_path, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "dear"


def test_overwrite_deletes_everything(tmp_path):
    folder = open_folder(tmp_path)
    (folder.checkpoints / "ckpt-1.index").write_text("x")
    folder.append_history({"epoch": 1})
    folder.close()
    folder = open_folder(tmp_path, overwrite=True)
    assert not list(folder.checkpoints.iterdir())
    assert folder.read_history() == []


def test_second_training_is_refused_until_the_first_ends(tmp_path):
    first = open_folder(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(RunFolderError, match="another training is using the run folder"):
            open_folder(tmp_path, overwrite=overwrite)
    first.close()
    open_folder(tmp_path)


def test_path_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot be written: Not a directory"):
        open_folder(tmp_path / "file" / "run")
    with pytest.raises(RunFolderError, match="cannot be written: File exists"):
        open_folder(tmp_path / "file")


def _open_as_nobody(path):
    os.setuid(65534)
    try:
        open_folder(path)
    except RunFolderError as error:
        return str(error)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody with fewer rights")
def test_folder_without_the_right_to_write():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own temporary folders are closed to others
        os.chmod(folder, 0o755)
        open_folder(folder).close()
        assert f"{folder} cannot be written: Permission denied" in child_runs.call(_open_as_nobody, folder)


def test_workers_that_do_not_write_create_nothing(tmp_path):
    folder = RunFolder(tmp_path / "run", CONFIG, writer=False)
    folder.append_history({"epoch": 1})
    folder.truncate_history(0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stage", range(1, 4))
def test_kill_while_the_folder_is_made(tmp_path, monkeypatch, stage):
    """Whatever the last thing was that it came to do, the same command goes on."""
    from vampzoo.training import run_folder

    count = 0

    class Killed(BaseException):
        pass

    def until_the_kill(function):
        def counted(*args, **kwargs):
            nonlocal count
            count += 1
            if count == stage:
                raise Killed
            return function(*args, **kwargs)

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(run_folder.files, "write_text", until_the_kill(write_text))
        patch.setattr(run_folder.pathlib.Path, "mkdir", until_the_kill(run_folder.pathlib.Path.mkdir))
        with pytest.raises(Killed):
            open_folder(tmp_path / "run")
    open_folder(tmp_path / "run")


def test_atomic_path_leaves_the_old_file_and_no_other(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("ne")
        1 / 0  # noqa: B018
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_temporary_files_of_a_killed_run_are_removed(tmp_path):
    open_folder(tmp_path).close()
    (tmp_path / ".writing.1.model.weights.h5").write_text("half")
    open_folder(tmp_path)
    assert not list(tmp_path.glob(".writing*"))


def test_history_is_cut_where_the_checkpoint_stands(tmp_path):
    folder = open_folder(tmp_path)
    for epoch in range(1, 5):
        folder.append_history({"epoch": epoch, "elbo": -float(epoch)})
    with (tmp_path / "history.csv").open("a") as file:
        file.write("5,-")  # a row that a kill cut short
    folder.truncate_history(2)
    folder.append_history({"epoch": 3, "elbo": -9.0})
    assert [(row["epoch"], row["elbo"]) for row in folder.read_history()] == [
        ("1", "-1.0"),
        ("2", "-2.0"),
        ("3", "-9.0"),
    ]
    folder.truncate_history(0)
    assert folder.read_history() == []
