"""Reproduces the paper's tables and figures: trains what is missing, resumes what was stopped, and puts it together.

    python -m vampzoo.reproduce --table=1 --datasets=caltech101_silhouettes --models=vae,hvae --seeds=3
    python -m vampzoo.reproduce --figure=2 --num_components=10,50,100,500
    nohup nice -n 5 python -m vampzoo.reproduce --queue --runs_dir=../runs --out=results &
    python -m vampzoo.reproduce --notrain --runs_dir=results
    python -m vampzoo.reproduce --preset_table

A run takes its settings from the configurations that come with vampzoo. Tables are written as Markdown and JSON, figures as
a picture and, where they show numbers, JSON. Figure 6 shows images of the dataset; mind its licence before you publish it.
"""

import json
import pathlib
import signal
import sys

from absl import flags

from vampzoo import config, datasets, files, program
from vampzoo.errors import InvalidValue, VampzooError
from vampzoo.paper import cells, queue, records, results

FLAGS = flags.FLAGS

_WHAT = "what"
flags.DEFINE_enum("table", None, ("1", "2"), "table of the paper", module_name=_WHAT)
flags.DEFINE_enum("figure", None, ("2", "3", "4", "5", "6", "7"), "figure of the paper", module_name=_WHAT)
flags.DEFINE_boolean(
    "preset_table", False, "write README.md and index.json of the zoo's folder from its presets", module_name=_WHAT
)
flags.DEFINE_boolean(
    "queue",
    False,
    "all cells of the tables for dense networks, or those that the flags below leave, with chosen learning rates",
    module_name=_WHAT,
)
flags.DEFINE_list("datasets", None, "which rows (default: the paper's)", module_name=_WHAT)
flags.DEFINE_list("models", None, f"of {', '.join(config.MODELS)} (default: the paper's)", module_name=_WHAT)
flags.DEFINE_list("priors", None, f"of {', '.join(cells.COLUMNS)} (default: the paper's)", module_name=_WHAT)
flags.DEFINE_integer("seeds", 3, "runs of a cell; figures 4 to 7 show the first alone", module_name=_WHAT)
flags.DEFINE_list(
    "num_components", ["1", "10", "50", "100", "500", "1000"], "values of K in figures 2 and 3", module_name=_WHAT
)
flags.DEFINE_integer("objective_samples", 50, "k of IWAE in figure 3", module_name=_WHAT)

_HOW = "how"
program.define_path("runs_dir", "runs", "where run folders are and are made", module_name=_HOW)
program.define_path("out", "results", "folder for tables and figures", module_name=_HOW)
flags.DEFINE_boolean("train", True, "train what is not complete; --notrain: show what is", module_name=_HOW)
flags.DEFINE_boolean("record", True, "copy the record of each complete run to --out", module_name=_HOW)
flags.DEFINE_boolean("dry_run", False, "list the runs and how far they are, and do nothing", module_name=_HOW)
flags.DEFINE_list(
    "train_flags", [], "further flags of vampzoo.train, such as --epochs=50,--patience=10", module_name=_HOW
)
program.define_path("data_dir", None, "folder of prepared TFDS datasets (default: TFDS's own)", module_name=_HOW)
program.define_path("manual_dir", None, "folder with source files, which then need no download", module_name=_HOW)
program.define_path("zoo_dir", None, "folder of the presets, of which tables are made", module_name=_HOW)

_PAPERS = tuple(name for name in datasets.DATASETS if name in results.RESULTS)
# (datasets, models, priors) where no flag says otherwise.
_DEFAULTS = {
    "table 1": (_PAPERS, ("vae", "hvae", "conv_hvae", "pixel_hvae"), ("standard", "vampprior")),
    "table 2": (("static_mnist",), ("hvae",), ("standard", "mog", "vampprior_data", "vampprior")),
    "figure 2": (("static_mnist",), ("hvae",), ("standard", "mog", "vampprior")),
    "figure 3": (("static_mnist",), ("deep_vae", "hvae"), ("standard", "vampprior")),
    "figure 4": (("static_mnist",), ("hvae",), ("vampprior",)),
    "figure 5": (("static_mnist",), ("hvae",), ("standard", "vampprior")),
    "figure 6": (("static_mnist",), ("hvae",), ("standard", "vampprior")),
    "figure 7": (("static_mnist",), ("hvae",), ("standard", "vampprior")),
}


def main(argv):
    asked = [f"table {FLAGS.table}"] * bool(FLAGS.table) + [f"figure {FLAGS.figure}"] * bool(FLAGS.figure)
    if not (asked or FLAGS.preset_table or FLAGS.queue or FLAGS.train):
        return write_results()
    if len(asked) + FLAGS.preset_table + FLAGS.queue != 1:
        raise InvalidValue(
            "give one of --table=1|2, --figure=2|3|4|5|6|7, --queue and --preset_table; or --notrain alone, for RESULTS.md"
        )
    if FLAGS.preset_table:
        if FLAGS.dry_run:
            raise InvalidValue("--dry_run lists runs, of which --preset_table has none")
        return write_preset_table()
    train_flags = list(FLAGS.train_flags)
    train_flags += [f"--{name}={FLAGS[name].value}" for name in ("data_dir", "manual_dir") if FLAGS[name].value]
    if bad := [flag for flag in train_flags if not flag.startswith("--") or "=" not in flag]:
        raise InvalidValue(f"--train_flags takes --name=value,--name=value; got {', '.join(bad)}")
    if FLAGS.queue:
        return work_through_queue(train_flags)
    what = asked[0]
    chosen = chosen_cells(what)
    seeds = FLAGS.seeds if what in ("table 1", "table 2", "figure 2", "figure 3") else 1
    for cell in chosen:
        cell.check_flags(train_flags)
    runs = cells.runs(chosen, seeds, FLAGS.runs_dir)
    if FLAGS.dry_run:
        return dry_run(runs, train_flags)

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    complete, failures = [], {}
    for number, run in enumerate(runs, start=1):
        try:
            state = run.state(train_flags)
            if state != "complete" and FLAGS.train:
                print(f"[{number}/{len(runs)}] {run.folder} ({state})", file=sys.stderr, flush=True)
                cells.train(run, train_flags)
                state = "complete"
            if state == "complete":
                complete.append(run)
                if FLAGS.record:
                    records.keep(run.folder, FLAGS.out)
        except KeyboardInterrupt:
            print(f"stopped; the same command goes on with {run.folder}", file=sys.stderr)
            return 128 + signal.SIGINT
        except (VampzooError, OSError) as error:
            failures[run.folder.name] = str(error)
            print(f"{run.folder}: {error}", file=sys.stderr, flush=True)
    written = write(what, chosen, runs, complete)
    for name, message in failures.items():
        print(f"failed: {name}: {message}", file=sys.stderr)
    print(json.dumps({"complete": len(complete), "runs": len(runs), "failed": sorted(failures), "written": written}))
    return 1 if failures else 0


def work_through_queue(train_flags):
    """Trains the cells of the paper's tables for dense networks, one after the other; returns the exit code."""
    check_names(FLAGS.datasets or (), FLAGS.models or (), FLAGS.priors or ())
    if not FLAGS.train:
        raise InvalidValue("--queue trains: --queue --dry_run lists what it has, --notrain alone writes RESULTS.md")
    runs = queue.runs(FLAGS.runs_dir, FLAGS.datasets, FLAGS.models, FLAGS.priors, FLAGS.seeds)
    queue.check_flags(runs, train_flags)
    if FLAGS.dry_run:
        return dry_run(runs, train_flags, FLAGS.out)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    failures = queue.work(
        runs,
        FLAGS.runs_dir,
        FLAGS.out,
        train_flags,
        report=lambda line: print(line, file=sys.stderr, flush=True),
        record=FLAGS.record,
    )
    print(json.dumps({"runs": len(runs), "failed": failures}))
    return 1 if failures else 0


def check_names(names, models, priors):
    """Of datasets, models and priors, and the number of seeds.

    Raises:
        InvalidValue: for one that is unknown.
    """
    for flag, values, valid in (
        ("datasets", names, datasets.DATASETS),
        ("models", models, config.MODELS),
        ("priors", priors, cells.COLUMNS),
    ):
        if unknown := [value for value in values if value not in valid]:
            raise InvalidValue(f"--{flag}: {', '.join(unknown)} is unknown; the valid values are: {', '.join(valid)}")
    if FLAGS.seeds < 1:
        raise InvalidValue(f"--seeds must be at least 1, got {FLAGS.seeds}")


def chosen_cells(what):
    """The cells that a table or figure is made of.

    Raises:
        InvalidValue: for an unknown dataset, model or prior, or a model that cannot have a prior.
    """
    given = (FLAGS.datasets, FLAGS.models, FLAGS.priors)
    names, models, priors = (value or default for value, default in zip(given, _DEFAULTS[what], strict=True))
    check_names(names, models, priors)
    if "topdown_hvae" in models:
        raise InvalidValue(
            "--models: topdown_hvae is not of the paper and has recipes of its own, which vampzoo.train takes: "
            "--flagfile=configs/caltech_topdown.flags, static_mnist_topdown.flags, "
            "dynamic_mnist_topdown.flags and omniglot_topdown.flags"
        )
    if what in ("figure 2", "figure 3") and len(names) > 1:
        raise InvalidValue(f"--datasets: {what} shows one dataset, got {', '.join(names)}")
    if what == "figure 3" and "vae" in models:
        raise InvalidValue("--models: figure 3 compares the layers z1 and z2, of which the vae has one alone")
    if not all(k.isdecimal() and int(k) > 0 for k in FLAGS.num_components):
        raise InvalidValue(f"--num_components takes positive integers, got {','.join(FLAGS.num_components)}")
    if what == "figure 3" and FLAGS.objective_samples < 2:
        raise InvalidValue(f"--objective_samples: IWAE takes at least 2, got {FLAGS.objective_samples}")
    if what == "figure 4" and (without := [p for p in priors if p in ("standard", "mog")]):
        raise InvalidValue(f"--priors: figure 4 shows pseudo-inputs, of which {', '.join(without)} has none")
    components = [int(k) for k in FLAGS.num_components] if what in ("figure 2", "figure 3") else [None]
    samples = [0, FLAGS.objective_samples] if what == "figure 3" else [0]
    chosen = cells.grid(names, models, priors, components, samples)
    if what == "figure 3":  # its two baselines have the standard prior, the HVAEs have not
        chosen = [cell for cell in chosen if (cell.model == "deep_vae") == (cell.prior == "standard")]
        if not chosen:
            raise InvalidValue(
                "--models, --priors: figure 3 compares a deep_vae with the standard prior and HVAEs with others; of these "
                f"there is none in {', '.join(models)} with {', '.join(priors)}"
            )
    for cell in chosen:
        config.ModelConfig(**cell.settings()["model"])
    return chosen


def dry_run(runs, train_flags, results_dir=None):
    """Lists the runs, those that have only a record there as that; returns the exit code."""
    code = 0
    for run in runs:
        try:
            if results_dir:
                run = queue.recorded(run, results_dir, train_flags)
            print(f"{run.state(train_flags):9} {run.folder}")
        except VampzooError as error:
            print(f"{'invalid':9} {error}")
            code = 1
    return code


def write(what, chosen, runs, complete):
    """Writes the table or figure of the complete runs; returns the paths."""
    from vampzoo.paper import figures as paper_figures  # imports TensorFlow
    from vampzoo.paper import tables

    if what.startswith("figure") and not complete:
        return []
    out = pathlib.Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / what.replace(" ", "")
    if what.startswith("table"):
        incomplete = [run.folder.name for run in runs if run not in complete]
        number = int(FLAGS.table)
        title = {1: "Table 1: test log-likelihood", 2: "Table 2: priors of the HVAE"}[number]
        data = tables.table(title, number, chosen, complete)
        files.write_text(path.with_suffix(".json"), json.dumps({**data, "incomplete": incomplete}, indent=2) + "\n")
        files.write_text(path.with_suffix(".md"), tables.markdown(data, incomplete))
        return [str(path.with_suffix(suffix)) for suffix in (".json", ".md")]
    with files.atomic_path(path.with_suffix(".png")) as temporary:
        data = paper_figures.draw(int(FLAGS.figure), complete, temporary, FLAGS.data_dir, FLAGS.manual_dir)
    if data is None:
        return [str(path.with_suffix(".png"))]
    data["trained"] = tables.trained(complete)
    files.write_text(path.with_suffix(".json"), json.dumps(data, indent=2) + "\n")
    return [str(path.with_suffix(suffix)) for suffix in (".json", ".png")]


def write_results():
    """Writes RESULTS.md beside the folder of records, and Table 1 into README.md if that has a place for it."""
    from vampzoo import zoo
    from vampzoo.paper import summary  # imports TensorFlow

    folder = pathlib.Path(FLAGS.runs_dir)
    if not folder.is_dir():
        raise InvalidValue(f"--runs_dir={folder} is no folder: it is to hold the records of runs, as results/ does")
    if FLAGS.dry_run:
        raise InvalidValue("--dry_run lists runs of a table, a figure or the queue; --notrain alone writes RESULTS.md")
    if not summary.complete_runs(folder):
        raise InvalidValue(
            f"--runs_dir={folder} holds no complete run of the paper's cells, and RESULTS.md is as it was; "
            "--runs_dir=results are the records that come with the project"
        )
    written = [folder.parent / "RESULTS.md"]
    zoo_dir = pathlib.Path(FLAGS.zoo_dir or folder.parent / "saved_models")
    presets = zoo.presets(zoo_dir) if zoo_dir.is_dir() else ()
    files.write_text(written[0], summary.markdown(folder, presets))
    readme = folder.parent / "README.md"
    if readme.is_file() and summary.has_place(readme.read_text()):
        files.write_text(readme, summary.with_table_1(readme.read_text(), folder))
        written.append(readme)
    print(json.dumps({"written": [str(path) for path in written]}))
    return 0


def write_preset_table():
    """Writes the table of presets from what their folders record, for people and for programs."""
    from vampzoo import zoo

    folder = zoo.zoo_folder(FLAGS.zoo_dir)
    presets = zoo.presets(folder)
    if not presets:
        raise InvalidValue(f"{folder} holds no preset")
    files.write_text(folder / "README.md", presets.markdown())
    zoo.write_index(folder)
    print(json.dumps({"written": [str(folder / name) for name in ("README.md", zoo.INDEX)]}))
    return 0


if __name__ == "__main__":
    program.run(main, __doc__)
