"""Builds and runs a program in C and one in C++ against the package."""

import os

from conan import ConanFile
from conan.tools.build import can_run
from conan.tools.cmake import CMake, cmake_layout


class MetaAdamWTest(ConanFile):
    settings = "os", "arch", "compiler", "build_type"
    generators = "CMakeToolchain", "CMakeDeps", "VirtualRunEnv"

    def requirements(self):
        self.requires(self.tested_reference_str)

    def layout(self):
        cmake_layout(self)

    def build(self):
        cmake = CMake(self)
        # The programs that tests/cmake.rs builds in every other way.
        consumer = os.path.join(self.recipe_folder, "..", "..", "..", "tests", "consumer")
        cmake.configure(variables={"ROUTE": "find_package"}, build_script_folder=consumer)
        cmake.build()

    def test(self):
        if can_run(self):
            for program in ("in_c", "in_cpp"):
                self.run(os.path.join(self.cpp.build.bindir, program), env="conanrun")
