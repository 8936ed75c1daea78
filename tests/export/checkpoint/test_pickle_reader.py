"""The stack machine that reads pickles: values as pickle's own, calls recorded and never made."""

from __future__ import annotations

import os
import pickle
import subprocess
from io import BytesIO
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from jntrt.export.checkpoint.pickle_reader import PickleError, read_pickle


def test_calls_are_recorded_and_not_made(tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    class Attack:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, (f"touch {marker}",)

    class Nested:
        def __reduce__(self) -> tuple[object, ...]:
            return (
                subprocess.check_output,
                (Attack(),),
                {"x": Attack()},
                iter([Attack()]),
                iter([("k", Attack())]),
            )

    for protocol in range(6):
        value = read_pickle(BytesIO(pickle.dumps(Nested(), protocol)))
        assert value.name.endswith(".check_output")  # 0 to 2: commands.
        assert value.args[0].name == "posix.system"
        assert value.get("k").args == (f"touch {marker}",)
    assert not marker.exists()


@settings(deadline=None, max_examples=40)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.text() | st.integers(-(1 << 59), 1 << 59), inner)
            | st.tuples(inner, inner)
        ),
        max_leaves=20,
    ),
    st.integers(0, 5),
)
def test_plain_values_are_read_as_pickle_reads_them(value: object, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    if (
        b"_codecs" not in data and b"\nbytes" not in data
    ):  # bytes before protocol 3 are a call, which stays one
        assert read_pickle(BytesIO(data)) == value


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_value_or_a_pickle_error(data: bytes) -> None:
    try:
        read_pickle(BytesIO(data))
    except PickleError as error:
        told = str(error)
    else:
        told = ""
    assert "\n" not in told
