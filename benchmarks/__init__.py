"""Suites, sweeps, targets and whole networks: measurements that are kept in results/, outside of the wheel."""
