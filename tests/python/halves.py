"""Converts as PyTorch does: float32 on standard input to both 16-bit formats, then every 16-bit pattern to float32."""
import sys

import torch

values = torch.frombuffer(bytearray(sys.stdin.buffer.read()), dtype=torch.float32)
every = torch.arange(65536, dtype=torch.int32).to(torch.int16)
for kind in (torch.bfloat16, torch.float16):
    sys.stdout.buffer.write(values.to(kind).view(torch.int16).numpy().tobytes())
    sys.stdout.buffer.write(every.view(kind).float().numpy().tobytes())
