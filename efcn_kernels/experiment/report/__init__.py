"""The report of a study: one page that is read from top to bottom, figures, numbers."""
