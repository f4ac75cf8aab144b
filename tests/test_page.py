"""The page of a run or preset: it parses, holds the numbers, and loads nothing from anywhere."""

import html.parser
import json

import child_runs
import numpy as np
import pytest
import tiny_preset

from vampzoo.evaluation import page

HISTORY = [{"epoch": e, "elbo": -60.0 + e, "validation_elbo": -61.0 + e, "distortion": 40.0} for e in (1, 2, 3)]


class Parser(html.parser.HTMLParser):
    """Collects what a page loads, its text, and whether every element is closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.sources, self.texts, self.open, self.ids, self.shows = [], [], [], set(), set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.sources += [attrs[name] for name in ("src", "href", "data", "action") if name in attrs]
        self.ids |= {attrs["id"]} if "id" in attrs else set()
        self.shows |= {attrs["data-shows"]} if "data-shows" in attrs else set()
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    model = tiny_preset.write_run(folder)
    return model, json.loads((folder / "config.json").read_text())


def render(run, **what):
    text = page.render(*run, evaluation=tiny_preset.EVALUATION, **what)
    parser = Parser(text)
    assert not parser.open
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
    assert "url(" not in text and "@import" not in text and "fetch(" not in text
    return text, parser


def test_the_page_of_a_run_holds_numbers_curves_pictures_and_recipe(run):
    images = np.random.default_rng(0).integers(0, 2, (30, 8, 8, 1)).astype(np.float32)
    _, parser = render(run, history=HISTORY, images=images, log_likelihoods=np.linspace(-60, -40, 30))
    text = "".join(parser.texts)
    assert json.dumps(tiny_preset.EVALUATION, indent=2) in text
    assert "-50.12 ± 1.25" in text and "hidden_units" in text
    for title in ("Samples", "Reconstructions", "Pseudo-inputs", "Training", "Log-likelihood of each image", "Recipe"):
        assert title in parser.texts
    assert len(parser.shows) == 5 and parser.shows <= parser.ids
    assert "The 5 most used of 5 components" in text


def test_the_page_without_images_of_the_dataset_shows_none(run):
    text, parser = render(run)
    assert "Reconstructions" not in parser.texts
    assert "Pseudo-inputs" in parser.texts and "The 5 most used" not in text


def test_pseudo_inputs_that_may_be_images_of_the_dataset_are_not_shown(run):
    text, parser = render(run, show_pseudo_inputs=False)
    assert "Pseudo-inputs" not in parser.texts and "Components of the prior" in parser.texts
    inside = [page._pixels(u[np.newaxis], 1, "").split("src=")[1] for u in run[0].pseudo_inputs.numpy()]
    shown, _ = render(run)
    assert all(picture in shown and picture not in text for picture in inside)


def test_the_program_shows_no_training_images_without_the_dataset(tmp_path):
    folder, out = tmp_path / "run", tmp_path / "page.html"
    tiny_preset.write_run(folder)
    config = json.loads((folder / "config.json").read_text())
    config["training"]["pseudo_inputs_from_data"] = True
    (folder / "config.json").write_text(json.dumps(config))
    code, _, error = child_runs.call(child_runs.run_program, "report", f"--run_dir={folder}", f"--out={out}")
    assert code == 0 and "without images of the dataset" in error, error
    assert "Pseudo-inputs" not in Parser(out.read_text()).texts


def test_names_are_escaped(run):
    text, _ = render(run, title="<script>alert(1)</script>")
    assert "<script>alert" not in text
