from .estimate import StudyCheck as StudyCheck
from .estimate import check_study as check_study
from .file import Hypothesis as Hypothesis
from .file import Study as Study
from .file import read_study as read_study
from .run import run_study as run_study
from .template import new_study as new_study
