"""Packaging of vampzoo. Versions are the ones that were tried together; see README.md for the two set-up lines."""

import pathlib
import re
import shutil

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "vampzoo/__init__.py").read_text(), re.MULTILINE).group(1)

# What lies beside the package in the checkout and is needed without it: all configurations and one small preset. A wheel
# with all presets would be several times as large. `vampzoo.files.shipped` finds them.
SHIPPED = ("configs", "saved_models/hvae_vampprior_glyphs")


class BuildWithShippedFiles(build_py):
    """Copies `SHIPPED` into the package of a wheel; an editable installation finds them where they are."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for name in SHIPPED:
                shutil.copytree(HERE / name, pathlib.Path(self.build_lib, "vampzoo/shipped", name), dirs_exist_ok=True)


setup(
    name="vampzoo",
    version=VERSION,
    description="Keras 3 / TensorFlow Probability model zoo of the VAE with a VampPrior",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["vampzoo", "vampzoo.*"]),
    # Said, though it is the default, so that an editable installation is a path. An import hook, setuptools' other way,
    # comes after the working directory, in which a clone called vampzoo looks like an empty package of that name.
    package_dir={"": "."},
    package_data={"vampzoo": ["py.typed"], "vampzoo.datasets": ["*/*.tsv", "*/*.md", "*/*.bib", "*/*.txt"]},
    cmdclass={"build_py": BuildWithShippedFiles},
    entry_points={
        "console_scripts": [
            f"vampzoo-{program} = vampzoo.{program}:cli"
            for program in ("train", "evaluate", "report", "sample", "export")
        ]
    },
    python_requires=">=3.11,<3.14",
    install_requires=[
        "tensorflow>=2.21,<2.22",
        "tf-keras>=2.21,<2.22",  # TensorFlow Probability does not import without it
        "keras>=3.12,<4",
        "tensorflow-probability==0.25.*",
        "tensorflow-datasets>=4.9.10,<5",
        "importlib_resources",  # imported by tensorflow-datasets, which does not declare it
        "numpy>=1.26",
        "scipy",
        "tensorflow-serving-api==2.21.*",  # requests to TensorFlow Serving: the client, and warm-up records of an export
        "absl-py",
        "setuptools",
        "matplotlib>=3.8",
        "tensorboard>=2.20",
        "tqdm",
    ],
    extras_require={
        "cuda": ["tensorflow[and-cuda]>=2.21,<2.22"],
        "lite": ["ai-edge-litert"],  # runs models that were converted for telephones and small computers
        "hub": ["huggingface_hub>=1.0"],
        "test": [
            "pytest>=9",
            "wheel",  # with which older versions of setuptools build one
            "pytest-xdist>=3.7",
            "hypothesis",
            "ruff",
            "nbclient",
            "nbformat",
            "ipykernel",
            "huggingface_hub>=1.0",
            "mkdocs>=1.6,<2",
            "mkdocstrings[python]>=0.26",
        ],
        "docs": ["mkdocs>=1.6,<2", "mkdocstrings[python]>=0.26"],
        "notebook": ["jupyterlab", "ipykernel"],
        "bench": ["torch==2.13.0", "pydantic"],
    },
    classifiers=[
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
