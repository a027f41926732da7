#!/usr/bin/env python3
"""Compiles CUDA C++ to PTX with NVRTC: ptx.py FOLDER_OF_NVRTC KERNELS.cu >KERNELS.ptx"""

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


def compile(nvrtc, source, name):
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
    created = nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, name.encode(), 0, None, None)
    checked(created, "nvrtcCreateProgram")
    options = (ctypes.c_char_p * len(OPTIONS))(*(option.encode() for option in OPTIONS))
    status = nvrtc.nvrtcCompileProgram(program, len(options), options)
    sys.stderr.write(text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog))
    checked(status, name)
    ptx = text(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return ptx


def main():
    folder, path = map(pathlib.Path, sys.argv[1:])
    source = path.read_bytes()
    print(f"// sha256 of {path.name}: {hashlib.sha256(source).hexdigest()}")
    print(compile(load(folder), source, path.name).strip())


main()
