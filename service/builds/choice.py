"""Which codec a build encodes with, and its training. Knows no shard and no index."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from models import Codec, Metric, QuantizerConfig, ResidualConfig, described, fit, load_codec, vectors_within
from service.builds.config import BuildConfig
from service.builds.inputs import Input
from service.builds.making import Report
from service.builds.manifest import Manifest
from service.builds.sample import dimension, training_set
from service.codec_spec import codec_spec
from service.errors import BuildError
from service.files import published, write_json


class ChosenCodec(NamedTuple):
    """A codec and where it is from."""

    codec: Codec
    how: str
    """"trained", "kept" or "taken" """
    about: dict[str, Any]
    """What the certificate says of it."""


def chosen_codec(config: BuildConfig, inputs: list[Input], old: Manifest | None, report: Report) -> ChosenCodec:
    """Another folder's, this folder's, or one that is trained now.

    Raises:
        BuildError: the one that is there is not the one asked for. CodecError, DamagedGeneration
    """
    saved, told = config.work / "codec.safetensors", config.work / "codec.json"
    if config.codec_from is not None:
        source = Manifest.load(config.codec_from)
        codec = load_codec((config.codec_from / source.generation / "codec.safetensors").read_bytes())
        _check_asked(config, codec, "the codec of --codec-from")
        return ChosenCodec(codec, "taken", {**source.asked["codec"], "taken": True})
    if old is not None and not config.retrain:
        codec = load_codec((config.output / old.generation / "codec.safetensors").read_bytes())
        _check_asked(config, codec, "the folder's codec")
        return ChosenCodec(codec, "kept", old.asked["codec"])
    metric = config.metric or Metric.COSINE
    wanted = {
        "spec": codec_spec(dict(config.codec)).model_dump(mode="json"),
        "metric": metric.value,
        "training": config.training.model_dump(),
        "train_sample": config.train_sample,
        "inputs": [source.digest for source in inputs],
    }
    begun = config.work / "wanted.json"
    if begun.exists() and json.loads(begun.read_text()) != wanted:  # cut off, and now asked for something else
        for left in (begun, saved, told, config.work / "queries.safetensors"):
            left.unlink(missing_ok=True)
        shutil.rmtree(config.work / "checkpoint", ignore_errors=True)
    write_json(begun, wanted)
    if not saved.exists():
        _train(config, inputs, metric, saved, told, report)
    return ChosenCodec(load_codec(saved.read_bytes()), "trained", json.loads(told.read_text()))


def _train(config: BuildConfig, inputs: list[Input], metric: Metric, saved: Path, told: Path, report: Report) -> None:
    training = config.training
    spec = codec_spec(dict(config.codec))
    dim = dimension(inputs, config.reading)
    made, most = spec.config(dim, metric), config.train_sample
    if isinstance(made, ResidualConfig):
        most = min(most, vectors_within(config.memory_bytes, made))
    read = 0

    def counted(rows: int) -> None:
        nonlocal read
        read += rows
        report("sampling", read, min(most, sum(source.rows for source in inputs)))

    vectors, _ = training_set(
        inputs, most, config.reading, dim, metric, config.block_rows(dim), training.seed, config.work, counted
    )
    codec, run = fit(
        made,
        vectors,
        metric,
        training.config(),
        progress=lambda share, epoch: report(f"training, error {epoch.held_out_error:.4f}", share, 1.0),
        checkpoint=config.work / "checkpoint",
    )
    write_json(
        told,
        {
            "codec": {"kind": codec.kind, **described(made)},
            "held_out_error": round(run.best.held_out_error, 5),
            "trained_on": run.trained_on,
            "seed": training.seed,
        },
    )
    with published(saved) as draft:
        draft.write_bytes(codec.to_bytes())


def _check_asked(config: BuildConfig, codec: Codec, which: str) -> None:
    if config.metric not in (None, codec.metric):
        raise BuildError(f"{which} is for {codec.metric}; leave it out, or --retrain", field="--metric")
    asked = dict(config.codec)
    if asked.get("kind", codec.kind) != codec.kind:
        raise BuildError(f"{which} is {codec.kind}; leave it out, or --retrain", field="--codec")
    made = getattr(codec, "config", None)  # of a flat one there is none
    own = made.factory if isinstance(made, QuantizerConfig) else None
    if asked.get("factory", own) != own:
        raise BuildError(f"{which} is {own}; leave it out, or --retrain", field="--factory")
    if not 0.9 * asked.get("bytes", codec.code_bytes) <= codec.code_bytes <= asked.get("bytes", codec.code_bytes):
        raise BuildError(f"{which} has {codec.code_bytes} bytes; leave it out, or --retrain", field="--bytes")
