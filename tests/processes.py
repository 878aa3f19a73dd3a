"""Of `test_distributed`: makes one run of each case, started on several processes, or in one that is there."""

import sys

from mubench import registry
from mubench.errors import MubenchError
from mubench.records.store import Store
from mubench.runner import run_spec
from mubench.spec import make_spec


class Best(registry.methods.get("finetune")):
    """Ends with the weights of the best epoch, which is not the last."""

    keep_best = True


SHARD = "--shard" in sys.argv
COMMON = {"task": "fashion", "model": "vit", "limit": 48}
CASES = {
    "forget_only": {"method": "neggrad"},
    "retain_only": {"method": "finetune"},
    "union": {"method": "rand_label"},
    "joint": {"method": "neggrad_plus"},
    "alternate": {"method": "scrub", "curriculum": "superloss"},
    "mask": {"method": "salun"},
    "scale": {
        "method": "scrub",
        "params": {"batch_size": 16, "optimizer": "sgd", "lr": 0.01, "clip": 0},
    },  # AdamW hides a gradient's size
    "adapters": {
        "method": "scrub",
        "lora": 10,
        "params": {"batch_size": 5, "accumulate": 2, "optimizer": "sgd", "lr": 0.05},
    },  # 3 left over: pieces of 1, 1 and 1, none
    "narrow": {"method": "neggrad", "limit": 4, "params": {"batch_size": 1}},  # fewer examples than processes
    "curve": {"method": "finetune", "params": {"epochs": 2, "batch_size": 16}, "observed": True},
    "best": {"method": f"{__file__}:Best", "params": {"epochs": 2, "batch_size": 16, "lr": 0.003}},
    "hidden": {"method": "rmu"},
    "bf16": {"method": "salun", "precision": "bf16", "params": {"batch_size": 16, "epochs": 1, "accumulate": 2}},
}


def spec(name):
    case = {"params": {"batch_size": 16, "epochs": 1}, **COMMON, **CASES[name]}
    case.pop("observed", None)
    return make_spec(**case | {"params": {"epochs": 1} | case["params"]})


def run(folder, shard=False):
    """Make a run of each case."""
    for name in CASES:
        every = 2 if CASES[name].get("observed") else None
        run_spec(spec(name), Store(folder), save_model=True, progress=False, shard=shard, eval_every=every)


if __name__ == "__main__":
    run(sys.argv[1], SHARD)
    if SHARD:
        try:
            run_spec(make_spec(**COMMON, method="l1_sparse"), Store(sys.argv[1]), progress=False, shard=True)
        except MubenchError as error:
            print(error)
