"""Pages of runs without traces: trainings, rounds of `nabla improve`, the duality stage."""
