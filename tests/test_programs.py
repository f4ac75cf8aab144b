"""The command-line programs as a user runs them: train, evaluate, sample; their messages and exit codes."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from importlib import metadata

import child_runs
import numpy as np
import pytest

from vampzoo import config

SMALL = [
    "--dataset=npz",
    "--model=vae",
    "--hidden_units=4",
    "--z2_size=2",
    "--num_components=3",
    "--batch_size=8",
    "--warmup_epochs=1",
    "--learning_rate=0.01",
    "--nojit_compile",
    "--image_epochs=0",
]


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    """30 images, half black and half white."""
    path = tmp_path_factory.mktemp("data") / "halves.npz"
    train = np.random.default_rng(0).integers(0, 2, (30, 5, 4), np.uint8)
    np.savez(path, train=train, validation=train[:10], test=train[:9])
    return path


def run(*arguments):
    """Exit code, stdout and stderr of a program that forks from a process that has imported everything already."""
    return child_runs.call(child_runs.run_program, *map(str, arguments))


def wait_for(condition, process, err):
    end = time.monotonic() + 240
    while not condition():
        assert process.is_alive(), err.read_text()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def history(folder):
    path = folder / "history.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_file):
    """A run folder and what the program said; the one run here that starts as a user's does, imports and all."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    arguments = [*SMALL, f"--data_file={data_file}", f"--run_dir={folder}", "--epochs=3", "--num_samples=7"]
    done = subprocess.run(
        [sys.executable, "-m", "vampzoo.train", *arguments], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, done.stderr


def test_train_ends_with_one_line_of_json(trained):
    folder, out, err = trained
    result = json.loads(out)
    assert out.count("\n") == 1
    assert result["epochs"] == 3 and result["run_dir"] == str(folder)
    assert result["num_images"] == 9 and result["num_samples"] == 7
    assert result["log_likelihood"] == json.loads((folder / "evaluation.json").read_text())["log_likelihood"]
    assert "epoch 3/3 elbo" in err and "vae, prior VampPrior" in err


def test_train_writes_the_run_folder(trained):
    folder, *_ = trained
    names = {"config.json", "train.flags", "model.weights.h5", "history.csv", "training.json", "evaluation.json"}
    names.add("report.html")
    assert {p.name for p in folder.iterdir() if p.is_file()} == {*names, ".lock"}
    assert {p.name for p in folder.iterdir() if p.is_dir()} == {"checkpoints", "figures", "tensorboard"}
    assert {p.stem for p in (folder / "figures").glob("*.png")} == {
        "samples",
        "reconstructions",
        "log_likelihoods",
        "pseudo_inputs",
        "component",
        "training",
    }
    assert len(history(folder)) == 3
    versions = json.loads((folder / "config.json").read_text())["versions"]
    assert versions == {name: metadata.version(name) for name in ("tensorflow", "keras", "tensorflow_probability")}
    assert list((folder / "tensorboard").iterdir())


def test_its_flagfile_reproduces_the_run(trained, tmp_path):
    folder, *_ = trained
    code, out, err = run("train", f"--flagfile={folder / 'train.flags'}", f"--run_dir={tmp_path / 'again'}")
    assert code == 0, err
    theirs, ours = history(folder), history(tmp_path / "again")
    assert [{**row, "images_per_second": 0} for row in ours] == [{**row, "images_per_second": 0} for row in theirs]
    assert json.loads(out)["log_likelihood"] == json.loads((folder / "evaluation.json").read_text())["log_likelihood"]


def test_a_run_with_relative_places_is_evaluated_from_any_folder(data_file, tmp_path):
    arguments = [*SMALL, f"--data_file={data_file.name}", "--epochs=1", "--noevaluate", f"--run_dir={tmp_path / 'run'}"]
    code, _, err = child_runs.call(child_runs.run_program_in, data_file.parent, "train", *arguments)
    assert code == 0, err
    assert f"--data_file={data_file}" in (tmp_path / "run" / "train.flags").read_text().splitlines()
    code, _, err = child_runs.call(
        child_runs.run_program_in, tmp_path, "evaluate", "--run_dir=run", "--num_samples=3", "--nojit_compile"
    )
    assert code == 0, err


def test_evaluate_gives_what_train_gave(trained, tmp_path):
    folder, out, _ = trained
    arguments = [f"--run_dir={folder}", f"--out={tmp_path / 'e.json'}"]  # the data is where the run found it
    before = {path: path.stat().st_mtime_ns for path in (folder / "figures").iterdir() if path.stem != "training"}
    code, evaluated, err = run("evaluate", *arguments, "--num_samples=7")
    assert code == 0, err
    expected, result = json.loads(out), json.loads(evaluated.splitlines()[-1])
    for name in ("log_likelihood", "elbo", "active_units"):
        assert result[name] == pytest.approx(expected[name], rel=1e-5)
    assert result["fingerprint"] == expected["fingerprint"]
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {path.name for path in before}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert json.loads((tmp_path / "e.json").read_text())["split"] == "test"


def test_evaluate_with_tighter_bounds_on_two_devices(trained, tmp_path):
    folder, trained_out, _ = trained
    tighter = [
        "--nojit_compile",
        "--strategy=mirrored",
        "--proposal=refined",
        "--refine_steps=3",
        "--refined_samples=4",
        "--estimator=ais",
        "--ais_steps=3",
    ]
    where = [f"--run_dir={folder}", "--num_samples=7", f"--out={tmp_path / 'e.json'}"]
    code, out, err = child_runs.call(child_runs.run_program_on_devices, 2, "evaluate", *where, *tighter)
    assert code == 0, err
    result, on_one = json.loads(out.splitlines()[-1]), json.loads(trained_out)
    for name in ("log_likelihood", "elbo", "active_units"):
        assert result[name] == pytest.approx(on_one[name], rel=1e-5)
    assert (result["check_num_samples"], result["refined_num_samples"], result["ais_steps"]) == (70, 4, 3)
    # The file's test images are its first training images.
    assert result["copies_in_train"] == result["num_images"] == 9
    code, _, err = run("evaluate", f"--run_dir={folder}", f"--out={tmp_path / 'f.json'}", "--leave_out_copies")
    assert code == 1 and "nothing is left to evaluate" in err and not (tmp_path / "f.json").exists()


@pytest.mark.parametrize("name", ["samples.png", "samples.npy"])
def test_sample(trained, tmp_path, name):
    folder, *_ = trained
    code, out, err = run("sample", f"--run_dir={folder}", "--n=5", f"--out={tmp_path / name}")
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["shape"] == [5, 5, 4, 1]
    if name.endswith("npy"):
        assert np.load(tmp_path / name).shape == (5, 5, 4, 1)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_stopped_by_signals_and_resumed(tmp_path, data_file):
    """SIGTERM ends with 0, Ctrl-C with 130, both soon, and the run goes on from there; SIGTERM also ends an evaluation."""
    folder, err = tmp_path / "run", tmp_path / "stderr"
    arguments = [*SMALL, f"--data_file={data_file}", f"--run_dir={folder}", "--patience=1000000"]

    def start(*further):
        return child_runs.start(child_runs.run_program_aloud, err, "train", *arguments, *further)

    def stop(process, number, code):
        os.kill(process.pid, number)
        process.join(60)
        assert process.exitcode == code

    epochs = 0
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        process = start("--epochs=1000000", "--noevaluate")
        wait_for(lambda: len(history(folder)) > epochs + 2, process, err)  # noqa: B023 called at once
        stop(process, number, code)
        said = err.read_text()
        assert f"stopped by {signal.Signals(number).name}; the same command resumes {folder}" in said
        assert ("resuming" in said) == (epochs > 0)
        epochs = len(history(folder))
    process = start(f"--epochs={epochs}", "--num_samples=1000000000")
    wait_for(lambda: "evaluating 9 test images" in err.read_text(), process, err)
    stop(process, signal.SIGTERM, 0)
    assert [int(row["epoch"]) for row in history(folder)] == list(range(1, epochs + 1))
    assert not (folder / "evaluation.json").exists()


def test_sigterm_while_stderr_is_being_written():
    """Python's stderr refuses a handler that has interrupted it: the program ends well all the same."""
    code = (
        "import sys\n"
        "from vampzoo import train\n"
        "class Busy:\n"
        "    def write(self, text): raise RuntimeError('reentrant call')\n"
        "    def flush(self): raise RuntimeError('reentrant call')\n"
        "sys.stderr = Busy()\n"
        "train.leave(15, None)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "stopped by SIGTERM; the same command goes on from here" in done.stderr


def test_a_command_that_overwrites_is_not_the_one_to_go_on_with():
    code = "from vampzoo import train\ntrain.FLAGS(['train', '--overwrite'])\ntrain.leave(15, None)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "the same command without --overwrite goes on from here" in done.stderr


def test_a_finished_run_without_its_history_is_evaluated_all_the_same(tmp_path, data_file):
    folder = tmp_path / "run"
    arguments = [*SMALL, f"--data_file={data_file}", f"--run_dir={folder}", "--epochs=1", "--num_samples=2"]
    for further in (["--noevaluate"], []):
        code, _, err = run("train", *arguments, *further)
        assert code == 0, err
        (folder / "history.csv").unlink(missing_ok=True)
    assert (folder / "evaluation.json").exists()


# === Messages ===


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--dataset is missing; the valid values are: static_mnist, "),
        (["--dataset=mnis"], "Unknown dataset 'mnis'. Valid names: static_mnist, "),
        (["--dataset=npz"], "Dataset 'npz' needs data_file"),
        (["--dataset=npz", "--data_file=missing.npz"], "data_file missing.npz is not a file"),
        (["--dataset=glyphs", "--manual_dir=missing"], "manual_dir missing does not exist"),
        (["--epochs=0"], "epochs must be at least 1, got 0"),
        (["--epochs=many"], "--epochs=many"),
        (["--batch_size=-1"], "batch_size must be at least 1, got -1"),
        (["--warmup_epochs=-1"], "warmup_epochs must be at least 0"),
        (["--patience=-1"], "patience must be at least 0"),
        (["--seed=-1"], "seed must be at least 0"),
        (["--learning_rate=0"], "learning_rate must be positive and finite, got 0.0"),
        (["--learning_rate=nan"], "learning_rate must be positive and finite, got nan"),
        (["--worker_timeout=0"], "--worker_timeout must be positive and at most 1e+06 seconds, got 0"),
        (["--worker_timeout=10000000000"], "--worker_timeout must be positive and at most 1e+06 seconds, got 1e+10"),
        (["--objective=iwae"], "objective_samples must be at least 2 for objective=iwae, got 1"),
        (["--weight_decay=-1"], "weight_decay must be at least 0"),
        (["--p_dropout=1"], r"p_dropout must be in [0, 1), got 1.0"),
        (["--ema_momentum=1"], r"ema_momentum must be in [0, 1), got 1.0"),
        (["--optimizer=sgd"], "<normalized_adam|adam>"),
        (["--mixed_precision=float8"], "<none|bfloat16|float16>"),
        (["--strategy=tpu"], "<auto|one_device|mirrored|multi_worker>"),
        (["--prior=flow"], f"<{'|'.join(config.PRIORS)}>"),
        (["--model=gan"], f"<{'|'.join(config.MODELS)}>"),
        (["--num_samples=0"], "--num_samples must be at least 1, got 0"),
        (["--start_from=nowhere"], "'nowhere'"),
        (["--batchsize=1"], "Unknown command line flag 'batchsize'. Did you mean: batch_size"),
        (["caltech"], "unexpected arguments ['caltech']: flags are written --name=value"),
        (["--flagfile=missing.flags"], "missing.flags"),
    ],
)
def test_train_refuses(arguments, message, tmp_path):
    dataset = [] if not arguments or arguments[0].startswith("--dataset") else ["--dataset=glyphs"]
    code, out, err = run("train", *dataset, *arguments, f"--run_dir={tmp_path / 'run'}")
    assert (code, out) == (1, "")
    assert err.count("\n") <= 2 and message in err and err.startswith("error: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--hidden_units=0"], "hidden_units must be a positive integer, got 0"),
        (["--num_components=0"], "num_components must be a positive integer, got 0"),
        (["--prior=standard", "--weighted"], "weighted=True needs a mixture prior"),
        (["--prior=vampprior_data", "--num_components=31"], "num_components may be at most the number of training"),
        (["--strategy=multi_worker"], "needs the environment variable TF_CONFIG"),
        (["--run_dir=/dev/null"], "the run folder /dev/null cannot be written: File exists"),
    ],
)
def test_train_on_a_file_refuses(arguments, message, data_file, tmp_path):
    where = [f"--data_file={data_file}", f"--run_dir={tmp_path / 'run'}"]
    code, out, err = run("train", *SMALL, *where, *arguments)
    assert (code, out) == (1, "")
    assert message in err.splitlines()[-1] and "Traceback" not in err


def test_flags_without_effect_are_named(data_file):
    idle = ["--z1_size=3", "--layers=2", "--pseudo_inputs_mean=.5", f"--data_dir={data_file.parent}"]
    where = [f"--data_file={data_file}", "--run_dir=/dev/null"]  # the end, once the hints are given
    code, _, err = run("train", *SMALL, *where, "--prior=standard", *idle)
    causes = {"z1_size=3": "model=vae", "layers=2": "model=vae", "num_components=3": "prior=standard"}
    causes |= {"pseudo_inputs_mean=0.5": "prior=standard", f"data_dir={data_file.parent}": "dataset=npz"}
    hints = [line for line in err.splitlines() if line.startswith("hint: ")]
    assert sorted(hints) == sorted(f"hint: --{flag} has no effect with --{cause}" for flag, cause in causes.items())
    assert code == 1 and "the run folder /dev/null" in err


def test_stages_that_never_come_are_named(data_file):
    stages = ["--epochs=3", "--objective_samples=2", "--one_sample_epochs=3", "--shift_pixels=1", "--shift_epochs=4"]
    code, _, err = run("train", *SMALL, f"--data_file={data_file}", "--run_dir=/dev/null", *stages)
    hints = [line.removeprefix("hint: ") for line in err.splitlines() if line.startswith("hint: ")]
    assert code == 1 and hints == [
        "--one_sample_epochs=3 leaves no epoch for --objective_samples=2: --epochs=3",
        "--shift_epochs=4 leaves no epoch for images that are not moved: --epochs=3",
    ]


def test_large_seeds(data_file, tmp_path):
    """Any integer is a seed, also where those of Keras are 32 bits."""
    for seed in (429_497, 2**31, 2**70):
        where = [f"--data_file={data_file}", f"--run_dir={tmp_path / str(seed)}", f"--seed={seed}"]
        code, _, err = run("train", *SMALL, *where, "--epochs=1", "--noevaluate", "--pseudo_inputs_from_data")
        assert code == 0, err


def test_other_flags_on_an_old_run_are_refused(trained, data_file):
    folder, *_ = trained
    code, _, err = run("train", *SMALL, f"--data_file={data_file}", f"--run_dir={folder}", "--epochs=3", "--z2_size=3")
    assert code == 1
    assert "holds a run with other settings: --z2_size (model.z2_size was 2, is now 3)" in err


def test_data_that_vanished_or_changed(trained, tmp_path):
    """A run whose data are gone or others says so, and is left as it was."""
    folder, *_ = trained
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    arguments = [*SMALL, f"--data_file={tmp_path / 'gone.npz'}", f"--run_dir={folder}", "--epochs=3"]
    code, _, err = run("train", *arguments)
    assert code == 1 and f"data_file {tmp_path / 'gone.npz'} is not a file" in err
    np.savez(tmp_path / "gone.npz", train=np.eye(5, 4, dtype=np.uint8)[np.newaxis].repeat(30, 0))
    code, _, err = run("train", *arguments)
    assert code == 1 and "the data changed" in err
    code, _, err = run("evaluate", f"--run_dir={folder}", f"--data_file={tmp_path / 'gone.npz'}")
    assert code == 1 and "is not the data that" in err
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "program, arguments, message",
    [
        ("evaluate", [], "--run_dir is missing"),
        ("evaluate", ["--run_dir=missing/run"], "the folder missing/run does not exist"),
        ("evaluate", ["--run_dir=hvae_vampprior_glyphs"], "glyphs is a preset, into which nothing is written"),
        ("evaluate", ["--num_samples=0", "--run_dir=x"], "--num_samples must be at least 1"),
        ("evaluate", ["--run_dir=x", "--ais_steps=3"], "--ais_steps has no effect without --estimator=ais"),
        ("evaluate", ["--run_dir=x", "--refine_steps=3"], "--refine_steps has no effect without --proposal=refined"),
        ("evaluate", ["--split=all"], "<train|validation|test>"),
        ("sample", [], "--run_dir is missing"),
        ("sample", ["--run_dir=missing/run"], "the folder missing/run does not exist"),
        ("sample", ["--run_dir=x", "--out=a.exe"], "--out=a.exe must end in .png, .jpg, .pdf, .svg or .npy"),
    ],
)
def test_evaluate_and_sample_refuse(program, arguments, message):
    code, out, err = run(program, *arguments)
    assert (code, out) == (1, "")
    assert message in err and "Traceback" not in err


@pytest.mark.parametrize("arguments, message", [(["--n=0"], "n must be at least 1"), (["--component=3"], r"in [0, 3)")])
def test_sample_refuses_of_a_run(trained, arguments, message, tmp_path):
    folder, *_ = trained
    code, _, err = run("sample", f"--run_dir={folder}", *arguments, f"--out={tmp_path / 'a.png'}")
    assert code == 1 and message in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("program", ["train", "evaluate", "sample"])
def test_help_names_every_flag_without_tensorflow(program):
    code = (
        "import atexit, runpy, sys; sys.argv = ['x', '--help']; "
        "atexit.register(lambda: print('tensorflow' in sys.modules)); "
        f"runpy.run_module('vampzoo.{program}', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--run_dir: " in done.stdout and "--seed: " in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(("error", "shown"), [("InvalidValue", "error: a word"), ("ValueError", "Traceback")])
def test_only_errors_of_our_own_become_one_line(error, shown):
    code = (
        "import sys; sys.argv = ['program']\n"
        "from vampzoo import program\n"
        "from vampzoo.errors import InvalidValue\n"
        f"def main(argv): raise {error}('a word')\n"
        "program.run(main, 'A program.')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert shown in done.stderr
    assert ("Traceback" in done.stderr) == (error == "ValueError")
