# Calls cargo into the build folder, defines the target MetaAdamW::metaadamw (C and C++ headers included), and installs
# what find_package(MetaAdamW CONFIG) and pkg-config read.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(static_wanted OFF)
if(DEFINED BUILD_SHARED_LIBS AND NOT BUILD_SHARED_LIBS)
  set(static_wanted ON)
endif()
set(top_level OFF)
if(CMAKE_SOURCE_DIR STREQUAL MetaAdamW_SOURCE_DIR)
  set(top_level ON)
endif()

option(METAADAMW_STATIC "Build the static library instead of the shared one" ${static_wanted})
option(METAADAMW_INSTALL "Take part in the installation" ${top_level})
set(METAADAMW_CARGO_TARGET_DIR "${MetaAdamW_BINARY_DIR}/cargo" CACHE PATH "Where cargo builds")
find_program(METAADAMW_CARGO cargo HINTS "$ENV{HOME}/.cargo/bin" DOC "Rust's build tool")
if(NOT METAADAMW_CARGO)
  message(FATAL_ERROR "MetaAdamW needs cargo; install Rust from https://rustup.rs, or set METAADAMW_CARGO")
endif()
if(NOT CMAKE_SIZEOF_VOID_P EQUAL 8)
  message(FATAL_ERROR "MetaAdamW is for 64-bit targets only")
endif()
if(WIN32)
  message(FATAL_ERROR "MetaAdamW's CMake build does not know Windows yet")
endif()

# ------------------------------------------------------------------------------------------------------- names ----

file(STRINGS "${MetaAdamW_SOURCE_DIR}/include/metaadamw.h" abi REGEX "^#define MAW_ABI_VERSION ")
string(REGEX MATCH "[0-9]+$" abi "${abi}")

set(static_name libmetaadamw.a)
if(APPLE)
  set(cargo_shared_name libmetaadamw.dylib)
  set(shared_names libmetaadamw.${PROJECT_VERSION}.dylib libmetaadamw.${abi}.dylib libmetaadamw.dylib)
  set(soname "@rpath/libmetaadamw.${abi}.dylib")
else()
  set(cargo_shared_name libmetaadamw.so)
  set(shared_names libmetaadamw.so.${PROJECT_VERSION} libmetaadamw.so.${abi} libmetaadamw.so)
  set(soname libmetaadamw.so.${abi})
endif()

# METAADAMW_NAMES: the library, then the links to it, each to the one before.
# METAADAMW_SYSTEM_LIBRARIES: what the Rust standard library needs (rustc --print native-static-libs).
if(METAADAMW_STATIC)
  set(METAADAMW_KIND STATIC)
  set(METAADAMW_NAMES ${static_name})
  set(cargo_name ${static_name})
  set(METAADAMW_SONAME "")
  if(APPLE)
    set(METAADAMW_SYSTEM_LIBRARIES iconv System c m)
  else()
    set(METAADAMW_SYSTEM_LIBRARIES gcc_s util rt pthread m dl c)
  endif()
else()
  set(METAADAMW_KIND SHARED)
  set(METAADAMW_NAMES ${shared_names})
  set(cargo_name ${cargo_shared_name})
  set(METAADAMW_SONAME ${soname})
  set(METAADAMW_SYSTEM_LIBRARIES "")
endif()
list(GET METAADAMW_NAMES 0 METAADAMW_FILE)

# ------------------------------------------------------------------------------------------------------- build ----

# Cargo knows best what is out of date, so it is asked each time; an unchanged library keeps its time stamp.
set(library_dir "${MetaAdamW_BINARY_DIR}/lib")
set(library "${library_dir}/${METAADAMW_FILE}")
file(MAKE_DIRECTORY "${library_dir}")
set(link_commands "")
set(links ${METAADAMW_NAMES})
list(REMOVE_AT links 0)
set(previous ${METAADAMW_FILE})
foreach(link IN LISTS links)
  list(APPEND link_commands COMMAND "${CMAKE_COMMAND}" -E create_symlink ${previous} "${library_dir}/${link}")
  set(previous ${link})
endforeach()
add_custom_target(metaadamw_cargo ALL
  COMMAND "${METAADAMW_CARGO}" build --release --locked --lib --target-dir "${METAADAMW_CARGO_TARGET_DIR}"
  COMMAND "${CMAKE_COMMAND}" -E copy_if_different "${METAADAMW_CARGO_TARGET_DIR}/release/${cargo_name}" "${library}"
  ${link_commands}
  WORKING_DIRECTORY "${MetaAdamW_SOURCE_DIR}"
  BYPRODUCTS "${library}"
  COMMENT "Building libmetaadamw with cargo"
  USES_TERMINAL
  VERBATIM)

# As the installed one in MetaAdamWConfig.cmake.in.
add_library(MetaAdamW::metaadamw ${METAADAMW_KIND} IMPORTED GLOBAL)
add_dependencies(MetaAdamW::metaadamw metaadamw_cargo)
set_target_properties(MetaAdamW::metaadamw PROPERTIES
  IMPORTED_LOCATION "${library}"
  IMPORTED_SONAME "${METAADAMW_SONAME}"
  INTERFACE_INCLUDE_DIRECTORIES "${MetaAdamW_SOURCE_DIR}/include;${MetaAdamW_SOURCE_DIR}/bindings/cpp/include"
  INTERFACE_LINK_LIBRARIES "${METAADAMW_SYSTEM_LIBRARIES}")

# ------------------------------------------------------------------------------------------------------ install ----

if(NOT METAADAMW_INSTALL)
  return()
endif()

if(METAADAMW_STATIC OR CMAKE_INSTALL_SO_NO_EXE) # Debian's shared libraries are not executable
  install(FILES "${library}" DESTINATION "${CMAKE_INSTALL_LIBDIR}")
else()
  install(PROGRAMS "${library}" DESTINATION "${CMAKE_INSTALL_LIBDIR}")
endif()
foreach(link IN LISTS links)
  install(FILES "${library_dir}/${link}" DESTINATION "${CMAKE_INSTALL_LIBDIR}")
endforeach()
install(FILES
  "${MetaAdamW_SOURCE_DIR}/include/metaadamw.h"
  "${MetaAdamW_SOURCE_DIR}/bindings/cpp/include/metaadamw.hpp"
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(DIRECTORY "${MetaAdamW_SOURCE_DIR}/bindings/cpp/include/metaadamw"
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.hpp")
install(FILES "${MetaAdamW_SOURCE_DIR}/LICENSE-MIT" "${MetaAdamW_SOURCE_DIR}/LICENSE-APACHE"
  DESTINATION "${CMAKE_INSTALL_DOCDIR}")

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/MetaAdamW")
configure_package_config_file(
  "${MetaAdamW_SOURCE_DIR}/cmake/MetaAdamWConfig.cmake.in" "${MetaAdamW_BINARY_DIR}/MetaAdamWConfig.cmake"
  INSTALL_DESTINATION "${package_dir}"
  PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file("${MetaAdamW_BINARY_DIR}/MetaAdamWConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${MetaAdamW_BINARY_DIR}/MetaAdamWConfig.cmake" "${MetaAdamW_BINARY_DIR}/MetaAdamWConfigVersion.cmake"
  DESTINATION "${package_dir}")

# Folders of the .pc file: relative to itself, so that the prefix can be moved; absolute ones stay as they were given.
set(pc_dir "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
if(IS_ABSOLUTE "${pc_dir}")
  set(METAADAMW_PC_PREFIX "${CMAKE_INSTALL_PREFIX}")
else()
  file(RELATIVE_PATH up "/${pc_dir}" "/")
  string(REGEX REPLACE "/$" "" up "${up}")
  set(METAADAMW_PC_PREFIX "\${pcfiledir}/${up}")
endif()
foreach(folder LIBDIR INCLUDEDIR)
  if(IS_ABSOLUTE "${CMAKE_INSTALL_${folder}}")
    set(METAADAMW_PC_${folder} "${CMAKE_INSTALL_${folder}}")
  else()
    set(METAADAMW_PC_${folder} "\${prefix}/${CMAKE_INSTALL_${folder}}")
  endif()
endforeach()
set(METAADAMW_PC_LIBRARIES "")
foreach(system_library IN LISTS METAADAMW_SYSTEM_LIBRARIES)
  string(APPEND METAADAMW_PC_LIBRARIES " -l${system_library}")
endforeach()
configure_file("${MetaAdamW_SOURCE_DIR}/cmake/metaadamw.pc.in" "${MetaAdamW_BINARY_DIR}/metaadamw.pc" @ONLY)
install(FILES "${MetaAdamW_BINARY_DIR}/metaadamw.pc" DESTINATION "${pc_dir}")
