"""The step on a CUDA device against PyTorch's fused AdamW, and against the bandwidth of a copy.

    table.py STEP SECONDS [ELEMENTS…]

STEP: the program of step.c. SECONDS: nothing is begun after so many. Where PyTorch is missing the table says so. Times are
milliseconds a step; each is a median of five. The tensors are GPT-2's, all scaled to the given number of elements.
"""

import json
import statistics
import subprocess
import sys
import time

try:
    import torch

    if not torch.cuda.is_available():
        torch = None
except ImportError:
    torch = None

GROUPS = 5
MEASURED = 0.5  # seconds for one number
SIZES = [1_000_000, 10_000_000, 124_000_000, 1_000_000_000]


def gpt2(elements):
    width, sizes = 768, [("wte.weight", 50_257 * 768), ("wpe.weight", 1024 * 768)]
    for layer in range(12):
        parts = [("attn.c_attn", width, 3), ("attn.c_proj", width, 1), ("mlp.c_fc", width, 4), ("mlp.c_proj", 4 * width, 1)]
        for norm in ("ln_1", "ln_2"):
            sizes += [(f"h.{layer}.{norm}.weight", width), (f"h.{layer}.{norm}.bias", width)]
        for name, rows, columns in parts:
            sizes += [(f"h.{layer}.{name}.weight", rows * width * columns), (f"h.{layer}.{name}.bias", width * columns)]
    sizes += [("ln_f.weight", width), ("ln_f.bias", width)]
    scale = elements / sum(n for _, n in sizes)
    return [(name, max(1, round(n * scale))) for name, n in sizes]


def ours(program, kind, sizes):
    lines = "".join(f"{name} {n}\n" for name, n in sizes)
    run = subprocess.run([program, kind, str(MEASURED)], input=lines, capture_output=True, text=True)
    if run.returncode != 0:
        return {"error": run.stderr.strip()}
    return json.loads(run.stdout)


def milliseconds(f):
    for _ in range(3):
        f()
    torch.cuda.synchronize()
    start = time.perf_counter()
    f()
    torch.cuda.synchronize()
    calls = min(200, max(2, int(MEASURED / GROUPS / (time.perf_counter() - start))))
    times = []
    for _ in range(GROUPS):
        start = time.perf_counter()
        for _ in range(calls):
            f()
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start) / calls)
    return statistics.median(times)


def theirs(kind, sizes):
    dtype = torch.float32 if kind == "float32" else torch.bfloat16
    params = [torch.full((n,), 0.1, dtype=dtype, device="cuda", requires_grad=True) for _, n in sizes]
    for p in params:
        p.grad = torch.full_like(p, 0.01)
    optimizer = torch.optim.AdamW(params, lr=5e-4, weight_decay=1e-2, fused=True, capturable=True)

    def clip_and_step():
        torch.nn.utils.clip_grad_norm_(params, 1.0, foreach=True)
        optimizer.step()

    def captured(f):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                f()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            f()
        return milliseconds(graph.replay)

    found = {"fused": milliseconds(optimizer.step), "clip + fused": milliseconds(clip_and_step)}
    for name, f in (("fused, graph", optimizer.step), ("clip + fused, graph", clip_and_step)):
        try:
            found[name] = captured(f)
        except RuntimeError as error:
            found[name] = None
            print(f"{name}: {error}", file=sys.stderr)
    return found


def main():
    program, limit = sys.argv[1], float(sys.argv[2])
    elements = [int(n) for n in sys.argv[3:]] or SIZES
    deadline = time.monotonic() + limit
    print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}" if torch else "PyTorch is missing")
    columns = ["ours", "graph", "enqueue", "plain", "plain graph", "copy GB/s", "of copy"]
    peers = ["fused", "fused, graph", "clip + fused", "clip + fused, graph"] if torch else []
    print(f"{'elements':>13} {'dtype':>9} " + " ".join(f"{c:>11}" for c in columns) + "".join(f"  {p:>12}" for p in peers))
    everything = []
    for n in elements:
        for kind in ("float32", "bfloat16", "moments"):
            if time.monotonic() > deadline:
                print("out of time")
                return everything
            sizes = gpt2(n)
            us = ours(program, kind, sizes)
            them = {}
            # PyTorch keeps bfloat16 moments beside bfloat16 parameters, and has no float32 ones.
            if torch and kind != "bfloat16":
                try:
                    them = theirs(kind, sizes)
                except RuntimeError as error:
                    print(f"PyTorch: {error}", file=sys.stderr)
                torch.cuda.empty_cache()
            everything.append({"elements": n, "kind": kind, "ours": us, "theirs": them})
            row = f"{n:>13,} {kind:>9} "
            if "error" in us:
                print(row + us["error"], flush=True)
                continue
            bandwidth = us["copy"]["bytes"] / us["copy"]["ms"] / 1e6
            # A step reads gradient and first moment twice, parameter and second moment once, and writes all but the gradient.
            element, moment = {"float32": (4, 4), "bfloat16": (2, 4), "moments": (2, 2)}[kind]
            moved = n * (4 * element + 5 * moment)
            share = moved / us["meta"]["graph"] / 1e6 / bandwidth
            numbers = [us["meta"]["eager"], us["meta"]["graph"], us["meta"]["enqueue"], us["plain"]["eager"], us["plain"]["graph"]]
            row += " ".join(f"{x:>11.4f}" for x in numbers) + f" {bandwidth:>11.0f} {share:>11.0%}"
            row += "".join(f"  {them[p]:>12.4f}" if them.get(p) is not None else f"  {'-':>12}" for p in peers)
            print(row, flush=True)
    return everything


if __name__ == "__main__":
    results = main()
    with open("gpu.json", "w") as file:
        json.dump(results, file, indent=1)
