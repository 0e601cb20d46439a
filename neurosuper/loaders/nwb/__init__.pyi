from .images import load_nwb_images as load_nwb_images
from .loading import load_nwb as load_nwb
from .loading import load_presentations as load_presentations
