"""Cards, licences and names of presets, and the table of them."""

import copy
import json
import pickle
import shutil

import pytest
import tiny_preset

import vampzoo
from vampzoo import export, zoo
from vampzoo.zoo import card, writing

CONFIG = {
    "model": {**tiny_preset.config().__dict__},
    "data": {"dataset": "glyphs", "fingerprint": "0" * 64},
    "training": {"seed": 3, "selection": "elbo"},
}
HISTORY = [{"epoch": "1", "validation_elbo": "-60.5"}]


def metrics(**evaluation):
    return card.metrics("hvae_vampprior_tiny", CONFIG, {**tiny_preset.EVALUATION, **evaluation}, HISTORY, license="mit")


# === Cards ===


def test_the_hub_reads_the_card():
    hub = pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    data = hub.ModelCard(card.render(metrics(), CONFIG), ignore_metadata_errors=False).data
    assert (data.license, data.library_name, data.datasets) == ("mit", "vampzoo", ["glyphs"])
    assert data.metrics == ["log_likelihood", "elbo", "distortion", "rate"]
    assert data.model_name == "hvae_vampprior_tiny"
    result = data.eval_results[0]
    assert (result.task_type, result.metric_type) == ("unconditional-image-generation", "log_likelihood")
    assert result.metric_value == tiny_preset.EVALUATION["log_likelihood"]
    assert result.metric_args == {"stderr": 1.25, "num_samples": 50, "seed": 3}
    assert (result.dataset_type, result.dataset_split) == ("glyphs", "test")
    assert result.dataset_args == {"fingerprint": "0" * 64}


@pytest.mark.parametrize(
    ("dataset", "names"), [("npz", None), ("tfds:fashion_mnist", ["fashion_mnist"]), ('odd: "name"', None)]
)
def test_the_hub_reads_the_card_of_any_data(dataset, names):
    hub = pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    config = copy.deepcopy(CONFIG)
    config["data"]["dataset"] = dataset
    unmeasured = card.metrics_of_unmeasured("tiny", config)
    text = card.render(unmeasured, config)
    data = hub.ModelCard(text, ignore_metadata_errors=False).data
    assert (data.license, data.datasets, data.eval_results) == ("unknown", names, None)
    assert "Not measured." in text and "not recorded" in text


def test_the_command_for_data_of_ones_own_names_its_file():
    config = copy.deepcopy(CONFIG)
    config["data"]["dataset"] = "npz"
    own = card.metrics("hvae_vampprior_tiny", config, tiny_preset.EVALUATION, HISTORY)
    assert "--run_dir=runs/hvae_vampprior_tiny --data_file=YOUR.npz\n" in card.render(own, config)
    assert "--data_file" not in card.render(metrics(), CONFIG)


def test_the_licence_is_the_exporters():
    assert "under the licence `mit`" in card.render(metrics(), CONFIG)
    assert "licence that is not stated" in card.render({**metrics(), "license": "unknown"}, CONFIG)
    old = {key: value for key, value in metrics().items() if key != "license"}
    assert "licence that is not stated" in card.render(old, CONFIG)
    for license in ("mit", "apache-2.0", "cc-by-nc-sa-4.0", "unknown"):
        card.check_license(license)
    for license in ("", "MIT", "my own", "a\nb: c"):
        with pytest.raises(ValueError, match="is no short name of a licence"):
            card.check_license(license)


def test_dead_components_are_on_the_card():
    assert "explain no test image" not in card.render(metrics(effective_components=4.9, dead_components=0), CONFIG)
    alike = metrics(effective_components=4.9, dead_components=3)  # all take part in every image, though 2 lead
    assert "explain no test image" not in card.render(alike, CONFIG)
    text = card.render(metrics(effective_components=1.25, dead_components=3), CONFIG)
    assert "| effective components | 1.2 |" in text
    assert "**3 of the 5 components of the prior explain no test image.** As all have the same weight" in text


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (
            {"learning_rate": 1e-4, "learning_rate_decay_epochs": 340},
            "learning rate 0.0001 falling to 0 over 340 epochs",
        ),
        ({"learning_rate": 4e-3}, "learning rate 0.004"),
        ({"batch_size": 200}, "batches of 200"),
        ({"warmup_epochs": 5}, "warm-up over 5 epochs"),
        ({"patience": 7}, "patience of 7 epochs"),
        ({"optimizer": "adam"}, "Adam on gradients that are not normalised"),
        ({"weight_decay": 0.3}, "weight_decay 0.3"),
        ({"objective": "iwae", "objective_samples": 5, "one_sample_epochs": 7}, "of 5 samples after 7 epochs of one"),
        ({"shift_pixels": 1}, "training images moved by up to 1 pixel. "),
        ({"shift_pixels": 2, "shift_epochs": 7}, "moved by up to 2 pixels in the first 7 epochs"),
        ({"objective": "dreg", "objective_samples": 1}, "of 1 sample with doubly reparameterised gradients"),
        ({"objective_samples": 5}, "the mean ELBO of 5 samples"),
        ({"start_from": "some/where/a_run"}, "weights that were those of a_run, where the networks are alike"),
        ({"mixed_precision": "bfloat16"}, "networks that compute in bfloat16"),
        # What would have come later than the last epoch did not come:
        ({"shift_pixels": 2, "shift_epochs": 7000}, "moved by up to 2 pixels. "),
        (
            {"objective": "dreg", "objective_samples": 5, "one_sample_epochs": 7000},
            "the ELBO with doubly reparameterised gradients. ",
        ),
    ],
)
def test_the_card_says_what_is_not_as_in_the_paper(setting, text):
    def written(**training):
        measured = metrics()
        measured["training"] = {**measured["training"], "epochs": 100}
        return card.render(measured, {**CONFIG, "training": {**CONFIG["training"], **training}})

    usual = written(learning_rate_decay_epochs=0, optimizer="normalized_adam", weight_decay=0.0, objective="elbo")
    assert "Not as in the paper" not in usual
    assert text in written(**setting).split("Not as in the paper: ")[1]


@pytest.mark.parametrize(
    ("best_epoch", "training", "said"),
    [
        (98, {"patience": 50}, True),
        (49, {"patience": 50}, False),
        (98, {"patience": 50, "learning_rate_decay_epochs": 100}, False),
        (98, {"patience": 50, "learning_rate_decay_epochs": 200}, True),
    ],
    ids=("cut short", "early stopping", "rate at 0", "rate not yet at 0"),
)
def test_the_card_says_that_training_was_not_over(best_epoch, training, said):
    settings = {**CONFIG, "training": {**CONFIG["training"], **training}}
    measured = metrics()
    measured["training"] = {**measured["training"], "epochs": 100, "best_epoch": best_epoch}
    assert ("Early stopping had not come by then" in card.render(measured, settings)) == said


def test_only_of_pseudo_inputs_that_began_as_training_images_the_card_says_so():
    says_so = {}
    for prior in ("standard", "mog", "vampprior"):
        settings = {**CONFIG, "model": {**CONFIG["model"], "prior": prior}}
        settings["training"] = {**CONFIG["training"], "pseudo_inputs_from_data": True}
        says_so[prior] = "starting from training images" in card.render(metrics(), settings)
    assert says_so == {"standard": False, "mog": False, "vampprior": True}


def test_a_tighter_bound_stands_beside_the_papers():
    plain = card.render(metrics(), CONFIG)
    assert "refined" not in plain and "effective number" not in plain  # of evaluations by older versions
    refined = {"refined_log_likelihood": -48.0, "refined_log_likelihood_stderr": 1.0, "refined_difference": 2.125}
    refined |= {"refined_num_samples": 20, "refined_steps": 200, "refined_bits_per_dimension": None}
    text = card.render(metrics(**refined, effective_samples_median=2.5, images_left_out=3), CONFIG)
    assert "| log-likelihood, refined proposals, nats | -48.00 ± 1.00 |" in text
    assert (
        "Of an image's 50 samples 2.5 count" in text
        and "200 gradient steps, S = 20. Here it lies 2.12 nats higher" in text
    )
    assert "3 images that are in the training images, too, are left out" in text
    front = text.split("---")[1]
    assert '"type": "refined_log_likelihood"' in front and '"num_samples": 20' in front


# === Names ===


@pytest.mark.parametrize(
    ("name", "fields", "dataset"),
    [
        ("hvae_vampprior_caltech101", {}, "caltech101_silhouettes"),
        ("hvae_vampprior_caltech101_best", {}, "caltech101_silhouettes"),
        ("hvae_vampprior_weighted_frey", {"weighted": True}, "frey_faces"),
        ("conv_hvae_standard_mnist", {"model": "conv_hvae", "prior": "standard"}, "dynamic_mnist"),
        ("hvae_vampprior_data_static_mnist", {"prior": "vampprior_data"}, "static_mnist"),
        ("hvae_vampprior_fashion_mnist", {}, "tfds:fashion_mnist"),
        ("hvae_vampprior_mnist", {}, "npz"),
        ("tiny", {}, "glyphs"),
        ("hvae", {}, "glyphs"),
    ],
)
def test_names_that_are_true(name, fields, dataset):
    writing.check_name(name, tiny_preset.config(**fields), dataset)


@pytest.mark.parametrize(
    ("name", "fields", "dataset", "message"),
    [
        ("vae_vampprior_glyphs", {}, "glyphs", "says vae, and the model is hvae"),
        ("hvae_vampprior_glyphs", {"model": "conv_hvae"}, "glyphs", "says hvae, and the model is conv_hvae"),
        ("hvae_standard_glyphs", {}, "glyphs", "says standard, and the prior is vampprior"),
        (
            "hvae_vampprior_glyphs",
            {"prior": "vampprior_data"},
            "glyphs",
            "says vampprior, and the prior is vampprior_data",
        ),
        ("hvae_vampprior_weighted_glyphs", {}, "glyphs", "says weighted, and the components"),
        ("hvae_vampprior_frey", {}, "glyphs", "says frey, and the data is glyphs"),
        ("hvae_vampprior_static_mnist", {}, "dynamic_mnist", "says static, and the data is dynamic_mnist"),
        ("hvae_vampprior_omniglot", {}, "tfds:fashion_mnist", "says omniglot"),
        ("../hvae", {}, "glyphs", "lower-case letters"),
        ("", {}, "glyphs", "lower-case letters"),
    ],
)
def test_names_that_contradict_the_model_are_refused(name, fields, dataset, message):
    with pytest.raises(zoo.ZooError, match=message):
        writing.check_name(name, tiny_preset.config(**fields), dataset)


def test_export_refuses_such_a_name_and_writes_nothing(tmp_path):
    tiny_preset.write_run(tmp_path / "run")
    with pytest.raises(zoo.ZooError, match="says vae"):
        export.export_preset(tmp_path / "run", "vae_vampprior_glyphs", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# === The table ===


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A zoo of four presets, of which one has no metrics and one no configuration."""
    folder = tmp_path_factory.mktemp("table") / "zoo"
    of_vae = {**metrics(), "model": "vae", "dataset": "static_mnist", "paper": -85.57}
    of_frey = {**metrics(bits_per_dimension=4.5061, bits_per_dimension_stderr=0.037), "dataset": "frey_faces"}
    for name, config, values in (
        ("vae_vampprior_mnist", {"model": {**CONFIG["model"], "model": "vae", "weighted": True}}, of_vae),
        ("hvae_vampprior_frey", CONFIG, of_frey),
        ("bare", {"model": {**CONFIG["model"], "prior": "standard"}}, None),
        ("damaged", None, None),
    ):
        (folder / name).mkdir(parents=True)
        for file, value in (("config.json", config), ("metrics.json", values)):
            if value:
                (folder / name / file).write_text(json.dumps(value))
        zoo.write_checksums(folder / name)
    return folder


def test_the_table_is_a_sorted_list_of_names(folder):
    presets = vampzoo.presets(folder)
    assert presets == ["bare", "damaged", "hvae_vampprior_frey", "vae_vampprior_mnist"] == sorted(presets)
    assert "bare" in presets and "hvae" not in presets and len(presets) == 4
    assert presets[2].model == "hvae" and presets[2].value == 4.5061 and presets[2].measure == "bits_per_dimension"
    assert presets[0].prior == "standard" and presets[0].num_components is None and presets[0].value is None
    assert presets[1].model is None
    with pytest.raises(AttributeError, match="no 'nonsense'"):
        _ = presets[0].nonsense
    again = pickle.loads(pickle.dumps(presets))
    assert again == presets and again[2].facts == presets[2].facts


def test_filters(folder):
    assert vampzoo.presets(folder, model="hvae") == ["bare", "hvae_vampprior_frey"]
    assert vampzoo.presets(folder, prior="vampprior", model="vae") == ["vae_vampprior_mnist"]
    assert vampzoo.presets(folder, dataset="mnist") == ["vae_vampprior_mnist"]
    assert vampzoo.presets(folder, dataset="omniglot") == []
    with pytest.raises(zoo.ZooError, match=r"model='gan' is unknown.*pixel_hvae"):
        vampzoo.presets(folder, model="gan")
    with pytest.raises(zoo.ZooError, match=r"prior='flow' is unknown.*mog"):
        vampzoo.presets(folder, prior="flow")


def test_the_table_shows_itself(folder):
    presets = vampzoo.presets(folder)
    text = repr(presets).splitlines()
    assert len(text) == 5 and text[0].startswith("preset") and text[1].split() == ["bare", *text[1].split()[1:]]
    assert "4.506 ± 0.037" in text[3] and "-85.57" in text[4] and "VampPrior, weighted" in text[4]
    page = presets._repr_html_()
    assert page.count("<tr>") == 5 and "<td>Frey Faces</td>" in page
    markdown = presets.markdown()
    assert "| [hvae_vampprior_frey](hvae_vampprior_frey/README.md) | HVAE | VampPrior | Frey Faces |" in markdown
    assert "not measured" in markdown


def test_index_is_the_table(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "zoo")
    zoo.write_index(copied)
    rows = json.loads((copied / "index.json").read_text())
    assert [row["name"] for row in rows] == vampzoo.presets(copied)
    assert rows == json.loads(json.dumps(vampzoo.presets(folder).rows()))
    assert rows[2]["measure"] == "bits_per_dimension" and rows[3]["license"] == "mit"
