"""NWB: what each unit of one session did after each presentation, whatever laboratory wrote the file."""

from neurosuper.load.nwb.images import load_nwb_images
from neurosuper.load.nwb.responses import load_nwb, load_presentations

__all__ = ["load_nwb", "load_nwb_images", "load_presentations"]
