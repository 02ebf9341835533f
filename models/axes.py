"""Principal axes of vectors. Knows no codec."""

import torch
from torch import Tensor


def principal_axes(products: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and the columns that belong to them, of a symmetric (d, d) X^T X: those of PCA (Pearson
    1901).

    LAPACK's divide and conquer in single precision may give up where many eigenvalues are equal, as those of
    coordinates that are always zero are; in double precision it did not where that was seen.
    """
    try:
        values, axes = torch.linalg.eigh(products)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        values, axes = (part.to(products.dtype) for part in torch.linalg.eigh(products.double()))
    return values, axes
