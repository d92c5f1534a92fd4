"""The pipeline one would write without Shelfmark, as a yardstick: PIL, Beam's RunInference and WriteToParquet."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference
from PIL import Image

from encoder.tensorflow import keras
from pipelines.beam_flags import parse_beam_flags
from transforms.progress import ProgressFile

_SIDE_PX = 224


class _KerasHandler(ModelHandler[Any, Any, Any]):
    """What Beam's TFModelHandlerNumpy does, which needs a package (tensorflow_hub) beside the pinned set."""

    def __init__(self, model_path: str, batch_size: int) -> None:
        super().__init__()
        self._model_path = model_path
        self._batch_size = batch_size

    def load_model(self) -> Any:
        return keras().models.load_model(self._model_path)

    def batch_elements_kwargs(self) -> dict[str, int]:
        size = self._batch_size
        return {"min_batch_size": size, "max_batch_size": size} if size else {}

    def run_inference(
        self, batch: Sequence[Any], model: Any, inference_args: dict[str, Any] | None = None
    ) -> list[PredictionResult]:
        features = model(np.stack(batch), training=False).numpy()
        return [PredictionResult(example, feature) for example, feature in zip(batch, features, strict=True)]


def embed_with_stock_beam(catalog: str, batch_size: int) -> list[float]:
    """Embeds every picture of a catalog with an untrained ResNet50 and writes the vectors to Parquet.

    Args:
        catalog: A CSV file whose second column is the path of a picture.
        batch_size: Pictures at once; 0 to let Beam find one by trial.

    Returns:
        When each picture was embedded, in seconds of the clock of `ProgressFile`, in order.
    """
    folder = Path(tempfile.mkdtemp())
    model_path, progress_path = str(folder / "resnet50.keras"), str(folder / "progress")
    _save_model(model_path)
    Path(progress_path).touch()
    with open(catalog, encoding="utf-8") as table:
        paths = [line.split(",")[1] for line in table.read().splitlines()[1:]]
    with beam.Pipeline(options=parse_beam_flags([])) as pipeline:
        _ = (
            pipeline
            | beam.Create(paths, reshuffle=False)
            | beam.Map(_load_pixels)
            | RunInference(_KerasHandler(model_path, batch_size))
            | beam.Map(_to_row, progress_path)
            | beam.io.WriteToParquet(str(folder / "stock"), pa.schema([("embedding", pa.list_(pa.float32()))]))
        )
    return [record[0] for record in ProgressFile(progress_path).records()]


def _save_model(path: str) -> None:
    models = keras()
    models.utils.set_random_seed(0)
    models.applications.ResNet50(weights=None, include_top=False, pooling="avg").save(path)


def _load_pixels(path: str) -> np.ndarray:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").resize((_SIDE_PX, _SIDE_PX)), np.float32)
    return keras().applications.resnet.preprocess_input(pixels)


def _to_row(result: PredictionResult, progress_path: str) -> dict[str, Any]:
    ProgressFile(progress_path).record(embedded=1)
    return {"embedding": np.asarray(result.inference).tolist()}
