"""Names of backbones, and that the table says what keras.applications says."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

from encoder.backbones import BACKBONES, Backbone, build_model, find_backbone
from encoder.tensorflow import keras
from store.errors import UserError


@pytest.mark.parametrize("name", ["ResNet50", "resnet50", "RESNET-50", "res_net_50"])
def test_names_are_forgiving(name: str) -> None:
    assert find_backbone(name) == Backbone("ResNet50", 224, "resnet")


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(UserError, match=r"found 'resnet51'.*ResNet50"):
        find_backbone("resnet51")
    with pytest.raises(UserError, match="try ResNet50"):
        find_backbone("qqq")


def test_the_table_has_every_backbone_of_keras() -> None:
    applications = keras().applications
    published = {name for name in dir(applications) if inspect.isfunction(getattr(applications, name))}
    assert {backbone.name for backbone in BACKBONES} == published


# MobileNetV3 documents its 224 and has no code for it.
@pytest.mark.parametrize(
    "backbone", [b for b in BACKBONES if b.module != "mobilenet_v3"], ids=lambda backbone: backbone.name
)
def test_the_table_has_keras_sizes_and_preprocessing(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"keras.applications.{backbone.module}")
    assert callable(module.preprocess_input)
    constructor = getattr(keras().applications, backbone.name)
    assert constructor.__module__.rsplit(".", 1)[-1] == backbone.module

    class Asked(Exception):
        pass

    def answer(*_: object, default_size: int, **__: object) -> None:
        raise Asked(default_size)

    utils = importlib.import_module(constructor.__module__).imagenet_utils
    monkeypatch.setattr(utils, "obtain_input_shape", answer)
    with pytest.raises(Asked) as asked:
        constructor(weights=None, include_top=False)
    assert asked.value.args == (backbone.default_image_size,)


def test_a_size_the_backbone_cannot_take() -> None:
    with pytest.raises(UserError, match=r"--image-size.*InceptionV3.*299.*found 32"):
        build_model(find_backbone("inceptionv3"), 32)


def test_precision_stays_inside_the_model() -> None:
    before = keras().config.dtype_policy().name
    model = build_model(find_backbone("mobilenetv3small"), 64, "bfloat16")
    assert model.layers[-1].compute_dtype == "bfloat16"
    assert model.weights[0].dtype == "float32"
    assert keras().config.dtype_policy().name == before


def test_importing_the_encoder_does_not_import_tensorflow() -> None:
    code = (
        "import sys, encoder.backbones, encoder.model, encoder.precision, encoder.spec, encoder.weights;"
        "encoder.backbones.find_backbone('vgg16');"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
