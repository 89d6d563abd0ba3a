"""Small things that any floor may use: files, interrupts, shipped data, Pareto fronts."""
