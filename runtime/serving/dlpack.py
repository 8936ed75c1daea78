"""Arrays to and from Triton's stub by DLPack.

Its own `Tensor(name, array)` and `as_numpy` were built for NumPy 1 in Triton 2.51: with NumPy 2 they give
empty outputs and wrong inputs, without a word.
"""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

_set_destructor = ctypes.pythonapi.PyCapsule_SetDestructor
_set_destructor.argtypes = (ctypes.py_object, ctypes.c_void_p)


def from_dlpack(tensor: Any) -> NDArray[Any]:
    """The tensor's values, where they lie; not to be written to."""
    return np.from_dlpack(tensor)


def to_dlpack(array: NDArray[Any]) -> Any:
    """A capsule of a copy for `Tensor.from_dlpack`, which becomes its owner."""
    capsule = np.array(array, order="C").__dlpack__()
    # The stub renames a capsule that it took to "used_dlpack" and not, as DLPack has it, "used_dltensor":
    # NumPy's destructor takes that for an error and says so on stderr, at every answer.
    _set_destructor(capsule, None)
    return capsule
