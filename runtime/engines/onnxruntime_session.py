"""Every session of ONNX Runtime is opened here, with the same settings; and what it raises."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CPU = "CPUExecutionProvider"


def open_session(
    model: Path | bytes,
    *,
    threads: int | None = None,
    spin: bool = False,
    entries: Mapping[str, str] | None = None,
    optimised: Path | None = None,
    profile: Path | None = None,
    providers: Sequence[str | tuple[str, Mapping[str, str]]] = (CPU,),
    **keywords: Any,
) -> Any:
    """An `InferenceSession` of a file or of its bytes, on the CPU unless said. Raises `ort_errors`.

    threads: None, all cores; between two calls they sleep unless they spin. entries: of the session's
    configuration. optimised: where the graph goes as ONNX Runtime runs it. profile: how the file begins in
    which every layer's times are at the end. keywords: of `InferenceSession`.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    if threads is not None:
        options.intra_op_num_threads = threads
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    for key, value in (entries or {}).items():
        options.add_session_config_entry(key, value)
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=list(providers), **keywords)


def ort_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises.

    Its exceptions have no common base below Exception and live in its extension module alone.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile")
    own = (getattr(state, name) for name in (*names, "NotImplemented", "RuntimeException"))
    return (RuntimeError, ValueError, *own)
