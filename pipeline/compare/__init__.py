"""`jobs.compare`: policies and test-time methods on the same prompts. Read in this order:

config      the settings: one base config, and arms that override it
arms        the run folder of each arm
results     the rows of an arm, prompt by prompt; which prompts all arms share
statistics  intervals by the bootstrap, exact tests, Holm's correction
readings    what is read of responses once they are made; `reader` does it, `worker` on Ray
divergence  KL of an arm to the base LM
judges      what rewards are worth: AUC, a second judge, revisions that made answers wrong
frontier    what fewer proposals would have given
training    the trained models of an arm, and what their training cost
break_even  after how many prompts it pays
curves      pass@k, majority and best of k from the samples of one arm
summary     all figures of a comparison
report      the summary as Markdown, and all traces in one table
figure      the summary as SVG; `labels` places the numbers of arms
job         the loop over the arms
"""
