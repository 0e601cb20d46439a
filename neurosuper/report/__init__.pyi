from .page import Report as Report
from .page import make_report as make_report
