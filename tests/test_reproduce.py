"""Cells, their run folders, and the tables that are made of them."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from vampzoo import files
from vampzoo.config import ModelConfig
from vampzoo.errors import NOT_FINITE, InvalidValue
from vampzoo.paper import cells, queue, records, results, summary, tables

CALTECH = "caltech101_silhouettes"
TESTS = pathlib.Path(__file__).parent


def finish(run, log_likelihoods, fingerprint="f" * 64):
    """Writes into a run's folder what a complete run leaves there, as far as tables read it."""
    settings = run.cell.settings()
    settings["training"] |= {"seed": run.seed, "learning_rate": 1e-4, "epochs": 2000}
    values = np.asarray(log_likelihoods)
    evaluation = {
        "fingerprint": fingerprint,
        "split": "test",
        "num_images": len(values),
        "num_samples": 5000,
        "log_likelihood": values.mean(),
        "log_likelihood_stderr": values.std(ddof=1) / np.sqrt(len(values)),
        "elbo": values.mean() - 2,
        "seconds": 300.0,
        "active_units": {"z2": 3, "z1": 20},
    }
    (run.folder / "figures").mkdir(parents=True)
    (run.folder / "config.json").write_text(json.dumps(settings))
    (run.folder / "evaluation.json").write_text(json.dumps(evaluation))
    training = {"epochs": 249, "best_epoch": 198, "validation_elbo": -130.5, "train_seconds": 480.0}
    (run.folder / "history.csv").write_text("epoch,elbo\n1,-120.0\n")
    (run.folder / "training.json").write_text(json.dumps(training))
    np.save(run.folder / "figures" / "log_likelihoods.npy", values)
    return run


@pytest.fixture
def pair(tmp_path):
    """Two complete runs, standard prior and VampPrior, on 100 images that differ far more than the models do."""
    images = 20 * np.random.default_rng(0).standard_normal(100) - 110
    standard, vampprior = cells.runs(cells.grid([CALTECH], ["hvae"], ["standard", "vampprior"]), 1, tmp_path)
    return finish(standard, images), finish(vampprior, images + 4 + 0.1 * np.arange(100) / 100)


def test_grid_has_each_cell_once():
    grid = cells.grid(["static_mnist"], ["hvae"], ["standard", "vampprior"], [10, 500])
    assert [cell.name for cell in grid] == [
        "hvae_standard_static_mnist",
        "hvae_vampprior_static_mnist_K10",
        "hvae_vampprior_static_mnist",
    ]


def test_first_seed_of_all_cells_of_a_dataset_comes_first(tmp_path):
    runs = cells.runs(cells.grid([CALTECH, "frey_faces"], ["vae", "hvae"], ["standard"]), 2, tmp_path)
    assert [(run.cell.dataset[:4], run.cell.model, run.seed) for run in runs] == [
        *(("calt", model, seed) for seed in (0, 1) for model in ("vae", "hvae")),
        *(("frey", model, seed) for seed in (0, 1) for model in ("vae", "hvae")),
    ]


@pytest.mark.parametrize("prior", cells.COLUMNS)
def test_settings_are_those_of_a_model(prior):
    settings = cells.Cell("omniglot", "hvae", prior).settings()["model"]
    assert ModelConfig(**settings).num_components == (500 if prior == "standard" else 1000)


def test_states_of_a_run(tmp_path):
    [run] = cells.runs([cells.Cell(CALTECH, "vae", "mog")], 1, tmp_path)
    assert run.state() == "new"
    finish(run, [-100.0, -101.0])
    assert run.state(["--epochs=2000", "--weight_decay=0.0"]) == "complete"  # the second is a default, not recorded
    assert run.state(["--num_samples=5001"]) == "started"
    path = run.folder / "evaluation.json"
    path.write_text(path.read_text().replace("5000", "1000"))
    assert run.state() == "started"  # the paper's 5,000 are still to be drawn
    assert run.state(["--num_samples=1000"]) == "complete"
    with pytest.raises(InvalidValue, match="--num_samples must be a positive integer, got many"):
        run.state(["--num_samples=many"])
    path.unlink()
    assert run.state() == "started"


def change(run, **values):
    """Changes what a run's evaluation.json says."""
    path = run.folder / "evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_run_is_complete_with_its_own_evaluation_of_all_images_alone(tmp_path):
    [run] = cells.runs([cells.Cell(CALTECH, "vae", "mog")], 1, tmp_path)
    finish(run, [-100.0, -101.0])
    weights = run.folder / "model.weights.h5"
    weights.write_bytes(b"weights")
    change(run, weights_sha256=files.sha256(weights))
    assert run.state() == "complete"
    weights.write_bytes(b"trained further")
    assert run.state() == "started"
    weights.unlink()  # of a record
    assert run.state() == "complete"
    change(run, images_left_out=12)
    assert run.state() == "started"
    change(run, images_left_out=None, log_likelihood=-99.0)  # the log-likelihoods are of another evaluation
    assert run.state() == "started"
    with pytest.raises(InvalidValue, match="are not those of its evaluation"):
        records.keep(run.folder, tmp_path / "results")
    change(run, log_likelihood=-100.5)
    (run.folder / "figures" / "log_likelihoods.npy").unlink()
    assert run.state() == "started"


def test_a_record_beside_the_run_does_not_replace_it(tmp_path):
    [run] = cells.runs([cells.Cell(CALTECH, "vae", "mog")], 1, tmp_path)
    finish(run, [-100.0, -101.0])
    (run.folder / "model.weights.h5").write_bytes(b"weights")
    assert records.keep(run.folder, tmp_path) == run.folder
    assert (run.folder / "model.weights.h5").read_bytes() == b"weights"


def test_only_comparable_runs_have_a_gain(pair):
    _, vampprior = pair
    assert len(tables.gains(pair)) == 1
    for values in ({"num_samples": 50000}, {"num_samples": 5000, "fingerprint": "e" * 64}):
        change(vampprior, **values)
        assert not tables.gains(pair)


@pytest.mark.parametrize(
    ("cell", "flags", "message"),
    [
        (cells.Cell(CALTECH, "vae", "vampprior"), (), "model.prior is 'mog'"),
        (cells.Cell(CALTECH, "vae", "mog", 7), (), "model.num_components is 500"),
        (cells.Cell(CALTECH, "vae", "mog", None, 5), (), "training.objective is 'elbo'"),
        (cells.Cell(CALTECH, "vae", "mog"), ["--epochs=3"], "epochs is 2000"),
    ],
)
def test_refuses_a_folder_with_another_run(tmp_path, cell, flags, message):
    [run] = cells.runs([cells.Cell(CALTECH, "vae", "mog")], 1, tmp_path)
    finish(run, [-100.0, -101.0])
    with pytest.raises(ValueError, match=message):
        cells.Run(cell, 0, run.folder).state(flags)


def test_configured_settings_are_those_of_the_flagfile_the_dataset_and_the_defaults():
    settings = cells.Cell("frey_faces", "conv_hvae", "vampprior").configured()
    assert ModelConfig(**settings["model"]) == ModelConfig(
        model="conv_hvae", likelihood="discretized_logistic", image_shape=(28, 20, 1)
    )
    assert cells.Cell(CALTECH, "hvae", "mog").configured()["training"]["learning_rate"] == 1e-4


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("model", {"hidden_units": 30}),
        ("model", {"likelihood": "discretized_logistic"}),
        ("data", {"binarization": "static"}),
    ],
)
def test_a_run_of_another_width_likelihood_or_data_is_not_the_cells(tmp_path, section, change):
    [run] = cells.runs([cells.Cell(CALTECH, "vae", "mog")], 1, tmp_path)
    finish(run, [-100.0, -101.0])
    config = run.config()
    config[section] |= change
    (run.folder / "config.json").write_text(json.dumps(config))
    [(name, value)] = change.items()
    with pytest.raises(ValueError, match=f"another run: {section}.{name} is {value!r}"):
        run.state()
    if section == "model":
        assert run.state([f"--{name}={value}"]) == "complete"  # asked for, and stated in the table
        assert run.departures()[name][0] == value


def test_a_flag_of_what_was_nothing_makes_another_run(tmp_path):
    [run] = cells.runs([cells.Cell(CALTECH, "vae", "mog")], 1, tmp_path)
    finish(run, [-100.0, -101.0])
    config = run.config()
    config["data"]["binarization"] = None
    (run.folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidValue, match="another run: binarization is None, not 'static'"):
        run.state(["--binarization=static"])


def test_table_states_every_departure_from_the_configurations(tmp_path):
    cell = cells.Cell(CALTECH, "hvae", "mog")
    [run] = cells.runs([cell], 1, tmp_path)
    finish(run, [-100.0, -101.0])
    text = tables.markdown(tables.table("Table", 1, [cell], [run]))
    assert "All settings of these runs, of model, data and training, are those of the configurations." in text
    config = run.config()
    config["training"] |= {"learning_rate": 3e-4, "epochs": 50}
    (run.folder / "config.json").write_text(json.dumps(config))
    text = tables.markdown(tables.table("Table", 1, [cell], [run]))
    assert f"- {run.folder.name}: epochs 50 instead of 2000, learning_rate 0.0003 instead of 0.0001" in text


def test_row_is_the_mean_over_seeds_beside_the_paper(tmp_path):
    runs = cells.runs([cells.Cell(CALTECH, "hvae", "vampprior")], 3, tmp_path)
    for run, shift in zip(runs, (0.0, 1.0, 5.0), strict=True):
        finish(run, np.array([-111.0, -109.0, -110.0]) + shift)
    row = tables.row(runs[0].cell, runs)
    assert row["mean"] == pytest.approx(-108.0)
    assert row["sd"] == pytest.approx(np.std([0, 1, 5], ddof=1))
    assert row["stderr"] == pytest.approx(1 / np.sqrt(3))
    assert row["paper"] == -108.28
    assert row["difference"] == pytest.approx(0.28)


def test_row_without_runs_has_no_numbers():
    row = tables.row(cells.Cell(CALTECH, "hvae", "vampprior"), [])
    assert [row[name] for name in ("mean", "sd", "stderr", "difference")] == [None] * 4


def test_runs_on_different_data_make_no_row(tmp_path):
    runs = cells.runs([cells.Cell(CALTECH, "hvae", "vampprior")], 2, tmp_path)
    for run, fingerprint in zip(runs, "ab", strict=True):
        finish(run, [-100.0, -101.0], fingerprint)
    with pytest.raises(ValueError, match="different data"):
        tables.row(runs[0].cell, runs)


def test_paired_gain_is_known_better_than_either(pair):
    standard, vampprior = pair
    [gain] = tables.gains(pair).values()
    assert gain["over"] == standard.folder.name
    assert gain["nats"] == pytest.approx(4.0495)
    assert gain["stderr"] < 0.01 < vampprior.evaluation()["log_likelihood_stderr"]


def test_markdown_holds_the_numbers_the_data_and_what_is_missing(pair):
    grid = [run.cell for run in pair] + [cells.Cell(CALTECH, "vae", "standard")]
    text = tables.markdown(tables.table("Table", 1, grid, list(pair)), ["vae_standard"])
    assert f"| {pair[0].evaluation()['log_likelihood']:.2f} | 1 |" in text
    assert "| -123.43 |  | 0 |" in text
    assert "+4.05" in text
    assert "ffffffffffff" in text
    assert f"- {pair[0].folder.name}: 8 min of training (249 epochs, the best was 198), 5 min of evaluation" in text
    assert "Not complete: vae_standard." in text


def test_a_run_of_an_older_version_has_no_time_to_tell(pair):
    (pair[0].folder / "training.json").unlink()
    data = tables.table("Table", 1, [pair[0].cell], [pair[0]])
    assert data["rows"][0]["runs"][0]["train_seconds"] is None
    assert "min of training" not in tables.markdown(data)


def test_table_2_has_a_number_of_its_own_for_the_standard_prior():
    assert results.result("static_mnist", "hvae", "standard") == -86.05
    assert results.result("static_mnist", "hvae", "standard", table=2) == -85.89
    assert results.result("static_mnist", "hvae", "vampprior", table=2) == -83.19


# === Training ===


class Scripted(cells.Run):
    """A run whose program is a line of Python."""

    def command(self, train_flags=()):
        return [sys.executable, "-c", self.script]


def scripted(tmp_path, script):
    run = Scripted(cells.Cell(CALTECH, "vae", "mog"), 0, tmp_path / "run")
    object.__setattr__(run, "script", script)
    return run


def test_failure_carries_the_programs_last_words(tmp_path):
    run = scripted(tmp_path, "import sys; print('one', file=sys.stderr); sys.exit('error: no such data')")
    with pytest.raises(ValueError, match="exit code 1: error: no such data"):
        cells.train(run)


def test_a_training_that_diverged_is_known_by_its_last_words(tmp_path):
    with pytest.raises(cells.Diverged, match="the weights are not finite in epoch 3"):
        cells.train(
            scripted(tmp_path, f"import sys; sys.exit('error: the weights are {NOT_FINITE} in epoch 3; lower')")
        )


def test_a_run_that_stops_before_its_evaluation_is_not_complete(tmp_path):
    with pytest.raises(ValueError, match="stopped before its end"):
        cells.train(scripted(tmp_path, "pass"), complete=False)
    with pytest.raises(ValueError, match="stopped before its evaluation"):
        cells.train(scripted(tmp_path, "pass"))


# === The program ===


def reproduce(*flags):
    return subprocess.run([sys.executable, "-m", "vampzoo.reproduce", *flags], capture_output=True, text=True)


def test_dry_run_lists_states(pair):
    folder = pair[0].folder.parent
    result = reproduce(
        "--table=1", f"--datasets={CALTECH}", "--models=hvae", "--seeds=2", f"--runs_dir={folder}", "--dry_run"
    )
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["complete", "complete", "new", "new"]


def test_dry_run_of_the_queue_lists_all_beside_a_contradicting_record(tmp_path):
    [run, _] = cells.runs(cells.grid([CALTECH], ["vae"], ["mog", "standard"]), 1, tmp_path / "out")
    finish(run, [-100.0, -101.0])
    config = run.config()
    config["model"]["likelihood"] = "discretized_logistic"
    (run.folder / "config.json").write_text(json.dumps(config))
    flags = ("--queue", "--dry_run", f"--runs_dir={tmp_path / 'runs'}", f"--out={tmp_path / 'out'}", "--models=vae")
    result = reproduce(*flags, f"--datasets={CALTECH}", "--priors=mog,standard", "--seeds=1")
    assert result.returncode == 1
    assert sorted(line.split()[0] for line in result.stdout.splitlines()) == ["invalid", "new"]


def test_table_of_what_is_complete(pair, tmp_path):
    flags = ("--table=1", f"--datasets={CALTECH}", "--models=hvae", f"--runs_dir={tmp_path}", f"--out={tmp_path}/out")
    result = reproduce(*flags, "--notrain")
    assert result.returncode == 0, result.stderr
    data = json.loads((tmp_path / "out" / "table1.json").read_text())
    assert [len(row["runs"]) for row in data["rows"]] == [1, 1]
    assert len(data["incomplete"]) == 4
    assert (tmp_path / "out" / "table1.md").read_text().startswith("# Table 1")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "give one of"),
        (("--table=1", "--figure=2"), "give one of"),
        (("--table=1", "--datasets=mnist"), "mnist is unknown; the valid values are: static_mnist"),
        (("--table=1", "--models=deep_vae"), "deep_vae does not have"),
        (("--figure=2", "--num_components=0"), "positive integers"),
        (("--table=1", "--train_flags=epochs"), "--name=value"),
        (("--table=1", "--train_flags=--prior=mog"), "--prior=mog contradicts the cell vae_standard_static_mnist"),
        (("--table=1", "--train_flags=--seed=3"), "--seed is decided by the cell's run"),
        (("--table=1", "--models=topdown_hvae"), "topdown_hvae is not of the paper and has recipes of its own"),
        (("--figure=2", "--datasets=static_mnist,omniglot"), "figure 2 shows one dataset, got static_mnist, omniglot"),
        (("--figure=3", "--models=vae"), "figure 3 compares the layers z1 and z2"),
        (("--figure=3", "--models=hvae", "--priors=standard"), "there is none in hvae with standard"),
        (("--figure=3", "--objective_samples=-1"), "--objective_samples: IWAE takes at least 2, got -1"),
        (("--figure=4", "--priors=vampprior,mog"), "figure 4 shows pseudo-inputs, of which mog has none"),
        (("--preset_table", "--dry_run"), "--dry_run lists runs, of which --preset_table has none"),
        (("--notrain", "--dry_run", f"--runs_dir={TESTS}"), "--dry_run lists runs of a table, a figure or the queue"),
        (
            ("--notrain", f"--runs_dir={TESTS}"),
            "holds no complete run of the paper's cells, and RESULTS.md is as it was",
        ),
        (("--queue", "--notrain"), "--queue trains"),
        (("--queue", "--train_flags=--learning_rate=1e-3"), "--learning_rate is decided by the queue"),
        (("--queue", "--train_flags=--selection=importance_bound"), "--selection is decided by the queue"),
        (("--queue", "--train_flags=--prior=mog"), "--prior=mog contradicts the cell"),
    ],
)
def test_bad_flags_are_named(flags, message):
    result = reproduce(*flags)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


# === The queue ===


def fake_training(calls, fails=None):
    """In place of the train program: writes what a run leaves; 5e-4 is better by validation ELBO.

    Args:
        calls: a list, to which (name of the run, learning rate, whether it is to be complete) is appended.
        fails: {name of a run: what it raises}.
    """
    fails = fails or {}

    def train(run, train_flags=(), complete=True):
        rate = next(flag.partition("=")[2] for flag in train_flags if flag.startswith("--learning_rate="))
        calls.append((run.folder.name, rate, complete))
        if run.folder.name in fails:
            raise fails[run.folder.name]
        if complete:
            shutil.rmtree(run.folder, ignore_errors=True)
            finish(run, np.linspace(-110, -100, 20))
        else:
            run.folder.mkdir(parents=True)
            elbo = {"5e-4": -90.0, "1e-4": -95.0}[rate]
            (run.folder / "training.json").write_text(json.dumps({"validation_elbo": elbo}))

    return train


def test_queue_chooses_rates_trains_records_and_goes_on(tmp_path, monkeypatch):
    order = [(("static_mnist", "hvae", prior), 0) for prior in ("vampprior", "standard", "mog")]
    monkeypatch.setattr(queue, "ORDER", [*order, ((CALTECH, "vae", "standard"), 1)])
    runs_dir, results_dir = tmp_path / "runs", tmp_path / "results"
    calls = []
    queued = queue.runs(runs_dir)
    train = fake_training(calls, {"hvae_standard_static_mnist_seed0": InvalidValue("out of luck")})
    results_dir.mkdir()
    (results_dir / "learning_rates.json").write_text('{"omniglot vae": {"chosen": "1e-4"}}')  # found on another machine
    failures = queue.work(queued, runs_dir, results_dir, train=train)
    assert failures == {"hvae_standard_static_mnist_seed0": "out of luck"}
    assert calls == [
        ("hvae_vampprior_static_mnist_lr5e-4_seed0", "5e-4", False),
        ("hvae_vampprior_static_mnist_lr1e-4_seed0", "1e-4", False),
        ("hvae_vampprior_static_mnist_seed0", "5e-4", True),
        ("hvae_standard_static_mnist_seed0", "5e-4", True),
        ("hvae_mog_static_mnist_seed0", "5e-4", True),
        ("vae_standard_caltech101_silhouettes_seed1", "1e-4", True),  # by whole runs
    ]
    assert len(list(results_dir.glob("*/log_likelihoods.npz"))) == 3
    rates = json.loads((results_dir / "learning_rates.json").read_text())
    assert {name: rate["chosen"] for name, rate in rates.items()} == {
        "omniglot vae": "1e-4",
        "static_mnist hvae": "5e-4",
    }
    again = []
    assert not queue.work(queued, runs_dir, results_dir, train=fake_training(again))
    assert again == [("hvae_standard_static_mnist_seed0", "5e-4", True)]
    fewer = runs_dir / "hvae_vampprior_static_mnist_seed0" / "evaluation.json"
    fewer.write_text(fewer.read_text().replace("5000", "1000"))
    evaluated = []
    assert not queue.work(queued, runs_dir, results_dir, train=fake_training(evaluated))
    assert evaluated == [("hvae_vampprior_static_mnist_seed0", "5e-4", True)]  # a bound with fewer samples is no result
    shutil.rmtree(results_dir / "hvae_mog_static_mnist_seed0")
    elsewhere, new = [], tmp_path / "of another machine"
    assert not queue.work(queue.runs(new), new, results_dir, train=fake_training(elsewhere))
    assert elsewhere == [("hvae_mog_static_mnist_seed0", "5e-4", True)]  # what the records lack, at the rate they hold


def test_queue_leaves_a_rate_that_diverges(tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "ORDER", [(("static_mnist", "hvae", "vampprior"), 0)])
    high, low = (f"hvae_vampprior_static_mnist_lr{rate}_seed0" for rate in queue.GRID)
    diverged, calls = cells.Diverged("the loss is not finite"), []
    for failing, folder in (([high], "one"), ([high, low], "both")):
        runs_dir = tmp_path / folder
        train = fake_training(calls, dict.fromkeys(failing, diverged))
        failures = queue.work(queue.runs(runs_dir), runs_dir, tmp_path / f"results of {folder}", train=train)
        if folder == "one":
            assert not failures and calls[-1] == ("hvae_vampprior_static_mnist_seed0", "1e-4", True)
            text = (tmp_path / f"results of {folder}" / "learning_rates.json").read_text()
            assert json.loads(text)["static_mnist hvae"]["validation_elbo"] == {"5e-4": None, "1e-4": -95.0}
            assert "5e-4: diverged, 1e-4: -95.00 | 1e-4 |" in summary.learning_rates(json.loads(text))
        else:
            assert "the trials of every learning rate diverged" in failures["hvae_vampprior_static_mnist_seed0"]
    locked = fake_training([], {high: InvalidValue("another process trains in it")})
    new = tmp_path / "locked"  # of the rate itself that says nothing, so the other one is not taken for the better
    assert queue.work(queue.runs(new), new, tmp_path / "none", train=locked)
    assert not (tmp_path / "none").exists() or not list((tmp_path / "none").iterdir())


def test_queue_takes_what_the_flags_leave(tmp_path):
    flags = ("--queue", "--dry_run", f"--runs_dir={tmp_path}")
    result = reproduce(*flags, "--datasets=static_mnist,frey_faces", "--models=vae", "--seeds=2")
    assert result.returncode == 0, result.stderr
    assert [line.split("/")[-1] for line in result.stdout.splitlines()] == [
        "vae_vampprior_static_mnist_seed0",
        "vae_standard_static_mnist_seed0",
        *(f"vae_{prior}_frey_faces_seed{seed}" for seed in (0, 1) for prior in ("vampprior", "standard")),
    ]
    for wrong, message in (
        ("--models=mvae", "--models: mvae is unknown; the valid values are: vae, hvae"),
        ("--priors=weighted", "the queue has no run for --datasets=static_mnist --priors=weighted --seeds=3; it has"),
        ("--seeds=0", "--seeds must be at least 1, got 0"),
    ):
        result = reproduce(*flags, "--datasets=static_mnist", wrong)
        assert result.returncode == 1 and message in result.stderr, result.stderr


def test_queue_holds_each_run_once_and_all_cells_of_the_tables():
    assert len(set(queue.ORDER)) == len(queue.ORDER)
    first = {cell for cell, seed in queue.ORDER if seed == 0}
    for dataset in set(results.RESULTS) - {"histopathology"}:
        assert {
            (dataset, model, prior) for model, prior in results.RESULTS[dataset] if model in ("vae", "hvae")
        } <= first
