"""Work in blocks: its order, its end, and that it leaves torch as it was."""

import threading

import pytest
import torch

from models.blocks import mapped


@pytest.mark.parametrize("threads", [1, 3])
def test_every_row_is_worked_on_once_and_in_order(threads: int) -> None:
    calls: list[int] = []
    parts = mapped(lambda block: range(block.start, block.stop), 25, 4, threads, lambda: calls.append(1))
    assert [row for part in parts for row in part] == list(range(25))
    assert len(calls) == 7
    assert mapped(lambda block: block, 0, 4, threads) == []


def test_threads_take_blocks_side_by_side_and_torch_keeps_its_own() -> None:
    before, meeting = torch.get_num_threads(), threading.Barrier(2, timeout=20)
    mapped(lambda _: meeting.wait(), 2, 1, 2)  # breaks where one waits for the other to end
    assert torch.get_num_threads() == before


def test_what_comes_between_ends_the_work() -> None:
    done: list[int] = []

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mapped(lambda block: done.append(block.start), 10_000, 1, 2, stop)
    assert len(done) < 10_000
