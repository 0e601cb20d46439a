"""The numerics of single finders, one file per solver."""
