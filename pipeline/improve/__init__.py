"""`jobs.improve`: rounds of search and training. Read in this order:

config    the settings
steps     what a round consists of: settings of other jobs
rounds    how a round is judged: gains, reward hacking, the choice among rounds
job       the loop
"""
