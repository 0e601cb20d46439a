from .file import Hypothesis as Hypothesis
from .file import Study as Study
from .file import read_study as read_study
from .rerun import Reproduction as Reproduction
from .rerun import reproduce as reproduce
from .run import run_study as run_study
