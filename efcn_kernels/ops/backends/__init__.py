"""The backends: each a name, a reason to refuse a problem, and the passes."""
