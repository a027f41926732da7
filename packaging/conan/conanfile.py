"""Conan 2 recipe for the sources that it lies in: `conan create packaging/conan`, from the root of the repository."""

import os
import re
import shutil

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load, rm, rmdir

ROOT = os.path.join("..", "..")
# What CMake and cargo read and install. Each of the folders with these files: `copy` reads all below its folder, and builds
# may lie in the root.
FOLDERS = {"cmake": "*", "src": "*", "include": "*", "bindings/cpp": "*", "docs": "*", "examples": "*.rs",
           "tests": "*.rs", "benches": "*.rs"}
FILES = ("Cargo.toml", "Cargo.lock", "build.rs", "CMakeLists.txt", "README.md", "CHANGELOG.md", "LICENSE-MIT",
         "LICENSE-APACHE", "THIRD-PARTY.md")


class MetaAdamWConan(ConanFile):
    name = "metaadamw"
    description = "The MetaAdamW optimizer behind a C ABI, with C++ headers"
    license = "MIT OR Apache-2.0"
    topics = ("optimizer", "machine-learning", "adamw")
    package_type = "library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"shared": [True, False]}
    default_options = {"shared": True}

    def set_version(self):
        manifest = load(self, os.path.join(self.recipe_folder, ROOT, "Cargo.toml"))
        self.version = self.version or re.search(r'^version = "(.+)"$', manifest, re.MULTILINE).group(1)

    def export_sources(self):
        root = os.path.join(self.recipe_folder, ROOT)
        for folder, pattern in FOLDERS.items():
            copy(self, pattern, os.path.join(root, folder), os.path.join(self.export_sources_folder, folder))
        for file in FILES:
            shutil.copy(os.path.join(root, file), self.export_sources_folder)

    def configure(self):
        # The library is C to its users; the C++ headers leave nothing in it.
        self.settings.rm_safe("compiler.cppstd")
        self.settings.rm_safe("compiler.libcxx")

    def validate(self):
        if self.settings.os not in ("Linux", "Macos") or self.settings.arch not in ("x86_64", "armv8"):
            raise ConanInvalidConfiguration("metaadamw is built for 64-bit Linux and macOS")

    def layout(self):
        cmake_layout(self)

    def generate(self):
        CMakeToolchain(self).generate()

    def build(self):
        cmake = CMake(self)  # which calls cargo: rustc must be on the PATH, or in ~/.cargo/bin
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE-*", self.source_folder, os.path.join(self.package_folder, "licenses"))
        copy(self, "THIRD-PARTY.md", self.source_folder, os.path.join(self.package_folder, "licenses"))
        # Conan writes its own of these.
        rmdir(self, os.path.join(self.package_folder, "lib", "cmake"))
        rmdir(self, os.path.join(self.package_folder, "lib", "pkgconfig"))
        rmdir(self, os.path.join(self.package_folder, "share"))
        if self.options.shared:
            rm(self, "*.a", os.path.join(self.package_folder, "lib"))

    def package_id(self):
        # Rust builds the same library for every compiler of C and every type of build.
        del self.info.settings.compiler
        del self.info.settings.build_type

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "MetaAdamW")
        self.cpp_info.set_property("cmake_target_name", "MetaAdamW::metaadamw")
        self.cpp_info.set_property("pkg_config_name", "metaadamw")
        self.cpp_info.libs = ["metaadamw"]
        if not self.options.shared:
            # As METAADAMW_SYSTEM_LIBRARIES in cmake/MetaAdamW.cmake.
            self.cpp_info.system_libs = (
                ["util", "rt", "pthread", "m", "dl"] if self.settings.os == "Linux" else ["iconv", "System", "c", "m"])
