from .images import load_nwb_images as load_nwb_images
from .inspection import NWBContents as NWBContents
from .inspection import inspect_nwb as inspect_nwb
from .loading import load_nwb as load_nwb
from .loading import load_presentations as load_presentations
