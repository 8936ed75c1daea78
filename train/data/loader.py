"""Batches for the loop, made by worker processes; batch n is the same whatever the number of workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from jntrt.runtime.errors import UserError
from jntrt.train.data.pairs import PairSource, batches, stack


class Feed(IterableDataset[dict[str, Tensor] | str]):
    """Endless batches from number `first` on, every `step`-th (a process of several takes its own).

    With a teacher folder, each carries the teacher's features of both crops: `teacher_template` B×Nz×48 and
    `teacher_search` B×n²×48. `teacher_until`: the first batch that needs none.
    After a UserError the last item is its text: as an exception it would come out of a worker as a traceback.
    """

    def __init__(
        self,
        source: PairSource,
        batch: int,
        seed: int,
        first: int = 0,
        step: int = 1,
        teacher: Path | None = None,
        teacher_until: int = 0,
    ) -> None:
        self._source, self._batch, self._seed = source, batch, seed
        self._first, self._step = first, step
        self._teacher, self._teacher_until = teacher, teacher_until

    def __iter__(self) -> Iterator[dict[str, Tensor] | str]:
        try:
            yield from self._batches()
        except UserError as error:
            yield str(error)

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        info = get_worker_info()
        number, count = (0, 1) if info is None else (info.id, info.num_workers)
        teacher = None
        if self._teacher is not None:
            from jntrt.train.data.teacher import Teacher

            teacher = Teacher(self._teacher)
        first, step = self._first + number * self._step, self._step * count
        for index, pairs in batches(self._source, self._batch, self._seed, first, step):
            arrays = stack(pairs)
            if teacher is not None and index < self._teacher_until:
                for crop in ("template", "search"):
                    arrays[f"teacher_{crop}"] = np.stack([teacher.features(image) for image in arrays[crop]])
            yield {name: torch.from_numpy(array) for name, array in arrays.items()}


def loader(feed: Feed, workers: int) -> Iterator[dict[str, Tensor]]:
    """The feed's batches in order; with `workers` processes (0: in this one). UserError where one says so."""
    made = DataLoader(
        feed,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        # "fork" on purpose: the workers share the images of the source, up to 2 GB, without a copy.
        # It needs a process whose threads hold no lock that a worker takes, as train-jn's is
        # (OpenCV's threads off, no inference engine loaded).
        multiprocessing_context="fork" if workers else None,
    )
    for batch in made:
        if isinstance(batch, str):
            raise UserError(batch)
        yield batch
