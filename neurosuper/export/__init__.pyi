from .flat import tidy as tidy
from .nwb import write_nwb as write_nwb
from .weights import read_safetensors as read_safetensors
from .weights import write_safetensors as write_safetensors
