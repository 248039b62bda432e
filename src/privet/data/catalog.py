"""The catalog of datasets with a name: what each is, where it comes from, how it is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from privet.data import images, synthetic, tables
from privet.data.cache import home
from privet.data.fetch import RemoteFile
from privet.data.table import Table
from privet.errors import OptionError

_SYNTHETIC_SEED = 1
_ATTRIGUARD = "https://raw.githubusercontent.com/jinyuan-jia/AttriGuard/master/data/"
_TRUSTLAB = "https://raw.githubusercontent.com/privacytrustlab/datasets/master/"
_TORONTO = "https://www.cs.toronto.edu/~kriz/"
_ZENODO = "https://zenodo.org/records/53169/files/"


@dataclass(frozen=True)
class Dataset:
    """A dataset with a name.

    Parameters
    ----------
    name
        What `load` and the command line call it; also its folder in the cache.
    summary
        One line: rows, features, classes, content.
    load
        Reads the dataset from its folder; built-in ones ignore the folder.
    source
        Who publishes it, or what makes it.
    protects
        The kind of protection it is used to study.
    files
        What its folder holds; empty for built-in ones.
    """

    name: str
    summary: str
    load: Callable[[Path], Table]
    source: str
    protects: Literal["attribute", "membership"]
    files: tuple[RemoteFile, ...] = ()

    @property
    def folder(self) -> Path:
        """Its folder in the cache."""
        return home() / self.name

    @property
    def downloadable(self) -> bool:
        """Whether every file has an address."""
        return bool(self.files) and all(file.url for file in self.files)


def _load_cifar10_images(folder: Path) -> Table:
    return images.load_images(folder / "cifar10-images.tar", name="cifar10-images")


def _load_digits(folder: Path) -> Table:
    """8 x 8 gray digits as 64 features, scaled from 0..16 to [0, 1]."""
    digits = _sklearn_datasets().load_digits()
    inputs = (digits.data / 16).astype(np.float32)
    return Table(inputs, digits.target.astype(np.int64), classes=10, name="digits")


def _load_breast_cancer(folder: Path) -> Table:
    """30 measurements, each scaled to [0, 1] by its range over the whole dataset."""
    cancer = _sklearn_datasets().load_breast_cancer()
    low, high = cancer.data.min(axis=0), cancer.data.max(axis=0)
    inputs = ((cancer.data - low) / (high - low)).astype(np.float32)
    names = tuple(str(name) for name in cancer.feature_names)
    labels = cancer.target.astype(np.int64)
    return Table(inputs, labels, classes=2, name="breast-cancer", feature_names=names)


def _sklearn_datasets() -> Any:
    try:
        from sklearn import datasets
    except ImportError:
        raise OptionError(
            "this dataset comes with scikit-learn: pip install 'privet[train]'"
        ) from None
    return datasets


_ALL = (
    Dataset(
        name="att",
        summary="14,607 + 1,631 users' ratings of 10,000 apps, 25 cities",
        load=tables.load_att,
        source="AttriGuard, GitHub jinyuan-jia/AttriGuard",
        protects="attribute",
        files=(
            RemoteFile(
                "train_user.txt",
                _ATTRIGUARD + "train_user.txt",
                "sha256:34fe9930e5ae038f3ff32cbaaa2ea7f33f2657b83f78c9db3c387af221f356ca",
                2_793_250,
            ),
            RemoteFile(
                "train_label.txt",
                _ATTRIGUARD + "train_label.txt",
                "sha256:b7f99d7e5dbc906ab7cd356a616746001cc7a055872d713a6767efdd2939a9fe",
                35_048,
            ),
            RemoteFile(
                "test_user.txt",
                _ATTRIGUARD + "test_user.txt",
                "sha256:fdcf5e4c382d155d703a3426909c54699e48644d39835bfc1dea6e6f7f0ead4f",
                305_580,
            ),
            RemoteFile(
                "test_label.txt",
                _ATTRIGUARD + "test_label.txt",
                "sha256:6249df17c7c7ac2187e6e1bc646cd6a24884dde1fba226d0bd2388817782ef14",
                3_899,
            ),
        ),
    ),
    Dataset(
        name="location",
        summary="5,010 users' check-ins, 446 binary features, 30 classes",
        load=tables.load_location,
        source="GitHub privacytrustlab/datasets",
        protects="membership",
        files=(
            RemoteFile(
                "dataset_location.tgz",
                _TRUSTLAB + "dataset_location.tgz",
                "sha256:927203f85a868f8ee17a0ded1dc61699efe602167beabe34fbf45b4b1de94b33",
                287_293,
            ),
        ),
    ),
    Dataset(
        name="texas100",
        summary="67,330 hospital stays, 6,169 binary features, 100 procedures",
        load=tables.load_texas100,
        source="GitHub privacytrustlab/datasets",
        protects="membership",
        files=(RemoteFile("dataset_texas.tgz", _TRUSTLAB + "dataset_texas.tgz"),),
    ),
    Dataset(
        name="purchase100",
        summary="197,324 shoppers, 600 binary features, 100 clusters",
        load=tables.load_purchase100,
        source="GitHub privacytrustlab/datasets",
        protects="membership",
        files=(RemoteFile("dataset_purchase.tgz", _TRUSTLAB + "dataset_purchase.tgz"),),
    ),
    Dataset(
        name="ch-mnist",
        summary="5,000 histology tiles, 3 x 64 x 64, 8 tissues",
        load=images.load_ch_mnist,
        source="Kather et al. 2016, Zenodo record 53169",
        protects="membership",
        files=(
            RemoteFile(
                "Kather_texture_2016_image_tiles_5000.zip",
                _ZENODO + "Kather_texture_2016_image_tiles_5000.zip",
                "sha256:936d0b95ae0f04f1f7b18a2b7e8c55776c3e887d102f645bcee752d1a6626a32",
                258_098_431,
            ),
        ),
    ),
    Dataset(
        name="cifar10",
        summary="50,000 + 10,000 photographs, 3 x 32 x 32, 10 classes",
        load=images.load_cifar10,
        source="University of Toronto, binary version",
        protects="membership",
        files=(
            RemoteFile(
                "cifar-10-binary.tar.gz",
                _TORONTO + "cifar-10-binary.tar.gz",
                "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                170_052_171,
            ),
        ),
    ),
    Dataset(
        name="cifar100",
        summary="50,000 + 10,000 photographs, 3 x 32 x 32, 100 classes",
        load=images.load_cifar100,
        source="University of Toronto, binary version",
        protects="membership",
        files=(
            RemoteFile(
                "cifar-100-binary.tar.gz",
                _TORONTO + "cifar-100-binary.tar.gz",
                "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
                168_513_733,
            ),
        ),
    ),
    Dataset(
        name="cifar10-images",
        summary="10,000 + 2,000 of CIFAR-10's photographs as JPEG files, 10 classes",
        load=_load_cifar10_images,
        source="a local sample, not published",
        protects="membership",
        files=(RemoteFile("cifar10-images.tar"),),
    ),
    Dataset(
        name="digits",
        summary="1,797 handwritten digits, 64 features, 10 classes",
        load=_load_digits,
        source="comes with scikit-learn",
        protects="membership",
    ),
    Dataset(
        name="breast-cancer",
        summary="569 tumors, 30 measurements, 2 diagnoses",
        load=_load_breast_cancer,
        source="comes with scikit-learn",
        protects="membership",
    ),
    Dataset(
        name="synthetic-ratings",
        summary="made up: 4,000 + 1,000 users' ratings of 500 apps, 8 classes",
        load=lambda folder: synthetic.synthetic_ratings(_SYNTHETIC_SEED),
        source="privet's own generator",
        protects="attribute",
    ),
    Dataset(
        name="synthetic-purchases",
        summary="made up: 6,000 shoppers, 300 binary features, 30 classes",
        load=lambda folder: synthetic.synthetic_purchases(_SYNTHETIC_SEED),
        source="privet's own generator",
        protects="membership",
    ),
)

DATASETS: Mapping[str, Dataset] = MappingProxyType({dataset.name: dataset for dataset in _ALL})
