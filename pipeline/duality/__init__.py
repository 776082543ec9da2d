"""Is first-order search at test time dual to KL-regularised RL? Checked, not assumed.

With J(q) = E_q[r] - beta KL(q || p_ref) and pi*_beta ~ p_ref exp(r / beta) its optimum:

- `frontier` what is known in closed form: pi*_beta, its frontier, gaps and fitted betas
- `continuous` laws in R and R^2: `landscapes`, `fokker_planck` (the policy's side) and
  `particles` (the samples' side), which theory says must agree, and controls that must not
- `tokens` an LM whose 4,096 responses can be enumerated (`enumerable`): Markov kernels
  (`kernels`, `gumbel`), RL (`policies`, `trl_grpo`), the released dynamics (`dto_law`,
  `released`), and runs of them against their laws (`draws`, `product`)
- `embedded` the embedded LM, where nothing can be enumerated (`estimators`, `lm_policies`,
  `lm_arms`), and `agreement`: `decoding.method: mh` against importance sampling
- `policy` the same for checkpoints of yours, through the Ray path
- `pieces` what of this is made side by side and kept
- `findings`, `claims`, `words`, `plots`, `report` what was found, and how it is told
"""
