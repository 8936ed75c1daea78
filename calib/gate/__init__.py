"""Whether a reduced precision is still the same tracker."""
