from .named import NamedNetwork as NamedNetwork
from .named import load_network as load_network
from .random_weights import randomize as randomize
from .recording import activations as activations
