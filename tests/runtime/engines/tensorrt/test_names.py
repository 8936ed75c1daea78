"""Every TensorRT name that the product uses exists in TensorRT 10, 11 and RTX, or is asked for before use.

No TensorRT can be installed where these tests run; the lists of names under tests/data/tensorrt stand for it.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
LISTS = {name: ROOT / "tests/data/tensorrt" / f"{name}.txt" for name in ("10.3", "10", "11", "rtx")}
FILES = [ROOT / "runtime/engines/tensorrt" / name for name in ("engine.py", "build.py")]
FILES.append(ROOT / "bench/layers/tensorrt_profile.py")

# Which class is behind which expression; the product keeps to these names.
OBJECTS = {
    "trt": "",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "problem": "ParserError",
    "config": "IBuilderConfig",
    "config.get_timing_cache()": "ITimingCache",
    "engine": "ICudaEngine",
    "self._engine": "ICudaEngine",
    "context": "IExecutionContext",
    "self._context": "IExecutionContext",
    "engine.create_engine_inspector()": "EngineInspector",
    "self._runtime": "Runtime",
    "runtime_config": "IRuntimeConfig",
    "self._runtime_cache": "IRuntimeCache",
}

# RTX's alone; reached only behind a getattr, or in a branch that only RTX takes.
RTX_ONLY = {
    "BuilderFlag.REQUIRE_USER_ALLOCATION",
    "ComputeCapability",
    "CudaGraphStrategy",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
    "IExecutionContext.is_stream_capturable",
    "IRuntimeCache.deserialize",
    "IRuntimeCache.serialize",
    "IRuntimeConfig.create_runtime_cache",
    "IRuntimeConfig.cuda_graph_strategy",
    "IRuntimeConfig.set_runtime_cache",
}

# Asked for by name, and used where they are there: RTX's engines need them.
NOT_IN = {
    "10.3": {"ICudaEngine.create_runtime_config", "IRuntimeConfig.set_execution_context_allocation_strategy"}
}

# Gone from TensorRT 11, or never to be touched: precision is written into the graph.
FORBIDDEN = re.compile(
    r"BuilderFlag\.(FP16|INT8|BF16|FP8|INT4|OBEY|PREFER)|EXPLICIT_BATCH|int8_calibrator|dynamic_range"
    r"|platform_has_fast|execute_async_v2|num_bindings|max_workspace_size|build_engine\b"
)


def used_names(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            owner, attribute = ast.unparse(node.value), node.attr
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("getattr", "hasattr")
            and isinstance(node.args[1], ast.Constant)
        ):
            owner, attribute = ast.unparse(node.args[0]), str(node.args[1].value)
        else:
            continue
        if owner in OBJECTS:
            found.add(f"{OBJECTS[owner]}.{attribute}".lstrip("."))
        elif owner.startswith("trt."):
            found.add(f"{owner[4:]}.{attribute}")
    return {name for name in found if not name.endswith(("__init__", "__name__"))}


USED = {name for path in FILES for name in used_names(path)}


def test_the_walk_sees_the_names() -> None:
    for name in (
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        "Builder.build_serialized_network",
        "OnnxParser.parse",
        "IBuilderConfig.set_memory_pool_limit",
        "IBuilderConfig.set_timing_cache",
        "IExecutionContext.execute_async_v3",
        "ICudaEngine.get_tensor_name",
        "Runtime.deserialize_cuda_engine",
        "ICudaEngine.create_runtime_config",
        "ParserError.desc",
        "EngineInspector.get_engine_information",
        "IExecutionContext.report_to_profiler",
        "LayerInformationFormat.JSON",
    ):
        assert name in USED
    assert len(USED) > 45


@pytest.mark.parametrize("version", LISTS)
def test_every_name_exists(version: str) -> None:
    there = set(LISTS[version].read_text().split())
    missing = {name for name in USED if name not in there}
    allowed = set() if version == "rtx" else RTX_ONLY | NOT_IN.get(version, set())
    assert missing <= allowed
    if version == "rtx":
        assert USED >= RTX_ONLY, "a name that is used no more"


def test_no_removed_name_is_touched() -> None:
    for path in FILES:
        assert not FORBIDDEN.search(path.read_text())


def test_the_rtx_list_is_what_is_installed() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    for name in USED:
        value = trt
        for part in name.split("."):
            value = getattr(value, part)
