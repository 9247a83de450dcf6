"""Sweeps: the section notebooks over many checkpoints, on Dask, with nothing lost."""
