#!/bin/sh
# Stands in for `train`: logs by its interface, with numbers that a formula of the flags gives. Variables make it slow
# (FAKE_SECONDS an epoch), make runs fail (FAKE_FAIL, a part of the log's name) and record the calls (FAKE_CALLS, a file).
set -eu
task= optimizer= preset= init=- seed=0 lr=0.0005 epochs=3 log= schedule=constant factor=1 factors= resume=0 interval=40 split=disjoint
limit=1 width=1 patience=2
call="$*"
while [ $# -gt 0 ]; do
    name=$1
    shift
    case $name in
        --resume) resume=1; continue ;;
    esac
    value=$1
    shift
    case $name in
        --task) task=$value ;; --optimizer) optimizer=$value ;; --preset) preset=$value ;; --init) init=$value ;;
        --seed) seed=$value ;; --lr) lr=$value ;; --epochs) epochs=$value ;; --log) log=$value ;;
        --schedule) schedule=$value ;; --lr-factor) factor=$value ;; --factors) factors=$value ;;
        --meta-interval) interval=$value ;; --split) split=$value ;; --limit) limit=$value ;; --width) width=$value ;;
        --patience) patience=$value ;;
        --data|--device|--threads|--features|--grouping|--objective|--priorities|--uncertainty|--gating|--layers|--heads|--feed-forward) ;;
        *) echo "train: $name is not a flag" >&2; exit 1 ;;
    esac
done
if [ -n "${FAKE_CALLS:-}" ]; then echo "$call" >> "$FAKE_CALLS"; fi
if [ -n "${FAKE_FAIL:-}" ]; then
    case $log in *"$FAKE_FAIL"*) echo "train: no data for $task" >&2; exit 3 ;; esac
fi
if [ -n "$factors" ] && ! [ -s "$factors" ]; then echo "train: --factors: no file $factors" >&2; exit 1; fi

case $task in etth1) metric=MSE ;; wikitext2|multi30k) metric=perplexity ;; *) metric=accuracy ;; esac
checkpoint=${log%.jsonl}.checkpoint
from=1
if [ $resume = 1 ] && [ -f "$checkpoint" ]; then
    from=$(($(cat "$checkpoint") + 1))
else
    echo '{"event":"start","task":"'$task'","metric":"'$metric'","seed":'$seed',"settings":{"optimizer":"'$optimizer'","lr":'$lr',"schedule":"'$schedule'","limit":'$limit',"width":'$width',"epochs":'$epochs',"patience":'$patience',"split":"'$split'"},"parameters":1000,"tensors":4,"examples":{"train":80,"meta":10,"selection":10,"test":20},"steps_per_epoch":10,"library":"0.1.0","torch":"0","threads":1}' > "$log"
fi

state=null factors=null
if [ "$optimizer" = metaadamw ]; then
    factors='{"ffn.middle.weight":[1.'$((seed % 10))',0.9],"ffn.middle.bias":[0.8,1.1]}'
fi
# The metric of an epoch: best at rate 0.001, at the second epoch, a little better for metaadamw, different by seed.
value() {
    awk -v lr="$lr" -v factor="$factor" -v seed="$seed" -v optimizer="$optimizer$init" -v epoch="$1" -v metric=$metric 'BEGIN {
        off = log(lr * factor / 0.001) / log(2)
        noise = (seed * 7919 % 101) / 1000
        value = 1 + 0.05 * off * off + noise + 0.1 * (epoch - 2) * (epoch - 2) + 0.01 * (seed * 31 % 7) * (optimizer ~ /meta/)
        printf "%.6f", metric == "accuracy" ? 1 / (1 + value) : value
    }'
}
epoch=$from
while [ "$epoch" -le "$epochs" ]; do
    sleep "${FAKE_SECONDS:-0}"
    now=$(value "$epoch")
    if [ "$optimizer" = metaadamw ]; then
        state='{"schema":"metaadamw.state","options":{"meta_interval":'$interval'},"uncertainty":{"terms":["gradient_alignment","loss_decrease","gen_gap"],"log_vars":[0,0,0],"weights":[0.5,0.4'$epoch',0.6],"priorities":[1,1,1]},"meta":{"updates":'$epoch'},"modulation_groups":[{"name":"ffn.middle.weight","alpha":1.'$epoch',"beta":0.9},{"name":"ffn.middle.bias","alpha":0.8,"beta":1.'$epoch'}]}'
    fi
    echo '{"event":"epoch","run":"'$optimizer'","seed":'$seed',"epoch":'$epoch',"step":'$((epoch * 10))',"lr":'$lr',"train_loss":'$now',"validation_loss":'$now',"selection":'$now',"test_loss":'$now',"test":'$now',"average":null,"seconds":'$((epoch * 2))',"optimizer_seconds":'$epoch',"meta_seconds":0.5,"mean_factors":'$factors',"state":'$state'}' >> "$log"
    echo "$epoch" > "$checkpoint"
    epoch=$((epoch + 1))
done
best=2
[ "$epochs" -lt 2 ] && best=1
now=$(value $best)
echo '{"event":"end","reason":"epochs","epochs":'$epochs',"best_epoch":'$best',"selection":'$now',"test":'$now',"test_average":null,"seconds":'$((epochs * 2))',"optimizer_seconds":'$epochs',"meta_seconds":0.5,"mean_factors":'$factors'}' >> "$log"
