"""Threads: the same results as without them, and the same errors."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import current_thread
from typing import Any

import numpy as np
import pytest
import torch

from aecodec.codec import Codec
from aecodec.container import parse, serialise
from aecodec.errors import ChecksumError
from aecodec.parallel import Workers


def numbers(stop: int, seen: list[str]) -> Iterator[int]:
    for n in range(stop):
        seen.append(current_thread().name)
        yield n
    if stop == 3:
        raise ValueError("three is too few")


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("jobs", [1, 2])
def test_items_come_in_order_from_a_thread_of_their_own(threads: int, jobs: int) -> None:
    seen: list[str] = []
    with Workers(threads, jobs) as workers:
        assert list(workers.ahead(numbers(50, seen))) == list(range(50))
    spare = threads // min(threads, jobs) > 1
    assert (current_thread().name not in seen) == spare
    assert len(set(seen)) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_what_goes_wrong_ahead_is_raised_behind_the_items_before(threads: int) -> None:
    found: list[int] = []
    before = torch.get_num_threads()
    with Workers(threads, 1) as workers, pytest.raises(ValueError, match="too few"):
        for item in workers.ahead(numbers(3, [])):
            found.append(item)
    assert found == [0, 1, 2]
    assert torch.get_num_threads() == before


def test_threads_born_while_others_code_leave_the_usual_count_behind() -> None:
    usual = torch.get_num_threads()

    def count_after_coding() -> int:
        with Workers(None, 1):
            pass
        return torch.get_num_threads()

    with Workers(usual + 3, 1), ThreadPoolExecutor(1) as pool:
        assert pool.submit(count_after_coding).result() == usual
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == usual


def test_work_ahead_shares_the_threads_and_gives_them_back() -> None:
    counts = []

    def items() -> Iterator[int]:
        yield torch.get_num_threads()

    with Workers(5, 1) as workers:
        for there in workers.ahead(items()):
            counts += [there, torch.get_num_threads()]
        counts.append(torch.get_num_threads())
    assert counts == [2, 3, 5]


def test_reading_ahead_gives_the_same_picture(photo: np.ndarray) -> None:
    """The integers are exact; means in another number of threads may differ in the last bit."""
    one, two = (Codec(precision="float32", threads=n) for n in (1, 2))
    data = one.encode(photo, quality=60)
    a, b = one.decode(data).astype(int), two.decode(data).astype(int)
    assert np.abs(a - b).max() <= 1
    assert np.mean(a != b) < 1e-3


@pytest.mark.parametrize("threads", [1, 2])
def test_integers_that_fail_their_checksum_are_refused(photo: np.ndarray, threads: int) -> None:
    codec = Codec(precision="float32", threads=threads)
    file = parse(codec.encode(photo, quality=40))
    wrong = replace(file.chunks[0], symbols_crc=file.chunks[0].symbols_crc ^ 1)
    with pytest.raises(ChecksumError, match="chunk 0: decoded integers"):
        codec.decode(serialise(replace(file, chunks=(wrong,))))


@pytest.mark.parametrize(("height", "width"), [(200, 523), (530, 130)])
@pytest.mark.parametrize("effort", [0, 1])
def test_bytes_are_the_same_for_any_number_of_threads(
    photo: np.ndarray, height: int, width: int, effort: int
) -> None:
    """Of one chunk that is long enough to be analysed in two windows."""
    image = np.tile(photo, (5, 5, 1))[:height, :width]
    files = [
        Codec(precision="float32", threads=n).encode(image, quality=50, effort=effort)
        for n in (1, 2, 3)
    ]
    assert files[0] == files[1] == files[2]


def test_a_chunk_in_two_windows_has_the_latents_of_one(
    photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = Codec(precision="float32")
    image = np.tile(photo, (2, 5, 1))[:300, :600]
    analysed = []
    analyse = codec.network.analyse

    def seen(*given: Any) -> torch.Tensor:
        analysed.append(given)
        return analyse(*given)

    monkeypatch.setattr(codec.network, "analyse", seen)
    divided = codec.symbols(codec.encode(image, quality=70))[0]
    assert len(analysed) == 2
    monkeypatch.setattr("aecodec.tiles.DIVIDED", 10**6)
    whole = codec.symbols(codec.encode(image, quality=70))[0]
    assert len(analysed) == 3
    assert np.mean(divided.q != whole.q) < 1e-4  # sums come out differently in the last bit
    assert np.abs(divided.q - whole.q).max() <= 1
