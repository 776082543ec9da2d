#!/bin/sh
# Takes SmolLM2 through all steps of README.md. `make problems` calls it; N is the number of test problems.
# Every step continues where it was interrupted, and a step that is complete is not made again.
set -eu
N=${1:-200}
HERE=configs/wordproblems
RUNS=runs/wordproblems

. configs/step.sh

python $HERE/problems.py $RUNS/problems
step "The LM, tuned on gold chains" nabla distill --config $HERE/sft.yaml
step "Samples of it, graded" nabla generate --config $HERE/generate.yaml
step "A judge, trained on them" nabla train-judge --config $HERE/judge.yaml
step "What other tokens would do to its reward" nabla counterfactuals --config $HERE/counterfactuals.yaml
step "A value head that predicts it" nabla train-guide --config $HERE/value_head.yaml
step "The verified samples as a training set" nabla export --config $HERE/export.yaml
step "RFT: a student of them" nabla distill --config $HERE/student.yaml
step "All methods on unseen problems" nabla compare --config $HERE/compare.yaml prompts.limit="$N"
step "Pages of the comparison" nabla report run_dir=$RUNS/compare
