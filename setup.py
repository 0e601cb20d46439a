"""Find the packages. Everything else about the build is in pyproject.toml.

`packages.find` of pyproject.toml cannot do this: it finds folders below neurosuper/ only, while the manifests of datasets are in
data_manifests/, which is installed as neurosuper.data_manifests (`package-dir` in pyproject.toml).
"""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["neurosuper*"]), "neurosuper.data_manifests"])
