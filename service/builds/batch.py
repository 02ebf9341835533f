"""One batch build: survey, sample, train, encode, measure, publish; each step is skipped where it is done already.

Knows no file format, no terminal, no SQL and no HTTP.
"""

import fcntl
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from models import Codec, Metric, fit, load_codec
from service.builds.duplicates import duplicates
from service.builds.files import DRAFT, published, write_json
from service.builds.inputs import Input, Reading, found, surveyed
from service.builds.making import Making, Report, write_rejects
from service.builds.manifest import NAME, Manifest, described
from service.builds.sample import Queries, dimension, topped_up, training_set
from service.builds.shard import Shard, Task, shard_name
from service.builds.workers import encode_all
from service.codec_spec import TrainingSpec, codec_spec
from service.errors import BuildError, TooManyRejects

BYTES_A_NUMBER = 48
"""RAM that a number of a block takes at most while it is read, checked and encoded in float64,"""
TRAINING_BYTES_A_NUMBER = 24
"""and one of a residual codec's training vectors, which it reads into RAM."""
FEWEST_BLOCK_ROWS, MOST_BLOCK_ROWS = 256, 16_384


@dataclass(frozen=True)
class BuildConfig:
    """What a build is to do."""

    inputs: tuple[str, ...]
    """Paths, globs, folders of saved datasets."""
    output: Path
    reading: Reading = field(default_factory=Reading)
    codec: tuple[tuple[str, Any], ...] = ()
    """Kind and bytes, as a training's request has them; none keeps the folder's codec, or trains the default one."""
    metric: Metric | None = None
    """None: the folder's, or cosine."""
    training: TrainingSpec = field(default_factory=TrainingSpec)
    train_sample: int = 200_000
    codec_from: Path | None = None
    """Another built folder whose codec is used; nothing is trained."""
    retrain: bool = False
    workers: int = 1
    part_rows: int = 50_000
    """Rows of a shard, about."""
    memory_bytes: int = 4 * 1024**3
    """For vectors held at once by all processes; codes, index and libraries come on top."""
    max_rejects: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What a build did."""

    manifest: Manifest
    certificate: dict[str, Any]
    encoded: int
    """Rows read for new shards."""
    codec: str
    """"trained", "kept", "taken", or "unchanged" where there was nothing to do."""
    worker_peak: int = 0


class BatchBuild:
    """One build of one folder; a lock keeps a second one away."""

    def __init__(self, config: BuildConfig, report: Report) -> None:
        self._config = config
        self._folder = config.output
        self._work = config.output / "work"
        self._report = report

    def run(self) -> Outcome:
        """Builds what is missing.

        Raises:
            BuildError, CodecError
        """
        paths = found(self._config.inputs)
        if self._config.reading.ids is not None and [path.suffix for path in paths] != [".npy"]:
            raise BuildError("names the rows of exactly one .npy file", field="--ids")
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BuildError(f"another build is at work in {self._folder}", field="--output") from None
        try:
            return self._run(paths)
        finally:
            os.close(lock)

    def _run(self, paths: list[Path]) -> Outcome:
        config = self._config
        old = Manifest.load(self._folder) if (self._folder / NAME).exists() else None
        inputs = self._survey(paths, old)
        if config.retrain and old is not None and not (self._work / "retrain").exists():
            shutil.rmtree(self._work, ignore_errors=True)
            self._work.mkdir()
            (self._work / "retrain").touch()  # a retraining cut off goes on, and does not begin again
        codec, how, about = self._codec(inputs, old)
        asked = {"metric": codec.metric.value, "part_rows": config.part_rows, "codec": about}
        same = old is not None and old.asked == asked and old.sources() == inputs
        if old is not None and same and old.damaged(self._folder, thoroughly=False) is None:
            self._sweep(old)
            return Outcome(old, self._certificate(old), 0, "unchanged")
        block_rows = self._block_rows(codec.dim)
        kept = self._queries(inputs, codec, block_rows, old, how)
        fingerprint = codec.fingerprint
        names = [f"shards/{shard_name(source, part, fingerprint)}" for source in inputs for part in source.parts]
        encoded, worker_peak = self._encode(inputs, names, codec, block_rows)
        shards = [Shard(self._folder / name) for name in names]
        generation = f"generation-{_key(fingerprint, names, about)}"
        doubles = duplicates(inputs, shards)
        rejected = sum(shard.rejected for shard in shards) + sum(len(rows) for rows in doubles.values())
        self._check_rejects(rejected)
        if not sum(shard.items for shard in shards):
            raise BuildError(f"no row can be kept; {write_rejects(shards, {}, self._work)} says why", field="INPUT")
        hurt = old.damaged(self._folder, thoroughly=False) if old is not None else None
        if hurt is not None and hurt.startswith(generation):
            shutil.rmtree(self._folder / generation)
        if not (self._folder / generation / "certificate.json").exists():
            made = Making(inputs, shards, doubles, codec, kept, config.reading, block_rows, self._report)
            made.publish(self._folder / generation, self._work / "generation", about)
        certificate = json.loads((self._folder / generation / "certificate.json").read_text())
        parts = ("certificate.json", "codec.safetensors", "index", "queries.safetensors", "rejects.ndjson", "rows.npy")
        files = sorted({*names, *(f"{generation}/{part}" for part in parts)})
        manifest = Manifest(
            asked,
            fingerprint,
            codec.metric.value,
            codec.dim,
            certificate["items"],
            rejected,
            generation,
            [source.to_dict() for source in inputs],
            names,
            described(self._folder, files, old.files if old is not None else {}),
        )
        manifest.save(self._folder)
        self._sweep(manifest)
        return Outcome(manifest, certificate, encoded, how, worker_peak)

    def _survey(self, paths: list[Path], old: Manifest | None) -> list[Input]:
        known = [] if old is None or old.asked["part_rows"] != self._config.part_rows else old.sources()
        done, total = 0, sum(path.stat().st_size for path in paths)

        def told(size: int) -> None:
            nonlocal done
            done += size
            self._report("reading", done, total)

        return surveyed(paths, self._config.reading, self._config.part_rows, known, told)

    def _codec(self, inputs: list[Input], old: Manifest | None) -> tuple[Codec, str, dict[str, Any]]:
        """The codec, how it came, and what the certificate says of it."""
        config, saved, told = self._config, self._work / "codec.safetensors", self._work / "codec.json"
        if config.codec_from is not None:
            source = Manifest.load(config.codec_from)
            codec = load_codec((config.codec_from / source.generation / "codec.safetensors").read_bytes())
            self._check_asked(codec, "the codec of --codec-from")
            return codec, "taken", {**source.asked["codec"], "taken": True}
        if old is not None and not config.retrain:
            codec = load_codec((self._folder / old.generation / "codec.safetensors").read_bytes())
            self._check_asked(codec, "the folder's codec")
            return codec, "kept", old.asked["codec"]
        metric = config.metric or Metric.COSINE
        wanted = {
            "spec": codec_spec(dict(config.codec)).model_dump(mode="json"),
            "metric": metric.value,
            "training": config.training.model_dump(),
            "train_sample": config.train_sample,
            "inputs": [source.digest for source in inputs],
        }
        begun = self._work / "wanted.json"
        if begun.exists() and json.loads(begun.read_text()) != wanted:  # cut off, and now asked for something else
            for left in (begun, saved, told, self._work / "queries.safetensors"):
                left.unlink(missing_ok=True)
            shutil.rmtree(self._work / "checkpoint", ignore_errors=True)
        write_json(begun, wanted)
        if not saved.exists():
            self._train(inputs, metric, saved, told)
        return load_codec(saved.read_bytes()), "trained", json.loads(told.read_text())

    def _train(self, inputs: list[Input], metric: Metric, saved: Path, told: Path) -> None:
        config, training = self._config, self._config.training
        spec = codec_spec(dict(config.codec))
        dim = dimension(inputs, config.reading)
        most = config.train_sample
        if spec.kind == "residual":
            most = min(most, config.memory_bytes // (TRAINING_BYTES_A_NUMBER * dim))
        read = 0

        def counted(rows: int) -> None:
            nonlocal read
            read += rows
            self._report("sampling", read, min(most, sum(source.rows for source in inputs)))

        vectors, _ = training_set(
            inputs, most, config.reading, dim, metric, self._block_rows(dim), training.seed, self._work, counted
        )
        codec, run = fit(
            spec.config(dim),
            vectors,
            metric,
            training.config(),
            progress=lambda share, epoch: self._report(f"training, error {epoch.held_out_error:.4f}", share, 1.0),
            checkpoint=self._work / "checkpoint",
        )
        write_json(
            told,
            {
                "codec": {"kind": codec.kind, **asdict(spec.config(dim))},
                "held_out_error": round(run.best.held_out_error, 5),
                "trained_on": run.trained_on,
                "seed": training.seed,
            },
        )
        with published(saved) as draft:
            draft.write_bytes(codec.to_bytes())

    def _check_asked(self, codec: Codec, which: str) -> None:
        config = self._config
        if config.metric not in (None, codec.metric):
            raise BuildError(f"{which} is for {codec.metric}; leave it out, or --retrain", field="--metric")
        asked = dict(config.codec)
        if asked.get("kind", codec.kind) != codec.kind:
            raise BuildError(f"{which} is {codec.kind}; leave it out, or --retrain", field="--codec")
        if not 0.9 * asked.get("bytes", codec.code_bytes) <= codec.code_bytes <= asked.get("bytes", codec.code_bytes):
            raise BuildError(f"{which} has {codec.code_bytes} bytes; leave it out, or --retrain", field="--bytes")

    def _queries(self, inputs: list[Input], codec: Codec, block_rows: int, old: Manifest | None, how: str) -> Queries:
        if how == "trained":
            return Queries.load(self._work / "queries.safetensors")
        before = None
        if old is not None and how == "kept":
            before = Queries.load(self._folder / old.generation / "queries.safetensors")
        reading, seed = self._config.reading, self._config.training.seed
        return topped_up(before, inputs, reading, codec.dim, codec.metric, block_rows, seed)

    def _encode(self, inputs: list[Input], names: list[str], codec: Codec, block_rows: int) -> tuple[int, int]:
        config = self._config
        parts = [(source, part) for source in inputs for part in source.parts]
        pairs = {name: pair for name, pair in zip(names, parts, strict=True) if not (self._folder / name).exists()}
        tasks = [Task(self._folder / name, *pair, config.reading, block_rows) for name, pair in pairs.items()]
        total, encoded = sum(len(task.part) for task in tasks), 0
        rejected = sum(Shard(self._folder / name).rejected for name in set(names) - pairs.keys())
        saved = self._work / "encoding.safetensors"
        with published(saved) as draft:
            draft.write_bytes(codec.to_bytes())

        def counted(rows: int) -> None:
            nonlocal encoded
            encoded += rows
            self._report("encoding", encoded, total)
            if config.max_rejects is not None:
                there = [self._folder / name for name in pairs if (self._folder / name).exists()]
                self._check_rejects(rejected + sum(Shard(path).rejected for path in there))

        self._report("encoding", 0, total)
        return total, encode_all(tasks, codec, saved, config.workers, counted)

    def _check_rejects(self, rejected: int) -> None:
        most = self._config.max_rejects
        if most is not None and rejected > most:
            paths = sorted((self._folder / "shards").glob("*.safetensors"))
            where = write_rejects([Shard(path) for path in paths], {}, self._work)
            raise TooManyRejects(
                f"{rejected:,} rows are rejected, {most:,} may be; {where} says why", field="--max-rejects"
            )

    def _block_rows(self, dim: int) -> int:
        fitting = self._config.memory_bytes // ((self._config.workers + 1) * BYTES_A_NUMBER * dim)
        return max(FEWEST_BLOCK_ROWS, min(fitting, MOST_BLOCK_ROWS))

    def _certificate(self, manifest: Manifest) -> dict[str, Any]:
        path = self._folder / manifest.generation / "certificate.json"
        certificate: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return certificate

    def _sweep(self, manifest: Manifest) -> None:
        """Removes what the manifest does not name: old shards and generations, drafts, the work folder."""
        shutil.rmtree(self._work, ignore_errors=True)
        for path in (self._folder / "shards").iterdir():
            if f"shards/{path.name}" not in manifest.files:
                path.unlink()
        for path in self._folder.iterdir():
            if path.name.startswith("generation-") and path.name != manifest.generation:
                shutil.rmtree(path)
            elif path.name.endswith(DRAFT):
                path.unlink()


def _key(*content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
