#!/usr/bin/env python3
"""Compiles CUDA C++ to PTX with NVRTC: ptx.py FOLDER_OF_NVRTC KERNELS.cu >KERNELS.ptx

KERNELS.cu may include the .cuh files beside it. The first line of the PTX is the checksum of all of them.
"""

import ctypes
import hashlib
import pathlib
import sys

OPTIONS = [
    "--gpu-architecture=compute_70",  # runs on this and all later devices
    "--std=c++14",
    "--fmad=false",  # the arithmetic of the CPU, bit for bit
]


def load(folder):
    found = sorted(path for path in folder.glob("**/libnvrtc.so*") if "alt" not in path.name)
    if not found:
        sys.exit(f"ptx: there is no libnvrtc below {folder}")
    nvrtc = ctypes.CDLL(str(found[0]))  # finds its companion beside itself
    nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
    return nvrtc


def strings(values):
    return (ctypes.c_char_p * len(values))(*values)


def compile(nvrtc, name, source, headers):
    def checked(status, what):
        if status:
            sys.exit(f"ptx: {what}: {nvrtc.nvrtcGetErrorString(status).decode()}")

    def text(size_function, function):
        size = ctypes.c_size_t()
        checked(size_function(program, ctypes.byref(size)), size_function.__name__)
        buffer = ctypes.create_string_buffer(size.value)
        checked(function(program, buffer), function.__name__)
        return buffer.value.decode()

    program = ctypes.c_void_p()
    texts, names = strings(list(headers.values())), strings([header.encode() for header in headers])
    created = nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, name.encode(), len(headers), texts, names)
    checked(created, "nvrtcCreateProgram")
    options = strings([option.encode() for option in OPTIONS])
    status = nvrtc.nvrtcCompileProgram(program, len(options), options)
    sys.stderr.write(text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog))
    checked(status, name)
    ptx = text(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return ptx


def main():
    folder, path = map(pathlib.Path, sys.argv[1:])
    source = path.read_bytes()
    headers = {header.name: header.read_bytes() for header in sorted(path.parent.glob("*.cuh"))}
    ptx = compile(load(folder), path.name, source, headers)
    # One behind the other, the headers in the order of their names.
    checksum = hashlib.sha256(source + b"".join(headers.values())).hexdigest()
    print(f"// sha256 of {path.name} and *.cuh: {checksum}")
    print(ptx.strip())


main()
