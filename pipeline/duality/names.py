"""Names of checks that more than one file uses: where they are recorded and where they are
looked up for the claims, the sentences, the tables and the plots of the report."""

from __future__ import annotations

REWARD = "E[r]"
LOG_REF = "E[log p_ref]"
ACCURACY = "accuracy"
ALL_STEPS = "every step correct"
KL = "KL to the reference"
KL_LOW = "KL to the reference, at least"
KL_HIGH = "KL to the reference, at most"
ANSWER_KL = "KL of the answers"
GAP = "gap to the frontier"
TV = "TV to pi*"
FITTED_BETA = "fitted beta"
FITTED_TV = "TV to pi* at the fitted beta"

LAW_1D = "1-D law of samples = law of policy, KS sqrt(N)"
LAW_2D = "2-D law of samples = law of policy, KS sqrt(N) of x, y, x+y"
PATH_GAP = "gap to the frontier along the path"

STATIONARITY = "||pi* P - pi*||_1"
TV_AFTER = "TV to pi* after"
GUMBEL_TV = "started at pi*, TV after"
ACCEPTANCE = "acceptance rate"
RL_GAP = "RL: gap to the frontier"
RL_BETA = "RL: relative error of the fitted beta"
GRPO_TV = "TV to GRPO's own fixed point"
RESPONSES_CHANGED = "share of responses changed"
TOKENS_CHANGED = "share of tokens changed"
IN_REACH = "share of tokens within reach"
OUT_OF_REACH = "share of tokens changed out of reach"
LARGEST_MOVE = "largest move of a logit"
MEDIAN_MARGIN = "median margin of the best logit"

MH_ERROR = "E[r] minus that by importance sampling, in standard errors"
MH_DRIFT = "E[r] after all steps minus after half of them, in standard errors"


def above_reference(check: str) -> str:
    """The same number minus that of the reference."""
    return f"{check} minus the reference's"


def half_width(check: str) -> str:
    """Half the width of the number's 95 % interval."""
    return f"{check}, half-width of the 95 % interval"
