"""`jobs.improve`: rounds of generation and training. Read in this order:

config      the settings
steps       what a round consists of: settings of other jobs
loop        the rounds, one after the other
runner      runs the steps of rounds, and reads what they left
evaluation  what was measured on a set of prompts
yielded     what each way to generate was worth
rounds      how a round is judged: figures, reward hacking, what is used further, the choice
job         the run folder of all rounds
"""
