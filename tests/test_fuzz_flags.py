"""Whatever the flags of train hold: an error that says what is wrong, or a training that begins; never half a run folder."""

import contextlib
import io
import pathlib
import sys
import tempfile

import child_runs
import numpy as np

NUM_EXAMPLES = 150


class Begins(BaseException):
    """Everything was accepted: here the training would begin, and then its folder."""


def fuzz(data_file):
    """Runs in a process of its own, as importing a program defines its flags."""
    from absl import flags
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    from vampzoo import program, train, training

    class Trainer:
        def __init__(self, *arguments, **options):
            raise Begins

    training.Trainer = Trainer
    path = st.text(st.characters(blacklist_characters="/\0", codec="utf-8"), max_size=20)
    anything = st.one_of(
        st.integers().map(str),
        st.integers(0, 5).map(str),
        st.floats().map(str),
        st.floats(0, 1).map(str),
        st.sampled_from(
            ["true", "false", "", "vae", "standard", "adam", "bernoulli", "dynamic", "npz", "tfds:", "mirrored"]
        ),
        st.text(st.characters(blacklist_characters="\0", codec="utf-8"), max_size=10),
    )
    groups = flags.FLAGS.flags_by_module_dict()
    paths = ("run_dir", "data_dir", "manual_dir", "data_file", "out")
    names = [
        f.name for g in ("data", "model", "training", "run", "evaluation") for f in groups[g] if f.name not in paths
    ]
    seen = {"begins": 0, "errors": 0}

    # Always the same examples: what is asserted of their kinds holds for these.
    @settings(max_examples=NUM_EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(st.sampled_from(names), anything, max_size=3), path)
    def check(values, name):
        with tempfile.TemporaryDirectory() as folder:
            run_dir = pathlib.Path(folder, f"run{name}")
            arguments = ["--dataset=npz", f"--data_file={data_file}", f"--run_dir={run_dir}"]
            arguments += [f"--{flag}={value}" for flag, value in values.items()]
            for flag in names:
                flags.FLAGS[flag].unparse()
            flags.FLAGS.unparse_flags()
            sys.argv, err = ["train", *arguments], io.StringIO()
            with contextlib.redirect_stderr(err):
                try:
                    program.run(train.main, train.__doc__)
                except Begins:
                    seen["begins"] += 1
                except SystemExit as end:
                    seen["errors"] += 1
                    assert end.code == 1, (end.code, err.getvalue())
                    assert err.getvalue().startswith("error: ") and len(err.getvalue()) > 20
                assert not any(pathlib.Path(folder).iterdir()), "a half-written folder"

    check()
    return seen


def test_flags(tmp_path):
    data_file = tmp_path / "a.npz"
    np.savez(data_file, train=np.random.default_rng(0).integers(0, 2, (20, 4, 4), np.uint8))
    seen = child_runs.call(fuzz, data_file)
    assert seen["begins"] > NUM_EXAMPLES / 10 and seen["errors"] > NUM_EXAMPLES / 10
