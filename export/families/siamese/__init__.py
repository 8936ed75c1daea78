"""Anchor-free Siamese trackers: NanoTrack v1 to v3 and the hard-negative emphasis tracker."""
