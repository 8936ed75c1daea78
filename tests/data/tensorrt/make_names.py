"""The names in a TensorRT flavour's Python module, of the classes that jntrt uses, one a line.

    python make_names.py tensorrt_rtx > rtx.txt        from an installed module
    python make_names.py --list names.txt > 11.txt     from such a list of all its names

The lists here: `10.3.txt` of tensorrt 10.3.0 (JetPack 6's), `10.txt` of 10.16.1.11, `11.txt` of 11.4.0.106,
`rtx.txt` of tensorrt-rtx 1.7.1.116.
"""

import importlib
import sys
from pathlib import Path

CLASSES = (
    "Builder", "BuilderFlag", "ComputeCapability", "CudaGraphStrategy", "EngineInspector",
    "ExecutionContextAllocationStrategy", "HardwareCompatibilityLevel",
    "IBuilderConfig", "ICudaEngine", "IExecutionContext", "IHostMemory", "ILogger", "INetworkDefinition",
    "IProfiler", "IProgressMonitor", "IRuntimeCache", "IRuntimeConfig", "ITimingCache",
    "LayerInformationFormat", "MemoryPoolType",
    "NetworkDefinitionCreationFlag", "OnnxParser", "ParserError", "ProfilingVerbosity", "Runtime",
    "TensorIOMode", "nptype", "__version__",
)  # fmt: skip


def names_of(module: str) -> list[str]:
    """All public names of a module and of its classes."""
    found = []
    library = importlib.import_module(module)
    for name in ("__version__", *dir(library)):
        found.append(name)
        value = getattr(library, name)
        if isinstance(value, type):
            found += [f"{name}.{attribute}" for attribute in dir(value) if not attribute.startswith("_")]
    return found


def main() -> None:
    source = sys.argv[1:]
    names = Path(source[1]).read_text().split() if source[0] == "--list" else names_of(source[0])
    for name in sorted({name for name in names if name.split(".")[0] in CLASSES}):
        print(name)


main()
