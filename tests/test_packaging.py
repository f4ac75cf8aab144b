"""The package without its checkout: what a wheel holds, which vampzoo is imported, and flagfiles by name."""

import configparser
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from vampzoo import export, files, program

flags = program.flags
ROOT = pathlib.Path(__file__).parents[1]
PRESET = "saved_models/hvae_vampprior_glyphs"

pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").is_file(), reason="there is no setup.py beside the tests")


def build(folder, kind, out):
    """Calls setuptools as pip does, without asking a registry for it; returns the file."""
    code = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(out)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone called vampzoo in a folder of its own; of the presets it has the one that wheels ship."""
    clone = tmp_path_factory.mktemp("beside") / "vampzoo"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "shipped")
    for name in ("vampzoo", "configs", PRESET):
        shutil.copytree(ROOT / name, clone / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copyfile(ROOT / name, clone / name)
    return clone


@pytest.fixture(scope="module")
def wheel(clone, tmp_path_factory):
    return build(clone, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder like site-packages, with the wheel unpacked in it."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(code, cwd, site=None, **environment):
    """Runs code as `python -c` in a folder; without `site`, none of this environment's packages are there."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VAMPZOO"))}
    command = [sys.executable, *([] if site else ["-S"]), "-c", code]
    environment = {**variables, **({"PYTHONPATH": str(site)} if site else {}), **environment}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_a_clone_beside_the_working_directory_does_not_hide_the_editable_installation(clone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("editable")
    with zipfile.ZipFile(build(clone, "editable", folder)) as archive:
        archive.extractall(folder)
    code = f"import site; site.addsitedir({str(folder)!r}); import vampzoo; print(vampzoo.__file__)"
    done = run(code, cwd=clone.parent)
    assert done.stdout.split() == [str(clone / "vampzoo" / "__init__.py")], done.stderr


def test_wheel_holds_all_configurations_and_one_preset(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name.removeprefix("vampzoo/shipped/") for name in archive.namelist()}
        scripts = configparser.ConfigParser()
        scripts.read_string(archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode())
    assert {f"configs/{path.name}" for path in (ROOT / "configs").iterdir()} <= names
    of_preset = {path.relative_to(ROOT).as_posix() for path in (ROOT / PRESET).rglob("*") if path.is_file()}
    assert of_preset == {name for name in names if name.startswith("saved_models/")}
    assert "vampzoo/datasets/caltech101_silhouettes/checksums.tsv" in names
    programs = dict(scripts["console_scripts"])
    assert programs == {
        f"vampzoo-{name}": f"vampzoo.{name}:cli" for name in ("train", "evaluate", "report", "sample", "export")
    }
    assert callable(export.cli)


def test_from_a_wheel_the_preset_loads_and_configurations_are_found(installed, tmp_path):
    code = (
        "import vampzoo; from vampzoo import config, program, train\n"
        f"assert vampzoo.__file__.startswith({str(installed)!r}), vampzoo.__file__\n"
        "print(list(vampzoo.presets()), vampzoo.load('hvae_vampprior_glyphs').sample(2, seed=1).shape)\n"
        "train.FLAGS(['train', *program.expand_flagfiles(['--flagfile=caltech.flags'])])\n"
        "print(train.FLAGS.dataset, train.FLAGS.learning_rate)\n"
    )
    done = run(code, tmp_path, site=installed)
    assert done.stdout.splitlines() == [
        "['hvae_vampprior_glyphs'] (2, 28, 28, 1)",
        "caltech101_silhouettes 0.0001",
    ], done.stderr
    code = "import sys; sys.argv = ['x', '--run_dir=run', '--name=tiny']; from vampzoo import export; export.cli()"
    assert "--zoo_dir is missing" in run(code, tmp_path, site=installed).stderr  # nothing goes into site-packages
    missing = run("import vampzoo; vampzoo.load('hvae_vampprior_frey')", tmp_path, site=installed)
    assert "no preset is called 'hvae_vampprior_frey'" in missing.stderr and "hvae_vampprior_glyphs" in missing.stderr


def test_source_distribution_holds_what_tests_need(tmp_path):
    """Every file of the repository, but for what only the repository needs and the larger presets."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    tracked = {pathlib.PurePosixPath(name) for name in listed.stdout.split("\0")[:-1]}
    if pathlib.PurePosixPath("setup.py") not in tracked:
        pytest.skip("this is no git repository")
    expected = {
        path
        for path in tracked
        if not path.parts[0].startswith(".")
        and (path.parts[0] != "saved_models" or path.is_relative_to(PRESET) or path.name == "samples.png")
        and (ROOT / path).is_file()
    }
    for path in expected:
        (tmp_path / "clone" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, tmp_path / "clone" / path)
    archive = build(tmp_path / "clone", "sdist", tmp_path)
    shutil.unpack_archive(archive, tmp_path)
    folder = tmp_path / archive.name.removesuffix(".tar.gz")
    assert not {path for path in expected if not (folder / path).is_file()}


# === Flagfiles ===


def test_flagfiles_are_found_by_name_from_anywhere(tmp_path, monkeypatch):
    from_project = program.expand_flagfiles([f"--flagfile={ROOT / 'configs' / 'caltech.flags'}"])
    monkeypatch.chdir(tmp_path)
    assert "--dataset=caltech101_silhouettes" in from_project and "--learning_rate=1e-4" in from_project
    for name in ("caltech.flags", "configs/caltech.flags"):
        assert program.expand_flagfiles([f"--flagfile={name}", "--seed=3"]) == [*from_project, "--seed=3"]
        assert program.expand_flagfiles(["--flagfile", name]) == from_project


def test_a_flagfile_here_comes_before_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("caltech.flags").write_text(
        "# mine\n// mine\n\n  --seed=7\n--flagfile=configs/frey.flags\n--\n--flagfile=x\n"
    )
    frey = program.expand_flagfiles(["--flagfile=frey.flags"])
    assert "--dataset=frey_faces" in frey
    assert program.expand_flagfiles(["--flagfile=caltech.flags"]) == ["--seed=7", *frey, "--", "--flagfile=x"]
    # A shipped one means its neighbours, whatever a folder configs/ here holds.
    pathlib.Path("configs").mkdir()
    pathlib.Path("configs/common.flags").write_text("--epochs=1\n")
    assert program.expand_flagfiles(["--flagfile=frey.flags"]) == frey
    assert program.expand_flagfiles(["--flagfile=configs/common.flags"]) == ["--epochs=1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"--flagfile=a.flags\n", "includes itself"),
        (b"--flagfile=b.flags\n", r"b\.flags is no file here; those of the package are: caltech\.flags"),
        (b"\xff\xfe", "cannot be read"),
        (b"--flagfile\n", "needs a file"),
    ],
)
def test_a_bad_flagfile_is_named(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("a.flags").write_bytes(text)
    with pytest.raises(flags.Error, match=message):
        program.expand_flagfiles(["--flagfile=a.flags"])


def test_nothing_is_shipped_where_nothing_is(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()  # somebody else's
    monkeypatch.setattr(files, "PACKAGE", tmp_path / "vampzoo")
    assert files.shipped(files.CONFIGS) is None
    with pytest.raises(flags.Error, match="those of the package are: none"):
        program.find_flagfile("caltech.flags")
