"""Presets on Hugging Face's hub: there and back through its own library, against a server on loopback."""

import json
import os
import shutil
import subprocess
import sys

import child_runs
import hub_server
import numpy as np
import pytest
import tiny_preset

from vampzoo import zoo
from vampzoo.zoo import hub

pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")

NAME = tiny_preset.NAME


@pytest.fixture(scope="module")
def server():
    with hub_server.serve() as (repositories, endpoint):
        yield repositories, endpoint


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return tiny_preset.write_zoo(tmp_path_factory.mktemp("hub"))


@pytest.fixture(scope="module")
def hub_environment(server, tmp_path_factory):
    """Variables of the environment; the hub's library reads its own at its import."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "VAMPZOO_"))}
    switches = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY")
    settings = {"HF_ENDPOINT": server[1], "HF_HOME": str(tmp_path_factory.mktemp("home")), "HF_TOKEN": "hf_owner"}
    return {**others, **dict.fromkeys(switches, "1"), **settings}


@pytest.fixture(scope="module")
def python(hub_environment):
    """A function: code, its arguments, variables of the environment -> the lines that it prints."""

    def run(code, *arguments, **changes):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(command, env={**hub_environment, **changes}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


@pytest.fixture(scope="module")
def python_with_tensorflow(hub_environment):
    """As `python`, for code that uses models: in a process in which TensorFlow is imported already."""

    def run(code, *arguments):
        return child_runs.call(child_runs.run_code, hub_environment, code, *map(str, arguments)).splitlines()

    return run


REFUSED = """
import sys, time, vampzoo
time.sleep = lambda seconds: None  # the hub's library tries five times, with growing pauses
try:
    exec(sys.argv[1])
except vampzoo.zoo.ZooError as error:
    print(str(error).replace("\\n", " "))
assert "tensorflow" not in sys.modules
"""


# === Addresses ===


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf://me/hvae_vampprior_mnist", ("me", "hvae_vampprior_mnist", None)),
        ("hf://me/my-model.v2@v1.0", ("me", "my-model.v2", "v1.0")),
        ("hf://me/m@refs/pr/1", ("me", "m", "refs/pr/1")),
        ("hf://some-org", ("some-org", None, None)),
        ("hf://some-org/", ("some-org", None, None)),
    ],
)
def test_addresses(text, parts):
    address = hub.parse(text)
    assert (address.owner, address.name, address.revision) == parts
    assert str(address) == text.rstrip("/")


@pytest.mark.parametrize(
    "text", ["hf://", "hf:///a", "hf://a/b/c", "hf://a@main", "hf://a/b@", "hf://../b", "hf://a b/c", "hf://a/b?x=1"]
)
def test_what_is_no_address(text):
    with pytest.raises(zoo.ZooError, match="is no address on the hub"):
        zoo.load(text)


# === There and back ===


@pytest.fixture(scope="module")
def pushed(server, exported, python):
    """The address of the commit of the tiny preset on the hub, pushed as a folder."""
    (exported[1] / NAME / ".env").write_text("SECRET=1")  # somebody put it there
    code = "import sys, vampzoo; print(vampzoo.push(sys.argv[1], sys.argv[2])); assert 'tensorflow' not in sys.modules"
    (address,) = python(code, exported[1] / NAME, f"hf://me/{NAME}")
    return address


def test_push_uploads_what_the_sums_list_and_nothing_else(server, exported, pushed):
    oid, files = server[0].files(f"me/{NAME}")
    assert pushed == f"hf://me/{NAME}@{oid}"
    folder = exported[1] / NAME
    assert {**files, ".gitattributes": None} == {".gitattributes": None} | {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".env"
    }
    assert (folder / ".env").is_file()
    assert server[0].large  # the SavedModel went the way of large files


LOAD = """
import os, sys, numpy as np, vampzoo
pinned, out = sys.argv[1:3]
model = vampzoo.load(pinned.partition("@")[0])
np.save(out, model.sample(2, seed=1))
print(model.title)
os.environ["VAMPZOO_ZOO"] = "hf://me"
print(vampzoo.load(model.title).title, np.array_equal(vampzoo.load(pinned).sample(2, seed=1), model.sample(2, seed=1)))
presets = vampzoo.presets()
print(list(presets), presets[0].value, presets[0].license, vampzoo.presets(zoo_dir="hf://nobody"))
"""


def test_load_from_the_hub(server, exported, pushed, python, python_with_tensorflow, tmp_path):
    server[0].add("me/other", {"README.md": b"no preset"})
    out = tmp_path / "images.npy"
    title, again, listed = python_with_tensorflow(LOAD, pushed, out)
    np.testing.assert_array_equal(np.load(out), exported[2].sample(2, seed=1))
    assert (title, again) == (NAME, f"{NAME} True")
    assert listed.startswith(f"['{NAME}'] -50.125 unknown preset ")
    # From the cache: nothing is asked for under a commit, and a branch is where it was when there is no network.
    before = len(server[0].requests)
    code = "import sys, vampzoo; print(*vampzoo.zoo.find(sys.argv[1]))"
    folder, name = python(code, pushed)[0].rsplit(" ", 1)
    assert len(server[0].requests) == before and name == NAME and folder.endswith(pushed.partition("@")[2])
    offline = python(code, pushed.partition("@")[0], HF_ENDPOINT="http://127.0.0.1:9")
    assert offline == python(code, pushed, HF_HUB_OFFLINE="1") == [f"{folder} {name}"]


def test_a_revision_stays_what_it_was(server, exported, pushed, python, tmp_path):
    """A further push moves the branch, and takes away what the new preset does not have; a commit stays."""
    copied = shutil.copytree(exported[1] / NAME, tmp_path / NAME)
    shutil.move(copied / "1", copied / "2")
    zoo.write_checksums(copied)
    (newer,) = python("import sys, vampzoo; print(vampzoo.push(sys.argv[1], sys.argv[2]))", copied, f"hf://me/{NAME}")
    assert newer != pushed
    names = set(server[0].files(f"me/{NAME}")[1])
    assert "2/saved_model.pb" in names and "1/saved_model.pb" not in names
    code = "import sys, vampzoo; print(*[vampzoo.zoo.latest_version(vampzoo.zoo.find(a)[0]) for a in sys.argv[1:]])"
    assert python(code, pushed, newer, f"hf://me/{NAME}") == ["1 2 2"]


def test_what_was_tampered_with_is_refused(server, pushed, python):
    _, files = server[0].files(f"me/{NAME}", pushed.partition("@")[2])
    path = "1/variables/variables.data-00000-of-00001"
    data = bytearray(files[path])
    data[100] ^= 1
    server[0].add("me/tampered", {**files, path: bytes(data), "setup.py": b"raise SystemExit", "a.pkl": b"cos\nsystem"})
    assert "variables.data-00000-of-00001 is damaged" in python(REFUSED, "vampzoo.load('hf://me/tampered')")[0]
    assert not [r for r in server[0].requests if r.endswith(("setup.py", "a.pkl"))]  # nobody asked for those
    server[0].add("me/unlisted", {name: data for name, data in files.items() if name != "SHA256SUMS"})
    assert "is no preset: it lacks SHA256SUMS" in python(REFUSED, "vampzoo.load('hf://me/unlisted')")[0]


# === What goes wrong ===


@pytest.mark.parametrize(
    ("code", "environment", "message"),
    [
        ("vampzoo.load('hf://me/absent')", {}, "hf://me/absent does not exist, or is not open to you"),
        (f"vampzoo.load('hf://me/{NAME}@v9')", {}, "has no revision 'v9'"),
        ("vampzoo.load('hf://me')", {}, "hf://me is an owner, not a preset"),
        ("vampzoo.load('hf://me/new')", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9 is not reachable"),
        ("vampzoo.load('hf://me/new')", {"HF_HUB_OFFLINE": "1"}, "and is not in the cache"),
        ("vampzoo.load('new')", {"VAMPZOO_ZOO": "hf://me"}, "hf://me/new does not exist"),
        ("vampzoo.load('new')", {"VAMPZOO_ZOO": "hf://me/new"}, "a zoo is a folder or the owner of many, hf://me"),
        ("vampzoo.presets('hf://me')", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "is not reachable"),
        ("vampzoo.zoo.zoo_folder()", {"VAMPZOO_ZOO": "hf://me"}, "VAMPZOO_ZOO=hf://me is on the hub"),
        ("vampzoo.push(PRESET, 'hf://me')", {}, "a preset is pushed to hf://OWNER/NAME"),
        (f"vampzoo.push(PRESET, 'hf://me/{NAME}@main')", {}, "a preset is pushed to hf://OWNER/NAME"),
        ("vampzoo.push(PRESET, 'hf://me/vae_vampprior_tiny')", {}, "says vae, and the model is hvae"),
        (f"vampzoo.push(PRESET, 'hf://me/{NAME}', license='mit')", {}, "is said when it is exported"),
        (f"vampzoo.push(RUN, 'hf://me/{NAME}')", {}, "is no preset: `python -m vampzoo.export --run_dir="),
        (f"vampzoo.push(PRESET, 'hf://me/{NAME}')", {"HF_TOKEN": "hf_stranger"}, "HF_TOKEN says who you are"),
        (f"vampzoo.push(PRESET, 'hf://me/{NAME}')", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "is not reachable"),
        (
            "sys.modules['huggingface_hub'] = None; vampzoo.load('hf://me/new')",
            {},
            "needs a further package: pip install huggingface_hub",
        ),
    ],
)
def test_errors_say_what_can_be_done(exported, pushed, python, code, environment, message):
    code = code.replace("PRESET", repr(str(exported[1] / NAME))).replace("RUN", repr(str(exported[0])))
    (answer,) = python(REFUSED, code, **environment)
    assert message in answer


# === Models ===

PUSH_MODELS = """
import sys, pathlib, vampzoo
import numpy as np
from vampzoo import config, models
preset, run = map(pathlib.Path, sys.argv[1:])
model = vampzoo.load(preset)
print(vampzoo.push(model, "hf://me/hvae_vampprior_same"))
vampzoo.push(model, "hf://me/hvae_vampprior_changed")
model.weights[-1].assign(model.weights[-1] + 1)
print(vampzoo.push(model, "hf://me/hvae_vampprior_changed", license="cc-by-4.0", private=True))
loaded = vampzoo.load("hf://me/hvae_vampprior_changed")
print(vampzoo.zoo.writing.differing_weights(loaded, model))
own = models.create(config.ModelConfig(model="vae", image_shape=(4, 4, 1), num_components=3, hidden_units=4, z2_size=2))
print(vampzoo.push(own, "hf://me/own"), vampzoo.load("hf://me/own").trained_on)
for model, address in (
    (models.create(config.ModelConfig(prior="vampprior_data", image_shape=(4, 4, 1), num_components=3)), "hf://me/data"),
    (own, "hf://me/hvae_own"),
    (own, "hf://me/own"),
):
    if address.endswith("/own"):
        own.prior_layer.start_at_examples(np.zeros([5, 4, 4, 1], np.float32), seed=0, from_data=True)
    try:
        vampzoo.push(model, address)
    except vampzoo.zoo.ZooError as error:
        print(error)
own.model_config = None
for what in (own, 3):
    try:
        vampzoo.push(what, "hf://me/own")
    except (vampzoo.zoo.ZooError, TypeError) as error:
        print(error)
"""


def test_push_of_models(server, exported, python_with_tensorflow):
    same, changed, differing, own, data, name, began, networks, kind = python_with_tensorflow(
        PUSH_MODELS, exported[1] / NAME, exported[0]
    )
    folder = exported[1] / NAME
    oid, files = server[0].files("me/hvae_vampprior_same")
    assert same.endswith(oid) and files["README.md"] == (folder / "README.md").read_bytes()
    oid, files = server[0].files("me/hvae_vampprior_changed")
    assert changed.endswith(oid) and "model.weights.h5" not in files and differing == "[]"
    text = files["README.md"].decode()
    assert "Not measured." in text and 'license: "cc-by-4.0"' in text
    assert json.loads(files["metrics.json"])["evaluation"] is None
    assert json.loads(files["config.json"])["data"] == {"dataset": "glyphs", "fingerprint": "0" * 64}
    assert "train.flags" not in files  # which is of the model that was there before
    assert own.startswith("hf://me/own@") and own.endswith(" data that is not recorded")
    assert "are training images" in data and "allow_training_images=True" in data
    assert "says hvae, and the model is vae" in name
    assert "or began as such" in began and "allow_training_images=True" in began
    assert "only what vampzoo.models.create made" in networks
    assert "not a int" in kind
