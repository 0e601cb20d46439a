"""The shortest study of a recording, as text."""

MINIMAL_STUDY = """
title = "A small study"
images.path = "images"
finders.Units = {}
metrics.Color = {}
[systems.brain]
loader = "load_array"
path = "brain.npy"
dims = ["unit", "stimulus"]
stimuli = "images"
"""
