"""NVRTC: kernels compiled where they run, with neither nvcc nor a driver."""

from typing import Any

from jntrt.runtime.cuda.driver import INSTALL, CudaError, checked


def compile_kernels(source: str, headers: dict[str, str], capability: tuple[int, int]) -> bytes:
    """A cubin of `source` for one compute capability; for one that this NVRTC does not know yet, PTX of the
    newest before it, which the driver compiles.

    Raises CudaError with the compiler's first error line, or when NVRTC is missing.
    """
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise CudaError(f"cuda-python is not installed: {INSTALL}") from error
    names = [name.encode() for name in headers]
    try:
        program = checked(
            nvrtc.nvrtcCreateProgram(
                source.encode(),
                b"kernels.cu",
                len(headers),
                [text.encode() for text in headers.values()],
                names,
            ),
            "nvrtcCreateProgram",
        )
    except RuntimeError as error:
        raise CudaError(f"NVRTC is not installed: {INSTALL}") from error
    try:
        target = _target(nvrtc, capability)
        # No fused multiply-adds: box and crop must agree with the host to the last bit.
        options = [f"--gpu-architecture={target}".encode(), b"--fmad=false", b"--std=c++17"]
        status = nvrtc.nvrtcCompileProgram(program, len(options), options)[0]
        if int(status) != 0:
            size = checked(nvrtc.nvrtcGetProgramLogSize(program), "nvrtcGetProgramLogSize")
            log = b" " * size
            checked(nvrtc.nvrtcGetProgramLog(program, log), "nvrtcGetProgramLog")
            lines = [line for line in log.decode("utf-8", "replace").splitlines() if "error" in line]
            raise CudaError(f"the kernels do not compile: {lines[0] if lines else status.name}")
        kind = "CUBIN" if target.startswith("sm_") else "PTX"
        size = checked(getattr(nvrtc, f"nvrtcGet{kind}Size")(program), f"nvrtcGet{kind}Size")
        image = b" " * size
        checked(getattr(nvrtc, f"nvrtcGet{kind}")(program, image), f"nvrtcGet{kind}")
        return bytes(image)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _target(nvrtc: Any, capability: tuple[int, int]) -> str:
    """`sm_89`, or `compute_75` and the like where the device is newer than this NVRTC."""
    known = checked(nvrtc.nvrtcGetSupportedArchs(), "nvrtcGetSupportedArchs")
    wanted = 10 * capability[0] + capability[1]
    before = [number for number in known if number < wanted]
    if wanted in known or not before:  # an older one than all: NVRTC says so
        return f"sm_{wanted}"
    return f"compute_{max(before)}"
