"""Pictures and tables of what contexts see, and of what masking leaves to predict."""

from nest_tools.report.report import Report, write_report
from nest_tools.report.table import context_table
from nest_tools.report.views import plot_contexts

__all__ = ["Report", "context_table", "plot_contexts", "write_report"]
