"""The study: a CNN, its snapshots at the relax times, and what becomes of each network that goes on from one."""
