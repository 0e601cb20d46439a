"""Find the packages. Everything else about the build is in pyproject.toml.

`packages.find` in pyproject.toml cannot do this: it finds the folders below neurosuper/, but not data_manifests/, which
is installed as neurosuper.data_manifests (see `package-dir` in pyproject.toml).
"""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["neurosuper*"]), "neurosuper.data_manifests"])
