"""The NVIDIA driver and its GPUs, asked for with ctypes: no CUDA package has to be installed for it."""

import ctypes
import sys
from typing import Any

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_…


def read_gpus() -> dict[str, Any]:
    """`cuda`: the driver's CUDA version as cuDriverGetVersion says it (13000: 13.0), None without a driver;
    `gpus`: name, compute capability and bytes of each; `failure`: which call failed, where one did."""
    try:
        cuda = ctypes.CDLL(_DRIVER)
    except OSError:
        return {"cuda": None, "gpus": []}
    number = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(number))
    found: dict[str, Any] = {"cuda": number.value, "gpus": []}
    status = cuda.cuInit(0)
    if status == _NO_DEVICE:
        return found
    if status:
        return found | {"failure": f"cuInit failed with CUDA error {status}"}
    count = ctypes.c_int()
    cuda.cuDeviceGetCount(ctypes.byref(count))
    found["gpus"] = [_read(cuda, ordinal) for ordinal in range(count.value)]
    return found


def _read(cuda: ctypes.CDLL, ordinal: int) -> dict[str, Any]:
    device, name, size = ctypes.c_int(), ctypes.create_string_buffer(128), ctypes.c_size_t()
    cuda.cuDeviceGet(ctypes.byref(device), ordinal)
    cuda.cuDeviceGetName(name, 128, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    capability = []
    for attribute in (_MAJOR, _MINOR):
        value = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(value.value)
    return {"name": name.value.decode("utf-8", "replace"), "capability": capability, "bytes": size.value}
