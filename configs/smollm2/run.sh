#!/bin/sh
# Takes SmolLM2 through all steps of README.md. `make real` calls it: N is the number of test prompts, SEED the seed of
# all draws and trainings. The prompts are the same with every seed.
# Every step continues where it was interrupted, and a step that is complete is not made again.
set -eu
N=${1:-50}
SEED=${2:-0}
# STEPS: of the judge, measured EVERY so many; EXPLORED: prompts of counterfactuals; HEAD: steps of the value head;
# ASKED: prompts that judge and head are measured on; READ: responses to a prompt for the divergence from the LM.
if [ "$N" -lt 80 ]; then
	STEPS=60 EVERY=60 EXPLORED=40 HEAD=120 ASKED=20 READ=1
else
	STEPS=$((N * 3 / 4)) EVERY=$((N * 3 / 8)) EXPLORED=$((N / 2)) HEAD=200 ASKED=40 READ=4
fi
HERE=configs/smollm2
RUNS=runs/smollm2

. configs/step.sh

python $HERE/keywords.py $RUNS/keywords
step "Samples of the LM, graded" nabla generate --config $HERE/generate.yaml seed="$SEED" run_dir=$RUNS/samples \
	reward.judge=null reward.guide=null decoding.method=sample samples_per_prompt=8 prompts.limit=$((N * 3))
step "A judge, trained on them" nabla train-judge --config $HERE/judge.yaml seed="$SEED" \
	optimise.steps=$STEPS validation.every=$EVERY validation.prompts.limit=$ASKED
step "What other tokens would do to its reward" nabla counterfactuals --config $HERE/counterfactuals.yaml seed="$SEED" \
	prompts.limit=$EXPLORED
step "A value head that predicts it" nabla train-guide --config $HERE/value_head.yaml seed="$SEED" \
	optimise.steps=$HEAD validation.every=$HEAD validation.prompts.limit=$ASKED
step "Guided answers to train prompts" nabla generate --config $HERE/generate.yaml seed="$SEED" run_dir=$RUNS/guided \
	reward.judge=null prompts.skip=$((N * 3)) prompts.limit=$((N * 4))
step "Searches of further train prompts" nabla generate --config $HERE/generate.yaml seed="$SEED" run_dir=$RUNS/searches \
	decoding.method=nabla prompts.skip=$((N * 7)) prompts.limit="$N"
step "The verified ones as a training set" nabla export --config $HERE/export.yaml
step "A student of them" nabla distill --config $HERE/student.yaml seed="$SEED"
step "The control: the verified samples as a training set" nabla export --config $HERE/export.yaml \
	run_dir="[$RUNS/samples]" out=$RUNS/dataset-of-samples
# Three verified samples to a test prompt: as many as cost what the guided answers and searches cost, or a little more.
step "A student of these" nabla distill --config $HERE/student.yaml seed="$SEED" run_dir=$RUNS/student-of-samples \
	data.exports="[$RUNS/dataset-of-samples]" data.limit=$((N * 3))
step "All methods on unseen prompts" nabla compare --config $HERE/compare.yaml seed="$SEED" prompts.limit="$N" \
	kl_samples=$READ
step "Pages of the comparison" nabla report run_dir=$RUNS/compare
