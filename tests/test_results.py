"""The records of runs, and what is said of them: RESULTS.md, README.md and the headers of the configurations."""

import dataclasses
import json
import pathlib
import re

import numpy as np
import pytest
from test_reproduce import change, finish

from vampzoo import zoo
from vampzoo.errors import InvalidValue
from vampzoo.paper import cells, records, summary, tables
from vampzoo.zoo.listing import Facts

PROJECT = pathlib.Path(__file__).parents[1]
RESULTS = PROJECT / "results"
CALTECH = "caltech101_silhouettes"
RECORDED = sorted(path.parent.name for path in RESULTS.glob("*/evaluation.json"))

needs_records = pytest.mark.skipif(not RECORDED, reason="there are no records beside the tests")


@pytest.fixture
def runs(tmp_path):
    """Two seeds of a standard prior and a VampPrior: on each image the VampPrior is better by 4 and 6."""
    images = 20 * np.random.default_rng(0).standard_normal(100) - 110
    grid = cells.grid([CALTECH], ["hvae"], ["standard", "vampprior"])
    made = cells.runs(grid, 2, tmp_path / "runs")
    for run in made:
        shift = (4 + 2 * run.seed + 0.1 * np.arange(100) / 100) * (run.cell.prior == "vampprior")
        finish(run, images + shift)
    return made


def test_a_record_is_the_run_without_its_weights(runs, tmp_path):
    (runs[0].folder / "model.weights.h5").write_bytes(b"weights")
    record = records.keep(runs[0].folder, tmp_path / "results")
    assert sorted(path.name for path in record.iterdir()) == sorted([*records.FILES, records.LIKELIHOODS])
    for name in records.FILES:
        assert (record / name).read_bytes() == (runs[0].folder / name).read_bytes()
    np.testing.assert_allclose(records.log_likelihoods(record), records.log_likelihoods(runs[0].folder), rtol=1e-6)
    assert records.keep(runs[0].folder, tmp_path / "results") == record  # again: it is replaced
    assert [path.name for path in (tmp_path / "results").iterdir()] == [record.name]


def test_an_incomplete_run_leaves_no_record(runs, tmp_path):
    (runs[0].folder / "training.json").unlink()
    with pytest.raises(ValueError, match=r"has no training.json: it is not complete"):
        records.keep(runs[0].folder, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_results_md_says_what_the_records_say(runs, tmp_path):
    for run in runs:
        records.keep(run.folder, tmp_path / "results")
    text = summary.markdown(tmp_path / "results")
    values = [run.evaluation()["log_likelihood"] for run in runs if run.cell.prior == "vampprior"]
    assert f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} (2)" in text
    assert "-108.28" in text and "-112.08" in text  # the paper's
    assert "| Caltech 101 Silhouettes | HVAE | VampPrior | 2 | +5.05 ± 1.41 | +3.80 |" in text  # 4.05 and 6.05
    assert "hvae_vampprior_caltech101_silhouettes_seed1" in text


def test_gains_are_held_against_the_same_table_of_the_paper(tmp_path):
    images = np.linspace(-100, -70, 100)
    made = cells.runs(cells.grid(["static_mnist"], ["hvae"], ["standard", "mog"]), 1, tmp_path)
    for run in made:
        finish(run, images + (run.cell.prior == "mog") * np.linspace(0.9, 1.1, 100))
        path = run.folder / "config.json"
        path.write_text(path.read_text().replace('"learning_rate": 0.0001', '"learning_rate": 0.0005'))  # as configured
    assert "| HVAE | MoG | 1 | +1.00 ± 0.01 | +0.82 |" in summary.gains(made)  # Table 2: -85.07 and -85.89


def test_results_md_marks_another_number_of_samples_and_another_selection(runs, tmp_path):
    vampprior = runs[1]
    change(vampprior, num_samples=50000)
    config = json.loads((vampprior.folder / "config.json").read_text())
    config["training"]["selection"] = "importance_bound"
    (vampprior.folder / "config.json").write_text(json.dumps(config))
    training = json.loads((vampprior.folder / "training.json").read_text())
    training["validation_importance_bound"] = training.pop("validation_elbo")
    (vampprior.folder / "training.json").write_text(json.dumps(training))
    text = summary.markdown(tmp_path / "runs")
    assert f"{vampprior.evaluation()['log_likelihood']:.2f}" in text and "(2; S = 50,000; other settings)" in text
    assert "| -130.50 (importance-weighted bound) |" in text
    assert "selection importance_bound instead of elbo" in text and "; other settings)" in text
    assert "| HVAE | VampPrior | 1 |" in text  # of the other seed: this one has no partner with as many samples


def test_results_md_names_records_with_too_few_samples_and_runs_of_other_data(runs, tmp_path):
    change(runs[1], num_samples=1000)
    others = [run for run in runs if run.cell.prior == "standard"]
    for run in others:
        change(run, fingerprint="0" * 64)
    text = summary.markdown(tmp_path / "runs")
    assert f"Not in the tables, since not complete: {runs[1].folder.name}." in text
    assert (
        f"(fingerprint `{'0' * 12}`: {', '.join(run.folder.name for run in others)})" in text
        and f"(fingerprint `{'f' * 12}`: " in text
    )


def test_gains_of_runs_with_other_settings_are_marked(runs, tmp_path):
    for run in runs:
        config = json.loads((run.folder / "config.json").read_text())
        config["training"]["batch_size"] = 200
        (run.folder / "config.json").write_text(json.dumps(config))
    assert "| 2 | +5.05 ± 1.41; other settings | +3.80 |" in summary.gains(runs)


def test_the_caption_of_a_figure_says_by_what_recipe_its_runs_were_trained(runs, tmp_path):
    results = tmp_path / "runs"
    (results / "figure2.png").write_bytes(b"a picture")
    figure = results / "figure2.json"
    assert "*Figure 2 of the paper, from runs of ours.*" in summary.markdown(results)
    figure.write_text(json.dumps({"points": []}))  # of an older version
    assert summary.caption("2", results) == "Figure 2 of the paper, from runs of ours."
    figure.write_text(json.dumps({"trained": tables.trained(runs)}))
    assert "*Figure 2 of the paper, from runs of ours with seeds 0 and 1.*" in summary.markdown(results)
    for run, epochs in zip(runs[:2], (60, 80), strict=True):
        config = json.loads((run.folder / "config.json").read_text())
        config["training"] |= {"batch_size": 200, "epochs": epochs, "warmup_epochs": epochs // 4}
        (run.folder / "config.json").write_text(json.dumps(config))
        training = json.loads((run.folder / "training.json").read_text()) | {"epochs": epochs, "best_epoch": epochs}
        (run.folder / "training.json").write_text(json.dumps(training))
    assert tables.trained(runs[2:])["departures"] == {} and tables.trained(runs[2:])["cut_short"] == []
    figure.write_text(json.dumps({"trained": tables.trained(runs[:1])}))
    assert summary.caption("2", results) == (
        "Figure 2 of the paper, from runs of ours with seed 0. By a recipe of its own: "
        "warmup_epochs 15 instead of 100, batch_size 200 instead of 100, ended at epoch 60."
    )
    figure.write_text(json.dumps({"trained": tables.trained(runs)}))
    assert summary.caption("2", results).endswith(
        "warmup_epochs 15 or 20 instead of 100, batch_size 200 instead of 100, ended at epoch 60 or 80."
    )


@pytest.mark.skipif(not (RESULTS / "figure2.json").is_file(), reason="there is no figure beside the tests")
def test_the_figure_over_k_shows_what_its_records_say():
    figure = json.loads((RESULTS / "figure2.json").read_text())
    components = sorted({p["num_components"] for p in figure["points"]} - {None})
    chosen = cells.grid(["static_mnist"], ["hvae"], ["standard", "mog", "vampprior"], components)
    runs = [run for run in cells.runs(chosen, 1, RESULTS / "figure2") if run.folder.is_dir()]
    assert len(runs) == len(list((RESULTS / "figure2").iterdir())) == len(figure["points"])
    assert sorted(p["values"] for p in figure["points"]) == sorted([run.evaluation()["elbo"]] for run in runs)
    assert figure["trained"] == tables.trained(runs)


def test_runs_that_were_stopped_before_their_end_are_marked(runs, tmp_path):
    # At 249, 51 epochs after the best: early stopping.
    assert "Ended before" not in summary.markdown(tmp_path / "runs")

    def end_at(epochs, best_epoch):
        path = runs[1].folder / "training.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"epochs": epochs, "best_epoch": best_epoch}))

    end_at(2000, 1990)  # as many as the configuration has
    assert "Ended before" not in summary.markdown(tmp_path / "runs")
    end_at(248, 198)
    text = summary.markdown(tmp_path / "runs")
    said = f"Ended before early stopping or the last epoch of their configuration: {runs[1].folder.name} (epoch 248, "
    assert said in text
    assert "(2; ended at epoch 248)" in summary.table_1(runs)
    assert "| 2 | +5.05 ± 1.41; not trained to the end | +3.80 |" in summary.gains(runs)
    path = runs[1].folder / "config.json"  # ended by a smaller number of epochs, which is no other recipe
    config = json.loads(path.read_text())
    config["training"]["epochs"] = 248
    path.write_text(json.dumps(config))
    assert summary.markdown(tmp_path / "runs") == text


@pytest.mark.parametrize("name", [records.LIKELIHOODS, "figures/log_likelihoods.npy"])
def test_damaged_log_likelihoods_are_named(runs, name):
    folder = runs[0].folder
    whole = (records.keep(folder, folder.parent / "results") / records.LIKELIHOODS).read_bytes()
    damaged = folder / name
    for content in (whole[:300], b"", b"no array"):
        damaged.write_bytes(content)
        with pytest.raises(InvalidValue, match=re.escape(f"{damaged} is damaged")):
            records.log_likelihoods(folder)
        assert runs[0].state() == "started"


def test_results_md_says_how_tight_the_presets_are(tmp_path):
    tight = Facts(dataset="glyphs", measure="log_likelihood", value=-93.09, stderr=0.76, refined=-86.31)
    presets = [zoo.Preset("a", tight), zoo.Preset("b", dataclasses.replace(tight, refined=None))]
    text = summary.markdown(tmp_path, presets)
    assert "| a |  | -93.09 ± 0.76 | -86.31 |" in text and "| b |" not in text
    assert "How tight" not in summary.markdown(tmp_path, presets[1:])


def test_table_1_goes_into_its_place(runs, tmp_path):
    records.keep(runs[0].folder, tmp_path / "results")
    text = f"before\n{summary.START}\nold\n{summary.END}\nafter\n"
    new = summary.with_table_1(text, tmp_path / "results")
    assert new.startswith("before\n") and new.endswith(f"{summary.END}\nafter\n") and "old" not in new
    assert summary.with_table_1(new, tmp_path / "results") == new


@needs_records
def test_results_md_is_up_to_date():
    assert (PROJECT / "RESULTS.md").read_text() == summary.markdown(RESULTS, zoo.presets(PROJECT / "saved_models"))


@needs_records
def test_the_readme_shows_the_same_table():
    readme = (PROJECT / "README.md").read_text()
    assert summary.has_place(readme)
    assert summary.with_table_1(readme, RESULTS) == readme


@needs_records
@pytest.mark.parametrize("name", RECORDED)
def test_a_record_fits_together(name):
    folder = RESULTS / name
    evaluation = json.loads((folder / "evaluation.json").read_text())
    values = records.log_likelihoods(folder)
    assert len(values) == evaluation["num_images"]
    assert values.mean() == pytest.approx(evaluation["log_likelihood"], abs=1e-3)
    assert sum(path.stat().st_size for path in folder.glob("*.npz")) <= 40 * 1024


@needs_records
@pytest.mark.parametrize("entry", summary.unrecorded(RESULTS), ids=lambda entry: f"{entry['model']}_{entry['prior']}")
def test_the_command_of_an_unrecorded_run_makes_it(entry):
    _, _, program, flagfile, *given = entry["command"].split()  # python -m vampzoo.train --flagfile=...
    values = cells.flag_values(PROJECT / flagfile.partition("=")[2])
    for flag in given:
        name, equals, text = flag.removeprefix("--").partition("=")
        values |= {name: text} if equals else {name.removeprefix("no"): str(not name.startswith("no")).lower()}
    assert program == "vampzoo.train"
    made = (values["dataset"], values["model"], values.get("prior", "vampprior"))
    assert made == (entry["dataset"], entry["model"], entry["prior"])
    assert entry["prior"] == "vampprior" or values["pseudo_inputs_from_data"] == "false"  # which others refuse
    assert f"S = {values['num_samples']}" in entry["remark"]


QUOTED = re.compile(r"results/(\w+): (-?\d+\.\d+) \+- (\d+\.\d+)")


@needs_records
@pytest.mark.parametrize("path", sorted((PROJECT / "configs").glob("*.flags")), ids=lambda path: path.name)
def test_numbers_of_a_configuration_are_those_of_its_record(path):
    """A header quotes a record as "results/NAME: VALUE +- ERROR"."""
    text = path.read_text().replace("\n# ", " ")
    for name, value, error in QUOTED.findall(text):
        result = json.loads((RESULTS / name / "evaluation.json").read_text())
        measure = "bits_per_dimension" if "bits_per_dimension" in result else "log_likelihood"
        digits = len(value.partition(".")[2])
        assert (value, error) == (f"{result[measure]:.{digits}f}", f"{result[measure + '_stderr']:.{digits}f}")
