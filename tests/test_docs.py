"""The documentation: it builds without a warning, and its links lead somewhere."""

import pathlib
import re
import subprocess
import sys

import pytest

PROJECT = pathlib.Path(__file__).parents[1]
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")])
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")


def test_the_site_builds(tmp_path):
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    api = (tmp_path / "site" / "api" / "index.html").read_text()
    for name in ("LatentVariableModel", "VampPrior", "importance-sampled"):
        assert name in api


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_links_lead_to_files(page):
    assert not [target for target in LINK.findall(page.read_text()) if not (page.parent / target).exists()]


def test_the_readme_fits_on_two_screens():
    assert len((PROJECT / "README.md").read_text().splitlines()) <= 150


def test_the_recipe_for_a_model_names_what_is_abstract():
    from vampzoo.models import base

    code = pathlib.Path(base.__file__).read_text()
    abstract = set(
        re.findall(r"def (\w+)\((?:(?!\n    def ).)*?raise NotImplementedError  # abstract", code, re.DOTALL)
    )
    recipe = (PROJECT / "CONTRIBUTING.md").read_text().split("**A model.**")[1].split("**A dataset.**")[0]
    assert len(abstract) >= 6 and abstract <= set(re.findall(r"`(\w+)`", recipe))


def test_the_command_of_a_preset_trains_outside_of_it():
    """A run folder within a preset is refused, and the default one is where the command is given."""
    (line,) = [line for line in (PROJECT / "docs" / "presets.md").read_text().splitlines() if "train.flags` |" in line]
    assert re.search(r"--flagfile=NAME/train\.flags --run_dir=\S+", line)
