"""Which driver a library on the GPU needs: the CUDA release that it was built for decides."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from jntrt.runtime.cuda.driver import cuda_version

# The first driver of each CUDA release, as cuDriverGetVersion and as NVIDIA call it. Within a release any
# library runs on any driver.
LEAST_DRIVER = {12: (12000, "r525"), 13: (13000, "r580")}


def wheel_cuda(module: str) -> int | None:
    """The CUDA release of the wheels that brought `module`, by their name (`tensorrt_cu12_libs`).

    None where no such wheel did: what a system such as JetPack brings fits its driver.
    """
    for release in sorted(LEAST_DRIVER, reverse=True):
        try:
            version(f"{module}-cu{release}-libs")
        except PackageNotFoundError:
            continue
        return release
    return None


def driver_obstacle(
    library: str,
    cuda: int | None,
    driver: int,
    extra: str,
    least: Mapping[int, tuple[int, str]] = LEAST_DRIVER,
) -> str | None:
    """Why `driver` does not run a `library` built for the CUDA release `cuda`, with the remedy, or None.

    `extra`: of jntrt, which has a sibling `-cu12`.
    """
    needed, name = least.get(cuda or 0, (0, ""))
    if driver >= needed:
        return None
    older = f"pip install 'jntrt[{extra}-cu12]', or " if cuda != 12 and driver >= least[12][0] else ""
    return (
        f"the driver is too old (it is for CUDA {cuda_version(driver)}, {library} for CUDA {cuda}):"
        f" {older}a driver from {name} on"
    )
