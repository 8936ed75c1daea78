"""Latencies that others published, which the constants are fitted to and the projection is tested on."""

from dataclasses import dataclass

from jntrt.bench.projection.kernels import Kernel
from jntrt.bench.projection.networks import encoder, ostrack


@dataclass(frozen=True)
class Point:
    """A whole network at batch 1 in milliseconds. `library` launches the kernels: each has its own time for
    that."""

    network: str
    tokens: int
    card: str
    int8: bool
    ms: float
    library: str
    source: str

    @property
    def kernels(self) -> list[Kernel]:
        """The network's."""
        return encoder(self.tokens, int8=self.int8)

    @property
    def precision(self) -> str:
        return "int8" if self.int8 else "fp16"


def _row(
    network: str, tokens: int, library: str, source: str, **times: tuple[float, float]
) -> tuple[Point, ...]:
    return tuple(
        Point(network, tokens, card, int8, ms, library, source)
        for card, pair in times.items()
        for int8, ms in zip((False, True), pair, strict=True)
    )


POINTS = (
    *_row(
        *("BERT-base 384", 384, "TensorRT", "NVIDIA/TensorRT demo/BERT/README.md"),
        t4=(4.04, 2.52),
        a30=(1.70, 1.33),
        a100=(1.31, 1.15),
    ),
    *_row(
        *("ViT-B 224 px", 197, "FasterTransformer", "NVIDIA/FasterTransformer docs/vit_guide.md"),
        t4=(3.43, 2.16),
        a100=(1.53, 1.52),
    ),
    *_row(
        *("ViT-B 384 px", 577, "FasterTransformer", "NVIDIA/FasterTransformer docs/vit_guide.md"),
        t4=(8.53, 4.93),
        a100=(2.24, 2.26),
    ),
    Point("CN-CLIP ViT-B", 197, "t4", False, 3.58, "TensorRT", "OFA-Sys/Chinese-CLIP deployment_En.md"),
    # Alone of its library: it is tested and not fitted, a launch time of its own would fit it to anything.
    Point(
        *("ViT-B 224 px", 197, "a100", False, 1.02, "AITemplate"),
        "facebookincubator/AITemplate examples/04_vit",
    ),
)


@dataclass(frozen=True)
class WholeFrame:
    """Frames per second of a whole loop, and what of a frame is the host's and not the network's, in ms.

    That share is an estimate, from least to most.
    """

    network: str
    cards: tuple[str, ...]
    fps: float
    host_ms: tuple[float, float]
    scope: str
    source: str

    @property
    def network_ms(self) -> tuple[float, float]:
        """What is left for the network, from least to most."""
        least, most = self.host_ms
        return 1e3 / self.fps - most, 1e3 / self.fps - least


# TensorRT 8.4 in fp16, crop by cv::cuda, without display: upload, crop, network, download, box. By its memory
# the "RTX 2060 (8G)" is a SUPER, which nobody has confirmed. The host's share: at least launches and the copy
# of the box (0.1 ms); at most, beside 0.2 ms of these and of box arithmetic, the upload of a frame of 1080p
# over PCIe 3 (0.5 ms).
OSTRACK_2060 = WholeFrame(
    "OSTrack-256 with CE, fp16",
    ("rtx2060super", "rtx2060"),
    284,
    (0.1, 0.7),
    "whole frame on the GPU without display",
    "botaoye/OSTrack#29",
)


def ostrack_256_ce() -> list[Kernel]:
    """The network of `OSTRACK_2060`."""
    return ostrack(64, 256, {3: 180, 6: 126, 9: 89})
