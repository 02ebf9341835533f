"""Sums of vectors by group, the same every time. Knows no clusters and no codes."""

import torch
from torch import Tensor


def group_sums(values: Tensor, groups: Tensor, k: int) -> Tensor:
    """(n, D) values and their (n,) groups, 0 to k - 1, to the (k, D) sums of each group's values."""
    if values.is_cuda:  # index_add_ adds there in an order that changes; a matrix product does not
        members = groups == torch.arange(k, device=groups.device)[:, None]
        return members.to(values.dtype) @ values
    return values.new_zeros(k, values.shape[1]).index_add_(0, groups, values)
