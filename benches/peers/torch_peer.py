"""PyTorch's AdamW as a peer of benches/peers.rs: reads one command a line, answers one JSON line.

setup N1,N2,...              : float32 tensors of these lengths on the CPU, in fresh memory, and a fused AdamW
steps COUNT, clip_steps COUNT: makes COUNT steps, with clipping before each; answers their times in milliseconds
free                         : gives the memory back
"""

import json
import sys
import time

import torch

threads = int(sys.argv[1])
torch.set_num_threads(threads)
print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)

params, optimizer = [], None
for line in sys.stdin:
    command, *arguments = line.split()
    if command == "setup":
        lengths = [int(n) for n in arguments[0].split(",")]
        params = [torch.full((n,), 0.1, requires_grad=True) for n in lengths]
        values = ((torch.arange(101) * 37) % 101) * 1e-3 - 0.05
        for p in params:
            p.grad = values.repeat(p.numel() // 101 + 1)[: p.numel()].clone()
        optimizer = torch.optim.AdamW(params, lr=5e-4, weight_decay=1e-2, fused=True)
        answer = "ready"
    elif command in ("steps", "clip_steps"):
        answer = []
        for _ in range(int(arguments[0])):
            start = time.perf_counter()
            if command == "clip_steps":
                torch.nn.utils.clip_grad_norm_(params, 1.0)
            optimizer.step()
            answer.append(1e3 * (time.perf_counter() - start))
    else:
        params, optimizer = [], None
        answer = "freed"
    print(json.dumps(answer), flush=True)
