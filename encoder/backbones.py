"""The models one can ask for: every keras.applications backbone, with its own preprocessing and input size."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Callable
from typing import Any

from encoder.spec import POOLING
from encoder.tensorflow import keras
from store.errors import UserError

# A table rather than a look into keras.applications, so that the launcher can check a name without TensorFlow.
# module of keras.applications that holds preprocess_input -> backbone -> default image size in pixels
_TABLE: dict[str, dict[str, int]] = {
    "convnext": dict.fromkeys(
        ("ConvNeXtTiny", "ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge"), 224
    ),
    "densenet": {"DenseNet121": 224, "DenseNet169": 224, "DenseNet201": 224},
    "efficientnet": {
        "EfficientNetB0": 224,
        "EfficientNetB1": 240,
        "EfficientNetB2": 260,
        "EfficientNetB3": 300,
        "EfficientNetB4": 380,
        "EfficientNetB5": 456,
        "EfficientNetB6": 528,
        "EfficientNetB7": 600,
    },
    "efficientnet_v2": {
        "EfficientNetV2B0": 224,
        "EfficientNetV2B1": 240,
        "EfficientNetV2B2": 260,
        "EfficientNetV2B3": 300,
        "EfficientNetV2S": 384,
        "EfficientNetV2M": 480,
        "EfficientNetV2L": 480,
    },
    "inception_resnet_v2": {"InceptionResNetV2": 299},
    "inception_v3": {"InceptionV3": 299},
    "mobilenet": {"MobileNet": 224},
    "mobilenet_v2": {"MobileNetV2": 224},
    "mobilenet_v3": {"MobileNetV3Small": 224, "MobileNetV3Large": 224},
    "nasnet": {"NASNetMobile": 224, "NASNetLarge": 331},
    "resnet": {"ResNet50": 224, "ResNet101": 224, "ResNet152": 224},
    "resnet_v2": {"ResNet50V2": 224, "ResNet101V2": 224, "ResNet152V2": 224},
    "vgg16": {"VGG16": 224},
    "vgg19": {"VGG19": 224},
    "xception": {"Xception": 299},
}


@dataclasses.dataclass(frozen=True, slots=True)
class Backbone:
    """A model architecture.

    Attributes:
        name: Its canonical keras.applications name.
        default_image_size: Side of the square input it was designed for, in pixels.
        module: The module of keras.applications that holds its `preprocess_input`.
    """

    name: str
    default_image_size: int
    module: str


BACKBONES = tuple(Backbone(name, size, module) for module, row in _TABLE.items() for name, size in row.items())


def find_backbone(name: str) -> Backbone:
    """The backbone of that name, whatever its case, hyphens and underscores.

    Raises:
        UserError: There is none; the message lists the nearest names.
    """
    known = {_plain(backbone.name): backbone for backbone in BACKBONES}
    found = known.get(_plain(name))
    if found is not None:
        return found
    close = [known[match].name for match in difflib.get_close_matches(_plain(name), known, n=4, cutoff=0.5)]
    hint = f"did you mean {', '.join(close)}?" if close else "try ResNet50 or EfficientNetV2B0"
    raise UserError(f"--backbone: expected the name of a keras.applications model, found {name!r}; {hint}")


def build_model(backbone: Backbone, image_size: int, precision: str = "float32") -> Any:
    """A headless Keras model with average pooling and fresh weights: float32[n, S, S, 3] -> [n, D].

    Low precisions compute in that type and keep their weights in float32.

    Raises:
        UserError: The backbone cannot take pictures of that size.
    """
    keras_ = keras()
    constructor = getattr(keras_.applications, backbone.name)
    policy = keras_.config.dtype_policy()
    keras_.config.set_dtype_policy(precision if precision == "float32" else f"mixed_{precision}")
    try:
        return constructor(weights=None, include_top=False, pooling=POOLING, input_shape=(image_size, image_size, 3))
    except ValueError as error:
        detail = " ".join(str(error).split())
        raise UserError(
            f"--image-size: expected a size that {backbone.name} takes (made for {backbone.default_image_size}), "
            f"found {image_size}: {detail}"
        ) from error
    finally:
        keras_.config.set_dtype_policy(policy)


def preprocess_input(backbone: Backbone) -> Callable[[Any], Any]:
    """The backbone's own preprocessing: float32[n, S, S, 3], RGB in 0..255, to what the model takes.

    The identity for the families that rescale inside the model (ConvNeXt, EfficientNet, MobileNetV3).
    """
    keras()
    module = importlib.import_module(f"keras.applications.{backbone.module}")
    preprocess: Callable[[Any], Any] = module.preprocess_input
    return preprocess


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")
