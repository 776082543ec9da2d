"""Thresholds of the checks on laws. Sampled RLOO must stay below them; the other arms are
compared with the same numbers, without being required to."""

MAX_GAP = 0.03  # to the frontier, in units of the reward
MAX_TV = 0.1  # to an optimum pi*_beta
MAX_BETA_ERROR = 0.05  # of the fitted beta, relative
