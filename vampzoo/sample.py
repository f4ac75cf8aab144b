"""Draws images from a run or a preset.

python -m vampzoo.sample --run_dir=runs/hvae_vampprior_caltech101 --n=64 --out=samples.png
"""

import json
import pathlib

from absl import flags

from vampzoo import files, program
from vampzoo.errors import InvalidValue

FLAGS = flags.FLAGS

MAX_IN_PICTURE = 10_000

_GROUP = "sampling"
program.define_path("run_dir", None, "run folder, preset folder, preset name or hf://OWNER/NAME", module_name=_GROUP)
program.define_path("zoo_dir", None, "where preset names are looked for: a folder or hf://OWNER", module_name=_GROUP)
flags.DEFINE_integer("n", 64, "number of images", module_name=_GROUP)
flags.DEFINE_integer("seed", 0, "decides the images", module_name=_GROUP)
flags.DEFINE_integer("component", None, "draw around this pseudo-input only", module_name=_GROUP)
program.define_path(
    "out", "samples.png", "picture (.png, .jpg, .pdf, .svg) or array (.npy) to write", module_name=_GROUP
)


def main(argv):
    if FLAGS.run_dir is None:
        raise InvalidValue("--run_dir is missing: a folder that vampzoo.train wrote, or a preset")
    out = pathlib.Path(FLAGS.out)
    if out.suffix not in (".png", ".jpg", ".pdf", ".svg", ".npy"):
        raise InvalidValue(f"--out={out} must end in .png, .jpg, .pdf, .svg or .npy")
    files.check_output(out, "--out")
    if out.suffix != ".npy" and FLAGS.n > MAX_IN_PICTURE:
        raise InvalidValue(
            f"--n={FLAGS.n}: a picture holds at most {MAX_IN_PICTURE:,} images; --out=FILE.npy takes more"
        )

    import numpy as np

    from vampzoo import figures, zoo

    images = zoo.load(FLAGS.run_dir, FLAGS.zoo_dir).sample(FLAGS.n, seed=FLAGS.seed, component=FLAGS.component)
    out.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_path(out) as temporary:
        np.save(temporary, images) if out.suffix == ".npy" else figures.save_grid(temporary, images)
    print(json.dumps({"out": str(out), "shape": images.shape, "mean": float(images.mean())}))


def cli():
    """The console script vampzoo-sample: the same as `python -m vampzoo.sample`."""
    program.run(main, __doc__)


if __name__ == "__main__":
    cli()
