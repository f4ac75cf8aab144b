"""Hostile situations around presets and exports: no folder of anybody's is replaced, and nothing tampered with is signed."""

import json
import os
import pathlib
import shutil
import signal
import threading
import time

import child_runs
import numpy as np
import pytest
import tiny_preset

import vampzoo
from vampzoo import client, export, files, models, zoo
from vampzoo.config import ModelConfig
from vampzoo.errors import VampzooError
from vampzoo.zoo import listing, preset_folder, replacing, serving, writing

NAME = tiny_preset.NAME


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tiny_preset.write_zoo(tmp_path_factory.mktemp("made"))


@pytest.fixture
def folders(made, tmp_path):
    """(run folder, zoo folder) of one's own."""
    for folder in made[:2]:
        shutil.copytree(folder, tmp_path / folder.name)
    return tmp_path / "run", tmp_path / "zoo"


@pytest.fixture
def quick(monkeypatch):
    """An export that writes a text in the place of a SavedModel, and no picture: for what goes on around it."""

    def write(folder, model, name, config, metrics, version, note="", unlisted=()):
        (folder / str(version)).mkdir()
        (folder / str(version) / "saved_model.pb").write_text(f"version {version}")
        for file in ("README.md", "metrics.json", "samples.png"):
            (folder / file).write_text(f"of version {version}")
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.weights.h5").write_text("weights")
        zoo.write_checksums(folder, unlisted)

    monkeypatch.setattr(writing, "write", write)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in pathlib.Path(folder).rglob("*")
    }


def refused(run, zoo_dir, message, ends, name=NAME, root=None):
    root = root or zoo_dir.parent
    before = contents(root)
    with pytest.raises(VampzooError, match=message) as caught:
        export.export_preset(run, name, zoo_dir)
    assert contents(root) == before
    assert "\n" not in str(caught.value)
    ends(caught.value)


# === What an export would replace ===


def test_export_onto_its_own_run_folder(folders, ends):
    run, _ = folders
    refused(run, run.parent, "run is a folder without SHA256SUMS", ends, name="run", root=run)


@pytest.mark.parametrize("kind", ["empty folder", "folder", "file", "folder with foreign sums", "dangling link"])
def test_export_onto_what_is_no_preset(folders, ends, kind):
    run, zoo_dir = folders
    target = zoo_dir / "mine"
    if kind == "file":
        target.write_text("dear")
    elif kind == "dangling link":
        target.symlink_to(zoo_dir / "nowhere")
    else:
        target.mkdir()
        if kind != "empty folder":
            (target / "thesis.txt").write_text("dear")
        if kind == "folder with foreign sums":
            zoo.write_checksums(target)
    message = "folder without SHA256SUMS|is a file|does not list config.json|a symbolic link to"
    refused(run, zoo_dir, message, ends, name="mine")


@pytest.mark.parametrize("place", ["value", "stderr", "paper", "dataset", "license", "evaluation"])
@pytest.mark.parametrize("odd", ["n/a", [1], {"a": 1}, 5, float("nan"), True])
def test_odd_values_of_one_preset_leave_the_table_of_all(folders, place, odd):
    _, zoo_dir = folders
    path = zoo_dir / NAME / "metrics.json"
    metrics = json.loads(path.read_text())
    if place in ("value", "stderr"):
        metrics["evaluation"]["log_likelihood" + ("_stderr" if place == "stderr" else "")] = odd
    else:
        metrics[place] = odd
    path.write_text(json.dumps(metrics))
    table = zoo.presets(zoo_dir, dataset="glyph")
    if place != "dataset":
        assert table == [NAME] or place == "evaluation"
    for shown in (zoo.presets(zoo_dir), table):
        assert repr(shown) and shown._repr_html_() and shown.markdown() and json.dumps(shown.rows())
    assert zoo.presets(zoo_dir) == [NAME]


@pytest.mark.parametrize("where", [".", "1", "1/variables", "deeper/still"])
def test_zoo_within_a_preset(folders, ends, where):
    run, zoo_dir = folders
    refused(run, zoo_dir / NAME / where, "nothing is written into a preset", ends, name="other", root=zoo_dir)


@pytest.mark.parametrize(("run_dir", "zoo_dir"), [("run", f"zoo/{NAME}/deeper/still"), ("no run", "new zoo")])
def test_a_refused_export_makes_no_folder(folders, ends, run_dir, zoo_dir):
    root = folders[0].parent
    before = contents(root)
    arguments = [f"--run_dir={root / run_dir}", f"--zoo_dir={root / zoo_dir}", "--name=hvae_vampprior_x"]
    code, _, error = child_runs.call(child_runs.run_program, "export", *arguments)
    assert code == 1 and "Traceback" not in error
    assert contents(root) == before
    ends(error.strip())


@pytest.mark.parametrize("file", ["README.md", "config.json", "1/saved_model.pb", "samples.png", "metrics.json"])
@pytest.mark.parametrize("how", ["changed", "deleted"])
def test_export_over_a_tampered_preset_signs_nothing(folders, ends, file, how):
    run, zoo_dir = folders
    path = zoo_dir / NAME / file
    path.write_bytes(path.read_bytes() + b" ") if how == "changed" else path.unlink()
    refused(run, zoo_dir, r"is damaged: its SHA-256|is missing, though", ends)


@pytest.mark.parametrize(
    "text", [b"", b"\xff\xfe\x00", b"no sums\n", b"0" * 64 + b"  config.json\n", b"dear diary"], ids=str
)
def test_damaged_sums_are_named(folders, ends, text):
    run, zoo_dir = folders
    (zoo_dir / NAME / "SHA256SUMS").write_bytes(text)
    refused(run, zoo_dir, r"SHA256SUMS|config\.json is damaged", ends)
    with pytest.raises(zoo.ZooError, match=r"SHA256SUMS|config\.json is damaged"):
        vampzoo.load(NAME, zoo_dir=zoo_dir)


def test_file_that_a_user_put_where_an_export_writes(folders, ends):
    run, zoo_dir = folders
    sums = zoo_dir / NAME / "SHA256SUMS"
    sums.write_text("".join(line for line in sums.read_text().splitlines(True) if "README" not in line))
    refused(run, zoo_dir, r"README\.md is not listed", ends)


def test_index_that_is_somebody_elses(folders, ends):
    run, zoo_dir = folders
    (zoo_dir / "index.json").write_text('{"pages": 3}')
    refused(run, zoo_dir, r"index\.json is no table of presets", ends)


def test_further_export_keeps_what_users_put_there(folders, ends, quick):
    run, zoo_dir = folders
    preset = zoo_dir / NAME
    (preset / "notes" / "deep").mkdir(parents=True)
    theirs = {"notes/deep/a.txt": b"dear", "1/mine.txt": b"mine", "paper.pdf": b"pdf"}
    for name, data in theirs.items():
        (preset / name).write_bytes(data)
    (preset / "link").symlink_to("/nowhere")
    export.export_preset(run, NAME, zoo_dir)
    assert {name: (preset / name).read_bytes() for name in theirs} == theirs
    assert os.readlink(preset / "link") == "/nowhere"
    listed = zoo.verify(preset)
    assert "2/saved_model.pb" in listed and "1/saved_model.pb" in listed and not set(listed) & set(theirs)
    ends("kept, and not signed")


@pytest.mark.parametrize("version", [7, 1700000000, 2**63 - 2])
def test_export_beside_a_large_version_number(folders, ends, quick, version):
    run, zoo_dir = folders
    shutil.copytree(zoo_dir / NAME / "1", zoo_dir / NAME / str(version))
    zoo.write_checksums(zoo_dir / NAME)
    begin = time.monotonic()
    export.export_preset(run, NAME, zoo_dir)
    assert time.monotonic() - begin < 30
    assert (zoo_dir / NAME / str(version + 1)).is_dir() and (zoo_dir / NAME / str(version)).is_dir()
    ends(f"version {version + 1} beside {version}")


def test_no_version_number_is_left(folders, ends, quick):
    run, zoo_dir = folders
    os.rename(zoo_dir / NAME / "1", zoo_dir / NAME / str(2**63 - 1))
    zoo.write_checksums(zoo_dir / NAME)
    refused(run, zoo_dir, "no version number after this one", ends)


@pytest.mark.parametrize("folder", ["x1", "²", "-3", "1.5", "01x"])
def test_folders_that_are_no_versions(folders, ends, quick, folder):
    run, zoo_dir = folders
    (zoo_dir / NAME / folder).mkdir()
    export.export_preset(run, NAME, zoo_dir)
    assert zoo.latest_version(zoo_dir / NAME) == 2 and (zoo_dir / NAME / folder).is_dir()
    ends("version 2; the folder stays")


def test_a_folder_of_notes_with_a_number_as_its_name(folders, ends, quick):
    run, zoo_dir = folders
    for name in ("2024", "01"):
        (zoo_dir / NAME / name).mkdir()
        (zoo_dir / NAME / name / "notes.txt").write_text("dear")
    (zoo_dir / NAME / "01" / "saved_model.pb").write_text("of another program")
    assert zoo.latest_version(zoo_dir / NAME) == 1
    vampzoo.load(zoo_dir / NAME)
    export.export_preset(run, NAME, zoo_dir)
    assert zoo.latest_version(zoo_dir / NAME) == 2025  # nothing is written into any folder of theirs
    assert (zoo_dir / NAME / "2024" / "notes.txt").read_text() == "dear"
    ends("version 2025; the notes stay")


@pytest.mark.parametrize("when", ["after the configuration was read", "while it is verified"])
def test_a_preset_replaced_while_it_is_loaded(folders, ends, monkeypatch, when):
    zoo_dir = folders[1]
    preset, new = zoo_dir / NAME, zoo_dir / "new"
    other = zoo_dir.parent / "other"
    tiny_preset.write_run(other / "run", pseudo_inputs_stddev=0.3)
    models.create(tiny_preset.config(), seed=9).save_weights(other / "run" / "model.weights.h5")
    export.export_preset(other / "run", NAME, other)
    os.rename(other / NAME, new)
    done, read, digest = [], preset_folder.read_config, files.sha256

    def replaced(value):
        if not done:
            done.append(replacing._exchange(preset, new))
        return value

    if when.startswith("after"):
        monkeypatch.setattr(preset_folder, "read_config", lambda folder: replaced(read(folder)))
    else:
        monkeypatch.setattr(files, "sha256", lambda path: replaced(digest(path)))
    model = vampzoo.load(preset)
    assert done and model.model_config.pseudo_inputs_stddev == 0.3
    expected = vampzoo.load(other / "run")
    assert not writing.differing_weights(model, expected)
    ends("the new one, whole")


def test_two_exports_of_different_names_end_together(folders, ends, quick, monkeypatch):
    run, zoo_dir = folders
    names, rows, threads = ("hvae_vampprior_a", "hvae_vampprior_b"), listing.presets, []

    def second_comes_between(folder):
        found = rows(folder)
        if not threads:
            threads.append(threading.Thread(target=export.export_preset, args=(run, names[1], zoo_dir)))
            threads[0].start()
            threads[0].join(1.0)
        return found

    monkeypatch.setattr(listing, "presets", second_comes_between)
    export.export_preset(run, names[0], zoo_dir)
    threads[0].join(60)
    index = json.loads((zoo_dir / "index.json").read_text())
    assert {row["name"] for row in index} == {NAME, *names}
    assert not list(zoo_dir.glob(".*"))
    ends("all are in the table")


def test_symlinked_preset_stays_a_link_and_is_renewed(folders, ends, quick, tmp_path):
    run, zoo_dir = folders
    (tmp_path / "big disk").mkdir()
    os.rename(zoo_dir / NAME, tmp_path / "big disk" / "it")
    (zoo_dir / NAME).symlink_to(tmp_path / "big disk" / "it")
    export.export_preset(run, NAME, zoo_dir)
    assert (zoo_dir / NAME).is_symlink() and zoo.latest_version(tmp_path / "big disk" / "it") == 2
    assert [p.name for p in (tmp_path / "big disk").iterdir()] == ["it"]
    ends("version 2 where the link points to")


def test_two_exports_of_one_name(folders, ends, quick):
    run, zoo_dir = folders
    threads = [threading.Thread(target=export.export_preset, args=(run, NAME, zoo_dir)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert zoo.latest_version(zoo_dir / NAME) == 4
    assert {(zoo_dir / NAME / str(n) / "saved_model.pb").read_text() for n in (2, 3, 4)} == {
        "version 2",
        "version 3",
        "version 4",
    }
    assert sorted(p.name for p in zoo_dir.iterdir()) == [NAME, "index.json"]
    ends("one after the other; all versions are there")


def test_export_that_never_ends_is_not_waited_for_without_end(folders, ends, quick, monkeypatch):
    run, zoo_dir = folders
    monkeypatch.setattr(replacing, "LOCK_SECONDS", 0.3)
    lock = files.Lock(zoo_dir / f".{NAME}.lock")
    refused(run, zoo_dir, "another export of .* has not ended within", ends)
    lock.release(remove=True)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("exchange", [True, False], ids=["in one step", "on NFS"])
@pytest.mark.parametrize("stage", ["before", "between", "after"])
def test_kill_around_the_exchange(folders, ends, quick, monkeypatch, stage, exchange):
    """The preset of before or the new one is there; where folders cannot be exchanged, after the next export."""
    run, zoo_dir = folders
    if not exchange:
        monkeypatch.setattr(replacing.ctypes, "CDLL", lambda *a, **k: object())
        monkeypatch.setattr(replacing.ctypes, "get_errno", lambda: replacing.errno.ENOSYS)
    rename, count = os.rename, 0

    def kill(*paths):
        nonlocal count
        count += 1
        if stage == "between" and count == 2:
            raise Killed
        rename(*paths)

    exchange_folders = replacing._exchange

    def around(*paths):
        if stage == "before":
            raise Killed
        exchange_folders(*paths)
        if stage == "after":
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(replacing.os, "rename", kill)
        patch.setattr(replacing, "_exchange", around)
        patch.setattr(replacing.shutil, "rmtree", lambda *a, **k: None)  # as nothing is removed after a kill
        if stage == "between" and exchange:
            export.export_preset(run, NAME, zoo_dir)  # there is no between
            assert count == 0
        else:
            with pytest.raises(Killed):
                export.export_preset(run, NAME, zoo_dir)
    if exchange or stage != "between":
        zoo.verify(zoo_dir / NAME)
    export.export_preset(run, NAME, zoo_dir)
    zoo.verify(zoo_dir / NAME)
    assert sorted(p.name for p in zoo_dir.iterdir()) == [NAME, "index.json"]
    assert (zoo_dir / NAME / "1").is_dir()
    ends("a whole preset is there, and the next export cleans up")


def test_left_overs_of_others_stay(folders, ends, quick):
    run, zoo_dir = folders
    stays = [f".writing.{NAME}_2.abcdefgh", ".writing.other.abcdefgh", f".writing.{NAME}.mine", ".writing.notes"]
    for name in [*stays, f".writing.{NAME}.abcdefgh"]:
        (zoo_dir / name).mkdir()
    export.export_preset(run, NAME, zoo_dir)
    assert sorted(p.name for p in zoo_dir.glob(".writing*")) == sorted(stays)
    ends("only what this export's own killed predecessors left is removed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_in_an_export(tmp_path, ends, number):
    """In a forked process, as the handler ends it."""
    temporary = tmp_path / "new"
    temporary.mkdir()
    child = os.fork()
    if child == 0:
        with replacing._ended_by_signals(temporary):
            os.kill(os.getpid(), number)
            time.sleep(30)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + number
    assert not temporary.exists()
    ends(f"exit code {128 + number}, and nothing is left")


def test_full_disk_in_an_export(folders, ends, monkeypatch):
    run, zoo_dir = folders

    def write(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write", write)
    refused(run, zoo_dir, r"cannot be written \(No space left on device\); what was there is as it was", ends)


# === Weights ===


@pytest.mark.parametrize("pattern", ["z[1]", "z*"])
def test_patterns_in_the_path_of_a_zoo(made, tmp_path, ends, pattern):
    model = models.create(tiny_preset.config(), seed=5)
    (tmp_path / pattern).mkdir()
    (tmp_path / "z1").mkdir()
    serving.export(model, tmp_path / pattern / "1", NAME)
    shutil.copyfile(made[1] / NAME / "config.json", tmp_path / pattern / "config.json")
    zoo.write_checksums(tmp_path / pattern)
    np.testing.assert_array_equal(vampzoo.load(tmp_path / pattern).pseudo_inputs, model.pseudo_inputs)
    assert not list((tmp_path / "z1").iterdir())
    ends("exported and loaded")


OTHERS = {
    "standard for vampprior": ({}, {"prior": "standard"}),
    "mog for vampprior": ({}, {"prior": "mog"}),
    "vampprior for standard": ({"prior": "standard"}, {"prior": "vampprior"}),
    "standard for mog": ({"prior": "mog"}, {"prior": "standard"}),
    "vampprior_data for vampprior": ({}, {"prior": "vampprior_data"}),
    "vampprior for vampprior_data": ({"prior": "vampprior_data"}, {"prior": "vampprior"}),
    "equal for trained weights": ({"weighted": True}, {"weighted": False}),
    "trained for equal weights": ({}, {"weighted": True}),
    "other K": ({}, {"num_components": 4}),
    "vae for hvae": ({}, {"model": "vae"}),
    "hvae for vae": ({"model": "vae"}, {"model": "hvae"}),
    "deep_vae for hvae": ({"prior": "mog"}, {"model": "deep_vae"}),
    "other latents": ({}, {"z1_size": 2}),
    "other likelihood": ({}, {"likelihood": "discretized_logistic"}),
    "other images": ({}, {"image_shape": (8, 9, 1)}),
}


@pytest.mark.parametrize(("fields", "changes"), OTHERS.values(), ids=OTHERS)
def test_config_of_another_model_than_the_weights(tmp_path, ends, fields, changes):
    tiny_preset.write_run(tmp_path / "run", **fields)
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    config["model"].update(changes)
    path.write_text(json.dumps(config))
    with pytest.raises(zoo.ZooError, match=r"model\.weights\.h5 cannot be read as the weights of the model") as caught:
        vampzoo.load(tmp_path / "run")
    assert "\n" not in str(caught.value)
    ends(caught.value)


@pytest.mark.parametrize("damage", ["empty", "first half", "zeros in the middle", "text", "one byte"])
def test_damaged_weights_are_named(folders, ends, damage):
    run, _ = folders
    path = run / "model.weights.h5"
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(
        {
            "empty": b"",
            "first half": data[:middle],
            "zeros in the middle": data[: middle // 4] + bytes(middle) + data[middle // 4 + middle :],
            "text": b"dear diary" * 100,
            "one byte": data[:8] + b"\xff" + data[9:],
        }[damage]
    )
    with pytest.raises(zoo.ZooError, match=r"model\.weights\.h5 cannot be read as the weights of the model") as caught:
        vampzoo.load(run)
    ends(caught.value)


def test_weights_replaced_while_they_are_loaded(folders, ends, monkeypatch):
    """What is loaded is what was hashed: the file is read once."""
    run, _ = folders
    path = run / "model.weights.h5"
    digest, read = files.sha256(path), pathlib.Path.read_bytes

    def replace_after(self):
        data = read(self)
        if self == path:
            self.write_bytes(b"those of the next epoch")
        return data

    monkeypatch.setattr(pathlib.Path, "read_bytes", replace_after)
    assert vampzoo.load(run).weights_sha256 == digest
    ends("the weights and the hash of before")


def test_weights_that_were_not_evaluated_are_not_exported(folders, ends):
    run, zoo_dir = folders
    evaluation = {**tiny_preset.EVALUATION, "weights_sha256": files.sha256(run / "model.weights.h5")}
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    models.create(tiny_preset.config(), seed=9).save_weights(run / "model.weights.h5")
    refused(run, zoo_dir, "is about other weights", ends)


def test_name_of_a_preset_and_of_a_folder_here(folders, ends, monkeypatch):
    run, zoo_dir = folders
    (run.parent / "here").mkdir()
    shutil.copytree(run, run.parent / "here" / NAME)
    monkeypatch.chdir(run.parent / "here")
    with pytest.raises(zoo.ZooError, match=r"is the preset .* and a folder here, too") as caught:
        zoo.find(NAME, zoo_dir)
    assert zoo.find(f"./{NAME}", zoo_dir)[0].resolve() == run.parent / "here" / NAME
    monkeypatch.chdir(zoo_dir)
    assert zoo.find(NAME, zoo_dir)[0] == zoo_dir / NAME  # the same folder
    ends(caught.value)


@pytest.mark.parametrize("data", [None, 3, [], {}, {"dataset": "glyphs"}, {"dataset": 1, "fingerprint": "0"}], ids=str)
def test_config_that_does_not_say_which_data(folders, ends, data):
    run, _ = folders
    config = json.loads((run / "config.json").read_text())
    config["data"] = data
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        zoo.ZooError, match=r"config\.json (does not say which data|is no valid configuration)"
    ) as caught:
        zoo.read_data(run)
    ends(caught.value)


# === Sizes ===

HUGE = {
    "K": {"num_components": 10**15},
    "K of a mog": {"num_components": 10**15, "prior": "mog"},
    "hidden units": {"hidden_units": 10**7},
    "hidden units of a vae": {"hidden_units": 10**7, "model": "vae"},
    "hidden units of a deep_vae": {"hidden_units": 10**7, "model": "deep_vae", "prior": "mog"},
    "hidden units of a conv_hvae": {"hidden_units": 10**7, "model": "conv_hvae", "image_shape": (28, 28, 1)},
    "latents": {"z2_size": 10**12},
    "lower latents": {"z1_size": 10**12},
    "latents of each layer": {"model": "topdown_hvae", "latent_size": 10**12},
    "state": {"model": "topdown_hvae", "state_size": 10**12},
    "units of each layer": {"model": "topdown_hvae", "layer_units": 10**12},
    "maps": {"model": "topdown_hvae", "decoder": "conv", "image_shape": (8, 8, 1), "conv_maps": 10**7},
    "units of each pixel": {
        "model": "topdown_hvae",
        "decoder": "pixel",
        "image_shape": (8, 8, 1),
        "pixel_units": 10**12,
    },
    "images": {"image_shape": (10**6, 10**6, 3)},
    "channels": {"image_shape": (8, 8, 10**12)},
}


@pytest.mark.parametrize("fields", HUGE.values(), ids=HUGE)
def test_models_that_no_memory_can_hold(ends, tmp_path, fields):
    begin = time.monotonic()
    with pytest.raises(VampzooError, match=r"would need at least .* GiB of memory; there are") as caught:
        models.create(tiny_preset.config(**fields))
    assert time.monotonic() - begin < 5
    ends(caught.value)


def test_least_weights_are_fewer_than_there_are():
    for fields in (
        *({"model": m, "prior": p} for m in ("vae", "hvae") for p in ("standard", "mog", "vampprior")),
        {"model": "deep_vae", "prior": "mog"},
        {"model": "conv_hvae"},
        {"model": "pixel_hvae"},
        {"model": "topdown_hvae"},
        {"model": "topdown_hvae", "shared_layers": True, "decoder": "gated"},
        {"model": "topdown_hvae", "layers": 1, "prior": "standard"},
        {"model": "topdown_hvae", "decoder": "pixel", "pixel_units": 20, "pixel_layers": 3},
        {"model": "topdown_hvae", "decoder": "conv", "conv_maps": 40},
        {"model": "topdown_hvae", "decoder": "block", "conv_maps": 9, "pixel_units": 20, "pixel_layers": 3},
        {"model": "topdown_hvae", "decoder": "block", "block_window": 5, "image_shape": (12, 8, 3)},
    ):
        config = ModelConfig(**{"image_shape": (12, 8, 1), "num_components": 7, "hidden_units": 50, **fields})
        assert config.least_weights() <= models.create(config).count_params(), fields


@pytest.mark.parametrize("n", [10**10, 2**40, 10**15])
def test_images_that_no_memory_can_hold(made, ends, tmp_path, n):
    with pytest.raises(VampzooError, match=r"n=\d+ images would need at least .* GiB of memory") as caught:
        made[2].sample(n)
    ends(caught.value)


# === Requests ===


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2**32 + 4),
        ("n", 2**31),
        ("n", -(2**31) - 1),
        ("n", 2**70),
        ("seed", [0, 2**33]),
        ("component", 10**12),
        ("z2", [[1e300]]),
        ("z2", [["a"]]),
        ("images", [None]),
        ("seed", [1 + 2j, 0]),
    ],
    ids=str,
)
def test_numbers_that_would_arrive_as_others(ends, tmp_path, name, value):
    with pytest.raises(
        ValueError, match=r"does not fit into int32|must hold numbers|do not fit into float32"
    ) as caught:
        client._to_proto(name, value)
    ends(caught.value)


@pytest.mark.parametrize("value", [1e38, -1e38, 1.1e6, np.nan, np.inf, -np.inf])
def test_latents_out_of_range(made, ends, tmp_path, value):
    import tensorflow as tf

    served = serving.ServedModel(made[2])
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="latents must be finite, from -1000000 to 1000000"
    ) as caught:
        served.decode(tf.constant([[0.0, 0.0, 0.0, value]]))
    ends(str(caught.value).splitlines()[0])


@pytest.mark.parametrize("value", [1e6, -1e6, 1e3])
def test_latents_at_their_bounds_decode_to_numbers(made, ends, tmp_path, value):
    import tensorflow as tf

    images = serving.ServedModel(made[2]).decode(tf.fill([2, 4], value))["images"]
    assert np.all(np.isfinite(images))
    ends("finite images")


def test_bound_on_images_times_samples(made, ends, tmp_path, monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(serving, "max_draws", lambda model: 100)
    served = serving.ServedModel(made[2])
    images, seed = tf.zeros([3, 8, 8, 1]), tf.constant([0, 0])
    assert served.log_likelihood(images, tf.constant(33), seed)["log_likelihood"].shape == (3,)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="images times num_samples must be from 1 to 100"
    ) as caught:
        served.log_likelihood(images, tf.constant(34), seed)
    ends(str(caught.value).splitlines()[0])


def test_bound_follows_from_the_shapes(ends, tmp_path):
    models_of = [ModelConfig(model=name, num_components=500) for name in ("vae", "hvae", "conv_hvae")]
    bounds = [serving.max_draws(models.create(config)) for config in models_of]
    assert 10**5 < bounds[0] < 10**6 and 50_000 < bounds[1] < 200_000 and 200 < bounds[2] < 5000
    ends(f"VAE {bounds[0]:,}, HVAE {bounds[1]:,}, ConvHVAE {bounds[2]:,} importance samples a request")
