"""Checkpoints from disk to kernel layouts: readers, packing, and the local store that pulls and verifies."""
