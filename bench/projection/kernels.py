"""The least that a network is on a GPU: kernels, and the time of each by waves of tiles and the roofline.

A product's output is cut into tiles, a tile goes to a multiprocessor (SM), and as many tiles as there are SMs
are a wave; a last wave that is not full takes as long as a full one (NVIDIA DU-09799). What a kernel reads
from memory bounds it as well: of a product its weights, which come from there in every frame, while its
activations stay in the L2 cache.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from jntrt.bench.cards import Card

# Rows and columns of a tile, and the rate that it reaches of the largest one's: small tiles reuse less of
# what they read. The rates are guesses in the order of DU-09799's curves; a factor on all is fitted.
TILES = (
    *((256, 128, 1.0), (128, 256, 1.0), (128, 128, 0.95), (128, 64, 0.85), (64, 128, 0.85)),
    *((64, 64, 0.7), (32, 128, 0.55), (128, 32, 0.55), (64, 32, 0.5), (32, 64, 0.5)),
)
SPLITS = (1, 2, 3, 4, 6, 8)  # of the depth, over as many SMs more
_LEAST_DEPTH = 128  # of a split
_SUMS_SPEED = 3.0  # partial sums go through the L2 cache, about three times as fast as memory
_ATTENTION_TILES = ((128, 1.0), (64, 0.85), (32, 0.6))
_ATTENTION_RATE = 0.6  # softmax between its two products


@dataclass(frozen=True)
class Kernel:
    """One launch. product: rows×depth by depth×columns, `copies` times. attention: `rows` queries of
    `columns` keys and values, `depth` wide, `copies` heads. moves: reads and writes `rows` numbers.

    `weights`: the second factor lies in memory and not in the cache. fp16 where it is not int8.
    """

    kind: Literal["product", "attention", "moves"]
    rows: int
    columns: int = 1
    depth: int = 1
    copies: int = 1
    weights: bool = True
    int8: bool = False
    name: str = field(default="", compare=False)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        if self.kind == "moves":
            return 0
        return self.rows * self.columns * self.depth * self.copies * (2 if self.kind == "attention" else 1)

    @property
    def moved(self) -> int:
        """Bytes from and to memory."""
        if self.kind == "moves":
            return 2 * self.rows
        if self.kind == "attention":
            return 2 * 2 * (self.rows + self.columns) * self.depth * self.copies
        size = 1 if self.int8 else 2
        return size * self.columns * self.depth * self.copies if self.weights else 0

    @property
    def tiles(self) -> int:
        """Tiles of 128×64 that its output has: blocks of a launch, about."""
        return math.ceil(self.rows / 128) * math.ceil(self.columns / 64) * self.copies


@dataclass(frozen=True)
class Constants:
    """What is fitted: the share of the tensor cores' peak that a full wave of large tiles reaches, and
    seconds that a launch takes beside its work."""

    efficiency: float
    launch: float


@lru_cache(maxsize=1 << 16)
def work_seconds(kernel: Kernel, card: Card, efficiency: float, *, fp32_sums: bool) -> float:
    """Seconds of a kernel's work on a card, without its launch."""
    memory = kernel.moved / card.bytes_per_second
    if kernel.kind == "moves":
        return memory
    int8 = kernel.int8 and kernel.kind == "product"
    per_sm = card.flops(int8=int8, fp32_sums=fp32_sums) / card.sms * efficiency
    if kernel.kind == "attention":
        work = 4 * kernel.columns * kernel.depth / (per_sm * _ATTENTION_RATE)  # of a row
        blocks = [(height, math.ceil(kernel.rows / height), rate) for height, rate in _ATTENTION_TILES]
        times = [
            math.ceil(count * kernel.copies / card.sms) * height * work / rate
            for height, count, rate in blocks
        ]
        return max(min(times), memory)
    best = math.inf
    for height, width, rate in TILES:
        count = math.ceil(kernel.rows / height) * math.ceil(kernel.columns / width) * kernel.copies
        for split in SPLITS:
            depth = math.ceil(kernel.depth / split)
            if split > 1 and depth < _LEAST_DEPTH:
                break
            time = math.ceil(count * split / card.sms) * 2 * height * width * depth / (per_sm * rate)
            if split > 1:
                sums = 2 * 4 * split * kernel.rows * kernel.columns * kernel.copies
                time += sums / (card.bytes_per_second * _SUMS_SPEED)
            best = min(best, time)
    return max(best, memory)


def network_ms(kernels: Iterable[Kernel], card: Card, constants: Constants, *, fp32_sums: bool) -> float:
    """Milliseconds of kernels one after the other."""
    return 1e3 * sum(
        work_seconds(kernel, card, constants.efficiency, fp32_sums=fp32_sums) + constants.launch
        for kernel in kernels
    )
