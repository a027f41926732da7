"""The step on a CUDA device against PyTorch's fused AdamW, and against the bandwidth of a copy.

    table.py STEP SECONDS FOLDER [ELEMENTS…]

STEP: the program of step.c. SECONDS: nothing is begun after so many. Writes gpu.json and gpu.md into FOLDER; where
PyTorch is missing the table says so. Times are milliseconds a step; each is a median of five. The tensors are GPT-2's,
all scaled to the given number of elements. Fails if a number of ours is missing.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import time

try:
    import torch

    NO_TORCH = None if torch.cuda.is_available() else f"PyTorch {torch.__version__} has no CUDA device"
except ImportError:
    NO_TORCH = f"{sys.executable} has no PyTorch"

GROUPS = 5
MEASURED = 0.5  # seconds for one number
SIZES = [1_000_000, 10_000_000, 124_000_000, 1_000_000_000]
# Bytes of a parameter or gradient, and of a moment.
KINDS = {
    "float32": ("float32", 4, 4),
    "bfloat16": ("bfloat16, moments float32", 2, 4),
    "moments": ("bfloat16", 2, 2),
}
PEERS = ["fused", "fused, graph", "clip + fused", "clip + fused, graph"]


def gpt2(elements):
    width, sizes = 768, [("wte.weight", 50_257 * 768), ("wpe.weight", 1024 * 768)]
    for layer in range(12):
        attention = [("attn.c_attn", width, 3), ("attn.c_proj", width, 1)]
        for norm in ("ln_1", "ln_2"):
            sizes += [(f"h.{layer}.{norm}.weight", width), (f"h.{layer}.{norm}.bias", width)]
        for name, rows, columns in [*attention, ("mlp.c_fc", width, 4), ("mlp.c_proj", 4 * width, 1)]:
            sizes += [(f"h.{layer}.{name}.weight", rows * width * columns), (f"h.{layer}.{name}.bias", width * columns)]
    sizes += [("ln_f.weight", width), ("ln_f.bias", width)]
    scale = elements / sum(n for _, n in sizes)
    return [(name, max(1, round(n * scale))) for name, n in sizes]


def told(program, *arguments, tensors=()):
    """What the program says, or {"error": …}."""
    lines = "".join(f"{name} {n}\n" for name, n in tensors)
    run = subprocess.run([program, *arguments], input=lines, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        return {"error": run.stderr.strip() or f"status {run.returncode}"}
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
    """Milliseconds of each of PEERS, or why there are none."""
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

    found = {}
    for name, measure, f in zip(PEERS, [milliseconds, captured] * 2, [optimizer.step] * 2 + [clip_and_step] * 2):
        try:
            found[name] = measure(f)
        except RuntimeError as error:
            found[name] = f"error: {str(error).splitlines()[0]}"
    return found


def compared(kind, sizes):
    # PyTorch keeps bfloat16 moments beside bfloat16 parameters, and has no float32 ones.
    if NO_TORCH or kind == "bfloat16":
        return {}
    try:
        return theirs(kind, sizes)
    except RuntimeError as error:  # too little memory, mostly
        return {name: f"error: {str(error).splitlines()[0]}" for name in PEERS}
    finally:
        torch.cuda.empty_cache()


def measured(program, elements, deadline):
    rows = []
    for n in elements:
        for kind in KINDS:
            row = {"elements": n, "kind": kind}
            rows.append(row)
            if time.monotonic() > deadline:
                row["ours"] = {"error": "not begun: out of time"}
                continue
            sizes = gpt2(n)
            row["ours"] = told(program, kind, str(MEASURED), tensors=sizes)
            row["theirs"] = compared(kind, sizes)
            print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def bandwidth(row):
    """Of the copy, in GB/s, and the share of it that a replayed step reaches."""
    _, element, moment = KINDS[row["kind"]]
    copy = row["ours"]["copy"]
    # A step reads gradient and first moment twice, parameter and second moment once, and writes all but the gradient.
    moved = row["elements"] * (4 * element + 5 * moment)
    copied = copy["bytes"] / copy["ms"] / 1e6
    return copied, moved / row["ours"]["meta"]["graph"] / 1e6 / copied


def number(x):
    return f"{x:.3f}" if isinstance(x, float) else "–"


def markdown(results):
    """The table that gpu.md is."""
    columns = ["parameters", "dtype", "step", "graph", "enqueue", "plain", "plain graph", *PEERS]
    columns += ["copy GB/s", "of copy"]
    peers = f"PyTorch {results['torch']}" if results["torch"] else f"no peers: {results['no_torch']}"
    lines = [
        f"{results['device']}; {peers}",
        "",
        "Milliseconds. Step: MetaAdamW with its defaults; plain: modulation off; enqueue: until the call returns.",
        "Fused: PyTorch's AdamW. Of copy: the bandwidth of a replayed step over that of a copy of the parameters; what",
        "fits into the device's cache exceeds that of its memory.",
        "",
        "| " + " | ".join(columns) + " |",
        "| ---: | --- |" + " ---: |" * (len(columns) - 2),
    ]
    notes = []
    for row in results["rows"]:
        ours, theirs = row["ours"], row.get("theirs") or {}
        cells = [f"{row['elements']:,}", KINDS[row["kind"]][0]]
        if "error" in ours:
            cells += ["–"] * 5
            ends = ["–"] * 2
            notes.append(f"{cells[0]}, {cells[1]}: {ours['error']}")
        else:
            cells += [number(ours["meta"][name]) for name in ("eager", "graph", "enqueue")]
            cells += [number(ours["plain"][name]) for name in ("eager", "graph")]
            copied, share = bandwidth(row)
            ends = [f"{copied:.0f}", f"{share:.0%}"]
        cells += [number(theirs.get(name)) for name in PEERS]
        wrong = {x for x in theirs.values() if isinstance(x, str)}
        notes += [f"{cells[0]}, {cells[1]}, PyTorch: {x}" for x in sorted(wrong)]
        lines.append("| " + " | ".join(cells + ends) + " |")
    attention = results["attention"]
    lines.append("")
    if "error" in attention:
        notes.append(f"attention: {attention['error']}")
    else:
        rest = attention["plain"]["graph"]
        for layers in ("8 layers", "128 layers"):
            own = attention[layers]["graph"] - rest
            lines.append(f"Features and encoder of {attention['groups']} groups, {layers}: {own:.3f} ms "
                         f"({attention[layers]['graph']:.3f} with all else of a step of hardly any elements).")
    return "\n".join(lines + [f"- {note}" for note in notes]) + "\n"


def main():
    program, limit, folder = sys.argv[1], float(sys.argv[2]), pathlib.Path(sys.argv[3])
    elements = [int(n) for n in sys.argv[4:]] or SIZES
    deadline = time.monotonic() + limit
    device = subprocess.run([program, "device"], capture_output=True, text=True, check=False)
    if device.returncode != 0:
        sys.exit(device.stderr.strip())
    results = {
        "device": device.stdout.strip(),
        "torch": None if NO_TORCH else torch.__version__,
        "no_torch": NO_TORCH,
        "attention": told(program, "attention", str(MEASURED)),
        "rows": measured(program, elements, deadline),
    }
    (folder / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
    table = markdown(results)
    (folder / "gpu.md").write_text(table)
    print(table)
    if "error" in results["attention"] or any("error" in row["ours"] for row in results["rows"]):
        sys.exit("table.py: numbers are missing")


if __name__ == "__main__":
    main()
