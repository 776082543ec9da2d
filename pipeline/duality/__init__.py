"""Is gradient search at test time dual to KL-regularised RL? Checked by experiment.

With J(q) = E_q[r] - beta KL(q || p_ref) and its optimum pi*_beta = p_ref exp(r / beta) / Z. The
claim, what is true of it (theorems T1 to T5) and how to run the stage stand in README.md.

- `frontier`: what is known in closed form: pi*_beta, the frontier, gaps, fitted betas;
  `best_of_n`: the law of best-of-N
- `continuous`: laws in R and R^2. `fokker_planck` computes the flow of the policy,
  `particles` simulates the samples; theory says that they agree
- `tokens`: an LM whose 4,096 responses can be enumerated: Markov chains (`kernels`, `gumbel`),
  RL (`policies`, `trl_grpo`), the released algorithm (`dto_law`, `released`), and runs of them
  against their exact laws (`monte_carlo`, `library_runs`)
- `language`: the embedded LM, whose responses cannot be enumerated: estimates by importance
  sampling (`estimators`), and `decoding.method: mh` against them (`mh_agreement`)
- `checkpoints`: the same measurements for your own reference and RL checkpoint, with Ray
- each room has its settings in `config` and its experiments in `checks`
- `stage` runs the parts; `pieces` computes them in parallel and caches them
- `findings`, `names`, `thresholds` and `report`: what was found, and the pages that show it
"""
