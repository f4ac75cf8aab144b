"""Writes one HTML page that shows a run or a preset, with all pictures in it.

    python -m vampzoo.report --run_dir=runs/my_run

vampzoo.evaluate writes the same page, report.html, into a run folder. The page of a run shows images of its dataset, if that
is found where the run found it: mind its licence before you pass the page on. The page of a preset shows none,
not even as pseudo-inputs.
"""

import csv
import json
import pathlib
import sys

from absl import flags

from vampzoo import files, program
from vampzoo.errors import InvalidValue

FLAGS = flags.FLAGS

_GROUP = "report"
program.define_path("run_dir", None, "run folder, preset folder, preset name or hf://OWNER/NAME", module_name=_GROUP)
program.define_path("zoo_dir", None, "where preset names are looked for: a folder or hf://OWNER", module_name=_GROUP)
program.define_path("out", None, "the page (default: report.html in the run folder, NAME.html)", module_name=_GROUP)
flags.DEFINE_integer("seed", 0, "decides the draws", lower_bound=0, module_name=_GROUP)


def main(argv):
    if FLAGS.run_dir is None:
        raise InvalidValue("--run_dir is missing: a folder that vampzoo.train wrote, or a preset")
    if FLAGS.out:
        files.check_output(FLAGS.out, "--out")

    from vampzoo import zoo
    from vampzoo.evaluation import page

    folder, name = zoo.find(FLAGS.run_dir, FLAGS.zoo_dir)
    is_preset = (folder / zoo.CHECKSUMS).exists()
    out = pathlib.Path(FLAGS.out or (f"{name}.html" if is_preset else folder / page.NAME))
    files.check_output(out, "the page")
    out.parent.mkdir(parents=True, exist_ok=True)
    model = zoo.load(folder)
    what = of_preset(folder) if is_preset else of_run(folder, model)
    config = zoo.read_config(folder)[0]
    what["show_pseudo_inputs"] = "images" in what or not zoo.shows_training_images(config)
    page.write(out, model, config, title=name if is_preset else None, seed=FLAGS.seed, **what)
    print(json.dumps({"out": str(out), "bytes": out.stat().st_size}))


def of_preset(folder):
    """What the page of a preset shows beside the model: its evaluation."""
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text()) if path.is_file() else {}
    return {"evaluation": metrics.get("evaluation")}


def of_run(folder, model):
    """What the page of a run shows beside the model: evaluation, history, images of the dataset if they are found."""
    import numpy as np

    from vampzoo import datasets, training, zoo
    from vampzoo.paper import records

    def read(name, reader):
        path = folder / name
        return reader(path) if path.is_file() else None

    what = {
        "evaluation": read("evaluation.json", lambda path: json.loads(path.read_text())),
        "history": read("history.csv", lambda path: list(csv.DictReader(path.read_text().splitlines()))) or (),
        "log_likelihoods": read("figures/log_likelihoods.npy", np.load),
    }
    if records.of_other_weights(folder, what["evaluation"] or {}):
        print("without evaluation.json, which is about other weights: run vampzoo.evaluate again", file=sys.stderr)
        what |= {"evaluation": None, "log_likelihoods": None}
    data = zoo.read_data(folder)
    try:
        dataset = datasets.load(
            data["dataset"],
            **training.places_of_data(folder),
            likelihood=model.likelihood,
            binarization=data["binarization"],
        )
    except datasets.DataError as error:
        print(f"without images of the dataset: {error}", file=sys.stderr)
        return what
    if dataset.fingerprint != data["fingerprint"]:
        print(f"without images of the dataset: {data['dataset']} is not what {folder} was trained on", file=sys.stderr)
        return what
    return {**what, "images": dataset.test}


def cli():
    """The console script vampzoo-report: the same as `python -m vampzoo.report`."""
    program.run(main, __doc__)


if __name__ == "__main__":
    cli()
