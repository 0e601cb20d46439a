"""Responses as rows that are read in blocks and reduced: in memory, from dask, or on a cluster."""
