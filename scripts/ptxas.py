#!/usr/bin/env python3
"""Assembles PTX and shows what its kernels need: ptxas.py FOLDER_OF_PTXAS KERNELS.ptx

No kernel may spill. Those that stream through memory in every step must leave room for 1024 threads on a multiprocessor,
with averages for 768: MOST_REGISTERS for each, by what their names begin with, the first that fits.
"""

import pathlib
import re
import subprocess
import sys

DEVICES = ["sm_70", "sm_80", "sm_90", "sm_100", "sm_120"]
MOST_REGISTERS = {"maw_update_averaging": 80, "maw_update": 64}


def assemble(ptxas, device, ptx):
    """The registers, the bytes spilled and the bytes of shared memory of each kernel."""
    command = [ptxas, "-v", f"-arch={device}", str(ptx), "-o", "/dev/null"]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        sys.exit(f"ptxas: {device}: {result.stderr}")
    needs = {}
    for entry in result.stderr.split("Compiling entry function '")[1:]:
        name = entry.split("'")[0]
        registers = re.search(r"Used (\d+) registers", entry)
        spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", entry)
        shared = re.search(r"(\d+) bytes smem", entry)
        if not registers or not spills:
            sys.exit(f"ptxas: {device}: what {name} needs is not in\n{entry}")
        needs[name] = (int(registers[1]), int(spills[1]) + int(spills[2]), int(shared[1]) if shared else 0)
    return needs


def main():
    folder, ptx = map(pathlib.Path, sys.argv[1:])
    ptxas = next(folder.glob("**/bin/ptxas"), None)
    if not ptxas:
        sys.exit(f"ptxas: there is no bin/ptxas below {folder}")
    ptxas.chmod(0o755)
    needs = {device: assemble(ptxas, device, ptx) for device in DEVICES}
    names = sorted(needs[DEVICES[0]])
    if not names:
        sys.exit(f"ptxas: {ptx} has no kernels")

    title = "registers (bytes spilled)"
    width = max(map(len, [title, *names]))
    print(f"{title:{width}}", *(f"{device:>9}" for device in DEVICES), "shared")
    excessive = []
    for name in names:
        most = next((most for begin, most in MOST_REGISTERS.items() if name.startswith(begin)), None)
        cells = []
        for device in DEVICES:
            registers, spilled, shared = needs[device][name]
            cells.append(f"{registers} ({spilled})" if spilled else str(registers))
            if spilled or (most and registers > most):
                excessive.append(f"{name} on {device}: {registers} registers, {spilled} bytes spilled")
        print(f"{name:{width}}", *(f"{cell:>9}" for cell in cells), f"{shared:6}")
    if excessive:
        print("ptxas: spills, or too many registers:", *excessive, sep="\n", file=sys.stderr)
        sys.exit(1)


main()
