"""Ships the folder configs/ as seg/configs; all else about the package is in pyproject.toml."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["seg*"]), "seg.configs"])
