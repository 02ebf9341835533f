"""The grids of latents: what the bytes are, what they stand for, and that FAISS reads them as we do."""

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import LatentType
from models.scalar_code import ScalarCode


def fitted(latents: int, latent_type: LatentType, seed: int = 0) -> tuple[ScalarCode, torch.Tensor]:
    z = torch.randn(400, latents, generator=torch.Generator().manual_seed(seed)) * torch.linspace(0.1, 5, latents) + 1
    code = ScalarCode(latents, latent_type)
    code.fit(z)
    return code, z


def test_int4_puts_the_even_latent_into_the_low_half() -> None:
    code = ScalarCode(3, LatentType.INT4)
    code.low.zero_()
    code.width.fill_(15.0)
    assert code.pack(torch.tensor([[3.2, 14.9, 7.0]])).tolist() == [[3 + 16 * 14, 7]]
    assert code.unpack(torch.tensor([[3 + 16 * 14, 7]], dtype=torch.uint8)).tolist() == [[3.5, 14.5, 7.5]]


@pytest.mark.parametrize(("latent_type", "bytes_of_five"), [("int4", 3), ("int8", 5), ("float16", 10)])
def test_code_bytes_are_the_bytes_of_a_code(latent_type: str, bytes_of_five: int) -> None:
    code, z = fitted(5, LatentType(latent_type))
    packed = code.pack(z)
    assert packed.dtype == torch.uint8
    assert packed.shape[1] == code.code_bytes == bytes_of_five


@pytest.mark.parametrize("latent_type", list(LatentType))
@given(seed=st.integers(0, 50), latents=st.integers(1, 9))
def test_what_is_unpacked_packs_to_the_same_bytes(latent_type: LatentType, seed: int, latents: int) -> None:
    code, z = fitted(latents, latent_type, seed)
    packed = code.pack(z)
    assert torch.equal(code.pack(code.unpack(packed)), packed)


def test_fit_leaves_the_error_of_an_even_grid() -> None:
    # A normal variable on the best even grid of 16 values keeps about 1.154% of its variance as error (Max 1960).
    z = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(1))
    code = ScalarCode(1, LatentType.INT4)
    code.fit(z)
    error = (code.unpack(code.pack(z)) - z).square().mean() / z.var()
    assert 0.0110 < float(error) < 0.0120


@pytest.mark.parametrize(("latent_type", "faiss_type"), [("int4", "QT_4bit"), ("int8", "QT_8bit")])
def test_faiss_decodes_these_bytes_to_these_values(latent_type: str, faiss_type: str) -> None:
    code, z = fitted(7, LatentType(latent_type))
    index = faiss.IndexScalarQuantizer(7, getattr(faiss.ScalarQuantizer, faiss_type))
    faiss.copy_array_to_vector(torch.cat((code.low, code.width)).numpy(), index.sq.trained)
    index.is_trained = True
    packed = code.pack(z).numpy()
    np.testing.assert_allclose(index.sa_decode(packed), code.unpack(torch.from_numpy(packed)).numpy(), atol=1e-5)


def test_a_constant_latent_is_kept() -> None:
    code = ScalarCode(2, LatentType.INT8)
    z = torch.full((50, 2), 3.0)
    code.fit(z)
    np.testing.assert_allclose(code.unpack(code.pack(z)).numpy(), 3.0, atol=1e-3)
