"""Packaging of vampzoo. Versions are the ones that were tried together; see README.md for the two set-up lines."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "vampzoo/__init__.py").read_text(), re.MULTILINE).group(1)

setup(
    name="vampzoo",
    version=VERSION,
    description="Keras 3 / TensorFlow Probability model zoo of the VAE with a VampPrior",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["vampzoo", "vampzoo.*"]),
    package_data={"vampzoo.datasets": ["*/*.tsv", "*/*.md", "*/*.bib", "*/*.txt"]},
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
        "test": ["pytest>=8", "pytest-xdist", "hypothesis", "ruff", "nbclient", "nbformat", "ipykernel"],
        "notebook": ["jupyterlab", "ipykernel"],
        "bench": ["torch==2.13.0", "pydantic"],
    },
    classifiers=[
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
