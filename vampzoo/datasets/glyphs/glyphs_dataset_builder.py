"""TFDS builder of glyphs: letters of many scripts, rendered from fonts that are there anyway. Needs no download."""

import pathlib
import unicodedata

import matplotlib
import numpy as np
import tensorflow_datasets as tfds
from matplotlib import ft2font
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

FACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
)
IMAGE_SIZE = 28
LETTER_SIZE = 22  # Pixels of the longer side of a letter.
OUTLINE = 1  # Pixels: shapes are drawn with an outline, half of it outside, so that hairlines are not lost.
EM_SIZE = 1024  # Pixels of the em square at which outlines are read, before they are scaled.
MIN_EXTENT = 0.35  # Of the em square: what is smaller is a dot, a prime or another mark.
SPLIT_SEED = 777


class Builder(tfds.core.GeneratorBasedBuilder):
    """Letters, uint8 0 and 1 [28, 28, 1]; no letter is in two splits."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Initial release."}

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(IMAGE_SIZE, IMAGE_SIZE, 1)),
                    "code_point": tfds.features.Scalar(dtype=np.int32),
                }
            ),
            supervised_keys=None,
            homepage="https://dejavu-fonts.github.io/",
        )

    def _split_generators(self, dl_manager):
        splits = split_letters(render_letters())
        return {split: self._generate_examples(images) for split, images in splits.items()}

    def _generate_examples(self, images):
        for index, (code_point, image) in enumerate(images):
            yield index, {"image": image, "code_point": code_point}


def is_letter(code_point):
    """A letter that is not composed of another one: no accents, ligatures, superscripts or mathematical alphabets."""
    character = chr(code_point)
    return unicodedata.category(character).startswith("L") and not unicodedata.decomposition(character)


def render_letters():
    """Renders every letter of every face.

    Returns:
      dict from the bytes of an image to the code points that it shows: several where scripts share a shape, as Latin A
      and Greek Alpha do.
    """
    renderer = RendererAgg(IMAGE_SIZE, IMAGE_SIZE, dpi=72)
    folder = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")
    letters = {}
    for face in FACES:
        font = ft2font.FT2Font(str(folder / f"{face}.ttf"))
        for code_point in sorted(filter(is_letter, font.get_charmap())):
            image = render(font, code_point, renderer)
            if image.any():
                letters.setdefault(image.tobytes(), []).append(code_point)
    return letters


def render(font, code_point, renderer):
    """A letter centred and scaled so that its longer side is `LETTER_SIZE`.

    Args:
      font: ft2font.FT2Font.
      code_point: of the font's character map.
      renderer: RendererAgg of 28x28 pixels.

    Returns:
      uint8 [28, 28, 1], 1 where at least half of a pixel is covered; all 0 for a mark smaller than `MIN_EXTENT`.
    """
    font.set_size(EM_SIZE, 72)
    x_min, y_min, x_max, y_max = (side / 64 for side in font.load_char(code_point, ft2font.LoadFlags.NO_HINTING).bbox)
    extent = max(x_max - x_min, y_max - y_min)
    renderer.clear()
    if extent >= MIN_EXTENT * EM_SIZE:
        to_centre = (
            Affine2D().translate(-(x_min + x_max) / 2, -(y_min + y_max) / 2).scale((LETTER_SIZE - OUTLINE) / extent)
        )
        to_centre.translate(IMAGE_SIZE / 2, IMAGE_SIZE / 2)
        style = renderer.new_gc()
        style.set_linewidth(OUTLINE)
        style.set_snap(False)  # Or straight letters would be moved to whole pixels, and others not.
        renderer.draw_path(style, Path(*font.get_path()), to_centre, rgbFace=(0, 0, 0))
    coverage = np.asarray(renderer.buffer_rgba())[..., 3:]
    return (coverage >= 128).astype(np.uint8)


def split_letters(letters):
    """Assigns letters to splits, so that neither a code point nor an image is in two of them.

    Code points that share an image count as one letter. A tenth of the letters, at random with `SPLIT_SEED`, is for
    validation, a tenth for testing.

    Args:
      letters: as `render_letters` returns it.

    Returns:
      dict from split to a list of (code point, image uint8 [28, 28, 1]).
    """
    letter_of = {}  # Code point -> a smaller one that shares a shape with it, or itself: a forest.

    def find(code_point):
        while letter_of.setdefault(code_point, code_point) != code_point:
            code_point = letter_of[code_point]
        return code_point

    for code_points in letters.values():
        smallest, *others = sorted(map(find, code_points))
        letter_of.update(dict.fromkeys(others, smallest))

    names = sorted(set(map(find, letter_of)))
    # RandomState: its streams never change between NumPy versions.
    order = np.random.RandomState(SPLIT_SEED).permutation(names).tolist()
    tenth = len(names) // 10
    split_of = dict.fromkeys(order, "train")
    split_of.update(dict.fromkeys(order[:tenth], "validation"))
    split_of.update(dict.fromkeys(order[tenth : 2 * tenth], "test"))
    splits = {"train": [], "validation": [], "test": []}
    for image, code_points in letters.items():
        splits[split_of[find(code_points[0])]].append(
            (code_points[0], np.frombuffer(image, np.uint8).reshape(IMAGE_SIZE, IMAGE_SIZE, 1))
        )
    return splits
